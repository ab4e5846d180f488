//! The backend inside one process.

mod clock;
mod cluster;
mod counts;
mod reports;
mod script;
mod store;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use twotier_core::{
    BackendError, BackendErrorKind, Clock, Coherence, LinkId, LinkState, LinkStatus, LinkUp, Namespace, Timestamp,
};

use crate::{
    AnswerSink, Attachment, Backend, BackendResult, Counted, GetReply, Stored, Watch, Write, WriteCondition,
    contract::added,
};

use self::{
    clock::PreciseClock,
    counts::{Counter, Counters},
    reports::{HandleId, Reports},
    store::Store,
};

pub use cluster::{MemoryCluster, MemoryClusterBackend};
pub use counts::OperationCounts;
pub use script::MemoryLink;

/// Holds values in this process's own memory, with the semantics of Redis: real expiry, and invalidation between
/// caches.
///
/// For development, tests and demonstrations. Nothing here falls back to it silently: a cache has it only if it was
/// built with it.
///
/// A **clone is another client of the same store**, as a second connection is one to a server.
/// Each handle serves one cache: give the first cache the backend and every further one a clone.
/// Every change made through one handle is reported to the listeners of all others whose namespace it concerns, before
/// the call that made it returns. So the word of its link is [`Lease::Unlimited`](twotier_core::Lease): another cache
/// of this process never serves what was overwritten by a call that has returned.
///
/// Two caches on one store have the same namespace, or two that do not [overlap](Namespace::overlaps): an overlapping
/// one is an error where it is attached, until the other cache was closed.
///
/// Expiry is not reported: every copy carries its own deadline. Expired values are freed by the next write.
/// All calls complete at once, and none fails but on a closed handle; [`FaultyBackend`](crate::FaultyBackend) is there
/// to change that, and [`scripted_link`](Self::scripted_link) to delay, repeat and lose what is reported.
///
/// # Examples
///
/// ```
/// # mod twotier { pub use twotier_backend::*; pub use twotier_core::*; }
/// use std::time::Duration;
///
/// use twotier::{Backend, ManualClock, MemoryBackend, RemainingTtl};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), twotier::BackendError> {
/// let clock = ManualClock::new();
/// let ours = MemoryBackend::with_clock(clock.clone());
/// let theirs = ours.clone();
///
/// theirs.set(b"users:42", "Ada".into(), Some(Duration::from_secs(60))).await?;
/// clock.advance(Duration::from_secs(59));
/// let stored = ours.get(b"users:42").await?.expect("it lives one more second");
/// assert_eq!(stored.ttl, RemainingTtl::Expires(Duration::from_secs(1)));
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(ours.get(b"users:42").await?, None);
/// assert_eq!(ours.operations().get, 2);
/// # Ok(())
/// # }
/// ```
pub struct MemoryBackend {
    shared: Arc<MemoryStore>,
    /// This handle among the clients of the store.
    id: HandleId,
    state: Mutex<State>,
    /// Set when a test has the link of this handle in its hands.
    link: Mutex<Option<MemoryLink>>,
}

/// What all handles on one store share.
struct MemoryStore {
    clock: Arc<dyn Clock>,
    store: Mutex<Store>,
    reports: Reports,
    counters: Counters,
}

/// What one handle is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No cache has it yet.
    Free,
    /// A cache has it that asked for no reports.
    Silent,
    /// A cache has it and receives changes, since then.
    Attached(Timestamp),
    Closed,
}

