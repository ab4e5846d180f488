//! An outcome that several callers wait for.

use std::pin::pin;

use crate::sync::{AtomicBool, Notify, OnceLock, Ordering};

/// A cell that is set once, and wakes those who wait for it.
pub(crate) struct Completion<O> {
    outcome: OnceLock<O>,
    changed: Notify,
}

impl<O> Completion<O> {
    pub(crate) fn new() -> Self {
        Self { outcome: OnceLock::new(), changed: Notify::new() }
    }

    /// Sets the outcome and wakes the waiters. Never to be called under a lock: it wakes tasks, and may drop a value.
    pub(crate) fn complete(&self, outcome: O) {
        // If it is set already, that outcome stands and this one is dropped.
        let _ = self.outcome.set(outcome);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// Waits for the outcome. The future may be dropped at any time.
    pub(crate) async fn wait(&self) -> &O {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registered before the outcome is looked at, so that an outcome set in between wakes us.
            changed.as_mut().enable();
            if let Some(outcome) = self.outcome.get() {
                return outcome;
            }
            changed.await;
        }
    }
}

/// A load under way, shared by its ticket and its joiners.
pub(crate) struct LoadState<T, E> {
    /// `None` when its leader went away.
    pub(crate) outcome: Completion<Option<Result<T, E>>>,
    /// Whether it died of an answer that differed from what it saw.
    pub(crate) overtaken: AtomicBool,
}

impl<T, E> LoadState<T, E> {
    pub(crate) fn new() -> Self {
        Self { outcome: Completion::new(), overtaken: AtomicBool::new(false) }
    }

    /// To be called before the leader is given the answer. The outcome makes it visible.
    pub(crate) fn overtaken(&self) {
        self.overtaken.store(true, Ordering::Relaxed);
    }
}
