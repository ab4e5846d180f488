//! How long stashed values live.

use std::time::Duration;

/// How long a stashed value lives, by what it is for.
///
/// A [`Duration`] is one too: `memory.stash_with("k", &value, Duration::from_secs(5), &credentials)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TtlStrategy {
    /// Results that others work on: 1 h. What [`stash`](super::ShortTermMemory::stash) takes where the configuration
    /// has no `time_to_live`.
    #[default]
    WorkingResults,
    /// What waits to be taken over into something lasting: 24 h.
    Staged,
    /// What belongs to a session: 30 min.
    Session,
    /// Anything else, at least 1 ms and at most 100 years.
    For(Duration),
}

impl TtlStrategy {
    /// Returns how long the value lives.
    #[must_use]
    pub fn time_to_live(self) -> Duration {
        const MINUTE: u64 = 60;
        match self {
            Self::WorkingResults => Duration::from_secs(60 * MINUTE),
            Self::Staged => Duration::from_secs(24 * 60 * MINUTE),
            Self::Session => Duration::from_secs(30 * MINUTE),
            Self::For(ttl) => ttl,
        }
    }
}

impl From<Duration> for TtlStrategy {
    fn from(ttl: Duration) -> Self {
        Self::For(ttl)
    }
}
