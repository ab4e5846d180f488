//! What failed, by what was done and by what kind of failure it was.

use serde::{Serialize, Serializer};

use crate::ErrorKind;

/// How many failures of each kind there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureCounts([u64; ErrorKind::ALL.len()]);

impl FailureCounts {
    /// Returns how many of this kind there were.
    #[must_use]
    pub fn of(&self, kind: ErrorKind) -> u64 {
        self.0[kind.index()]
    }

    /// Adds so many of this kind.
    pub fn add(&mut self, kind: ErrorKind, failures: u64) {
        self.0[kind.index()] += failures;
    }

    /// Returns how many there were of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns every kind, and how many of it there were.
    pub fn iter(&self) -> impl Iterator<Item = (ErrorKind, u64)> {
        ErrorKind::ALL.into_iter().zip(self.0)
    }
}

impl Serialize for FailureCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(kind, failures)| (kind.name(), failures)))
    }
}

/// What failed, by what was done. Each failure is counted once, whoever waits for it.
///
/// All that is counted in `errors` and in `overloaded` is among them; beside it loaders that failed, values that were
/// refused before they were sent, and values from the backend that were an error to decode or over the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FailureStats {
    /// Reads of the backend, and what they brought.
    pub reads: FailureCounts,
    /// Writes, and the values for them.
    pub writes: FailureCounts,
    /// Deletions and clearings.
    pub deletes: FailureCounts,
    /// Loaders, and loaded values that could not be stored and were not sent.
    pub loads: FailureCounts,
}

impl FailureStats {
    /// Returns how many there were in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.reads.total() + self.writes.total() + self.deletes.total() + self.loads.total()
    }
}