impl MemoryBackend {
    /// Makes an empty store, on the system's monotonic clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(PreciseClock::new())
    }

    /// Makes an empty store whose values expire by this clock.
    ///
    /// A value is never returned later than its time to live says. With a clock that lags, such as
    /// [`SystemClock`](twotier_core::SystemClock), it goes away up to twice the clock's resolution too early instead.
    #[must_use]
    pub fn with_clock(clock: impl Clock) -> Self {
        Self::on(Arc::new(MemoryStore {
            clock: Arc::new(clock),
            store: Mutex::default(),
            reports: Reports::default(),
            counters: Counters::default(),
        }))
    }

    /// Returns how many values live in the store, whatever their namespace.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.store.lock().len(self.shared.latest_now())
    }

    /// Returns whether nothing lives in the store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes everything, as `FLUSHALL` by some administrator does: every cache is notified, also that of this handle.
    pub fn flush_all(&self) {
        self.shared.store.lock().flush();
        self.shared.reports.flushed();
    }

    /// Returns how often each operation was called on this store, through any handle, since it was made.
    ///
    /// A test can assert on the difference of two of these what it would read off a server with `INFO commandstats`.
    #[must_use]
    pub fn operations(&self) -> OperationCounts {
        self.shared.counters.snapshot()
    }

    /// Puts the link of this handle into the hands of a test. Call it before the handle is given to a cache; later
    /// calls return the same link.
    #[must_use]
    pub fn scripted_link(&self) -> MemoryLink {
        self.link.lock().get_or_insert_with(|| MemoryLink::new(Arc::clone(&self.shared.clock))).clone()
    }

    fn on(shared: Arc<MemoryStore>) -> Self {
        let id = shared.reports.new_handle();
        Self { shared, id, state: Mutex::new(State::Free), link: Mutex::default() }
    }

    /// Counts an operation, unless the handle is closed.
    fn start(&self, operation: Counter) -> BackendResult<()> {
        if *self.state.lock() == State::Closed {
            return Err(closed());
        }
        self.shared.counters.count(operation);
        Ok(())
    }

    fn read(&self, key: &[u8]) -> BackendResult<Option<Stored>> {
        self.start(Counter::Get)?;
        // The clock is read under the lock, here and below: no value lives longer because of the wait for it.
        let store = self.shared.store.lock();
        Ok(store.get(key, self.shared.latest_now()))
    }

    fn reserve(&self, namespace: &Namespace) -> BackendResult<()> {
        self.shared.reports.reserve(self.id, namespace).map_err(|other| {
            let message = format!(
                "the namespaces `{namespace}` and `{other}`, which another cache on this store has, overlap: keys of one \
                 would be keys of the other"
            );
            BackendError::new(BackendErrorKind::Rejected, message)
        })
    }

    fn detach(&self) {
        // The listener is notified of the end while the handle's state is locked, so that this and `attach` cannot
        // cross. It is dropped after that: it may own values, whose drop is not ours.
        let listener = {
            let mut state = self.state.lock();
            *state = State::Closed;
            self.shared.reports.remove(self.id)
        };
        drop(listener);
    }
}

impl MemoryStore {
    /// The time now or a little earlier: for deadlines that are being set.
    fn earliest_now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time now or a little later: for deadlines that may have passed.
    fn latest_now(&self) -> Timestamp {
        self.clock.now().saturating_add(self.clock.resolution())
    }

