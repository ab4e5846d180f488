//! Counters of the coherence protocol, and those a shard keeps.

use twotier_core::{LocalStats, MissCauses, RemovalCause};

/// What the coherence protocol did since the tier was made. Clearing the tier does not reset it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoherenceCounters {
    /// Changes reported under the namespace, whether or not a copy was held.
    pub invalidations: u64,
    /// Values read from the backend that were not kept because the key changed meanwhile.
    pub refused_fills: u64,
    /// Own writes whose value was not kept because the key changed meanwhile, the writes overlapped, or the link was
    /// down.
    pub refused_writes: u64,
    /// Loaded values that might not be stored: while they were loaded the key changed, the link was lost, or another
    /// load took over.
    pub refused_loads: u64,
    /// How often all copies were declared outdated: null pushes, clears and lost links.
    pub flushes: u64,
    /// How often the link came up.
    pub links: u64,
}

/// The counters of one shard but for its hits, kept under its lock: one atomic for all would cost a quarter
/// of the speed of two threads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ShardCounters {
    pub(crate) misses: MissCauses,
    pub(crate) stale: u64,
    pub(crate) insertions: u64,
    pub(crate) evicted_for_entries: u64,
    pub(crate) evicted_for_bytes: u64,
    pub(crate) oversized: u64,
    pub(crate) expired: u64,
    pub(crate) outdated: u64,
    pub(crate) invalidated: u64,
    pub(crate) superseded: u64,
    pub(crate) cleared: u64,
    pub(crate) invalidations: u64,
    pub(crate) refused_fills: u64,
    pub(crate) refused_writes: u64,
    pub(crate) refused_loads: u64,
}

impl ShardCounters {
    /// Counts an entry that went.
    pub(crate) fn removed(&mut self, cause: RemovalCause) {
        *match cause {
            RemovalCause::EvictedForEntries => &mut self.evicted_for_entries,
            RemovalCause::EvictedForBytes => &mut self.evicted_for_bytes,
            RemovalCause::Expired => &mut self.expired,
            RemovalCause::Outdated => &mut self.outdated,
            RemovalCause::Invalidated => &mut self.invalidated,
            RemovalCause::Cleared => &mut self.cleared,
            // Nothing else goes by itself.
            _ => &mut self.superseded,
        } += 1;
    }

    /// Adds them to the statistics of the tier.
    pub(crate) fn add_to(&self, stats: &mut LocalStats) {
        let (sum, misses) = (&mut stats.miss_causes, &self.misses);
        sum.cold += misses.cold;
        sum.expired += misses.expired;
        sum.evicted += misses.evicted;
        sum.invalidated += misses.invalidated;
        sum.outdated += misses.outdated;
        sum.lease += misses.lease;
        sum.oversized += misses.oversized;
        stats.misses += misses.total();
        stats.stale += self.stale;
        stats.insertions += self.insertions;
        stats.evicted_for_entries += self.evicted_for_entries;
        stats.evicted_for_bytes += self.evicted_for_bytes;
        stats.oversized += self.oversized;
        stats.expired += self.expired;
        stats.outdated += self.outdated;
        stats.invalidated += self.invalidated;
        stats.superseded += self.superseded;
        stats.cleared += self.cleared;
    }
}
