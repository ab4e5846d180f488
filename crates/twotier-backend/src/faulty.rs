//! A backend that fails on purpose.

mod faults;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use twotier_core::{BackendError, LinkId, LinkState, LinkStatus, Namespace};

use crate::{AnswerSink, Attachment, Backend, BackendResult, Counted, GetReply, Stored, Watch, Write};

pub use faults::{FaultPoint, Faults};

/// Wraps any backend and makes it slow or broken: the way to see how an application behaves when Redis is.
///
/// [`faults`](Self::faults) returns a handle that switches latency, errors and hanging at any time, also from another
/// task. Without faults every call is passed on as it is. Each call of the trait meets the faults once; a batch is one
/// call, and one that fails has an error for each item. `route`, `link`, `links`, `close` and the reports of changes
/// pass untouched.
///
/// # Examples
///
/// ```
/// # mod twotier { pub use twotier_backend::*; pub use twotier_core::*; }
/// use twotier::{Backend, BackendError, BackendErrorKind, FaultyBackend, MemoryBackend};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BackendError> {
/// let backend = FaultyBackend::new(MemoryBackend::new());
/// let faults = backend.faults();
///
/// faults.fail_next(1, BackendError::new(BackendErrorKind::Unavailable, "connection refused"));
/// let error = backend.get(b"users:42").await.unwrap_err();
/// assert_eq!(error.kind(), BackendErrorKind::Unavailable);
/// assert_eq!(backend.get(b"users:42").await?, None);
/// assert_eq!((faults.calls(), faults.failures()), (2, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FaultyBackend<B> {
    inner: B,
    faults: Faults,
}

impl<B> FaultyBackend<B> {
    /// Wraps a backend, with no fault switched on.
    pub fn new(inner: B) -> Self {
        Self::with_faults(inner, Faults::default())
    }

    /// Wraps a backend whose faults are those of others too, as two clients of one broken server.
    pub fn with_faults(inner: B, faults: Faults) -> Self {
        Self { inner, faults }
    }

    /// Returns the switches.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Returns the backend inside, past all faults.
    #[must_use]
    pub fn inner(&self) -> &B {
        &self.inner
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: Backend> Backend for FaultyBackend<B> {
    async fn ready(&self) -> BackendResult<()> {
        self.inner.ready().await
    }

    /// Faults strike futures: the caller runs [`get`](Backend::get) in a task of its own.
    fn start_get(&self, _key: &[u8], reply: GetReply) -> Option<GetReply> {
        Some(reply)
    }

    async fn get_each(&self, keys: &[Bytes], answers: AnswerSink<'_>) {
        for (index, answer) in self.get_many(keys).await.into_iter().enumerate().take(keys.len()) {
            answers(index, answer);
        }
    }

    fn reads_together(&self) -> bool {
        self.inner.reads_together()
    }

    fn progress(&self) -> u64 {
        self.inner.progress()
    }

    async fn get(&self, key: &[u8]) -> BackendResult<Option<Stored>> {
        self.faults.call(self.inner.get(key), Err).await
    }

    async fn set(&self, key: &[u8], value: Bytes, ttl: Option<Duration>) -> BackendResult<()> {
        self.faults.call(self.inner.set(key, value, ttl), Err).await
    }

    async fn delete(&self, key: &[u8]) -> BackendResult<bool> {
        self.faults.call(self.inner.delete(key), Err).await
    }

    async fn clear(&self, prefix: &[u8]) -> BackendResult<u64> {
        self.faults.call(self.inner.clear(prefix), Err).await
    }

    async fn compare_and_set(
        &self,
        key: &[u8],
        expected: Option<Bytes>,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> BackendResult<bool> {
        self.faults.call(self.inner.compare_and_set(key, expected, value, ttl), Err).await
    }

    async fn increment(&self, key: &[u8], by: i64, ttl: Option<Duration>) -> BackendResult<Counted> {
        self.faults.call(self.inner.increment(key, by, ttl), Err).await
    }

    async fn touch(&self, key: &[u8], ttl: Duration) -> BackendResult<bool> {
        self.faults.call(self.inner.touch(key, ttl), Err).await
    }

    async fn get_many(&self, keys: &[Bytes]) -> Vec<BackendResult<Option<Stored>>> {
        self.faults.call(self.inner.get_many(keys), |error| for_each(keys, &error)).await
    }

    async fn set_many(&self, writes: &[Write]) -> Vec<BackendResult<bool>> {
        self.faults.call(self.inner.set_many(writes), |error| for_each(writes, &error)).await
    }

    async fn delete_many(&self, keys: &[Bytes]) -> Vec<BackendResult<bool>> {
        self.faults.call(self.inner.delete_many(keys), |error| for_each(keys, &error)).await
    }

    fn key_prefix(&self) -> Option<&Namespace> {
        self.inner.key_prefix()
    }

    fn system(&self) -> &'static str {
        self.inner.system()
    }

    async fn attach(&self, watch: Watch) -> BackendResult<Attachment> {
        self.faults.call(self.inner.attach(watch), Err).await
    }

    fn route(&self, key: &[u8]) -> LinkId {
        self.inner.route(key)
    }

    fn link(&self) -> LinkState {
        self.inner.link()
    }

    fn links(&self) -> Vec<LinkStatus> {
        self.inner.links()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// A batch that failed as a whole.
fn for_each<I, T>(items: &[I], error: &BackendError) -> Vec<BackendResult<T>> {
    items.iter().map(|_| Err(error.clone())).collect()
}

#[cfg(test)]
mod tests;
