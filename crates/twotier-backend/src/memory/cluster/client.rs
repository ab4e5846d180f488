//! One client of a cluster in memory: its map, its links, and its rounds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use twotier_core::{
    BackendError, BackendErrorKind, ChangeListener, Coherence, Lease, LinkId, LinkState, LinkStatus, Mark,
};

use super::{Map, MemoryCluster, Node, Topology, at_once, unavailable};
use crate::{
    Attachment, Backend, BackendResult, Counted, MemoryBackend, MemoryLink, Stored, Watch, Write, slot::slot_of,
};

/// A client of a [`MemoryCluster`], for one cache: the backend of a cluster, as far as a store in memory can play it.
///
/// It routes by the map it read last, follows redirections without keeping what they bring, and has a link for each
/// primary. Leases are renewed by [`round`](Self::round), which a test makes on the cache's own clock.
pub struct MemoryClusterBackend {
    cluster: MemoryCluster,
    state: Mutex<State>,
    /// Held by the round under way.
    rounds: Mutex<()>,
}

struct State {
    map: Arc<Map>,
    /// Whether a redirection showed that the map is not in force any more.
    is_outdated: bool,
    /// The links of all primaries that were ever asked.
    links: BTreeMap<LinkId, Arc<Link>>,
    watch: Option<Watch>,
    /// The primary beside which the client is, when that is cut off.
    stays_with: Option<LinkId>,
    reaches_all: bool,
    trusts_anyone: bool,
    is_closed: bool,
}

struct Link {
    store: MemoryBackend,
    script: MemoryLink,
}

impl MemoryClusterBackend {
    pub(super) fn new(cluster: MemoryCluster) -> Self {
        let state = {
            let topology = cluster.shared.topology.read_recursive();
            State {
                map: Arc::clone(&topology.map),
                is_outdated: false,
                links: BTreeMap::new(),
                watch: None,
                stays_with: None,
                reaches_all: false,
                trusts_anyone: false,
                is_closed: false,
            }
        };
        Self { cluster, state: Mutex::new(state), rounds: Mutex::default() }
    }

    /// Has the client be where one primary is: when that is cut off, it is the only one that the client reaches.
    pub fn stay_with(&self, primary: LinkId) {
        self.state.lock().stays_with = Some(primary);
    }

    /// Has the client reach every primary that runs, also one that the others do not reach.
    pub fn reach_all(&self) {
        self.state.lock().reaches_all = true;
    }

    /// Takes every answer of a primary for a proof of life, whatever the majority says: what must not be done, to see
    /// what comes of it.
    pub fn trust_anyone(&self) {
        self.state.lock().trusts_anyone = true;
    }

    /// Returns the reports of one primary to this client, to delay, repeat and lose them, to cut the link and to
    /// restore it. Its own heartbeats prove nothing: only rounds do.
    #[must_use]
    pub fn scripted_link(&self, primary: LinkId) -> Option<MemoryLink> {
        let topology = self.cluster.shared.topology.read_recursive();
        Some(self.link_to(&topology, primary)?.script.clone())
    }

    /// Asks every primary of the map how it is, and returns those whose leases are renewed by it.
    ///
    /// None is, unless a majority of the primaries with slots answered, each as a primary and in the epoch of the map:
    /// that of its latest change, and not the one in which it was read, which may be that of an election that is not
    /// over. If one is in another epoch, or a redirection was met since, the map is read anew from the one that knows
    /// most: links to new primaries are made, the map is put in force, and then every link that lost or gained slots
    /// has a new epoch.
    pub fn round(&self) -> Vec<LinkId> {
        let _one_at_a_time = self.rounds.lock();
        let topology = self.cluster.shared.topology.read_recursive();
        let (map, epoch, is_outdated, trusts_anyone, watch) = {
            let state = self.state.lock();
            (Arc::clone(&state.map), state.map.epoch, state.is_outdated, state.trusts_anyone, state.watch.clone())
        };
        let Some(watch) = watch else {
            self.read_map(&topology, None);
            return Vec::new();
        };
        let asked = &map.primaries;
        let marks: BTreeMap<_, _> = asked.iter().map(|link| (*link, watch.listener.mark(*link))).collect();
        let answers: BTreeMap<LinkId, &Node> =
            asked.iter().filter_map(|link| Some((*link, self.answer(&topology, *link)?))).collect();
        let differs = |node: &&Node| node.epoch != epoch || !node.is_primary;
        if is_outdated || (!trusts_anyone && answers.values().any(differs)) {
            self.read_map(&topology, Some(&watch));
            return Vec::new();
        }
        if !trusts_anyone && answers.len() * 2 <= asked.len() {
            return Vec::new();
        }
        let proved = answers.into_keys().filter_map(|link| marks.get(&link));
        proved
            .map(|mark| {
                watch.listener.proof_of_life(*mark);
                mark.link
            })
            .collect()
    }

