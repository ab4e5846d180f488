//! Statistics: what was counted, and what each counter means.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{
    Advice, AuditStats, BreakerState, BreakerStats, Coherence, FailureStats, LatencyStats, LinkState, Namespace,
    SizeCurve,
};

/// Counters of one cache since it was built. Clearing the cache does not reset them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheStats {
    /// Whose they are.
    pub namespace: Namespace,
    /// The local tier.
    pub local: LocalStats,
    /// The backend as this cache used it.
    pub backend: BackendStats,
    /// The link that keeps the two coherent.
    pub coherence: CoherenceStats,
    /// The auditor of local hits, which is off by default.
    pub audit: AuditStats,
    advice: Option<Advice>,
}

impl CacheStats {
    /// Puts the three parts together.
    #[must_use]
    pub fn new(namespace: Namespace, local: LocalStats, backend: BackendStats, coherence: CoherenceStats) -> Self {
        Self { namespace, local, backend, coherence, audit: AuditStats::default(), advice: None }
    }

    /// Adds what a curve of sizes says, where there is one.
    #[must_use]
    pub fn with_curve(mut self, curve: Option<&SizeCurve>) -> Self {
        self.advice = curve.map(|curve| Advice::new(curve, self.backend.latency));
        self
    }

    /// Returns what other sizes of the local tier would bring; `None` unless the cache was built with `size_advice`, or
    /// while the local tier is off.
    ///
    /// An estimate, over all requests since the cache was built: miniatures of the tier at six sizes follow a sample of
    /// the keys. On access traces it lies within 2 points of the hit rate that a tier of that size reaches in 97 of 100
    /// cases, and further off where the requests change while they are counted, as those of a loop that is about to
    /// fit.
    /// Assumed are the same requests, whatever they are answered from; entries that weigh what they do now, where bytes
    /// are the bound; and as long a life for a copy that a smaller tier would fetch anew.
    #[must_use]
    pub fn advice(&self) -> Option<&Advice> {
        self.advice.as_ref()
    }
}

/// Counters of the local tier. They add up: every insertion is held or counted by how it went.
///
/// Every read of one key counts exactly one hit or one miss; a batch counts one for each key it was asked for.
/// While the local tier is off, everything is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LocalStats {
    /// Whether there is a local tier.
    pub enabled: bool,
    /// Entries held now, known-absent keys included.
    pub size: usize,
    /// The most entries that may be held (`max_entries`).
    pub max_size: usize,
    /// Bytes held now: keys, values as weighed, and a fixed overhead for each entry.
    pub bytes: usize,
    /// The most bytes that may be held (`max_bytes`).
    pub max_bytes: usize,
    /// Reads answered from the local tier, known-absent answers included.
    pub hits: u64,
    /// Reads that were not answered from the local tier, for whatever reason.
    pub misses: u64,
    /// The same by their causes, which add up to `misses`.
    pub miss_causes: MissCauses,
    /// Misses that were answered by a copy that may be stale, because the backend did not answer, or not soon enough.
    pub stale: u64,
    /// Values put into the tier, by reads and by writes.
    pub insertions: u64,
    /// Entries evicted because the tier held `max_entries`.
    pub evicted_for_entries: u64,
    /// Entries evicted because the tier would have held more than `max_bytes`.
    pub evicted_for_bytes: u64,
    /// Values not kept because one alone weighs more than an eighth of `max_bytes`, or than all of it in a tier that is
    /// not split.
    pub oversized: u64,
    /// Entries found past their time to live and removed.
    pub expired: u64,
    /// Entries found to be from before a flush or a lost link and removed.
    pub outdated: u64,
    /// Entries removed because the backend reported a change, or `invalidate_local` was called.
    pub invalidated: u64,
    /// Entries removed because this cache itself wrote or deleted the key (a write puts the new value in afterwards),
    /// or read something else from the backend.
    pub superseded: u64,
    /// Entries removed by `clear_local`.
    pub cleared: u64,
}

impl LocalStats {
    /// Returns how many reads were counted: hits and misses.
    #[must_use]
    pub fn total_requests(&self) -> u64 {
        self.hits.saturating_add(self.misses)
    }

    /// Returns the share of reads answered locally, in percent; 0 when nothing was read yet.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a percentage needs no more than 52 bits")]
    pub fn hit_rate(&self) -> f64 {
        match self.total_requests() {
            0 => 0.0,
            total => self.hits as f64 * 100.0 / total as f64,
        }
    }

