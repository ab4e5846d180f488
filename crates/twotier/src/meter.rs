//! Counts what the cache asked of its backend.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;
use twotier_backend::BackendResult;
use twotier_core::{BackendStats, ErrorKind, FailureCounts, LatencyRecorder, LatencySnapshot, Operation};

/// What is done at the backend, or instead of it.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    Read,
    Write,
    Delete,
    /// A run of a loader, and what it brings as far as it is not sent.
    Load,
}

impl Call {
    /// Returns what an operation does, but for what it does by the way.
    pub(crate) fn of(operation: Operation) -> Self {
        match operation {
            Operation::Set | Operation::SetMany | Operation::Update | Operation::Increment | Operation::Touch => {
                Self::Write
            }
            Operation::Delete | Operation::DeleteMany | Operation::Clear => Self::Delete,
            _ => Self::Read,
        }
    }

    /// Returns what an operation does that changes something: a load stores.
    pub(crate) fn of_change(operation: Operation) -> Self {
        match Self::of(operation) {
            Self::Read => Self::Write,
            change => change,
        }
    }
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
    outage_loads: AtomicU64,
    outage_kept: AtomicU64,
    outage_refused: AtomicU64,
    /// By call.
    latencies: [LatencyRecorder; 4],
    /// By call and kind of error.
    failures: [[AtomicU64; ErrorKind::ALL.len()]; 4],
}

/// What a meter's recorders had recorded at some time, by call: reads, writes, deletes, loads.
pub(crate) type Latencies = [LatencySnapshot; 4];

impl Meter {
    /// Counts a call that begins, and returns when that was.
    pub(crate) fn start(&self, call: Call) -> Instant {
        self.count(call);
        Instant::now()
    }

    /// Counts a call that begins at a time that is known: to read the clock costs as much as the count.
    pub(crate) fn count(&self, call: Call) {
        match call {
            Call::Read => &self.reads,
            Call::Write => &self.writes,
            Call::Delete => &self.deletes,
            Call::Load => &self.loads,
        }
        .fetch_add(1, Relaxed);
    }

    /// Counts the end of a call, with its time and how it failed, if it did. A call that is dropped is counted, its
    /// time is not.
    pub(crate) fn end(&self, call: Call, started: Instant, failure: Option<ErrorKind>) {
        self.took(call, started.elapsed());
        if let Some(kind) = failure {
            self.errors.fetch_add(1, Relaxed);
            self.refused(call, kind);
        }
    }

    /// Counts how long a call took, and nothing else.
    pub(crate) fn took(&self, call: Call, time: Duration) {
        self.latencies[call as usize].record(time);
    }

    pub(crate) fn timed_out(&self, call: Call) {
        self.timeouts.fetch_add(1, Relaxed);
        self.errors.fetch_add(1, Relaxed);
        self.refused(call, ErrorKind::Timeout);
    }

    pub(crate) fn overloaded(&self, call: Call) {
        self.overloaded.fetch_add(1, Relaxed);
        self.refused(call, ErrorKind::Overloaded);
    }

    /// Counts a failure by its kind alone: no call of the backend failed.
    pub(crate) fn refused(&self, call: Call, kind: ErrorKind) {
        self.failures[call as usize][kind.index()].fetch_add(1, Relaxed);
    }

    pub(crate) fn undecodable(&self) {
        self.undecodable.fetch_add(1, Relaxed);
    }

    pub(crate) fn foreign(&self) {
        self.foreign.fetch_add(1, Relaxed);
    }

    /// Counts a load that the backend could say nothing of.
    pub(crate) fn loads_in_outage(&self) {
        self.outage_loads.fetch_add(1, Relaxed);
    }

    pub(crate) fn kept_in_outage(&self) {
        self.outage_kept.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused_in_outage(&self) {
        self.outage_refused.fetch_add(1, Relaxed);
    }

    /// Counts loaded values that could not be stored: too large, without an encoding, refused by the backend.
    pub(crate) fn unstored(&self, refused_here: Option<ErrorKind>) {
        self.unstored.fetch_add(1, Relaxed);
        // What the backend refused is counted as the call that it was.
        if let Some(kind) = refused_here {
            self.errors.fetch_add(1, Relaxed);
            self.refused(Call::Load, kind);
        }
    }

    pub(crate) fn latencies(&self) -> Latencies {
        self.latencies.each_ref().map(LatencyRecorder::snapshot)
    }

    pub(crate) fn stats(&self, system: &'static str) -> BackendStats {
        let mut stats = BackendStats::default();
        stats.system = system;
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
        stats.outage_kept = self.outage_kept.load(Relaxed);
        stats.outage_refused = self.outage_refused.load(Relaxed);
        // Last: what was kept or refused had been counted.
        stats.outage_loads = self.outage_loads.load(Relaxed);
        let [reads, writes, deletes, loads] = &self.failures;
        stats.failures.reads = counts(reads);
        stats.failures.writes = counts(writes);
        stats.failures.deletes = counts(deletes);
        stats.failures.loads = counts(loads);
        let [reads, writes, deletes, loads] = self.latencies();
        stats.read_latency = reads.stats();
        stats.write_latency = writes.stats();
        stats.delete_latency = deletes.stats();
        stats.load_latency = loads.stats();
        stats.latency = reads.and(&writes).and(&deletes).stats();
        stats
    }
}

fn counts(failures: &[AtomicU64; ErrorKind::ALL.len()]) -> FailureCounts {
    let mut counts = FailureCounts::default();
    for (kind, failures) in ErrorKind::ALL.into_iter().zip(failures) {
        counts.add(kind, failures.load(Relaxed));
    }
    counts
}

/// Returns how a call failed, if it did.
pub(crate) fn failure<T>(result: &BackendResult<T>) -> Option<ErrorKind> {
    result.as_ref().err().map(|error| error.kind().into())
}

/// Returns how the first of many that failed did.
#[allow(clippy::ptr_arg, reason = "a call returns a vector, and is given a reference to what it returns")]
pub(crate) fn any_failure<T>(results: &Vec<BackendResult<T>>) -> Option<ErrorKind> {
    results.iter().find_map(failure)
}