    /// Returns a primary that answers. One that is stopped, or was, has lost its link, or is linked again.
    fn answer<'t>(&self, topology: &'t Topology, link: LinkId) -> Option<&'t Node> {
        let node = self.reached(topology, link).ok();
        let script = &self.link_to(topology, link)?.script;
        match node {
            None if topology.nodes.get(&link).is_some_and(|node| node.is_stopped) => script.lose_link(),
            None => {}
            Some(_) => script.restore_after_loss(),
        }
        node.filter(|_| script.answers())
    }

    /// Reads the map of the node that knows most among those that are reached, and puts it in force.
    fn read_map(&self, topology: &Topology, watch: Option<&Watch>) {
        let reached = topology.nodes.keys().filter_map(|link| self.reached(topology, *link).ok());
        let Some(newest) = reached.max_by_key(|node| node.map.epoch) else { return };
        let (old, links) = {
            let state = self.state.lock();
            (Arc::clone(&state.map), state.links.clone())
        };
        // Before the map that names it is used, a primary has its link.
        let (old_owners, new_owners) = (&old.primaries, &newest.map.primaries);
        for link in new_owners.difference(old_owners) {
            if let (Some(watch), Some(made)) = (watch, self.link_to(topology, *link)) {
                let _refused = at_once(made.store.attach(over(*link, watch)));
            }
        }
        {
            let mut state = self.state.lock();
            (state.map, state.is_outdated) = (Arc::clone(&newest.map), false);
            state.links.retain(|link, _| new_owners.contains(link) || !old_owners.contains(link));
        }
        // Only now: a ticket by the old map that is registered from here on is dropped, and those before die of this.
        let moved = old.owners.iter().zip(&newest.map.owners).filter(|(before, after)| before != after);
        let concerned: BTreeSet<_> = moved.flat_map(|(before, after)| [*before, *after]).collect();
        for link in concerned {
            match links.get(&link).filter(|_| !new_owners.contains(&link)) {
                Some(gone) => at_once(closed(&gone.store)).unwrap_or_default(),
                None => watch.iter().for_each(|watch| watch.listener.flushed(link)),
            }
        }
    }

    /// Returns a node if the client reaches it.
    fn reached<'t>(&self, topology: &'t Topology, link: LinkId) -> BackendResult<&'t Node> {
        let node = topology.nodes.get(&link).filter(|node| !node.is_stopped);
        let node = node.ok_or_else(|| unavailable("the primary does not answer").not_sent())?;
        let (stays_with, reaches_all) = {
            let state = self.state.lock();
            (state.stays_with, state.reaches_all)
        };
        let beside = stays_with.filter(|with| topology.nodes.get(with).is_some_and(Node::is_isolated));
        let is_cut_off = beside.map_or_else(|| node.is_isolated(), |with| with != link);
        if is_cut_off && !reaches_all { Err(unavailable("the primary is cut off").not_sent()) } else { Ok(node) }
    }

    /// Returns the link to a node, made now if there was none.
    fn link_to(&self, topology: &Topology, link: LinkId) -> Option<Arc<Link>> {
        let node = topology.nodes.get(&link)?;
        let mut state = self.state.lock();
        let made = state.links.entry(link).or_insert_with(|| {
            let store = node.store.clone();
            Arc::new(Link { script: store.scripted_link(), store })
        });
        Some(Arc::clone(made))
    }

    /// Finds out where an operation on a key ends: at the primary that the map names, or where that one redirects to.
    fn target(&self, topology: &Topology, key: &[u8]) -> BackendResult<(LinkId, bool)> {
        let slot = slot_of(key);
        let asked = {
            let state = self.state.lock();
            if state.is_closed {
                return Err(is_closed());
            }
            state.map.owner(slot)
        };
        let node = self.reached(topology, asked)?;
        let owner = node.map.owner(slot);
        if owner == asked {
            return Ok((asked, false));
        }
        self.state.lock().is_outdated = true;
        self.reached(topology, owner).map(|_owner| (owner, true))
    }

    /// Runs an operation where its key lies.
    fn at<T, F: Future<Output = BackendResult<T>>>(
        &self,
        key: &[u8],
        operation: impl FnOnce(Arc<Link>) -> F,
    ) -> BackendResult<T> {
        let (result, is_redirected) = {
            let topology = self.cluster.shared.topology.read_recursive();
            let (link, is_redirected) = self.target(&topology, key)?;
            let link = self.link_to(&topology, link).ok_or_else(|| unavailable("there is no such primary"))?;
            (at_once(operation(link)), is_redirected)
        };
        if is_redirected {
            self.keep_nothing_of(&[key]);
        }
        result
    }

    /// Runs a batch, split by where the keys lie: same length and order as `items`.
    fn at_each<I: Clone, T: Clone, F: Future<Output = Vec<BackendResult<T>>>>(
        &self,
        items: &[I],
        key: impl Fn(&I) -> &[u8],
        operation: impl Fn(Arc<Link>, Vec<I>) -> F,
    ) -> Vec<BackendResult<T>> {
        let mut results: Vec<BackendResult<T>> = vec![Err(unavailable("the primary did not answer")); items.len()];
        let mut redirected = Vec::new();
        {
            let topology = self.cluster.shared.topology.read_recursive();
            let mut parts: BTreeMap<LinkId, Vec<usize>> = BTreeMap::new();
            for (index, item) in items.iter().enumerate() {
                match self.target(&topology, key(item)) {
                    Ok((link, is_redirected)) => {
                        parts.entry(link).or_default().push(index);
                        redirected.extend(is_redirected.then(|| key(item)));
                    }
                    Err(error) => results[index] = Err(error),
                }
            }
            for (link, indices) in parts {
                let Some(link) = self.link_to(&topology, link) else { continue };
                let part = indices.iter().map(|index| items[*index].clone()).collect();
                let answered = at_once(async { Ok(operation(link, part).await) }).unwrap_or_default();
                indices.into_iter().zip(answered).for_each(|(index, result)| results[index] = result);
            }
        }
        self.keep_nothing_of(&redirected);
        results
    }

    /// What a redirection brought is answered and never kept: the tickets of the keys die before.
    fn keep_nothing_of(&self, keys: &[&[u8]]) {
        let listener = self.state.lock().watch.as_ref().map(|watch| Arc::clone(&watch.listener));
        if let Some(listener) = listener {
            keys.iter().for_each(|key| listener.changed(key));
        }
    }

    fn open(&self) -> BackendResult<()> {
        if self.state.lock().is_closed { Err(is_closed()) } else { Ok(()) }
    }

    fn status(&self, link: LinkId) -> LinkState {
        let state = self.state.lock();
        match state.links.get(&link) {
            _ if state.is_closed => LinkState::Closed,
            Some(made) if state.watch.is_some() => made.store.link(),
            _ => LinkState::Unlinked,
        }
    }
}

