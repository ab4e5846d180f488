//! Forgetting everything.

use std::{fmt, mem, sync::Arc};

use twotier_core::RemovalCause;

use crate::{flight::Outcome, inner::Inner, policy::Entries, removal::notify_of_all};

impl<T, E> Inner<T, E> {
    /// Empties every shard, one after the other.
    pub(crate) fn take_all(self: &Arc<Self>) -> Cleared<T, E> {
        let mut removed = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let plan = shard.0.lock().plan();
            let empty = plan.into();
            let mut shard = shard.0.lock();
            let emptied = shard.clear(empty);
            self.give_back_unused(&mut shard);
            drop(shard);
            removed.push(emptied);
        }
        if let Some(advisor) = &self.advisor {
            advisor.cleared();
        }
        for flight in removed.iter().flat_map(|emptied| &emptied.flights) {
            flight.settle(Outcome::Abandoned);
        }
        Cleared { entries: removed.into_iter().map(|emptied| emptied.entries).collect(), inner: Arc::clone(self) }
    }
}

/// What a tier held before it was [cleared](crate::LocalTier::take_all). Dropped, it notifies the tier's listener.
#[must_use = "dropping it drops every value"]
pub struct Cleared<T, E> {
    entries: Vec<Entries<T>>,
    inner: Arc<Inner<T, E>>,
}

impl<T, E> Cleared<T, E> {
    /// Returns how many entries there were.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.iter().map(Entries::len).sum()
    }

    /// Returns whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T, E> Drop for Cleared<T, E> {
    fn drop(&mut self) {
        if let Some(listener) = &self.inner.on_removal {
            notify_of_all(&**listener, mem::take(&mut self.entries), RemovalCause::Cleared);
        }
    }
}

impl<T, E> fmt::Debug for Cleared<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cleared").field(&self.len()).finish()
    }
}

/// A clearing of the backend under way; see [`LocalTier::begin_clear`](crate::LocalTier::begin_clear).
#[must_use = "dropping it ends the clearing"]
pub struct Clearing<T, E>(Arc<Inner<T, E>>);

impl<T, E> Clearing<T, E> {
    pub(crate) fn of(inner: &Arc<Inner<T, E>>) -> Self {
        Self(Arc::clone(inner))
    }
}

impl<T, E> Drop for Clearing<T, E> {
    fn drop(&mut self) {
        // What was registered before this flush saw keys that are gone now; what is registered after it did not.
        self.0.links.flush_all();
        drop(self.0.take_all());
        self.0.links.end_clearing();
    }
}

impl<T, E> fmt::Debug for Clearing<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clearing").finish_non_exhaustive()
    }
}
