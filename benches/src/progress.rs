//! What is being done, while it is done: a line for each step, on standard error.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::stopwatch::Stopwatch;

/// How long nothing may be printed before a detail is worth a line.
const SILENCE: Duration = Duration::from_secs(1);

/// Prints the steps of a run with the time since its start.
#[derive(Debug)]
pub struct Progress {
    clock: Stopwatch,
    /// When the last line was printed, in milliseconds since the start.
    last: AtomicU64,
}

impl Progress {
    /// Starts the clock.
    #[must_use]
    pub fn start() -> Self {
        Self { clock: Stopwatch::start(), last: AtomicU64::new(0) }
    }

    /// Prints what comes next.
    #[allow(clippy::print_stderr, reason = "a person waits for up to two minutes")]
    pub fn step(&self, what: &str) {
        eprintln!("[{:5.1} s] {what}", self.seconds());
        self.last.store(self.milliseconds(), Ordering::Relaxed);
    }

    /// Prints how far a step has come, unless the last line is so young that nobody waits.
    pub fn detail(&self, what: &str) {
        let silent = self.milliseconds().saturating_sub(self.last.load(Ordering::Relaxed));
        if Duration::from_millis(silent) > SILENCE {
            self.step(what);
        }
    }

    /// Returns the time since the start, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.clock.seconds()
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
