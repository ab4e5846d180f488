//! How often each operation was called.

use std::sync::atomic::{AtomicU64, Ordering};

/// Calls to a store, one field for each operation. A batch counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationCounts {
    /// Calls of `get`.
    pub get: u64,
    /// Calls of `set`.
    pub set: u64,
    /// Calls of `delete`.
    pub delete: u64,
    /// Calls of `clear`.
    pub clear: u64,
    /// Calls of `get_many`.
    pub get_many: u64,
    /// Calls of `set_many`.
    pub set_many: u64,
    /// Calls of `delete_many`.
    pub delete_many: u64,
    /// Calls of `compare_and_set`.
    pub compare_and_set: u64,
    /// Calls of `increment`.
    pub increment: u64,
    /// Calls of `touch`.
    pub touch: u64,
}

impl OperationCounts {
    /// Returns how many calls there were. For each of them Redis would have made a round trip.
    #[must_use]
    pub fn total(&self) -> u64 {
        let written = self.set + self.set_many + self.delete + self.delete_many + self.clear;
        self.reads() + written + self.compare_and_set + self.increment + self.touch
    }

    /// Returns how many calls read.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.get + self.get_many
    }
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counter {
    Get,
    Set,
    Delete,
    Clear,
    GetMany,
    SetMany,
    DeleteMany,
    CompareAndSet,
    Increment,
    Touch,
}

/// The counters, in the order of [`Counter`].
#[derive(Debug, Default)]
pub(super) struct Counters([AtomicU64; 10]);

impl Counters {
    pub(super) fn count(&self, operation: Counter) {
        self.0[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> OperationCounts {
        let count = |operation: Counter| self.0[operation as usize].load(Ordering::Relaxed);
        OperationCounts {
            get: count(Counter::Get),
            set: count(Counter::Set),
            delete: count(Counter::Delete),
            clear: count(Counter::Clear),
            get_many: count(Counter::GetMany),
            set_many: count(Counter::SetMany),
            delete_many: count(Counter::DeleteMany),
            compare_and_set: count(Counter::CompareAndSet),
            increment: count(Counter::Increment),
            touch: count(Counter::Touch),
        }
    }
}
