//! What was broken.

use std::{fmt, time::Duration};

use super::event::HistoryTime;

/// A rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A version was read that nobody had written.
    MadeUp,
    /// A version was seen whose write had failed before it was sent.
    NotSentSeen,
    /// A read returned the version of a write that had failed, after a later one of the same party was acknowledged:
    /// for the own handle at once, for others beyond the bound, and at rest in the server itself.
    Undone {
        /// The version that was acknowledged.
        acknowledged: u64,
    },
    /// A read returned something older than what its own handle had acknowledged before.
    OwnWriteUnseen {
        /// The version that was acknowledged.
        acknowledged: u64,
    },
    /// A read returned something older than an earlier read of the same handle.
    WentBack {
        /// The version that had been read.
        seen: u64,
    },
    /// A read returned something that had been overwritten for longer than the bound.
    TooStale {
        /// For how long.
        staleness: Duration,
        /// The bound of the handle.
        bound: Duration,
        /// Whether it was a local hit.
        hit: bool,
    },
    /// At rest a handle reads something else than the server holds.
    AtRest {
        /// What the server holds.
        held: Option<u64>,
    },
    /// The server does not hold what was acknowledged.
    Lost {
        /// The last version that was acknowledged.
        acknowledged: u64,
    },
    /// Two copies of one version that was written twice at once were seen to alternate.
    Alternates,
    /// After a fault was healed a handle did not recover.
    NotRecovered,
}

/// A rule that was broken, by whom and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub broken: Broken,
    /// Through which handle, if through any.
    pub handle: Option<usize>,
    /// Of which key.
    pub key: usize,
    /// What was read.
    pub version: Option<u64>,
    /// When the read began.
    pub at: HistoryTime,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { broken, handle, key, version, at } = self;
        write!(f, "{broken:?}: key {key}, read {version:?} at {at}")?;
        match handle {
            Some(handle) => write!(f, " through handle {handle}"),
            None => Ok(()),
        }
    }
}
