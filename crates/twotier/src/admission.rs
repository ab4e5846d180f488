//! How much a cache may ask of its backend at once: who is admitted, who waits, and who is refused.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use twotier_core::{Error, Operation};

use crate::{Result, shared::Shared};

/// The door between a cache and its backend. Keys are counted, so that a batch weighs what it asks for.
///
/// Whoever waits is let in in the order in which they came, batches and single keys alike, so neither starves the other.
pub(crate) struct Admission {
    turns: Arc<Semaphore>,
    max_in_flight: usize,
    waiting: AtomicUsize,
    max_waiting: usize,
}

/// The right to have some keys under way to the backend, until it is dropped.
#[must_use = "the keys are no longer counted once this is dropped"]
pub(crate) struct Turn(#[allow(dead_code, reason = "held for its end")] OwnedSemaphorePermit);

/// A call that waits for its turn, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    pub(crate) fn new(max_in_flight: usize, max_waiting: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(max_in_flight)),
            max_in_flight,
            waiting: AtomicUsize::new(0),
            max_waiting,
        }
    }

    /// The most keys that can be under way at once.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    /// Waits for a turn for so many keys, at most [`max_in_flight`](Self::max_in_flight); `None` when too many wait.
    async fn enter(&self, keys: usize) -> Option<Turn> {
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        // Fails while anybody waits, so it does not jump the queue.
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_many_owned(keys) {
            return Some(Turn(turn));
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.max_waiting {
            return None;
        }
        Arc::clone(&self.turns).acquire_many_owned(keys).await.ok().map(Turn)
    }
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// Waits until so many keys may go to the backend. Nothing was asked of it before.
    pub(crate) async fn turn(&self, operation: Operation, keys: usize) -> Result<Turn> {
        if let Some(turn) = self.admission.enter(keys).await {
            return Ok(turn);
        }
        self.meter.overloaded();
        Err(Error::Overloaded { operation, namespace: self.namespace.clone(), waiting: self.admission.max_waiting })
    }
}
