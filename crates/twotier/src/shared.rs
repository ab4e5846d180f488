//! What all clones of a cache share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, time::timeout};
use twotier_backend::{Backend, BackendResult};
use twotier_core::{
    BackendError, BackendErrorKind, ChangeListener, Coherence, Error, Lease, Mark, Namespace, Operation, check_key,
};
use twotier_local::LocalTier;

use crate::{Codec, Result, admission::Admission, codec::Place, load::Loads, meter::Meter};

/// What the local tier keeps: a decoded value, or the knowledge that the key is absent.
pub(crate) type Kept<V> = Option<Arc<V>>;
pub(crate) type Local<V> = LocalTier<Kept<V>, Error>;
/// Says what a value weighs, in bytes.
pub(crate) type Weigher<V> = dyn Fn(&str, &V) -> usize + Send + Sync;

pub(crate) struct Shared<V> {
    pub(crate) namespace: Namespace,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) local: Option<Local<V>>,
    pub(crate) codec: Arc<dyn Codec<V>>,
    pub(crate) weigher: Option<Arc<Weigher<V>>>,
    pub(crate) settings: Settings,
    pub(crate) admission: Admission,
    pub(crate) meter: Meter,
    pub(crate) loads: Arc<Loads<V>>,
    /// Where writes run to their end whatever becomes of their callers.
    pub(crate) runtime: Handle,
    pub(crate) closed: AtomicBool,
}

/// The validated configuration, with the mode that is really in force.
pub(crate) struct Settings {
    pub(crate) time_to_live: Option<Duration>,
    pub(crate) local_time_to_live: Duration,
    pub(crate) negative_time_to_live: Option<Duration>,
    pub(crate) ttl_jitter: f64,
    pub(crate) op_timeout: Duration,
    pub(crate) max_value_bytes: usize,
    pub(crate) coherence: Coherence,
    pub(crate) max_staleness: Duration,
}

impl Settings {
    /// The staleness bound in force, `None` where writes by others are not seen for certain.
    pub(crate) fn staleness_bound(&self) -> Option<Duration> {
        (self.coherence == Coherence::Broadcast).then_some(self.max_staleness)
    }

    /// The time to live of a value that is written without one of its own.
    pub(crate) fn default_ttl(&self) -> Option<Duration> {
        let ttl = self.time_to_live?;
        if self.ttl_jitter == 0.0 {
            return Some(ttl);
        }
        Some(ttl.mul_f64(1.0 - self.ttl_jitter * fastrand::f64()).max(Duration::from_millis(1)))
    }

    /// The local time to live of one copy: up to a tenth shorter than configured, so that copies made together do not
    /// end together.
    pub(crate) fn local_ttl(&self) -> Duration {
        self.local_time_to_live.mul_f64(1.0 - 0.1 * fastrand::f64())
    }
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// Refuses every operation once the cache is closed.
    pub(crate) fn open(&self, operation: Operation) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed { operation, namespace: self.namespace.clone() });
        }
        Ok(())
    }

    pub(crate) fn check_key(&self, operation: Operation, key: &str) -> Result<()> {
        check_key(key).map_err(|source| Error::InvalidKey { operation, namespace: self.namespace.clone(), source })
    }

    /// Waits for the backend, but not longer than the operation timeout.
    pub(crate) async fn within<T>(&self, operation: Operation, call: impl Future<Output = Result<T>>) -> Result<T> {
        let after = self.settings.op_timeout;
        match timeout(after, call).await {
            Ok(result) => result,
            Err(_elapsed) => {
                self.meter.timed_out();
                Err(Error::Timeout { operation, namespace: self.namespace.clone(), after, sent: true })
            }
        }
    }

    /// Runs a write to its end, whatever becomes of the caller; the caller waits for it for as long as it likes.
    ///
    /// A write whose outcome nobody watched could land after a later read of the same key and leave the local tier with
    /// the value from before it.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        operation: Operation,
        write: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let task = self.runtime.spawn(write);
        match task.await {
            Ok(result) => result,
            Err(_ended) => {
                let source = BackendError::new(
                    BackendErrorKind::Unavailable,
                    "the write was ended by a panic or by the end of the runtime",
                );
                Err(self.backend_failed(operation, source))
            }
        }
    }

    pub(crate) fn backend_failed(&self, operation: Operation, source: BackendError) -> Error {
        if source.kind() == BackendErrorKind::Closed && self.closed.load(Ordering::Acquire) {
            return Error::Closed { operation, namespace: self.namespace.clone() };
        }
        Error::Backend { operation, namespace: self.namespace.clone(), source }
    }

    pub(crate) fn unanswered(&self, operation: Operation) -> Error {
        self.backend_failed(operation, unanswered())
    }

    /// A backend of the user's own may break the contract: when it returned more or fewer results than there are items,
    /// nobody knows which belongs to which, and every item is an error, never a silent success.
    pub(crate) fn one_each<T>(items: usize, results: Vec<BackendResult<T>>) -> Vec<BackendResult<T>> {
        if results.len() == items {
            return results;
        }
        std::iter::repeat_with(|| Err(unanswered())).take(items).collect()
    }

    /// Where the value of a key is kept, for the codec.
    pub(crate) fn place<'a>(&'a self, key: &'a str) -> Place<'a> {
        Place::new(self.namespace.as_str(), key, self.settings.max_value_bytes)
    }

    /// What a value weighs in the local tier, beside its key and the tier's own overhead.
    pub(crate) fn weigh(&self, key: &str, value: &V, encoded: usize) -> usize {
        match &self.weigher {
            Some(weigher) => weigher(key, value),
            None => encoded,
        }
    }
}

fn unanswered() -> BackendError {
    BackendError::new(BackendErrorKind::Protocol, "the backend did not return one result for each item of a batch")
}

/// Hears of changes for the local tier and for the loads under way.
pub(crate) struct Listener<V> {
    pub(crate) namespace: Namespace,
    pub(crate) local: Local<V>,
    pub(crate) loads: Arc<Loads<V>>,
}

impl<V: Send + Sync + 'static> ChangeListener for Listener<V> {
    fn mark(&self) -> Mark {
        self.local.mark()
    }

    fn proof_of_life(&self, mark: Mark) {
        self.local.proof_of_life(mark);
    }

    fn changed(&self, key: &[u8]) {
        self.local.changed(key);
        if let Some(Ok(key)) = self.namespace.strip(key).map(std::str::from_utf8) {
            self.loads.supersede(key);
        }
    }

    fn flushed(&self) {
        self.local.flushed();
        self.loads.supersede_all();
    }

    fn link_up(&self, lease: Lease) {
        self.local.link_up(lease);
    }

    fn link_down(&self) {
        self.local.link_down();
    }
}
