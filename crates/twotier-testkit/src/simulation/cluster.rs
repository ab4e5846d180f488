//! A cluster: servers that share out the slots, and all that happens to who owns which.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use fastrand::Rng;
use tokio::{task::JoinHandle, time::sleep};

use super::{
    bus::{Bus, FIRST_PORT, Lost, Membership, address},
    journal::Journal,
    network::{Network, Stream, Weather},
    server::{Cycles, Server},
    state::Foreign,
    store::Histories,
};

/// How many primaries there are at a time, and how many replicas.
const PRIMARIES: usize = 3;
/// How long a message between two nodes takes at most while an election goes on, in milliseconds.
const MESSAGE: u64 = 20;

/// What a cluster is like.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many links lead to each node.
    pub links: usize,
    /// The keys whose slots are moved.
    pub keys: Vec<String>,
    /// How each node goes about its cycles.
    pub cycles: Cycles,
    /// How the networks treat what passes.
    pub weather: Weather,
    /// How long a node is silent before the others find it dead, and how long it takes commands without them.
    pub node_timeout: Duration,
    /// The longest pause between two messages of the nodes, whoever sends them, in milliseconds.
    pub gossip: u64,
    /// Whether keys are reported that vanish because their slot went without them, as on Redis from 7.2 on.
    pub reports_vanished: bool,
}

/// A cluster inside the process. Clones are the same cluster.
#[derive(Clone)]
pub struct Cluster {
    bus: Arc<Mutex<Bus>>,
    nodes: Arc<[(Network, Server)]>,
    histories: Histories,
    journal: Journal,
    setup: Arc<Setup>,
}

impl Cluster {
    /// Makes a cluster of three primaries and a replica of each.
    #[must_use]
    pub fn new(seed: u64, setup: Setup, journal: &Journal) -> Self {
        let (mut rng, histories) = (Rng::with_seed(seed), Histories::new(journal.clone()));
        let now = journal.now();
        // Every key has a history that can be handed over.
        setup.keys.iter().for_each(|key| _ = histories.store().present(key, now));
        let bus = Bus::new(rng.fork(), PRIMARIES, &setup.keys, setup.node_timeout, histories.clone());
        let bus = Arc::new(Mutex::new(bus));
        let node = |node| {
            let network = Network::new(rng.u64(..), setup.links, setup.weather, journal.clone());
            let (membership, histories) = (Membership { bus: Arc::clone(&bus), node }, histories.clone());
            let server =
                Server::with(rng.u64(..), network.clone(), setup.cycles, journal.clone(), histories, Some(membership));
            (network, server)
        };
        let nodes = (0..2 * PRIMARIES).map(node).collect();
        Self { bus, nodes, histories, journal: journal.clone(), setup: Arc::new(setup) }
    }

    /// Starts every node, and what goes on between them.
    #[must_use]
    pub fn serve(&self) -> Vec<JoinHandle<()>> {
        let serving = self.nodes.iter().map(|(_, server)| tokio::spawn(server.clone().serve()));
        serving.chain([tokio::spawn(self.clone().gossip())]).collect()
    }

    /// Connects to a node over one of its links.
    ///
    /// # Errors
    ///
    /// As [`Network::dial`].
    pub async fn dial(&self, port: u16, link: usize) -> io::Result<Stream> {
        self.nodes[usize::from(port - FIRST_PORT)].0.dial(link).await
    }

