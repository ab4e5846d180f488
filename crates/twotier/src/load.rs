//! `get_or_load` and `get_many_or_load`: one load per key at a time.

mod many;

use std::{
    collections::HashMap,
    error::Error as StdError,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use twotier_core::{Error, ErrorKind, Operation, SharedError};

use crate::{
    Lookup, Result, SetOptions, Tier,
    shared::{Kept, Shared},
};

/// The loads under way, by key.
///
/// A load is *superseded* when its key changes while the loader runs: its value may be older than the change. Whoever
/// waited for it still gets it, since they asked before, but it is not stored, and nobody new joins it.
pub(crate) struct Loads<V> {
    under_way: Mutex<HashMap<Box<str>, Arc<Load<V>>>>,
}

struct Load<V> {
    /// Set once, at the end; `None` when the leader gave up and the waiters elect again. A batch's loader may have found
    /// that the key has no value.
    outcome: OnceLock<Option<Result<Kept<V>>>>,
    ended: Notify,
}

impl<V> Default for Loads<V> {
    fn default() -> Self {
        Self { under_way: Mutex::new(HashMap::new()) }
    }
}

impl<V> Loads<V> {
    /// Takes part in the load of a key: leads it when nobody else does.
    fn enter(self: &Arc<Self>, key: &str) -> Entered<V> {
        let mut under_way = self.under_way.lock();
        if let Some(load) = under_way.get(key) {
            return Entered::Waiting(Arc::clone(load));
        }
        let load = Arc::new(Load { outcome: OnceLock::new(), ended: Notify::new() });
        under_way.insert(key.into(), Arc::clone(&load));
        Entered::Leading(Leader { loads: Arc::clone(self), key: key.into(), load })
    }

    /// Says that a key changed.
    pub(crate) fn supersede(&self, key: &str) {
        let superseded = {
            let mut under_way = self.under_way.lock();
            if under_way.is_empty() { None } else { under_way.remove(key) }
        };
        // Dropped outside the lock: a value may be dropped with it.
        drop(superseded);
    }

    /// Says that everything may have changed.
    pub(crate) fn supersede_all(&self) {
        let superseded = std::mem::take(&mut *self.under_way.lock());
        drop(superseded);
    }
}

enum Entered<V> {
    Leading(Leader<V>),
    Waiting(Arc<Load<V>>),
}

/// The right and duty to end a load. Dropped without an outcome (cancelled, panicked), it makes the waiters elect again.
struct Leader<V> {
    loads: Arc<Loads<V>>,
    key: Box<str>,
    load: Arc<Load<V>>,
}

impl<V> Leader<V> {
    /// Whether the key changed since the load began.
    fn is_superseded(&self) -> bool {
        let under_way = self.loads.under_way.lock();
        under_way.get(&self.key).is_none_or(|load| !Arc::ptr_eq(load, &self.load))
    }

    fn end(self, outcome: Result<Kept<V>>) {
        // Left first: who waited and must load for itself would else find this load again.
        self.leave();
        // Set once: only the leader sets it, and it is gone afterwards. `Drop` wakes the waiters.
        let _ = self.load.outcome.set(Some(outcome));
    }

    fn leave(&self) {
        let mine = {
            let mut under_way = self.loads.under_way.lock();
            let mine = under_way.get(&self.key).is_some_and(|load| Arc::ptr_eq(load, &self.load));
            if mine { under_way.remove(&self.key) } else { None }
        };
        drop(mine);
    }
}

impl<V> Drop for Leader<V> {
    fn drop(&mut self) {
        self.leave();
        // Keeps an outcome that is there already.
        let _ = self.load.outcome.set(None);
        self.load.ended.notify_waiters();
    }
}

impl<V> Load<V> {
    /// Waits for the end; `None` when the leader gave up.
    async fn outcome(&self) -> Option<Result<Kept<V>>> {
        let ended = self.ended.notified();
        tokio::pin!(ended);
        // Registered before looking, so an end in between is not missed.
        ended.as_mut().enable();
        if self.outcome.get().is_none() {
            ended.await;
        }
        self.outcome.get().cloned().flatten()
    }
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// Reads through both tiers and, when the key is absent, loads and stores it.
    pub(crate) async fn get_or_load<F, Fut, T, E>(self: &Arc<Self>, key: &str, loader: F) -> Result<(Arc<V>, Tier)>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        T: Into<Arc<V>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.open(Operation::GetOrLoad)?;
        loop {
            let leader = match self.loads.enter(key) {
                Entered::Leading(leader) => leader,
                Entered::Waiting(load) => match load.outcome().await {
                    Some(Ok(Some(value))) => return Ok((value, Tier::Origin)),
                    Some(Err(error)) => return Err(error),
                    // A batch's loader has no value for the key: this one may.
                    Some(Ok(None)) | None => continue,
                },
            };
            let result = self.lead_load(key, &leader, loader).await;
            leader.end(match &result {
                Ok((value, _)) => Ok(Some(Arc::clone(value))),
                Err(error) => Err(error.clone()),
            });
            return result;
        }
    }

    /// Asks the backend, then the loader, and stores what was loaded.
    async fn lead_load<F, Fut, T, E>(
        self: &Arc<Self>,
        key: &str,
        leader: &Leader<V>,
        loader: F,
    ) -> Result<(Arc<V>, Tier)>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        T: Into<Arc<V>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let reachable = match self.read_through(key, Operation::GetOrLoad).await {
            Ok(Lookup { value: Some(value), tier, .. }) => return Ok((value, tier)),
            Ok(_absent) => true,
            // An unreachable cache must not keep the service from its own source.
            Err(error) if is_unreachable(&error) => false,
            Err(error) => return Err(error),
        };
        self.meter.loaded();
        let value: Arc<V> = match loader().await {
            Ok(value) => value.into(),
            Err(error) => {
                return Err(self.load_failed(Operation::GetOrLoad, error));
            }
        };
        if reachable && !leader.is_superseded() {
            let stored = self.put(Operation::GetOrLoad, key, Arc::clone(&value), SetOptions::default()).await;
            if let Err(error) = stored {
                // The caller asked for the value and has it; that it is not stored shows in `stats().backend.errors`.
                tracing::warn!(%error, "a loaded value was not stored");
            }
        }
        Ok((value, Tier::Origin))
    }

    fn load_failed(&self, operation: Operation, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error::Load { operation, namespace: self.namespace.clone(), source: SharedError::new(error) }
    }
}

fn is_unreachable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}
