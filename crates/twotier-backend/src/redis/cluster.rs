//! A cluster: a link to each primary, and the map by which keys are routed to them.
//!
//! The map is what the primaries say of it in their heartbeats, put together (see [`Census`]). Whenever it changes, it
//! is put in force in this order: primaries that are new have links; keys are routed by it; whatever was read over a
//! link that lost or gained slots is outdated; and only then are leases renewed by it.

mod batch;
mod follow;
mod keeper;

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::AbortHandle,
    time::{Instant, timeout},
};
use twotier_core::{BackendError, BackendErrorKind, Coherence, LinkId, LinkState, LinkStatus};

use crate::{Attachment, BackendResult, Watch, slot::slot_of};

use self::keeper::{Gone, keep};
use super::{
    authority::Authority,
    census::{Census, Node, Place, Routes, Slots},
    command::WriteOrder,
    link::Link,
    listeners::{Joining, Listeners},
    session::Fences,
    wire::Target,
};

/// The link of a key whose slot nobody owns: it is never up.
const NOBODY: LinkId = LinkId::new(u16::MAX);

/// The pause between two looks at what has no end of its own to wait for.
const MOMENT: Duration = Duration::from_millis(50);

/// What all clones of a backend for a cluster share. Dropping it ends the links.
pub(super) struct Cluster {
    inner: Arc<Inner>,
    /// Numbers the handles.
    made: AtomicU64,
    /// How many handles are open.
    open: AtomicUsize,
}

/// What is known of a cluster.
struct Inner {
    target: Arc<Target>,
    census: Arc<Census>,
    /// The caches, each of which is on every link.
    caches: Listeners,
    fences: Arc<Fences>,
    /// Writes of one key are sent one after the other: one that is redirected is not overtaken by a later one.
    order: Arc<WriteOrder>,
    /// The map in force.
    network: RwLock<Option<Arc<Network>>>,
    /// Held while peers or caches come and go, so that every cache is on every link.
    state: Mutex<State>,
    /// Wakes those who wait for a map, or for another one.
    changed: Notify,
}

struct State {
    /// Which keeper may change anything; one that was stopped may not.
    generation: u64,
    phase: Phase,
    keeper: Option<AbortHandle>,
    runtime: Option<Handle>,
    /// Every primary that has a link, those of a map that is not in force yet included.
    peers: BTreeMap<LinkId, Arc<Peer>>,
    /// Where nodes are or were, replicas included: to be asked when no primary answers.
    known: Vec<Arc<Target>>,
}

enum Phase {
    /// Nobody asked for anything yet, or the runtime has ended in which the map was kept.
    Idle,
    /// The map is kept, or is being read for the first time.
    Mapped,
    /// No node could be asked, and there is no map.
    Unknown { since: Instant, cause: BackendError },
    /// The backend was closed.
    Closed,
}

/// One primary, and the link to it.
struct Peer {
    number: LinkId,
    node: Node,
    place: Arc<Place>,
    link: Link,
}

/// A map in force, with the links it routes to.
struct Network {
    routes: Routes,
    peers: BTreeMap<LinkId, Arc<Peer>>,
}

impl Network {
    fn link(&self, key: &[u8]) -> Option<LinkId> {
        self.routes.link(slot_of(key))
    }

    fn owner(&self, key: &[u8]) -> BackendResult<&Arc<Peer>> {
        self.link(key).and_then(|link| self.peers.get(&link)).ok_or_else(|| {
            BackendError::new(BackendErrorKind::Unavailable, "no node of the cluster owns the slot of the key")
                .not_sent()
        })
    }
}

impl Peer {
    fn is(&self, node: &Node) -> bool {
        let address = |node: &Node| (node.host.clone(), node.port, node.hostname.clone());
        self.node.id == node.id && address(&self.node) == address(node)
    }

    fn is_at(&self, host: &str, port: u16) -> bool {
        self.node.port == port && (*self.node.host == *host || self.node.hostname.as_deref() == Some(host))
    }
}

impl Cluster {
    pub(super) fn new(target: Arc<Target>) -> Self {
        let state = State {
            generation: 0,
            phase: Phase::Idle,
            keeper: None,
            runtime: None,
            peers: BTreeMap::new(),
            known: Vec::new(),
        };
        let inner = Inner {
            census: Arc::new(Census::new(&target)),
            target,
            caches: Listeners::default(),
            fences: Arc::default(),
            order: Arc::default(),
            network: RwLock::default(),
            state: Mutex::new(state),
            changed: Notify::new(),
        };
        Self { inner: Arc::new(inner), made: AtomicU64::new(0), open: AtomicUsize::new(0) }
    }

    /// Makes one more handle, and returns its number.
    pub(super) fn new_handle(&self) -> u64 {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.made.fetch_add(1, Ordering::Relaxed)
    }

