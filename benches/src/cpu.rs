//! Whether a thread had the processor while it was measured.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use crate::stopwatch::Stopwatch;

/// Below this share of the wall clock's time a measurement counts as disturbed.
const LEAST_SHARE: f64 = 0.97;

/// Measures the calling thread from when it was started.
#[derive(Debug)]
pub struct Attention {
    wall: Stopwatch,
    cpu: Duration,
    waited: Option<Duration>,
}

impl Attention {
    /// Starts measuring the calling thread.
    #[must_use]
    pub fn start() -> Self {
        Self { waited: waited(), cpu: cpu_time(), wall: Stopwatch::start() }
    }

    /// Returns whether the thread, which has no reason to sleep, had less than 97 % of the processor.
    #[must_use]
    pub fn lost(&self) -> bool {
        let wall = self.wall.seconds();
        (cpu_time().saturating_sub(self.cpu)).as_secs_f64() < LEAST_SHARE * wall
    }

    /// Returns whether the thread was ready to run and kept waiting for a processor for more than 3 % of the time.
    /// A thread that sleeps because a lock is held has not lost the processor. `false` where the system does not tell.
    #[must_use]
    pub fn kept_waiting(&self) -> bool {
        let wall = self.wall.seconds();
        let since = waited().zip(self.waited).map(|(now, then)| now.saturating_sub(then));
        since.is_some_and(|since| since.as_secs_f64() > (1.0 - LEAST_SHARE) * wall)
    }
}

/// Returns how long the calling thread has had the processor since it began.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
}

/// Returns how long the calling thread has waited for a processor since it began: Linux, `sched-stats`.
fn waited() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use std::{hint::black_box, sync::mpsc};

    use super::*;

    #[test]
    fn a_thread_that_sleeps_lost_the_processor_and_was_not_kept_waiting_for_one() {
        let attention = Attention::start();
        let (_open, nothing) = mpsc::channel::<()>();
        assert!(nothing.recv_timeout(Duration::from_millis(50)).is_err());
        assert!(attention.lost());
    }

    #[test]
    fn work_takes_processor_time() {
        let before = cpu_time();
        black_box((0..3_000_000_u64).fold(0, |sum, number| black_box(sum ^ number)));
        assert!(cpu_time() > before);
    }
}
