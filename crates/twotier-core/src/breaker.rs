//! What is known of breakers: of the calls that are not made because the backend does not answer.

use std::fmt;

use serde::Serialize;

/// Whether calls over a link are made, or fail at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Every call is made.
    #[default]
    Closed,
    /// One call at a time is made, to see whether it is answered; the others fail at once.
    HalfOpen,
    /// No call is made, until the next one is tried or the link gives a sign of life.
    Open,
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        })
    }
}

/// State and counters of a cache's breaker; of several links, of all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BreakerStats {
    /// The state; of several links the worst.
    pub state: BreakerState,
    /// How often it opened.
    pub opened: u64,
    /// Calls that failed at once because it was open: one for each key of a batch. Nothing was asked of the backend.
    pub refused: u64,
}