    /// Ends a handle: the cache it came with is off every link, and with the last one the links end.
    pub(super) fn end_handle(&self, handle: u64) {
        self.inner.leave(handle);
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.inner.close();
        }
    }

    pub(super) fn route(&self, key: &[u8]) -> LinkId {
        let link = self.inner.network.read().as_ref().and_then(|network| network.link(key));
        link.unwrap_or(NOBODY)
    }

    /// Waits until commands can be sent to every primary that can be reached.
    pub(super) async fn ready(&self) -> BackendResult<()> {
        let network = self.inner.network().await?;
        let mut outcome =
            Err(BackendError::new(BackendErrorKind::Unavailable, "the cluster has no primary").not_sent());
        for peer in network.peers.values() {
            let ready = peer.link.ready().await.map(drop);
            outcome = outcome.or(ready);
        }
        outcome
    }

    /// Puts a cache on every link, those that come later included. Returns when changes are being reported to it over
    /// one at least, and it is refused by none.
    pub(super) async fn attach(&self, watch: Watch, handle: u64) -> BackendResult<Attachment> {
        let patient = watch.patient;
        self.inner.join(&watch, handle)?;
        let joining = Joining::new(|| self.inner.leave(handle));
        loop {
            let network = match self.inner.network().await {
                Err(cause) if !patient || cause.kind() == BackendErrorKind::Closed => return Err(cause),
                Err(_not_yet) => {
                    self.inner.a_while().await;
                    continue;
                }
                Ok(network) => network,
            };
            let admission = self.inner.admitted(&network, &watch, handle).await;
            let is_in_force = self.inner.network.read().as_ref().is_some_and(|now| Arc::ptr_eq(now, &network));
            match admission {
                Ok(mode) => {
                    self.inner.fix(mode);
                    joining.end();
                    return Ok(Attachment::new(mode));
                }
                Err(cause) if is_in_force && !patient => return Err(cause),
                Err(_moved) if !is_in_force => {}
                Err(_not_yet) => self.inner.a_while().await,
            }
        }
    }

    pub(super) fn progress(&self) -> u64 {
        self.inner.state.lock().peers.values().map(|peer| peer.link.progress()).sum()
    }

    pub(super) fn links(&self) -> Vec<LinkStatus> {
        let network = self.inner.network.read().clone();
        match network {
            Some(network) => network.peers.values().map(|p| LinkStatus::new(p.number, p.link.state())).collect(),
            None => vec![LinkStatus::new(LinkId::ONLY, self.state())],
        }
    }

    /// The state of the cluster: that of the first link that is not up, if there is one.
    pub(super) fn state(&self) -> LinkState {
        match &self.inner.state.lock().phase {
            Phase::Closed => return LinkState::Closed,
            Phase::Unknown { since, cause } => return LinkState::down(since.elapsed(), cause.clone()),
            Phase::Idle | Phase::Mapped => {}
        }
        let network = self.inner.network.read().clone();
        let states = network.iter().flat_map(|network| network.peers.values()).map(|peer| peer.link.state());
        let worst = states.min_by_key(LinkState::is_up);
        match (worst, &self.inner.state.lock().phase) {
            (Some(state), _) => state,
            (None, Phase::Idle) => LinkState::Unlinked,
            (None, _) => LinkState::Connecting,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.inner.close();
    }
}

