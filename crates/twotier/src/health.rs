//! What `health` says.

use std::time::Duration;

use crate::{Coherence, LinkState};

/// The state of a cache, as [`Cache::health`](crate::Cache::health) reports it without a round trip.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// The state of the backend's link.
    pub link: LinkState,
    /// The coherence mode in force.
    pub coherence: Coherence,
    /// The longest a hit may be stale; `None` when only the time to live bounds it.
    pub max_staleness: Option<Duration>,
    /// Whether there is a local tier.
    pub local_enabled: bool,
    /// Whether the cache was closed.
    pub closed: bool,
}

impl Health {
    /// Returns whether operations can be expected to work.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.closed && self.link.is_up()
    }
}
