//! A cluster inside one process, in the hands of a test.

mod client;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::RwLock;
use twotier_core::{BackendError, BackendErrorKind, Clock, LinkId};

use crate::{
    BackendResult,
    slot::{SLOTS, slot_of},
};

use super::{MemoryBackend, OperationCounts, clock::PreciseClock, store::Store};

pub use client::MemoryClusterBackend;

/// Plays a cluster of Redis inside this process: several primaries with a store each, slots that move between them,
/// primaries that stop, are cut off and are replaced, all as a test has it.
///
/// [`client`](Self::client) makes a backend for one cache. What a client learns of the cluster, and when, is the test's
/// too: each [`round`](MemoryClusterBackend::round) asks the primaries that the client reaches, renews the leases of
/// those for which a majority vouches, and reads the map anew when it is not in force any more.
///
/// What a primary does and does not report was taken from servers:
///
/// - A write is reported over the link of the primary that executed it, before the call that made it returns.
/// - A slot that [migrates](Self::migrate) has its keys reported at both ends; of one that is
///   [assigned](Self::assign) to another primary without its keys these vanish, and nobody is notified.
/// - A [promotion](Self::promote) reports nothing. The primaries that voted for it know a new epoch before.
/// - A primary that is [cut off](Self::isolate) answers whoever reaches it as if nothing was wrong.
///
/// Primaries are named by their [`LinkId`]s, from 1 on; one that takes the place of another has a new one.
///
/// # Examples
///
/// ```
/// # mod twotier { pub use twotier_backend::*; pub use twotier_core::*; }
/// use twotier::{Backend, LinkId, MemoryCluster};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), twotier::BackendError> {
/// let cluster = MemoryCluster::new(3);
/// let client = cluster.client();
/// client.set(b"users:42", "Ada".into(), None).await?;
/// let (from, to) = (cluster.owner(b"users:42"), LinkId::new(1));
/// cluster.migrate(cluster.slot(b"users:42"), to);
/// // By its old map the client asks the wrong primary, and is redirected.
/// assert_eq!(client.route(b"users:42"), from);
/// assert_eq!(client.get(b"users:42").await?.expect("it moved along").value, "Ada");
/// client.round();
/// assert_eq!(client.route(b"users:42"), to);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryCluster {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    topology: RwLock<Topology>,
}

/// Who owns each slot, and the epoch of the latest change of that.
struct Map {
    owners: Vec<LinkId>,
    /// Who owns any.
    primaries: BTreeSet<LinkId>,
    epoch: u64,
}

impl Map {
    fn new(owners: Vec<LinkId>, epoch: u64) -> Arc<Self> {
        let primaries = owners.iter().copied().collect();
        Arc::new(Self { owners, primaries, epoch })
    }

    fn owner(&self, slot: u16) -> LinkId {
        self.owners[usize::from(slot % SLOTS)]
    }
}

struct Topology {
    nodes: BTreeMap<LinkId, Node>,
    /// As the majority has it.
    map: Arc<Map>,
    /// Greater than that of the map while there is an election.
    epoch: u64,
    /// For whose replacement the others have voted.
    elected: Option<LinkId>,
}

struct Node {
    /// A client of its store that no cache has.
    store: MemoryBackend,
    /// The map and the epoch as it has them.
    map: Arc<Map>,
    epoch: u64,
    is_primary: bool,
    is_stopped: bool,
    /// What its replica holds since it was cut off.
    replica: Option<Store>,
}

impl Node {
    fn is_isolated(&self) -> bool {
        self.replica.is_some()
    }

    fn is_with_the_majority(&self) -> bool {
        !self.is_isolated() && !self.is_stopped
    }
}

impl MemoryCluster {
    /// Makes a cluster of so many primaries, between 1 and 1,000, each with as many slots, on the system's monotonic
    /// clock.
    #[must_use]
    pub fn new(primaries: u16) -> Self {
        Self::with_clock(primaries, PreciseClock::new())
    }