#[async_trait]
impl Backend for MemoryClusterBackend {
    async fn ready(&self) -> BackendResult<()> {
        self.open()
    }

    async fn get(&self, key: &[u8]) -> BackendResult<Option<Stored>> {
        self.at(key, |link| async move { link.store.get(key).await })
    }

    async fn set(&self, key: &[u8], value: Bytes, ttl: Option<Duration>) -> BackendResult<()> {
        self.at(key, |link| async move { link.store.set(key, value, ttl).await })
    }

    async fn delete(&self, key: &[u8]) -> BackendResult<bool> {
        self.at(key, |link| async move { link.store.delete(key).await })
    }

    async fn clear(&self, prefix: &[u8]) -> BackendResult<u64> {
        self.open()?;
        let topology = self.cluster.shared.topology.read_recursive();
        let mut removed = 0;
        for link in &topology.map.primaries {
            self.reached(&topology, *link)?;
            if let Some(link) = self.link_to(&topology, *link) {
                removed += at_once(link.store.clear(prefix))?;
            }
        }
        Ok(removed)
    }

    async fn compare_and_set(
        &self,
        key: &[u8],
        expected: Option<Bytes>,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> BackendResult<bool> {
        self.at(key, |link| async move { link.store.compare_and_set(key, expected, value, ttl).await })
    }

    async fn increment(&self, key: &[u8], by: i64, ttl: Option<Duration>) -> BackendResult<Counted> {
        self.at(key, |link| async move { link.store.increment(key, by, ttl).await })
    }

    async fn touch(&self, key: &[u8], ttl: Duration) -> BackendResult<bool> {
        self.at(key, |link| async move { link.store.touch(key, ttl).await })
    }

    async fn get_many(&self, keys: &[Bytes]) -> Vec<BackendResult<Option<Stored>>> {
        self.at_each(keys, |key| key, |link, keys| async move { link.store.get_many(&keys).await })
    }

    async fn set_many(&self, writes: &[Write]) -> Vec<BackendResult<bool>> {
        self.at_each(writes, |write| &write.key, |link, writes| async move { link.store.set_many(&writes).await })
    }

    async fn delete_many(&self, keys: &[Bytes]) -> Vec<BackendResult<bool>> {
        self.at_each(keys, |key| key, |link, keys| async move { link.store.delete_many(&keys).await })
    }

    fn system(&self) -> &'static str {
        "memory"
    }

