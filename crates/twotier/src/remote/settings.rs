//! The validated configuration, with the mode that is really in force.

use std::time::Duration;

use twotier_core::{CacheConfig, Coherence, OnUndecodable};

use crate::attach::Mode;

/// Local copies that only their time to live keeps from growing stale live this long, unless it is configured.
const UNREPORTED_LOCAL_TTL: Duration = Duration::from_secs(5);
/// Local copies whose changes are reported live this long, unless it is configured.
const REPORTED_LOCAL_TTL: Duration = Duration::from_secs(60);
/// Where reads extend lives, such copies live as long as the value: longer than any that is extended.
const SLIDING_LOCAL_TTL: Duration = Duration::from_secs(12 * 24 * 60 * 60);

pub(crate) struct Settings {
    pub(crate) time_to_live: Option<Duration>,
    pub(crate) local_time_to_live: Option<Duration>,
    pub(crate) negative_time_to_live: Option<Duration>,
    /// Whether other instances are notified of what the origin does not have.
    pub(crate) share_absence: bool,
    pub(crate) sliding: Option<Sliding>,
    pub(crate) ttl_jitter: f64,
    pub(crate) op_timeout: Duration,
    pub(crate) load_timeout: Duration,
    pub(crate) load_wait: Duration,
    pub(crate) outage_time_to_live: Option<Duration>,
    pub(crate) stale: Option<StaleOptions>,
    pub(crate) max_value_bytes: usize,
    pub(crate) on_undecodable: OnUndecodable,
    pub(crate) verify_writes: bool,
    pub(crate) mode: Mode,
    pub(crate) coherence_asked: Option<Coherence>,
    pub(crate) max_staleness: Duration,
    pub(crate) local_enabled: bool,
}

/// For how long, and how soon, a read is answered by a copy that may be stale.
pub(crate) struct StaleOptions {
    /// The copy is known to have been current so long ago, or less.
    pub(crate) longest: Duration,
    /// The backend has so much time before a stale copy is returned; else all the time there is.
    pub(crate) soft_timeout: Option<Duration>,
}

impl StaleOptions {
    pub(crate) fn of(config: &CacheConfig) -> Option<Self> {
        Some(Self { longest: config.stale_if_error?, soft_timeout: config.soft_timeout })
    }
}

/// How reads extend the life of what they find.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sliding {
    /// To so much.
    pub(crate) ttl: Duration,
    /// As soon as so much of it has passed.
    pub(crate) after: Duration,
    /// Whether the life of a copy was configured, and says nothing of that of the value.
    local_configured: bool,
}

impl Sliding {
    pub(crate) fn of(config: &CacheConfig) -> Option<Self> {
        let ttl = config.time_to_live.filter(|_| config.sliding > 0.0)?;
        let after = ttl.mul_f64(config.sliding).max(Duration::from_millis(1));
        Some(Self { ttl, after, local_configured: config.local_time_to_live.is_some() })
    }

    /// Returns whether a life of which so much remains is to be extended.
    #[inline]
    pub(crate) fn is_due(&self, remaining: Duration) -> bool {
        remaining < self.ttl.saturating_sub(self.after)
    }
}

impl Settings {
    /// Returns how reads extend lives if the life of a copy is that of the value, so that a hit can tell.
    #[inline]
    pub(crate) fn sliding_by_hits(&self) -> Option<&Sliding> {
        self.sliding.as_ref().filter(|sliding| !sliding.local_configured && self.coherence() == Coherence::Broadcast)
    }

    /// Returns the mode in force: none before the backend was attached to.
    pub(crate) fn coherence(&self) -> Coherence {
        self.mode.get().copied().unwrap_or(Coherence::None)
    }

    /// The staleness bound in force, `None` where writes by others are not seen for certain.
    pub(crate) fn staleness_bound(&self) -> Option<Duration> {
        (self.coherence() == Coherence::Broadcast).then_some(self.max_staleness)
    }

    /// How long what is loaded while the backend does not answer is kept, from before the load began; `None` is not at
    /// all.
    pub(crate) fn outage_ttl(&self) -> Option<Duration> {
        let longest = self.outage_time_to_live.unwrap_or(self.max_staleness);
        (!longest.is_zero()).then_some(longest)
    }

    /// The time to live of a value that is written without one of its own.
    pub(crate) fn default_ttl(&self) -> Option<Duration> {
        let ttl = self.time_to_live?;
        if self.ttl_jitter == 0.0 {
            return Some(ttl);
        }
        Some(ttl.mul_f64(1.0 - self.ttl_jitter * fastrand::f64()).max(Duration::from_millis(1)))
    }

    /// How long one copy is kept: up to a tenth shorter than configured, so that copies made together do not end
    /// together; where a stale one may be returned, for so much longer, and no hit is served from it by then.
    pub(crate) fn local_ttl(&self) -> Duration {
        let ttl = self.longest_local_ttl();
        match &self.stale {
            Some(stale) => ttl.saturating_add(stale.longest),
            None if ttl == SLIDING_LOCAL_TTL => ttl,
            None => ttl.mul_f64(1.0 - 0.1 * fastrand::f64()),
        }
    }

    /// The longest that a copy is served without asking the backend again.
    pub(crate) fn longest_local_ttl(&self) -> Duration {
        if self.sliding_by_hits().is_some() {
            return SLIDING_LOCAL_TTL;
        }
        let reported = self.coherence() == Coherence::Broadcast;
        let unless_configured = if reported { REPORTED_LOCAL_TTL } else { UNREPORTED_LOCAL_TTL };
        let ttl = self.local_time_to_live.unwrap_or(unless_configured);
        // A read of the backend is what notices that a life is to be extended.
        self.sliding.map_or(ttl, |sliding| ttl.min(sliding.after))
    }
}
