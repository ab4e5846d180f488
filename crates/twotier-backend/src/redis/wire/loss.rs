//! The end of a link.

use std::sync::OnceLock;

use parking_lot::Mutex;
use tokio::{sync::Notify, task::AbortHandle};
use twotier_core::{BackendError, BackendErrorKind};

/// The end of a link: declared once, seen by everyone who waits on it. The connections of a link share one, so that
/// none outlives another by a moment in which a write could overtake one that is lost.
#[derive(Debug, Default)]
pub(in crate::redis) struct Loss {
    cause: OnceLock<BackendError>,
    declared: Notify,
    /// These tasks own the streams: they are aborted at once, so that nothing that is still queued is sent.
    drivers: Mutex<Vec<AbortHandle>>,
}

impl Loss {
    /// Declares the link lost and closes its streams. The first cause stays.
    pub(in crate::redis) fn declare(&self, cause: BackendError) {
        if self.cause.set(cause).is_ok() {
            self.declared.notify_waiters();
        }
        self.drivers.lock().drain(..).for_each(|driver| driver.abort());
    }

    pub(in crate::redis) fn cause(&self) -> Option<BackendError> {
        self.cause.get().cloned()
    }

    pub(in crate::redis) fn is_declared(&self) -> bool {
        self.cause.get().is_some()
    }

    /// Waits until the link is lost, and returns why.
    pub(in crate::redis) async fn wait(&self) -> BackendError {
        let declared = self.declared.notified();
        tokio::pin!(declared);
        // Registered before the cause is looked at, so a declaration in between is not missed.
        declared.as_mut().enable();
        if let Some(cause) = self.cause.get() {
            return cause.clone();
        }
        declared.await;
        self.cause().unwrap_or_else(|| BackendError::new(BackendErrorKind::Unavailable, "the connection was lost"))
    }

    /// Ends this task with the link.
    pub(super) fn ends(&self, driver: AbortHandle) {
        self.drivers.lock().push(driver);
        if self.is_declared() {
            self.drivers.lock().drain(..).for_each(|driver| driver.abort());
        }
    }
}