    async fn attach(&self, watch: Watch) -> BackendResult<Attachment> {
        let links = {
            let topology = self.cluster.shared.topology.read_recursive();
            let map = Arc::clone(&self.state.lock().map);
            let links = map.primaries.iter();
            links.filter_map(|link| Some((*link, self.link_to(&topology, *link)?))).collect::<Vec<_>>()
        };
        self.open()?;
        let mut coherence = Coherence::None;
        for (link, made) in links {
            coherence = at_once(made.store.attach(over(link, &watch)))?.coherence;
        }
        if coherence != Coherence::None {
            self.state.lock().watch = Some(watch);
            self.round();
        }
        Ok(Attachment::new(coherence))
    }

    fn route(&self, key: &[u8]) -> LinkId {
        self.state.lock().map.owner(slot_of(key))
    }

    fn link(&self) -> LinkState {
        let states = self.links().into_iter().map(|status| status.state);
        states.max_by_key(|state| !state.is_up()).unwrap_or(LinkState::Unlinked)
    }

    fn links(&self) -> Vec<LinkStatus> {
        let map = Arc::clone(&self.state.lock().map);
        map.primaries.iter().map(|link| LinkStatus::new(*link, self.status(*link))).collect()
    }

    async fn close(&self) {
        let (links, watch) = {
            let mut state = self.state.lock();
            state.is_closed = true;
            (std::mem::take(&mut state.links), state.watch.take())
        };
        for link in links.into_values() {
            link.store.close().await;
        }
        drop(watch);
    }
}

impl fmt::Debug for MemoryClusterBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryClusterBackend").field("links", &self.links()).finish_non_exhaustive()
    }
}

/// Returns what one store is watched with, for one link of several.
fn over(link: LinkId, watch: &Watch) -> Watch {
    Watch { listener: Arc::new(Over { link, listener: Arc::clone(&watch.listener) }), ..watch.clone() }
}

/// Reports over one link of several what a store reports over its only one. Proofs of life are for rounds to bring.
struct Over {
    link: LinkId,
    listener: Arc<dyn ChangeListener>,
}

impl ChangeListener for Over {
    fn mark(&self, _link: LinkId) -> Mark {
        self.listener.mark(self.link)
    }

    fn proof_of_life(&self, _mark: Mark) {}

    fn changed(&self, key: &[u8]) {
        self.listener.changed(key);
    }

    fn flushed(&self, _link: LinkId) {
        self.listener.flushed(self.link);
    }

    fn link_up(&self, _link: LinkId, lease: Lease) {
        self.listener.link_up(self.link, lease);
    }

    fn link_down(&self, _link: LinkId) {
        self.listener.link_down(self.link);
    }

    fn link_lost(&self, _link: LinkId, cause: &BackendError) {
        self.listener.link_lost(self.link, cause);
    }
}

async fn closed(store: &MemoryBackend) -> BackendResult<()> {
    store.close().await;
    Ok(())
}

fn is_closed() -> BackendError {
    BackendError::new(BackendErrorKind::Closed, "this client of the cluster in memory was closed").not_sent()
}