    /// Returns the addresses of some nodes, as a URL names them.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis-cluster://{},{}", address(0), address(1))
    }

    /// Returns each node with its network.
    #[must_use]
    pub fn nodes(&self) -> &[(Network, Server)] {
        &self.nodes
    }

    /// Returns every version that the keys ever had.
    #[must_use]
    pub fn histories(&self) -> Histories {
        self.histories.clone()
    }

    /// Has something done by somebody who is not connected over the network: at the owner of the key, if it is about
    /// one, else at any of the primaries.
    pub fn foreign(&self, what: Foreign) {
        let node = {
            let mut bus = self.bus();
            match &what {
                Foreign::Set { key, .. } | Foreign::Delete(key) | Foreign::Evict(key) | Foreign::Expire(key, _) => {
                    bus.holder(key)
                }
                _ => bus.any_primary(),
            }
        };
        self.nodes[node].1.foreign(what);
    }

    /// Returns whether every node that can know who owns what does.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.bus().is_settled()
    }

    /// Returns the owner of the slot of a key, by the latest claim.
    #[must_use]
    pub fn owner(&self, key: &str) -> usize {
        self.bus().owner(key)
    }

    /// Returns any of the primaries.
    #[must_use]
    pub fn any_primary(&self) -> usize {
        self.bus().any_primary()
    }

    /// Cuts a node off from the others, not from its clients, or ends that.
    pub fn isolate(&self, node: usize, isolated: bool) {
        let now = self.note(|| format!("node {node}: isolated = {isolated}"));
        let mut bus = self.bus();
        match isolated {
            true => _ = bus.nodes[node].cut_since.get_or_insert(now),
            false => bus.rejoin(node, now),
        }
    }

    /// Stops a node in the middle of whatever it does, as SIGSTOP does, or lets it go on.
    pub fn stop(&self, node: usize, stopped: bool) {
        let now = self.note(|| format!("node {node}: stopped = {stopped}"));
        self.bus().nodes[node].stopped_since = stopped.then_some(now);
        self.nodes[node].1.pause(stopped);
    }

    /// Moves the slot of a key to another primary: with what is in it, key by key, or without.
    pub async fn reshard(&self, key: &str, with_keys: bool, longest: u64) {
        let (part, from, to) = {
            let mut bus = self.bus();
            let (part, from, to) = (bus.part(key), bus.owner(key), bus.any_primary());
            if from == to || with_keys && bus.nodes[from].stopped_since.is_some() {
                return;
            }
            if with_keys {
                bus.begin_migration(part, to);
            }
            (part, from, to)
        };
        self.note(|| format!("the slot of {key} goes from node {from} to node {to}, with its keys = {with_keys}"));
        if with_keys {
            self.pause(longest).await;
            let is_migrated = self.bus().migrate(key);
            self.note(|| format!("{key} is migrated = {is_migrated}"));
            for node in [from, to].into_iter().filter(|_| is_migrated) {
                self.nodes[node].1.foreign(Foreign::Report(vec![key.to_owned()]));
            }
            self.pause(longest).await;
        }
        let now = self.note(|| format!("node {to} owns the slot of {key}"));
        self.bus().take(to, part, now);
    }

    /// Has the replica of a primary take its place, if enough of the others vote for it and it does not fail itself
    /// before. Its messages reach nobody for a while in some of the cases.
    pub async fn fail_over(&self, primary: usize, wins: bool, longest_silence: u64) {
        let replica = (primary + PRIMARIES) % (2 * PRIMARIES);
        let (epoch, voters) = {
            let mut bus = self.bus();
            if bus.nodes[replica].seen[replica].follows != Some(primary) {
                return;
            }
            (bus.stand(replica), bus.primaries())
        };
        self.note(|| format!("node {replica} stands for election in epoch {epoch}"));
        let mut votes = 0;
        for voter in &voters {
            self.pause(MESSAGE).await;
            let now = self.journal.now();
            let mut bus = self.bus();
            if bus.receives(*voter, replica, now) {
                bus.vote(*voter, epoch);
                votes += 1;
            }
        }
        self.pause(MESSAGE).await;
        if 2 * votes <= voters.len() || !wins {
            self.note(|| format!("the election of epoch {epoch} came to nothing"));
            return;
        }
        let now = self.note(|| format!("node {replica} takes the place of node {primary} in epoch {epoch}"));
        let mut bus = self.bus();
        let lag = if bus.rng.bool() { Duration::ZERO } else { Duration::from_millis(bus.rng.u64(0..=30)) };
        let silence = if bus.rng.bool() { 0 } else { bus.rng.u64(0..=longest_silence) };
        bus.nodes[replica].muted_until = now + Duration::from_millis(silence);
        bus.replace(primary, replica, epoch, lag, now);
    }

    /// Has all messages arrive, and whatever is on its way.
    pub fn heal(&self) {
        for node in 0..self.nodes.len() {
            self.isolate(node, false);
            self.stop(node, false);
        }
        let now = self.journal.now();
        self.bus().heal(now);
    }

    /// Has the nodes send messages to each other, for ever.
    async fn gossip(self) {
        loop {
            self.pause(self.setup.gossip.max(1)).await;
            sleep(Duration::from_millis(1)).await;
            for _ in 0..PRIMARIES {
                let now = self.journal.now();
                let lost = {
                    let mut bus = self.bus();
                    let (node, from) = (bus.rng.usize(..2 * PRIMARIES), bus.rng.usize(..2 * PRIMARIES));
                    let arrives = node != from && bus.receives(node, from, now);
                    let lost = if arrives { bus.receive(node, from) } else { Lost::new() };
                    bus.take_note(now);
                    lost
                };
                lost.into_iter().for_each(|(node, part)| self.learns(node, part));
            }
        }
    }

    /// A node knows that it has lost a part of the slots.
    fn learns(&self, node: usize, part: usize) {
        let (vanished, follows, resyncs) = {
            let mut bus = self.bus();
            let follows = bus.nodes[node].seen[node].follows;
            (bus.learn(node, part), follows, bus.rng.bool())
        };
        self.note(|| format!("node {node} knows that it has lost {vanished:?}, and follows {follows:?}"));
        if follows.is_some() && resyncs {
            self.nodes[node].1.foreign(Foreign::Resync);
        } else if follows.is_none() && self.setup.reports_vanished && !vanished.is_empty() {
            self.nodes[node].1.foreign(Foreign::Report(vanished));
        }
    }

    /// Lets at most so many milliseconds pass.
    async fn pause(&self, longest: u64) {
        let pause = self.bus().rng.u64(0..=longest);
        sleep(Duration::from_millis(pause)).await;
    }

    fn note(&self, what: impl FnOnce() -> String) -> Duration {
        self.journal.note("cluster", what);
        self.journal.now()
    }

    fn bus(&self) -> MutexGuard<'_, Bus> {
        self.bus.lock().unwrap()
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("setup", &self.setup).finish_non_exhaustive()
    }
}