impl Inner {
    /// Returns the map in force, read first if nobody asked for it yet, or why there is none.
    async fn network(self: &Arc<Self>) -> BackendResult<Arc<Network>> {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registered before anything is looked at, so that a change in between wakes us.
            changed.as_mut().enable();
            if let Some(known) = self.known() {
                return known;
            }
            changed.await;
        }
    }

    /// Returns the map in force if there is one.
    fn current(self: &Arc<Self>) -> BackendResult<Arc<Network>> {
        self.known().unwrap_or_else(|| {
            Err(BackendError::new(BackendErrorKind::Unavailable, "the map of the cluster is being read").not_sent())
        })
    }

    /// Returns the map in force or why there is none, `None` while it is being read.
    fn known(self: &Arc<Self>) -> Option<BackendResult<Arc<Network>>> {
        let mut state = self.state.lock();
        match &state.phase {
            Phase::Closed => return Some(Err(closed())),
            Phase::Unknown { cause, .. } => {
                let unknown = BackendError::new(BackendErrorKind::Unavailable, "no node of the cluster can be asked");
                return Some(Err(unknown.with_source(cause.clone()).not_sent()));
            }
            Phase::Mapped => {}
            Phase::Idle => {
                if let Err(nowhere) = self.start(&mut state) {
                    return Some(Err(nowhere));
                }
            }
        }
        drop(state);
        self.network.read().clone().map(Ok)
    }

    /// Starts to keep the map, in the runtime of the caller.
    fn start(self: &Arc<Self>, state: &mut State) -> BackendResult<()> {
        let Ok(runtime) = Handle::try_current() else {
            let message = "the map of a cluster is kept in a runtime, and there is none here";
            return Err(BackendError::new(BackendErrorKind::Unavailable, message).not_sent());
        };
        state.phase = Phase::Mapped;
        state.generation += 1;
        let gone = Gone { inner: Arc::clone(self), generation: state.generation };
        let kept = Arc::clone(self);
        let task = async move {
            let gone = gone;
            keep(kept, gone.generation).await;
        };
        state.keeper = Some(runtime.spawn(task).abort_handle());
        state.runtime = Some(runtime);
        Ok(())
    }

    fn join(&self, watch: &Watch, handle: u64) -> BackendResult<()> {
        let state = self.state.lock();
        if matches!(state.phase, Phase::Closed) {
            return Err(closed());
        }
        self.caches.join(watch.clone(), handle)?;
        let joined = state.peers.values().try_for_each(|peer| peer.link.join(self.asked(watch), handle).map(drop));
        drop(state);
        joined.inspect_err(|_refused| self.leave(handle))
    }

    /// Returns what a cache asks of a link: the mode of the others, once there is one.
    fn asked(&self, watch: &Watch) -> Watch {
        match (watch.coherence, self.caches.mode()) {
            (None, Some(mode)) => watch.clone().coherence(mode),
            _ => watch.clone(),
        }
    }

    /// Waits until every primary where keys of a cache can lie has admitted or refused it, or cannot be reached.
    async fn admitted(&self, network: &Network, watch: &Watch, handle: u64) -> BackendResult<Coherence> {
        let (mut mode, mut unreached) = (None, None);
        for peer in network.peers.values().filter(|peer| peer.place.takes(&watch.namespace)) {
            let Some(member) = peer.link.listeners().with_handle(handle) else { continue };
            match peer.link.admitted(&member, false).await {
                Ok(other) if *mode.get_or_insert(other) != other => {
                    let message = "the nodes of the cluster do not allow the user the same: some report changes, and \
                                   some do not";
                    return Err(BackendError::new(BackendErrorKind::Unsupported, message));
                }
                Ok(_mode) => {}
                Err(cause) => match cause.kind() {
                    BackendErrorKind::Denied | BackendErrorKind::Unsupported | BackendErrorKind::Rejected => {
                        return Err(cause);
                    }
                    _ => unreached = Some(cause),
                },
            }
        }
        let nobody = || BackendError::new(BackendErrorKind::Unavailable, "no node of the cluster takes the namespace");
        mode.ok_or_else(|| unreached.unwrap_or_else(nobody))
    }

    /// Fixes the mode on every link: a later one in a weaker mode would be a silent one to the caches.
    fn fix(&self, mode: Coherence) {
        if mode == Coherence::None {
            return;
        }
        let state = self.state.lock();
        self.caches.fix(mode);
        state.peers.values().for_each(|peer| peer.link.listeners().fix(mode));
    }

    fn is_closed(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Closed)
    }

    /// Waits a little, or until there is another map.
    async fn a_while(&self) {
        let _ = timeout(MOMENT, self.changed.notified()).await;
    }

    fn leave(&self, handle: u64) {
        let state = self.state.lock();
        let left = self.caches.leave(handle);
        state.peers.values().for_each(|peer| peer.link.leave(handle));
        drop(state);
        // Outside the lock: a listener may own values, whose drop is not ours.
        drop(left);
    }

    fn close(&self) {
        let (keeper, peers) = {
            let mut state = self.state.lock();
            state.phase = Phase::Closed;
            state.generation += 1;
            (state.keeper.take(), std::mem::take(&mut state.peers))
        };
        if let Some(keeper) = keeper {
            keeper.abort();
        }
        peers.values().for_each(|peer| peer.link.close());
        self.changed.notify_waiters();
    }

    /// Makes the link to a primary, with every cache on it. Under the lock of the state.
    fn peer(&self, state: &State, node: &Node, slots: Slots) -> Arc<Peer> {
        let free = |number: &u16| !state.peers.contains_key(&LinkId::new(*number));
        let number = LinkId::new((1..u16::MAX).find(free).unwrap_or(u16::MAX));
        let target = Arc::new(self.address(node));
        let place = Arc::new(Place::In(RwLock::new(slots)));
        let listeners = Listeners::new(number, Arc::clone(&place));
        let authority = Authority::Census(self.census.voter(number, &target));
        let link = Link::of(target, listeners, authority, Arc::clone(&self.fences));
        for cache in self.caches.all().iter() {
            let (watch, handle) = cache.watch();
            // There is no other cache on it that could be in the way.
            let _joined = link.join(self.asked(watch), handle);
        }
        link.start();
        Arc::new(Peer { number, node: node.clone(), place, link })
    }

    /// Returns where a node is: by the name that it announces where a certificate is to show that it is this one.
    fn address(&self, node: &Node) -> Target {
        let host = node.hostname.as_deref().filter(|_| self.target.is_tls() || node.host.is_empty());
        self.target.seeds[0].at(host.unwrap_or(&node.host), node.port)
    }
}

fn closed() -> BackendError {
    BackendError::new(BackendErrorKind::Closed, "the backend was closed").not_sent()
}