    /// Makes a cluster whose values expire by this clock.
    #[must_use]
    pub fn with_clock(primaries: u16, clock: impl Clock) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(clock);
        let primaries = primaries.clamp(1, 1000);
        let share = SLOTS.div_ceil(primaries);
        let owners = (0..SLOTS).map(|slot| LinkId::new(1 + slot / share)).collect();
        let map = Map::new(owners, 1);
        let node = |number| {
            let store = MemoryBackend::with_clock(Arc::clone(&clock));
            (LinkId::new(number), Node::new(store, &map))
        };
        let nodes = (1..=primaries).map(node).collect();
        let topology = RwLock::new(Topology { nodes, map, epoch: 1, elected: None });
        Self { shared: Arc::new(Shared { clock, topology }) }
    }

    /// Makes a backend for one cache, or for a test that writes as somebody else does. It has read the map.
    #[must_use]
    pub fn client(&self) -> MemoryClusterBackend {
        MemoryClusterBackend::new(self.clone())
    }

    /// Returns the primaries that own slots.
    #[must_use]
    pub fn primaries(&self) -> Vec<LinkId> {
        self.shared.topology.read_recursive().map.primaries.iter().copied().collect()
    }

    /// Returns the slot of a key.
    #[must_use]
    pub fn slot(&self, key: &[u8]) -> u16 {
        slot_of(key)
    }

    /// Returns which primary owns the slot of a key, as the majority of them has it.
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> LinkId {
        self.shared.topology.read_recursive().map.owner(slot_of(key))
    }

    /// Returns how often each operation was called on a primary, by anybody, since it was made; all zero of one that
    /// there is not.
    #[must_use]
    pub fn operations(&self, primary: LinkId) -> OperationCounts {
        let topology = self.shared.topology.read_recursive();
        topology.nodes.get(&primary).map(|node| node.store.operations()).unwrap_or_default()
    }

    /// Moves a slot with its keys, as `MIGRATE` and `CLUSTER SETSLOT` do: each key is reported by both primaries.
    /// Returns whether there is such a primary, and it takes slots.
    pub fn migrate(&self, slot: u16, to: LinkId) -> bool {
        self.give(slot, to, true)
    }

    /// Gives a slot to another primary without its keys, which vanish, and nobody is notified: `CLUSTER SETSLOT NODE`
    /// on servers before 7.2. Returns whether there is such a primary, and it takes slots.
    pub fn assign(&self, slot: u16, to: LinkId) -> bool {
        self.give(slot, to, false)
    }

    /// Removes everything that a primary holds, which it reports, as after `FLUSHALL` there.
    pub fn flush(&self, primary: LinkId) {
        let topology = self.shared.topology.read_recursive();
        if let Some(node) = topology.nodes.get(&primary) {
            node.store.flush_all();
        }
    }

    /// Stops a primary: nobody reaches it, and clients notice at their next round that its link is gone.
    pub fn stop(&self, primary: LinkId) {
        self.change(primary, |node| node.is_stopped = true);
    }

    /// Starts a primary that was stopped, with what it held.
    pub fn restart(&self, primary: LinkId) {
        self.change(primary, |node| node.is_stopped = false);
        self.rejoin(primary);
    }

    /// Cuts a primary off from all others and from every client but those that
    /// [stay with it](MemoryClusterBackend::stay_with). It does not notice: whoever reaches it is answered, by the map
    /// it had.
    pub fn isolate(&self, primary: LinkId) {
        self.change(primary, |node| {
            let held = node.store.shared.store.lock().clone();
            node.replica.get_or_insert(held);
        });
    }

    /// Ends the isolation of a primary. One that was replaced meanwhile is nobody's primary any more, and says so.
    pub fn heal(&self, primary: LinkId) {
        self.change(primary, |node| node.replica = None);
        self.rejoin(primary);
    }

    /// Has the primaries that are left vote for the replica of this one, and returns whether a majority did. Whoever is
    /// not cut off knows the new epoch from now on; the map is as before.
    pub fn vote(&self, primary: LinkId) -> bool {
        let mut topology = self.shared.topology.write();
        let owners = &topology.map.primaries;
        let votes =
            |link: &&LinkId| **link != primary && topology.nodes.get(link).is_some_and(Node::is_with_the_majority);
        if !owners.contains(&primary) || owners.iter().filter(votes).count() * 2 <= owners.len() {
            return false;
        }
        topology.elected = Some(primary);
        topology.epoch += 1;
        let epoch = topology.epoch;
        let reached = topology.nodes.values_mut().filter(|node| node.is_with_the_majority());
        reached.for_each(|node| node.epoch = epoch);
        true
    }

    /// Promotes the replica of a primary, which holds what the primary held, or had held before it was cut off. Nothing
    /// is reported. Votes first, unless that was done. Returns the link of the new primary; `None` without a majority.
    ///
    /// The old one, if it is not cut off, says from now on that it is a replica.
    pub fn promote(&self, primary: LinkId) -> Option<LinkId> {
        let voted = self.shared.topology.read_recursive().elected == Some(primary);
        if !voted && !self.vote(primary) {
            return None;
        }
        let mut topology = self.shared.topology.write();
        topology.elected = None;
        let last = topology.nodes.last_key_value().map_or(0, |(link, _)| link.number());
        let new = LinkId::new(last.checked_add(1)?);
        let old = topology.nodes.get_mut(&primary)?;
        let held = old.replica.clone().unwrap_or_else(|| old.store.shared.store.lock().clone());
        // Cut off, it does not know.
        old.is_primary = old.is_isolated();
        let store = MemoryBackend::with_clock(Arc::clone(&self.shared.clock));
        *store.shared.store.lock() = held;
        let node = Node::new(store, &topology.map);
        topology.nodes.insert(new, node);
        topology.change_owners(|_slot, owner| if owner == primary { new } else { owner });
        Some(new)
    }

    fn give(&self, slot: u16, to: LinkId, with_keys: bool) -> bool {
        let mut topology = self.shared.topology.write();
        let slot = slot % SLOTS;
        let from = topology.map.owner(slot);
        let (Some(source), Some(target)) = (topology.nodes.get(&from), topology.nodes.get(&to)) else { return false };
        if !target.is_primary || from == to {
            return from == to;
        }
        let (source, target) = (Arc::clone(&source.store.shared), Arc::clone(&target.store.shared));
        let moving = source.store.lock().take_if(|key| slot_of(key) == slot);
        let keys: Vec<Bytes> = moving.iter().map(|(key, ..)| key.clone()).collect();
        if with_keys {
            let mut store = target.store.lock();
            moving.into_iter().for_each(|(key, value, deadline)| store.set(key, value, deadline));
        }
        topology.epoch += 1;
        topology.change_owners(|moved, owner| if moved == slot { to } else { owner });
        drop(topology);
        if with_keys {
            // Whoever reads meanwhile reads at the target, what was moved.
            source.reports.changed_by_nobody(&keys);
            target.reports.changed_by_nobody(&keys);
        }
        true
    }

    fn change(&self, primary: LinkId, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.shared.topology.write().nodes.get_mut(&primary) {
            change(node);
        }
    }

    /// Has a node learn what the majority knows.
    fn rejoin(&self, link: LinkId) {
        let mut topology = self.shared.topology.write();
        let owns = topology.map.primaries.contains(&link);
        topology.spread();
        if let Some(node) = topology.nodes.get_mut(&link).filter(|node| node.is_with_the_majority()) {
            node.is_primary &= owns;
        }
    }
}

