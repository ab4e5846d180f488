//! Monotonic time, read through a trait so that tests can move it by hand.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A point on a [`Clock`], in nanoseconds since that clock's own origin.
///
/// Timestamps of different clocks are not comparable.
/// Arithmetic saturates, so no duration from a user or a server can overflow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The origin of the clock.
    pub const ZERO: Self = Self(0);
    /// A point no clock reaches: a deadline of `MAX` never passes.
    pub const MAX: Self = Self(u64::MAX);

    /// Makes a timestamp from nanoseconds since the clock's origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds since the clock's origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns this point moved into the future, or [`Timestamp::MAX`] when that overflows.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// Returns this point moved into the past, or [`Timestamp::ZERO`] when that underflows.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }

    /// Returns the time from `earlier` to this point, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A source of monotonic time.
///
/// # Contract
///
/// - `now` never goes back, on any thread.
/// - `now` may lag behind true time by at most [`resolution`](Self::resolution).
///   Deadlines are shortened by that much, so a coarse clock never makes a copy live too long.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Reads the clock.
    fn now(&self) -> Timestamp;

    /// Returns the most that [`now`](Self::now) can lag behind true time.
    fn resolution(&self) -> Duration;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn resolution(&self) -> Duration {
        (**self).resolution()
    }
}

/// The system's monotonic clock, in the cheapest form there is.
///
/// On Linux this is `CLOCK_MONOTONIC_COARSE` (`clock_gettime(2)`): about 5 ns a reading instead of the 23–66 ns of
/// `Instant::now`, at the price of a resolution of one scheduler tick (1–10 ms).
/// Elsewhere it is `Instant`.
#[derive(Clone, Debug)]
pub struct SystemClock {
    #[cfg(not(target_os = "linux"))]
    origin: std::time::Instant,
    resolution: Duration,
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

    use super::{Clock, Duration, SystemClock, Timestamp};

    fn nanos(time: Timespec) -> u64 {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    }

    impl SystemClock {
        /// Opens the clock and asks for its resolution.
        #[must_use]
        pub fn new() -> Self {
            Self { resolution: Duration::from_nanos(nanos(clock_getres(ClockId::MonotonicCoarse))) }
        }
    }

    impl Clock for SystemClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_nanos(nanos(clock_gettime(ClockId::MonotonicCoarse)))
        }

        fn resolution(&self) -> Duration {
            self.resolution
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    #![allow(clippy::disallowed_methods, reason = "this is the clock that everything else reads")]

    use std::time::Instant;

    use super::{Clock, Duration, SystemClock, Timestamp};

    impl SystemClock {
        /// Opens the clock.
        #[must_use]
        pub fn new() -> Self {
            Self { origin: Instant::now(), resolution: Duration::from_nanos(100) }
        }
    }

    impl Clock for SystemClock {
        fn now(&self) -> Timestamp {
            Timestamp::ZERO.saturating_add(self.origin.elapsed())
        }

        fn resolution(&self) -> Duration {
            self.resolution
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

/// A clock that stands still until a test moves it.
///
/// Clones share the same hands.
///
/// ```
/// # use twotier_core as twotier;
/// use std::time::Duration;
///
/// use twotier::{Clock, ManualClock};
///
/// let clock = ManualClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().since(before), Duration::from_secs(60));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    nanos: Arc<AtomicU64>,
}

impl ManualClock {
    /// Makes a clock that stands at its origin.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let step = nanos(by);
        // The closure always returns `Some`, so the update cannot fail.
        let _ = self.nanos.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| Some(now.saturating_add(step)));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.nanos.load(Ordering::SeqCst))
    }

    fn resolution(&self) -> Duration {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_saturate_instead_of_overflowing() {
        assert_eq!(Timestamp::MAX.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::ZERO.saturating_sub(Duration::from_secs(1)), Timestamp::ZERO);
        assert_eq!(Timestamp::ZERO.since(Timestamp::MAX), Duration::ZERO);
    }

    #[test]
    fn the_system_clock_never_goes_back_and_states_its_resolution() {
        let clock = SystemClock::new();
        let mut last = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
        assert!(clock.resolution() > Duration::ZERO && clock.resolution() <= Duration::from_millis(10));
    }
}