    /// Returns entries evicted to make room, by either bound.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evicted_for_entries.saturating_add(self.evicted_for_bytes)
    }
}

/// Why reads were not answered from the local tier: each miss is counted by exactly one cause.
///
/// An entry that is found and cannot be served says why itself. Where none is found, what became of the key's last one
/// is looked up in a memory of as many fates as the tier has room for entries. That is 4 bytes for each entry that may
/// be held, and four fates share 16 bytes by the hash of their keys: of more than four keys in one place the first are
/// forgotten, and a fate of 29 bits may be mistaken for another with a chance of 2⁻²⁷. A fate is forgotten too when its
/// key comes in again. A tier with no bounds to speak of, of more than 4 194 304 entries, remembers so many fates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MissCauses {
    /// The key was not here, as far as is remembered, or was removed by `clear_local` or `clear`.
    pub cold: u64,
    /// The last copy had reached its time to live.
    pub expired: u64,
    /// The last copy had to make room for others.
    pub evicted: u64,
    /// The last copy, or the read that would have brought one, was overtaken by a change: reported by the backend, by a
    /// write of this cache itself, or by `invalidate_local`.
    pub invalidated: u64,
    /// The last copy was from before a flush or a lost link.
    pub outdated: u64,
    /// There was no lease: a copy is here and may not be served before the next proof of life, or there is no link, and
    /// nothing is remembered of the key.
    pub lease: u64,
    /// The last value was too heavy to be kept.
    pub oversized: u64,
}

impl MissCauses {
    /// Returns every cause with its name, and how many misses it had.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("cold", self.cold),
            ("expired", self.expired),
            ("evicted", self.evicted),
            ("invalidated", self.invalidated),
            ("outdated", self.outdated),
            ("lease", self.lease),
            ("oversized", self.oversized),
        ]
        .into_iter()
    }

    /// Returns how many misses there were in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, misses)| misses).sum()
    }
}

/// Counters of the calls this cache made to its backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackendStats {
    /// What the backend is, as `db.system.name` has it: `redis`, `memory`, or what a backend of your own calls itself.
    pub system: &'static str,
    /// Calls that read, a batch counting once, and so do single reads that were gathered into one call.
    pub reads: u64,
    /// Calls that wrote, a batch counting once.
    pub writes: u64,
    /// Calls that deleted or cleared, a batch counting once.
    pub deletes: u64,
    /// Calls that ended in an error, deadlines included.
    pub errors: u64,
    /// Calls that did not end within the operation timeout. Also counted as errors.
    pub timeouts: u64,
    /// Calls that were refused because too many others waited. Nothing was asked of the backend.
    pub overloaded: u64,
    /// Values from the backend that the codec could not decode: each was an error, or read as an absent key, as
    /// `on_undecodable` has it.
    pub undecodable: u64,
    /// Values from the backend that a codec which knows its own found to be somebody else's, or damaged: each was read
    /// as an absent key.
    pub foreign: u64,
    /// The breaker: whether calls are made at all.
    pub breaker: BreakerStats,
    /// Loader runs of `get_or_load` and `get_many_or_load`.
    pub loads: u64,
    /// Loaded values that were returned and could not be stored: too large, without an encoding, or refused by the
    /// backend. Also counted as errors. A value that was not stored because its key changed meanwhile is none of them.
    pub unstored: u64,
    /// Loads that the backend could say nothing of: it did not answer, or refused. Their values were not stored.
    pub outage_loads: u64,
    /// Values of those that were kept locally for a short time.
    pub outage_kept: u64,
    /// Loads that failed because too many loaders ran while the backend did not answer.
    pub outage_refused: u64,
    /// Keys that wait to be invalidated because the backend is away; the whole namespace counts as one.
    pub queued_invalidations: usize,
    /// What failed, by operation and kind.
    pub failures: FailureStats,
    /// How long the calls took, all together. A call whose caller went away before it ended was not measured.
    pub latency: LatencyStats,
    /// How long calls that read took.
    pub read_latency: LatencyStats,
    /// How long calls that wrote took.
    pub write_latency: LatencyStats,
    /// How long calls that deleted or cleared took.
    pub delete_latency: LatencyStats,
    /// How long loaders ran.
    pub load_latency: LatencyStats,
}