impl Topology {
    /// Puts a new map in force, in the present epoch.
    fn change_owners(&mut self, owner: impl Fn(u16, LinkId) -> LinkId) {
        let owners = (0..SLOTS).map(|slot| owner(slot, self.map.owner(slot))).collect();
        self.map = Map::new(owners, self.epoch);
        self.spread();
    }

    /// Has everyone who is not cut off know the map and the epoch.
    fn spread(&mut self) {
        let (map, epoch) = (&self.map, self.epoch);
        for node in self.nodes.values_mut().filter(|node| node.is_with_the_majority()) {
            (node.map, node.epoch) = (Arc::clone(map), epoch);
        }
    }
}

impl Node {
    fn new(store: MemoryBackend, map: &Arc<Map>) -> Self {
        Self { store, map: Arc::clone(map), epoch: map.epoch, is_primary: true, is_stopped: false, replica: None }
    }
}

/// Completes what completes at once, as all calls of a store in memory do.
fn at_once<T>(call: impl Future<Output = BackendResult<T>>) -> BackendResult<T> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(unavailable("the store in memory did not answer at once")),
    }
}

fn unavailable(why: &'static str) -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, why)
}

impl fmt::Debug for MemoryCluster {
    /// Prints no keys and no values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topology = self.shared.topology.read_recursive();
        f.debug_struct("MemoryCluster")
            .field("primaries", &topology.map.primaries)
            .field("epoch", &topology.epoch)
            .finish_non_exhaustive()
    }
}
