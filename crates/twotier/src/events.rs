//! What happens in a cache, as a stream for programs, and removals one by one.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{
        Notify,
        broadcast::{self, error::RecvError, error::TryRecvError},
        mpsc,
    },
};
use twotier_core::{BackendError, BreakerState, ChangeListener, Lease, LinkId, Mark, RemovalCause};
use twotier_local::RemovalListener;

use crate::remote::{Breakers, CachedValue, Invalidations, Local};

/// How many events wait for a subscriber that does not take them; then the oldest is dropped for each that comes.
const WAITING: usize = 1024;

/// Something that happened in a cache.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A local copy went.
    #[non_exhaustive]
    Removed {
        /// The key, without its namespace.
        key: Arc<str>,
        /// Why.
        cause: RemovalCause,
    },
    /// Everything that is read over a link may have changed in the backend: no copy from before is served again.
    #[non_exhaustive]
    Flushed {
        /// Which; [`LinkId::ONLY`] of a backend that has no other.
        link: LinkId,
    },
    /// Changes are reported over a link from now on.
    #[non_exhaustive]
    LinkUp {
        /// Which.
        link: LinkId,
    },
    /// Changes are not reported over a link any more: no local copy that came over it is served until it is up again.
    #[non_exhaustive]
    LinkDown {
        /// Which.
        link: LinkId,
        /// Why, where the backend says so.
        cause: Option<BackendError>,
    },
    /// The backend does not answer over a link: calls over it fail at once from now on; or it answers again.
    #[non_exhaustive]
    Breaker {
        /// Which link.
        link: LinkId,
        /// [`Open`](BreakerState::Open) or [`Closed`](BreakerState::Closed).
        state: BreakerState,
        /// How the last call failed, when it opens.
        cause: Option<BackendError>,
    },
    /// The auditor proved that a local copy was served for longer than the staleness bound allows: a change was not
    /// reported. The copy is removed. Once for each copy.
    #[non_exhaustive]
    AuditFailed {
        /// The key, without its namespace.
        key: Arc<str>,
        /// XXH3-64 of the key with its namespace, as the log has it in place of the key.
        key_hash: u64,
        /// The time since before the command that fetched or wrote the copy was sent.
        age: Duration,
        /// For how long, at least, the backend has held something else.
        overwritten_for: Duration,
        /// The epoch of the copy's link, which changes whenever that comes up or goes down and with each flush. No two
        /// links have the same one.
        epoch: u64,
    },
}

/// A copy that was served for too long.
#[derive(Debug)]
pub(crate) struct AuditFailure {
    pub(crate) key: Arc<str>,
    pub(crate) key_hash: u64,
    pub(crate) age: Duration,
    pub(crate) overwritten_for: Duration,
    pub(crate) epoch: u64,
}

/// The events of a cache since it was subscribed to; made by [`Cache::events`](crate::Cache::events).
///
/// At most 1024 wait to be taken. Nobody waits for a subscriber that is slower: the oldest are dropped for it and
/// [counted](Self::dropped).
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    hub: Arc<Subscribers>,
    dropped: u64,
}

impl Events {
    /// Waits for the next event; `None` once the cache is gone. The future may be dropped at any time, and no event is
    /// lost by that.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(dropped)) => self.dropped += dropped,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Returns the next event if one waits.
    pub fn try_next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.try_recv() {
                Ok(event) => return Some(event),
                Err(TryRecvError::Lagged(dropped)) => self.dropped += dropped,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }

    /// Returns how many events this subscriber was too slow for, as far as it has come.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.hub.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

/// How many there are: an event that nobody takes is not made.
#[derive(Default)]
struct Subscribers(AtomicUsize);

/// Where events are sent.
#[derive(Clone)]
pub(crate) struct EventSender {
    sender: broadcast::Sender<Event>,
    subscribers: Arc<Subscribers>,
}

impl EventSender {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(WAITING), subscribers: Arc::default() }
    }

    pub(crate) fn subscribe(&self) -> Events {
        // Counted first: what happens after this call is sent.
        let receiver = self.sender.subscribe();
        self.subscribers.0.fetch_add(1, Ordering::Relaxed);
        Events { receiver, hub: Arc::clone(&self.subscribers), dropped: 0 }
    }

    pub(crate) fn audit_failed(&self, failure: AuditFailure) {
        let AuditFailure { key, key_hash, age, overwritten_for, epoch } = failure;
        self.send(|| Event::AuditFailed { key, key_hash, age, overwritten_for, epoch });
    }

    pub(crate) fn breaker(&self, link: LinkId, state: BreakerState, cause: Option<BackendError>) {
        self.send(|| Event::Breaker { link, state, cause });
    }

    fn has_subscribers(&self) -> bool {
        self.subscribers.0.load(Ordering::Relaxed) > 0
    }

    fn send(&self, event: impl FnOnce() -> Event) {
        if self.has_subscribers() {
            // An error is that the last one has just gone.
            let _ = self.sender.send(event());
        }
    }
}