    fn deadline(&self, ttl: Option<Duration>) -> Option<Timestamp> {
        ttl.map(|ttl| self.earliest_now().saturating_add(ttl))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Backend for MemoryBackend {
    async fn ready(&self) -> BackendResult<()> {
        if *self.state.lock() == State::Closed { Err(closed().not_sent()) } else { Ok(()) }
    }

    fn start_get(&self, key: &[u8], reply: GetReply) -> Option<GetReply> {
        reply.send(self.read(key));
        None
    }

    /// Each answer is there at once.
    fn reads_together(&self) -> bool {
        false
    }

    async fn get_each(&self, keys: &[Bytes], answers: AnswerSink<'_>) {
        for (index, answer) in self.get_many(keys).await.into_iter().enumerate() {
            answers(index, answer);
        }
    }

    fn progress(&self) -> u64 {
        0
    }

    async fn get(&self, key: &[u8]) -> BackendResult<Option<Stored>> {
        self.read(key)
    }

    async fn set(&self, key: &[u8], value: Bytes, ttl: Option<Duration>) -> BackendResult<()> {
        self.start(Counter::Set)?;
        let key = Bytes::copy_from_slice(key);
        {
            let mut store = self.shared.store.lock();
            store.expire(self.shared.latest_now());
            store.set(key.clone(), value, self.shared.deadline(ttl));
        }
        self.shared.reports.changed(self.id, &[key]);
        Ok(())
    }

    async fn delete(&self, key: &[u8]) -> BackendResult<bool> {
        self.start(Counter::Delete)?;
        let removed = {
            let mut store = self.shared.store.lock();
            store.expire(self.shared.latest_now());
            store.remove(key)
        };
        self.shared.reports.changed(self.id, removed.as_slice());
        Ok(removed.is_some())
    }

    async fn clear(&self, prefix: &[u8]) -> BackendResult<u64> {
        self.start(Counter::Clear)?;
        let removed = {
            let mut store = self.shared.store.lock();
            store.expire(self.shared.latest_now());
            store.remove_prefix(prefix)
        };
        self.shared.reports.changed(self.id, &removed);
        Ok(removed.len() as u64)
    }

    async fn compare_and_set(
        &self,
        key: &[u8],
        expected: Option<Bytes>,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> BackendResult<bool> {
        self.start(Counter::CompareAndSet)?;
        let key = Bytes::copy_from_slice(key);
        {
            let mut store = self.shared.store.lock();
            let now = self.shared.latest_now();
            store.expire(now);
            if store.get(&key, now).map(|stored| stored.value) != expected {
                return Ok(false);
            }
            match (value, &expected) {
                (Some(value), _) => store.set(key.clone(), value, self.shared.deadline(ttl)),
                (None, Some(_)) => drop(store.remove(&key)),
                (None, None) => return Ok(true),
            }
        }
        self.shared.reports.changed(self.id, &[key]);
        Ok(true)
    }

    async fn increment(&self, key: &[u8], by: i64, ttl: Option<Duration>) -> BackendResult<Counted> {
        self.start(Counter::Increment)?;
        let key = Bytes::copy_from_slice(key);
        let counted = {
            let mut store = self.shared.store.lock();
            let now = self.shared.latest_now();
            store.expire(now);
            let held = store.get(&key, now);
            let sum = added(held.as_ref().map(|held| &held.value[..]), by)?;
            let deadline = store.deadline(&key).unwrap_or_else(|| self.shared.deadline(ttl));
            store.set(key.clone(), sum.to_string().into(), deadline);
            Counted::new(sum, held.map_or_else(|| ttl.into(), |held| held.ttl))
        };
        self.shared.reports.changed(self.id, &[key]);
        Ok(counted)
    }

    async fn touch(&self, key: &[u8], ttl: Duration) -> BackendResult<bool> {
        self.start(Counter::Touch)?;
        let key = Bytes::copy_from_slice(key);
        let touched = {
            let mut store = self.shared.store.lock();
            store.expire(self.shared.latest_now());
            store.touch(&key, self.shared.earliest_now().saturating_add(ttl))
        };
        if touched {
            self.shared.reports.changed(self.id, &[key]);
        }
        Ok(touched)
    }

    async fn get_many(&self, keys: &[Bytes]) -> Vec<BackendResult<Option<Stored>>> {
        if let Err(error) = self.start(Counter::GetMany) {
            return vec![Err(error); keys.len()];
        }
        let store = self.shared.store.lock();
        let now = self.shared.latest_now();
        keys.iter().map(|key| Ok(store.get(key, now))).collect()
    }

    async fn set_many(&self, writes: &[Write]) -> Vec<BackendResult<bool>> {
        if let Err(error) = self.start(Counter::SetMany) {
            return vec![Err(error); writes.len()];
        }
        let mut written = Vec::with_capacity(writes.len());
        let results = {
            let mut store = self.shared.store.lock();
            let now = self.shared.latest_now();
            store.expire(now);
            let write = |write: &Write| {
                let held = || store.get(&write.key, now).map(|stored| stored.value);
                let met = match &write.condition {
                    WriteCondition::Always => true,
                    WriteCondition::Absent => held().is_none(),
                    WriteCondition::Holds(value) => held().as_ref() == Some(value),
                };
                if met {
                    let key = Bytes::copy_from_slice(&write.key);
                    let kept = store.deadline(&key).filter(|_| write.keep_ttl);
                    store.set(
                        key.clone(),
                        write.value.clone(),
                        kept.unwrap_or_else(|| self.shared.deadline(write.ttl)),
                    );
                    written.push(key);
                }
                Ok(met)
            };
            writes.iter().map(write).collect()
        };
        self.shared.reports.changed(self.id, &written);
        results
    }

    async fn delete_many(&self, keys: &[Bytes]) -> Vec<BackendResult<bool>> {
        if let Err(error) = self.start(Counter::DeleteMany) {
            return vec![Err(error); keys.len()];
        }
        let mut removed = Vec::new();
        let results = {
            let mut store = self.shared.store.lock();
            store.expire(self.shared.latest_now());
            keys.iter()
                .map(|key| {
                    let found = store.remove(key);
                    let was_there = found.is_some();
                    removed.extend(found);
                    Ok(was_there)
                })
                .collect()
        };
        self.shared.reports.changed(self.id, &removed);
        results
    }

    fn key_prefix(&self) -> Option<&Namespace> {
        None
    }

    fn system(&self) -> &'static str {
        "memory"
    }

    async fn attach(&self, watch: Watch) -> BackendResult<Attachment> {
        let coherence = watch.coherence.unwrap_or(Coherence::Broadcast);
        let mut state = self.state.lock();
        match (*state, coherence) {
            (State::Closed, _) => Err(closed()),
            (State::Attached(_) | State::Silent, _) => Err(BackendError::new(
                BackendErrorKind::Unsupported,
                "this handle already serves a cache; give each cache a clone of its own",
            )),
            (State::Free, Coherence::None) => {
                self.reserve(&watch.namespace)?;
                *state = State::Silent;
                Ok(Attachment::new(coherence))
            }
            (State::Free, Coherence::Broadcast) => {
                self.reserve(&watch.namespace)?;
                let script = self.link.lock().as_ref().map(MemoryLink::script);
                self.shared.reports.add(self.id, watch.namespace, watch.listener, script);
                *state = State::Attached(self.shared.clock.now());
                Ok(Attachment::new(coherence))
            }
            (State::Free, other) => Err(BackendError::new(
                BackendErrorKind::Unsupported,
                format!("the in-memory backend does not have the coherence `{other}`"),
            )),
        }
    }

    fn route(&self, _key: &[u8]) -> LinkId {
        LinkId::ONLY
    }

    fn links(&self) -> Vec<LinkStatus> {
        vec![LinkStatus::new(LinkId::ONLY, self.link())]
    }

    fn link(&self) -> LinkState {
        match *self.state.lock() {
            State::Free | State::Silent => LinkState::Unlinked,
            State::Attached(since) => {
                let age = self.shared.clock.now().since(since);
                match &*self.link.lock() {
                    Some(link) => link.script().link(age),
                    None => LinkState::Up(LinkUp::new(age)),
                }
            }
            State::Closed => LinkState::Closed,
        }
    }

    async fn close(&self) {
        self.detach();
    }
}

impl Clone for MemoryBackend {
    /// Makes another client of the same store, which no cache has yet.
    fn clone(&self) -> Self {
        Self::on(Arc::clone(&self.shared))
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for MemoryBackend {
    fn drop(&mut self) {
        self.detach();
    }
}

impl fmt::Debug for MemoryBackend {
    /// Prints no keys and no values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").field("len", &self.len()).field("link", &self.link()).finish_non_exhaustive()
    }
}

/// Nothing is done through a closed handle.
fn closed() -> BackendError {
    BackendError::new(BackendErrorKind::Closed, "this handle on the in-memory store was closed").not_sent()
}

#[cfg(test)]
mod tests;
