//! What `lookup` returns beside the value.

use std::{fmt, sync::Arc, time::Duration};

/// The answer of [`Cache::lookup`](crate::Cache::lookup): a value and where it came from.
#[non_exhaustive]
pub struct Lookup<V> {
    /// The value; `None` when the key is absent.
    pub value: Option<Arc<V>>,
    /// Which tier answered.
    pub tier: Tier,
    /// How long ago the backend was asked for it; zero when it was asked now.
    pub age: Duration,
    /// What is promised about how stale it may be.
    pub freshness: Freshness,
}

/// Which tier answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tier {
    /// The local tier, without any round trip.
    Local,
    /// The backend.
    Remote,
    /// The loader of `get_or_load`.
    Origin,
}

/// What is promised about how stale an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Freshness {
    /// The backend was asked during this call.
    Current,
    /// A local copy that the backend vouches for: not overwritten by any write acknowledged longer ago than this.
    Within(Duration),
    /// A local copy that only its time to live bounds.
    UntilExpiry,
    /// A local copy that nobody vouches for any more, because the backend did not answer, or not soon enough; see
    /// [`stale_if_error`](crate::CacheBuilder::stale_if_error).
    #[non_exhaustive]
    Stale {
        /// It was what the backend held this long ago, or less.
        at_most: Duration,
    },
    /// A local copy of what a loader brought while the backend did not answer, or did not take it: changes of what it
    /// was made of need not be reported.
    #[non_exhaustive]
    Outage {
        /// The origin was asked this long ago, or less.
        at_most: Duration,
    },
}

impl<V> Lookup<V> {
    /// An answer of the backend, or of the loader, during this call.
    pub(crate) fn current(value: Option<Arc<V>>, tier: Tier) -> Self {
        Self { value, tier, age: Duration::ZERO, freshness: Freshness::Current }
    }
}

impl<V> Clone for Lookup<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), tier: self.tier, age: self.age, freshness: self.freshness }
    }
}

impl<V> fmt::Debug for Lookup<V> {
    /// Prints whether there is a value, not the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup")
            .field("present", &self.value.is_some())
            .field("tier", &self.tier)
            .field("age", &self.age)
            .field("freshness", &self.freshness)
            .finish()
    }
}
