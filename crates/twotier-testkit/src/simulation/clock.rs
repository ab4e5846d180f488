//! Tokio's time as the clock of a local tier.

use std::time::Duration;

use tokio::time::Instant;
use twotier_core::{Clock, Timestamp};

/// Reads tokio's time, paused or not, rounded down to whole multiples of its resolution.
#[derive(Clone, Debug)]
pub struct VirtualClock {
    origin: Instant,
    resolution: Duration,
}

impl VirtualClock {
    /// Makes a clock whose origin is now. With a resolution of zero it is exact.
    #[must_use]
    pub fn new(resolution: Duration) -> Self {
        Self { origin: Instant::now(), resolution }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let nanos = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let step = u64::try_from(self.resolution.as_nanos()).unwrap_or(u64::MAX).max(1);
        Timestamp::from_nanos(nanos - nanos % step)
    }

    fn resolution(&self) -> Duration {
        self.resolution
    }
}
