//! An outcome that several callers wait for.

use std::pin::pin;

use crate::sync::{Notify, OnceLock};

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
