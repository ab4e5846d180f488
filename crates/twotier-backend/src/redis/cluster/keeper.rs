//! Whoever keeps the map: asks for it first, and puts each new one in force.

use std::{collections::BTreeMap, sync::Arc, thread, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use twotier_core::{BackendError, BackendErrorKind, LinkId};

use crate::{
    BackendResult,
    redis::{
        census::{Map, Routes, Standing, View, inquire},
        wire::{Loss, Progress, Target, ValueLimit, connect},
    },
};

use super::{Inner, Network, Peer, Phase};

/// How many nodes are asked at the same time when no primary answers.
const ASKED: usize = 8;
/// The longest first pause between two attempts to ask them.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
/// How long a link to a new primary is waited for before keys are routed to it.
const MAKING: Duration = Duration::from_secs(1);

/// The end of a keeper, however it comes: with its runtime, or by a panic.
pub(super) struct Gone {
    pub(super) inner: Arc<Inner>,
    pub(super) generation: u64,
}

impl Drop for Gone {
    fn drop(&mut self) {
        let mut state = self.inner.state.lock();
        if state.generation != self.generation {
            return;
        }
        // Whoever asks next keeps it in its own runtime.
        state.phase = Phase::Idle;
        state.keeper = None;
        drop(state);
        if thread::panicking() {
            tracing::error!("the task that keeps the map of a cluster has panicked");
        }
        self.inner.changed.notify_waiters();
    }
}

/// Keeps the map of a cluster until the task is aborted.
pub(super) async fn keep(inner: Arc<Inner>, generation: u64) {
    let mut news = inner.census.news();
    let mut unanswered_since = Instant::now();
    loop {
        news.mark_unchanged();
        let views = inner.census.views();
        if views.is_empty() {
            match inner.ask_around().await {
                Ok((standing, view)) => inner.put_in_force(generation, &[Arc::new(view)], standing.epoch).await,
                Err(cause) => inner.cannot_be_asked(generation, cause),
            }
            // As for a link: pauses grow with the outage, and a fleet does not come back together.
            let longest = unanswered_since.elapsed().clamp(FIRST_BACKOFF, inner.target.max_backoff.max(FIRST_BACKOFF));
            let pause = longest.mul_f64(fastrand::f64());
            let answered = timeout(inner.target.connect_timeout, news.changed());
            if inner.network.read().is_none() || answered.await.is_err() {
                sleep(pause).await;
            }
            continue;
        }
        unanswered_since = Instant::now();
        inner.put_in_force(generation, &views, 0).await;
        // The sender is that of the census.
        let _ = news.changed().await;
    }
}

impl Inner {
    /// Puts the map in force that these views are together, unless it is.
    ///
    /// In this order: a new primary has its link before keys are routed to it; keys are routed anew; and only then are
    /// the links outdated that lost or gained slots, so that a ticket that was registered by the old route is dead
    /// before long. Leases are renewed by the new map at last.
    async fn put_in_force(self: &Arc<Self>, generation: u64, views: &[Arc<View>], epoch: u64) {
        let map = Arc::new(Map::merged(views.iter().map(|view| &**view)));
        let before = self.network.read().clone();
        if before.as_ref().is_some_and(|network| network.routes.map.is(&map)) {
            return;
        }
        let (network, new) = {
            let mut state = self.state.lock();
            if state.generation != generation {
                return;
            }
            let nodes = views.iter().flat_map(|view| &view.nodes).filter(|node| node.is_known);
            let nodes: BTreeMap<&str, _> = nodes.map(|node| (&*node.id, node)).collect();
            state.known = nodes.into_values().map(|node| Arc::new(self.address(node))).collect();
            let (mut links, mut new) = (Vec::new(), Vec::new());
            for (place, node) in map.primaries.iter().enumerate() {
                let peer = state.peers.values().find(|peer| peer.is(node)).map(Arc::clone);
                let peer = peer.unwrap_or_else(|| {
                    let peer = self.peer(&state, node, map.slots(place));
                    state.peers.insert(peer.number, Arc::clone(&peer));
                    new.push(Arc::clone(&peer));
                    peer
                });
                links.push(peer);
            }
            let peers = links.iter().map(|peer| (peer.number, Arc::clone(peer))).collect();
            let routes = Routes { links: links.iter().map(|peer| peer.number).collect(), map: Arc::clone(&map) };
            (Arc::new(Network { routes, peers }), new)
        };
        if before.is_some() {
            let made = async {
                for peer in &new {
                    peer.link.tried().await;
                }
            };
            let _ = timeout(MAKING, made).await;
        }
        let gone = {
            let mut state = self.state.lock();
            if state.generation != generation {
                return;
            }
            *self.network.write() = Some(Arc::clone(&network));
            state.phase = Phase::Mapped;
            let (kept, gone) = std::mem::take(&mut state.peers)
                .into_iter()
                .partition(|(link, _): &(LinkId, Arc<Peer>)| network.peers.contains_key(link));
            state.peers = kept;
            gone
        };
        self.outdate(&network, gone);
        self.census.put_in_force(&network.routes, epoch);
        self.changed.notify_waiters();
        tracing::debug!(primaries = network.peers.len(), "a map of the cluster is in force");
    }

    /// Outdates whatever was read over links that lost or gained slots, and ends those of primaries that are none any
    /// more.
    fn outdate(&self, network: &Network, gone: BTreeMap<LinkId, Arc<Peer>>) {
        for (place, number) in network.routes.links.iter().enumerate() {
            let Some(peer) = network.peers.get(number) else { continue };
            let slots = network.routes.map.slots(place);
            // Also of one whose link was made for a map that never was in force.
            if !peer.place.is(&slots) {
                peer.place.put(slots);
                peer.link.keys_moved();
            }
        }
        for peer in gone.into_values() {
            self.census.dismisses(peer.number);
            peer.link.close();
        }
    }

    fn cannot_be_asked(&self, generation: u64, cause: BackendError) {
        let mut state = self.state.lock();
        // Where there is a map it says where to go: whoever cannot be reached there is an error of its own.
        if state.generation != generation || self.network.read().is_some() {
            return;
        }
        let is_first = matches!(state.phase, Phase::Mapped);
        match &mut state.phase {
            Phase::Unknown { cause: last, .. } => *last = cause.clone(),
            phase => *phase = Phase::Unknown { since: Instant::now(), cause: cause.clone() },
        }
        drop(state);
        let namespace = self.caches.names();
        match self.target.lines.due().filter(|_| !is_first) {
            Some(others) => tracing::warn!(%namespace, %cause, others, "no node of the cluster can be asked"),
            None => tracing::debug!(%namespace, %cause, "no node of the cluster can be asked"),
        }
        self.changed.notify_waiters();
    }

    /// Asks some of the nodes that are known for their view of the cluster, replicas included, and takes the first one
    /// that is at work; else any.
    async fn ask_around(&self) -> BackendResult<(Standing, View)> {
        let mut targets: Vec<Arc<Target>> = self.state.lock().known.clone();
        targets.extend(self.target.seeds.iter().cloned().map(Arc::new));
        fastrand::shuffle(&mut targets);
        let mut asked = JoinSet::new();
        for target in targets.into_iter().take(ASKED) {
            asked.spawn(async move { ask(&target).await });
        }
        let (mut best, mut failed) = (None, None::<BackendError>);
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok((standing, view))) if standing.is_ok => return Ok((standing, view)),
                Ok(Ok(answer)) => best = Some(answer),
                Ok(Err(cause)) => {
                    // What does not pass by itself tells more.
                    let is_graver = failed.as_ref().is_none_or(|one| one.kind() == BackendErrorKind::Unavailable);
                    failed = Some(cause).filter(|_| is_graver).or(failed);
                }
                Err(_ended) => {}
            }
        }
        let nobody = || BackendError::new(BackendErrorKind::Unavailable, "no node of the cluster answered");
        best.ok_or_else(|| failed.unwrap_or_else(nobody))
    }
}

/// Asks one node, over a connection of its own.
async fn ask(target: &Target) -> BackendResult<(Standing, View)> {
    let asked = async {
        let (loss, progress) = (Arc::new(Loss::default()), Arc::new(Progress::new()));
        let connection = connect(target, &progress, loss, &ValueLimit::least(), |_push| {}).await?;
        let (standing, view) = inquire(&connection, true, target.host()).await?;
        let view = view.ok_or_else(|| connection.out_of_step("CLUSTER NODES"))?;
        Ok((standing, view))
    };
    timeout(target.connect_timeout, asked).await.unwrap_or_else(|_elapsed| {
        let message = format!("a node of the cluster did not answer for {} ms", target.connect_timeout.as_millis());
        Err(BackendError::new(BackendErrorKind::Unavailable, message))
    })
}
