//! Counts what the cache asked of its backend.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;
use twotier_core::{BackendStats, LatencyStats};

/// What a call does to the backend.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    Read,
    Write,
    Delete,
}

/// Counters of the miss path. A round trip is four orders of magnitude longer than these atomics.
///
/// On cache lines of their own: every miss writes to them, beside what every hit reads.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Meter {
    reads: AtomicU64,
    writes: AtomicU64,
    deletes: AtomicU64,
    errors: AtomicU64,
    timeouts: AtomicU64,
    overloaded: AtomicU64,
    undecodable: AtomicU64,
    foreign: AtomicU64,
    loads: AtomicU64,
    unstored: AtomicU64,
    measured: AtomicU64,
    nanos: AtomicU64,
    longest: AtomicU64,
}

impl Meter {
    /// Counts a call that begins, and returns when that was.
    pub(crate) fn start(&self, kind: Call) -> Instant {
        match kind {
            Call::Read => &self.reads,
            Call::Write => &self.writes,
            Call::Delete => &self.deletes,
        }
        .fetch_add(1, Relaxed);
        Instant::now()
    }

    /// Counts the end of a call, with its time. A call that is dropped is counted, its time is not.
    pub(crate) fn end(&self, started: Instant, failed: bool) {
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.measured.fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
        if nanos > self.longest.load(Relaxed) {
            self.longest.fetch_max(nanos, Relaxed);
        }
        if failed {
            self.errors.fetch_add(1, Relaxed);
        }
    }

    /// Runs one call and counts it.
    pub(crate) async fn call<T>(&self, kind: Call, call: impl Future<Output = T>, failed: impl Fn(&T) -> bool) -> T {
        let started = self.start(kind);
        let result = call.await;
        self.end(started, failed(&result));
        result
    }

    pub(crate) fn timed_out(&self) {
        self.timeouts.fetch_add(1, Relaxed);
        self.errors.fetch_add(1, Relaxed);
    }

    pub(crate) fn overloaded(&self) {
        self.overloaded.fetch_add(1, Relaxed);
    }

    pub(crate) fn undecodable(&self) {
        self.undecodable.fetch_add(1, Relaxed);
    }

    pub(crate) fn foreign(&self) {
        self.foreign.fetch_add(1, Relaxed);
    }

    /// Counts loaded values that could not be stored: too large, without an encoding, refused by the backend.
    pub(crate) fn unstored(&self, refused_here: bool) {
        self.unstored.fetch_add(1, Relaxed);
        // What the backend refused is counted as the call that it was.
        self.errors.fetch_add(u64::from(refused_here), Relaxed);
    }

    pub(crate) fn loaded(&self) {
        self.loads.fetch_add(1, Relaxed);
    }

    pub(crate) fn stats(&self) -> BackendStats {
        let mut stats = BackendStats::default();
        stats.reads = self.reads.load(Relaxed);
        stats.writes = self.writes.load(Relaxed);
        stats.deletes = self.deletes.load(Relaxed);
        stats.errors = self.errors.load(Relaxed);
        stats.timeouts = self.timeouts.load(Relaxed);
        stats.overloaded = self.overloaded.load(Relaxed);
        stats.undecodable = self.undecodable.load(Relaxed);
        stats.foreign = self.foreign.load(Relaxed);
        stats.loads = self.loads.load(Relaxed);
        stats.unstored = self.unstored.load(Relaxed);
        stats.latency = LatencyStats::new(
            self.measured.load(Relaxed),
            Duration::from_nanos(self.nanos.load(Relaxed)),
            Duration::from_nanos(self.longest.load(Relaxed)),
        );
        stats
    }
}