/// Is notified of removals, in a task of the cache's runtime.
pub(crate) type OnRemoval<V> = dyn Fn(&str, Option<Arc<V>>, RemovalCause) + Send + Sync;

/// What the local tier notifies of removals.
///
/// A listener of the user's runs in a task and not where something goes: that may be the reader of a connection, under
/// a lock of a backend, and whoever writes is not to wait for it.
pub(crate) struct Removals<V> {
    events: EventSender,
    /// To the task that runs the user's listener, if there is one.
    listener: Option<mpsc::UnboundedSender<Removal<V>>>,
}

type Removal<V> = (Box<str>, CachedValue<V>, RemovalCause);

impl<V: Send + Sync + 'static> Removals<V> {
    pub(crate) fn new(events: EventSender, on_removal: Option<Arc<OnRemoval<V>>>, runtime: &Handle) -> Self {
        let listener = on_removal.map(|listener| {
            let (sender, mut removals) = mpsc::unbounded_channel::<Removal<V>>();
            runtime.spawn(async move {
                while let Some((key, value, cause)) = removals.recv().await {
                    if catch_unwind(AssertUnwindSafe(|| listener(&key, value, cause))).is_err() {
                        tracing::error!("a listener of removals panicked");
                    }
                }
            });
            sender
        });
        Self { events, listener }
    }
}

impl<V: Send + Sync + 'static> RemovalListener<CachedValue<V>> for Removals<V> {
    fn is_listening(&self) -> bool {
        self.listener.is_some() || self.events.has_subscribers()
    }

    fn removed(&self, key: &str, value: CachedValue<V>, cause: RemovalCause) {
        self.events.send(|| Event::Removed { key: key.into(), cause });
        if let Some(listener) = &self.listener {
            // An error is that the runtime has ended.
            let _ = listener.send((key.into(), value, cause));
        }
    }
}

/// The local tier as a listener, whose link's changes are sent on.
pub(crate) struct Announced<V> {
    pub(crate) local: Local<V>,
    /// Notified of every link that comes up.
    pub(crate) link_up: Arc<Notify>,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) invalidations: Arc<Invalidations>,
    pub(crate) events: EventSender,
}

impl<V: Send + Sync + 'static> ChangeListener for Announced<V> {
    fn mark(&self, link: LinkId) -> Mark {
        self.local.mark(link)
    }

    fn proof_of_life(&self, mark: Mark) {
        self.local.proof_of_life(mark);
        self.breakers.showed_life(mark.link);
    }

    fn changed(&self, key: &[u8]) {
        self.local.changed(key);
    }

    fn flushed(&self, link: LinkId) {
        self.local.flushed(link);
        self.events.send(|| Event::Flushed { link });
    }

    fn link_up(&self, link: LinkId, lease: Lease) {
        self.local.link_up(link, lease);
        // It was tried before it came up.
        self.breakers.answered(link);
        self.invalidations.retry.notify_one();
        self.link_up.notify_one();
        self.events.send(|| Event::LinkUp { link });
    }

    fn link_down(&self, link: LinkId) {
        self.local.link_down(link);
        self.events.send(|| Event::LinkDown { link, cause: None });
    }

    fn invalidation_took(&self, lag: Duration) {
        self.local.invalidation_took(lag);
    }

    fn link_lost(&self, link: LinkId, cause: &BackendError) {
        self.local.link_lost(link, cause);
        self.events.send(|| Event::LinkDown { link, cause: Some(cause.clone()) });
    }
}
