//! The clock of a store that was not given one.
#![allow(clippy::disallowed_methods, reason = "this is a clock")]

use std::time::{Duration, Instant};

use twotier_core::{Clock, Timestamp};

/// `Instant`: its reading takes longer than the core's coarse clock, and a time to live of one millisecond means
/// something.
#[derive(Debug)]
pub(super) struct PreciseClock {
    origin: Instant,
}

impl PreciseClock {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for PreciseClock {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO.saturating_add(self.origin.elapsed())
    }

    /// The coarsest that `Instant` is anywhere (Windows).
    fn resolution(&self) -> Duration {
        Duration::from_nanos(100)
    }
}
