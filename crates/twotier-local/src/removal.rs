//! Who is notified of the entries that go.

use std::panic::{AssertUnwindSafe, catch_unwind};

use twotier_core::RemovalCause;

use crate::policy::{Entries, Removed};

/// Notified of each entry that goes, when no lock is held. A panic in it ends there.
pub trait RemovalListener<T>: Send + Sync {
    /// Returns whether anybody wants to be notified. Asked before anything is made for it; provided as `true`.
    fn is_listening(&self) -> bool {
        true
    }

    /// An entry went: its key, its value, and why.
    fn removed(&self, key: &str, value: T, cause: RemovalCause);
}

/// What a shard let go. Dropped when the shard is unlocked, it notifies the listener.
#[must_use = "values are dropped with it, which is not to happen under a lock"]
pub(crate) struct Released<'t, T> {
    /// `None` when nothing went, as mostly: then there is nothing to move either.
    removed: Option<Removed<T>>,
    listener: Option<&'t dyn RemovalListener<T>>,
}

impl<'t, T> Released<'t, T> {
    pub(crate) fn new(removed: Option<Removed<T>>, listener: Option<&'t dyn RemovalListener<T>>) -> Self {
        Self { removed, listener }
    }
}

impl<T> Drop for Released<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let Some(removed) = self.removed.take() else { return };
        if let Some(listener) = self.listener.filter(|listener| listener.is_listening()) {
            removed.each_held(|key, value, cause| notify(listener, key, value, cause));
        }
    }
}

/// Notifies the listener of all entries of some maps.
pub(crate) fn notify_of_all<T>(listener: &dyn RemovalListener<T>, maps: Vec<Entries<T>>, cause: RemovalCause) {
    if listener.is_listening() {
        maps.into_iter()
            .for_each(|entries| entries.each_held(cause, |key, value, cause| notify(listener, key, value, cause)));
    }
}

/// A panic of the listener's is not that of whoever happened to be there.
fn notify<T>(listener: &dyn RemovalListener<T>, key: &str, value: T, cause: RemovalCause) {
    let _panicked = catch_unwind(AssertUnwindSafe(|| listener.removed(key, value, cause)));
}