impl BackendStats {
    /// Returns how many calls were made.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.reads.saturating_add(self.writes).saturating_add(self.deletes)
    }
}

/// Counters and state of what keeps the local tier coherent with the backend.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CoherenceStats {
    /// The mode in force.
    pub mode: Coherence,
    /// The longest a hit may be stale in this mode; `None` when only the time to live bounds it.
    pub max_staleness: Option<Duration>,
    /// The state of the link.
    pub link: LinkState,
    /// Changes reported by the backend, whether or not a copy was held.
    pub invalidations: u64,
    /// Values read from the backend that were not kept because the key changed meanwhile.
    pub refused_fills: u64,
    /// Own writes whose value was not kept because the key changed meanwhile or the writes overlapped.
    pub refused_writes: u64,
    /// Loaded values that were returned and not stored, because the key changed or the link was lost while they were
    /// loaded.
    pub refused_loads: u64,
    /// How often all copies were declared outdated: flushes by the server and lost links.
    pub flushes: u64,
    /// How often the link came up.
    pub links: u64,
    /// For how long copies may be served unless there is another proof of life: zero without a link, `None` where
    /// nothing need be renewed.
    pub lease_remaining: Option<Duration>,
    /// How long changes of our own making took from being sent to being reported, each time the link was tested.
    pub invalidation_lag: LatencyStats,
}

impl CoherenceStats {
    /// Makes the statistics of a cache without a standing link.
    #[must_use]
    pub fn new(mode: Coherence, max_staleness: Option<Duration>, link: LinkState) -> Self {
        Self {
            mode,
            max_staleness,
            link,
            invalidations: 0,
            refused_fills: 0,
            refused_writes: 0,
            refused_loads: 0,
            flushes: 0,
            links: 0,
            lease_remaining: None,
            invalidation_lag: LatencyStats::default(),
        }
    }
}

impl fmt::Display for CacheStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.local)?;
        writeln!(f, "{}", self.backend)?;
        write!(f, "{}", self.coherence)?;
        if self.audit.enabled { write!(f, "\n{}", self.audit) } else { Ok(()) }
    }
}

impl fmt::Display for LocalStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.enabled {
            return f.write_str("local      off");
        }
        write!(
            f,
            "local      {} of {} entries, {} of {} bytes; {} hits, {} misses ({:.1} %); {} evicted, {} expired, {} invalidated",
            self.size,
            self.max_size,
            self.bytes,
            self.max_bytes,
            self.hits,
            self.misses,
            self.hit_rate(),
            self.evictions(),
            self.expired,
            self.invalidated,
        )
    }
}

impl fmt::Display for BackendStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "backend    {} reads, {} writes, {} deletes; {} errors, {} of them timeouts; median {:.3} ms, \
             99 % within {:.3} ms, longest {:.3} ms",
            self.reads,
            self.writes,
            self.deletes,
            self.errors,
            self.timeouts,
            self.latency.p50.as_secs_f64() * 1e3,
            self.latency.p99.as_secs_f64() * 1e3,
            self.latency.max.as_secs_f64() * 1e3,
        )?;
        match self.breaker {
            BreakerStats { state: BreakerState::Closed, opened: 0, .. } => Ok(()),
            BreakerStats { state, opened, refused } => {
                write!(f, "; breaker {state}, opened {opened} times, {refused} calls not made")
            }
        }
    }
}

impl fmt::Display for CoherenceStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coherence  {}, ", self.mode)?;
        match self.max_staleness {
            Some(bound) => write!(f, "at most {} ms stale", bound.as_millis())?,
            None => f.write_str("bounded by the time to live only")?,
        }
        write!(
            f,
            ", link {}; {} invalidations, {} flushes, {} refused fills, {} refused writes",
            self.link, self.invalidations, self.flushes, self.refused_fills, self.refused_writes,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hit_rate_is_a_percentage_and_zero_before_the_first_read() {
        let mut stats = LocalStats::default();
        assert!(stats.hit_rate().abs() < f64::EPSILON);
        stats.hits = 3;
        stats.misses = 1;
        assert!((stats.hit_rate() - 75.0).abs() < 1e-9);
        assert_eq!(stats.total_requests(), 4);
    }
}
