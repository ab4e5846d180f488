//! The validated configuration, with the mode that is really in force.

use std::time::Duration;

use twotier_core::{Coherence, OnUndecodable};

use crate::attach::Mode;

/// Local copies that only their time to live keeps from growing stale live this long, unless it is configured.
const UNREPORTED_LOCAL_TTL: Duration = Duration::from_secs(5);
/// Local copies whose changes are reported live this long, unless it is configured.
const REPORTED_LOCAL_TTL: Duration = Duration::from_secs(60);

pub(crate) struct Settings {
    pub(crate) time_to_live: Option<Duration>,
    pub(crate) local_time_to_live: Option<Duration>,
    pub(crate) negative_time_to_live: Option<Duration>,
    pub(crate) ttl_jitter: f64,
    pub(crate) op_timeout: Duration,
    pub(crate) load_timeout: Duration,
    pub(crate) load_wait: Duration,
    pub(crate) outage_time_to_live: Option<Duration>,
    pub(crate) max_value_bytes: usize,
    pub(crate) on_undecodable: OnUndecodable,
    pub(crate) verify_writes: bool,
    pub(crate) mode: Mode,
    pub(crate) coherence_asked: Option<Coherence>,
    pub(crate) max_staleness: Duration,
    pub(crate) local_enabled: bool,
}

impl Settings {
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

    /// The local time to live of one copy: up to a tenth shorter than configured, so that copies made together do not
    /// end together.
    pub(crate) fn local_ttl(&self) -> Duration {
        let reported = self.coherence() == Coherence::Broadcast;
        let unless_configured = if reported { REPORTED_LOCAL_TTL } else { UNREPORTED_LOCAL_TTL };
        self.local_time_to_live.unwrap_or(unless_configured).mul_f64(1.0 - 0.1 * fastrand::f64())
    }
}
