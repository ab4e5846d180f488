//! Why a local copy went.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a local copy went away. Each is counted in [`LocalStats`](crate::LocalStats) by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RemovalCause {
    /// There were too many entries.
    EvictedForEntries,
    /// There were too many bytes.
    EvictedForBytes,
    /// Its time to live was over when it was looked up.
    Expired,
    /// A flush of the backend or a lost link made it worthless; found out when it was looked up.
    Outdated,
    /// Somebody else changed the key, or it was forgotten by hand.
    Invalidated,
    /// A newer value of the key, or an own write, took its place.
    Superseded,
    /// The whole tier was cleared.
    Cleared,
}

impl RemovalCause {
    /// Returns the name, as in the statistics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EvictedForEntries => "evicted_for_entries",
            Self::EvictedForBytes => "evicted_for_bytes",
            Self::Expired => "expired",
            Self::Outdated => "outdated",
            Self::Invalidated => "invalidated",
            Self::Superseded => "superseded",
            Self::Cleared => "cleared",
        }
    }
}

impl fmt::Display for RemovalCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
