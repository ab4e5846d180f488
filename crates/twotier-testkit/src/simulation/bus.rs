//! What the nodes of a simulated cluster know of each other, and who owns which slot.
//!
//! As on Redis: every node has a view of its own; what a node claims spreads as the others receive its messages, and of
//! two claims the later one stands; whoever receives a claim that was overtaken answers with the later one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use fastrand::Rng;

use super::{
    slot::{SLOTS, slot_of},
    store::{Histories, Inherited},
};

/// The port of the first node.
pub(super) const FIRST_PORT: u16 = 7000;
/// How long a node that was cut off takes no commands once it is back.
const REJOINING: Duration = Duration::from_millis(500);

pub(super) struct Bus {
    pub(super) rng: Rng,
    node_timeout: Duration,
    /// The first slot of each part. The slots of a part always have one owner.
    firsts: Vec<u16>,
    pub(super) nodes: Vec<Node>,
    /// The owner of each part by the latest claim, and since when.
    owners: Vec<(usize, Duration)>,
    /// The parts on their way from one node to another, until the former knows that they have arrived.
    migrations: BTreeMap<usize, Migration>,
    /// The parts that were moved by hand of which no majority knows yet.
    unknown: BTreeSet<usize>,
    histories: Histories,
}

/// One node, and what it has of all of them.
pub(super) struct Node {
    pub(super) epoch: u64,
    pub(super) seen: Vec<Seen>,
    owners: Vec<usize>,
    /// Since when its messages reach nobody, and nobody's reach it.
    pub(super) cut_since: Option<Duration>,
    /// Since when it does nothing at all.
    pub(super) stopped_since: Option<Duration>,
    /// Until when its messages reach nobody.
    pub(super) muted_until: Duration,
    rejoins_at: Duration,
}

/// A node, as another one has it.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) config_epoch: u64,
    /// Whose replica it is.
    pub(super) follows: Option<usize>,
}

struct Migration {
    from: usize,
    to: usize,
    /// The keys that are at the other end already, those that were absent included.
    moved: BTreeSet<String>,
    is_over: bool,
}

/// Parts that a node has just found out to have lost.
pub(super) type Lost = Vec<(usize, usize)>;

impl Node {
    fn is_gone(&self) -> bool {
        self.cut_since.is_some() || self.stopped_since.is_some()
    }

    fn is_silent_for(&self, time: Duration, now: Duration) -> bool {
        [self.cut_since, self.stopped_since].into_iter().flatten().any(|since| since + time <= now)
    }
}

impl Bus {
    /// Makes a cluster of so many primaries and as many replicas. Each of these keys is in a part of its own.
    pub(super) fn new(
        rng: Rng,
        primaries: usize,
        keys: &[String],
        node_timeout: Duration,
        histories: Histories,
    ) -> Self {
        let share = |primary: usize| u16::try_from(primary * usize::from(SLOTS) / primaries).unwrap();
        let mut firsts: BTreeSet<u16> = (0..primaries).map(share).collect();
        for slot in keys.iter().map(|key| slot_of(key)) {
            firsts.extend([slot, slot + 1].into_iter().filter(|first| *first < SLOTS));
        }
        let firsts: Vec<u16> = firsts.into_iter().collect();
        let owner = |first: &u16| (0..primaries).rfind(|primary| share(*primary) <= *first).unwrap_or(0);
        let owners: Vec<usize> = firsts.iter().map(owner).collect();
        let seen = |node: usize| match node < primaries {
            true => Seen { config_epoch: node as u64 + 1, follows: None },
            false => Seen { config_epoch: 0, follows: Some(node - primaries) },
        };
        let seen: Vec<Seen> = (0..2 * primaries).map(seen).collect();
        let node = |_| Node {
            epoch: 2 * primaries as u64,
            seen: seen.clone(),
            owners: owners.clone(),
            cut_since: None,
            stopped_since: None,
            muted_until: Duration::ZERO,
            rejoins_at: Duration::ZERO,
        };
        let nodes = (0..2 * primaries).map(node).collect();
        let owners = owners.iter().map(|owner| (*owner, Duration::ZERO)).collect();
        Self {
            rng,
            node_timeout,
            firsts,
            nodes,
            owners,
            migrations: BTreeMap::new(),
            unknown: BTreeSet::new(),
            histories,
        }
    }

    pub(super) fn part(&self, key: &str) -> usize {
        self.firsts.partition_point(|first| *first <= slot_of(key)) - 1
    }

    /// Returns the owner of a key's slot by the latest claim.
    pub(super) fn owner(&self, key: &str) -> usize {
        self.owners[self.part(key)].0
    }

    pub(super) fn any_primary(&mut self) -> usize {
        let primaries: Vec<usize> = self.primaries().into_iter().collect();
        primaries[self.rng.usize(..primaries.len())]
    }

    /// Returns the nodes that own slots.
    pub(super) fn primaries(&self) -> BTreeSet<usize> {
        self.owners.iter().map(|(owner, _)| *owner).collect()
    }

    /// Returns whether a message of one node reaches another.
    pub(super) fn receives(&self, node: usize, from: usize, now: Duration) -> bool {
        !self.nodes[node].is_gone() && !self.nodes[from].is_gone() && self.nodes[from].muted_until <= now
    }

    /// Returns whether every node that is not gone knows who owns what, and who is gone.
    pub(super) fn is_settled(&self) -> bool {
        let knows = |node: &Node| node.owners.iter().eq(self.owners.iter().map(|(owner, _)| owner));
        self.migrations.is_empty() && self.nodes.iter().all(|node| node.is_gone() || knows(node))
    }

    /// A node receives what another one says of itself, and answers where it knows better.
    pub(super) fn receive(&mut self, node: usize, from: usize) -> Lost {
        let mut lost = self.claim_spreads(node, from, from);
        let (me, other) = (&self.nodes[node], &self.nodes[from]);
        let claimed = (0..self.firsts.len()).filter(|part| other.owners[*part] == from);
        let better: BTreeSet<usize> = claimed.map(|part| me.owners[part]).filter(|owner| *owner != from).collect();
        for owner in better {
            lost.extend(self.claim_spreads(from, node, owner));
        }
        lost
    }

    /// A node receives from another what somebody claims.
    fn claim_spreads(&mut self, node: usize, by: usize, claimant: usize) -> Lost {
        let teller = &self.nodes[by];
        let (epoch, seen, owners) = (teller.epoch, teller.seen[claimant], teller.owners.clone());
        let me = &mut self.nodes[node];
        if by == claimant {
            me.epoch = me.epoch.max(epoch);
            me.seen[claimant] = seen;
        } else if me.seen[claimant].config_epoch < seen.config_epoch {
            me.seen[claimant] = seen;
        }
        me.epoch = me.epoch.max(seen.config_epoch);
        let mut lost = Vec::new();
        for (part, _) in owners.iter().enumerate().filter(|(_, owner)| **owner == claimant) {
            let known = me.owners[part];
            if known != claimant && me.seen[known].config_epoch < seen.config_epoch {
                me.owners[part] = claimant;
                if known == node {
                    lost.push((node, part));
                }
            }
        }
        if !lost.is_empty() && !me.owners.contains(&node) {
            me.seen[node].follows = Some(claimant);
        }
        lost
    }

    /// A node that lost a part knows it. Returns the keys that vanish there.
    pub(super) fn learn(&mut self, node: usize, part: usize) -> Vec<String> {
        let migrated = self.migrations.get(&part).is_some_and(|migration| migration.from == node);
        if migrated {
            self.migrations.remove(&part);
        }
        let vanished = self.histories.store().learn(node, |key| self.part(key) == part);
        if migrated { Vec::new() } else { vanished }
    }

    /// Takes note of the moves by hand that a majority knows of by now.
    pub(super) fn take_note(&mut self, now: Duration) {
        let primaries = self.primaries();
        let Self { nodes, owners, unknown, .. } = self;
        let knows = |node: &usize, part: usize| nodes[*node].owners[part] == owners[part].0;
        let known = |part: &usize| 2 * primaries.iter().filter(|node| knows(node, *part)).count() > primaries.len();
        let known: BTreeSet<usize> = unknown.iter().copied().filter(known).collect();
        unknown.retain(|part| !known.contains(part));
        if !known.is_empty() {
            self.histories.store().known(|key| known.contains(&self.part(key)), now);
        }
    }

    pub(super) fn begin_migration(&mut self, part: usize, to: usize) {
        let from = self.owners[part].0;
        self.migrations.insert(part, Migration { from, to, moved: BTreeSet::new(), is_over: false });
    }

    /// Moves a key of a part on its way to the other end, and returns whether it was still at this one.
    pub(super) fn migrate(&mut self, key: &str) -> bool {
        let part = self.part(key);
        let Some(migration) = self.migrations.get_mut(&part) else { return false };
        migration.moved.insert(key.to_owned()) && self.histories.present(key).is_some()
    }

    /// A node takes a part by hand, with its keys if they were migrated. Its claim is a new one unless it has made the
    /// latest already.
    pub(super) fn take(&mut self, node: usize, part: usize, now: Duration) {
        let me = &mut self.nodes[node];
        let latest = me.seen.iter().map(|seen| seen.config_epoch).max();
        if Some(me.seen[node].config_epoch) != latest {
            me.epoch += 1;
            me.seen[node].config_epoch = me.epoch;
        }
        let inherited = match self.migrations.get_mut(&part) {
            Some(migration) => {
                migration.is_over = true;
                Inherited::Everything
            }
            None => Inherited::Nothing,
        };
        self.own(node, part, inherited, now);
        self.unknown.insert(part);
    }

    /// Has every part that is on its way arrive, and every message.
    pub(super) fn heal(&mut self, now: Duration) {
        self.nodes.iter_mut().for_each(|node| node.muted_until = now);
        for part in 0..self.firsts.len() {
            if let Some(Migration { to, is_over: false, .. }) = self.migrations.get(&part) {
                self.take(*to, part, now);
            }
        }
    }

    /// A replica begins to ask for votes, and returns the epoch of its election.
    pub(super) fn stand(&mut self, replica: usize) -> u64 {
        self.nodes[replica].epoch += 1;
        self.nodes[replica].epoch
    }

    /// A node knows the epoch before it votes.
    pub(super) fn vote(&mut self, voter: usize, epoch: u64) {
        let epoch = self.nodes[voter].epoch.max(epoch);
        self.nodes[voter].epoch = epoch;
    }

    /// A replica that was elected claims what its primary had.
    pub(super) fn replace(&mut self, primary: usize, replica: usize, epoch: u64, lag: Duration, now: Duration) {
        self.nodes[replica].seen[replica] = Seen { config_epoch: epoch, follows: None };
        for part in 0..self.firsts.len() {
            if self.nodes[replica].owners[part] == primary {
                self.own(replica, part, Inherited::FromBefore(lag), now);
            }
        }
    }

    fn own(&mut self, node: usize, part: usize, inherited: Inherited, now: Duration) {
        let (before, _) = std::mem::replace(&mut self.owners[part], (node, now));
        self.nodes[node].owners[part] = node;
        self.histories.store().hand_over(before, |key| self.part(key) == part, inherited, now);
    }

    /// A node that was cut off is back. It takes no commands for a while if it had noticed.
    pub(super) fn rejoin(&mut self, node: usize, now: Duration) {
        if self.is_down(node, now) {
            self.nodes[node].rejoins_at = now + REJOINING;
        }
        self.nodes[node].cut_since = None;
    }

    fn is_down(&self, node: usize, now: Duration) -> bool {
        let node = &self.nodes[node];
        node.rejoins_at > now || node.cut_since.is_some_and(|since| since + self.node_timeout <= now)
    }

    /// Returns which node a key lies at.
    pub(super) fn holder(&self, key: &str) -> usize {
        let part = self.part(key);
        match self.migrations.get(&part) {
            Some(Migration { from, is_over: false, moved, .. })
                if !moved.contains(key) && self.histories.present(key).is_some() =>
            {
                *from
            }
            Some(migration) => migration.to,
            None => self.owners[part].0,
        }
    }
}

/// One node among the others: what its server asks of itself.
#[derive(Clone)]
pub(super) struct Membership {
    pub(super) bus: Arc<Mutex<Bus>>,
    pub(super) node: usize,
}

impl Membership {
    fn bus(&self) -> MutexGuard<'_, Bus> {
        self.bus.lock().unwrap()
    }

    pub(super) fn is_primary(&self) -> bool {
        self.bus().nodes[self.node].seen[self.node].follows.is_none()
    }

    pub(super) fn lost_since(&self, key: &str) -> Option<Duration> {
        let bus = self.bus();
        let part = bus.part(key);
        let (owner, since) = bus.owners[part];
        let believes = bus.nodes[self.node].owners[part] == self.node && !bus.migrations.contains_key(&part);
        (owner != self.node && believes).then_some(since)
    }

    pub(super) fn holds(&self, key: &str) -> bool {
        let mut bus = self.bus();
        let holds = bus.holder(key) == self.node;
        if holds && bus.owner(key) != self.node {
            // What was absent at the other end is looked for here from now on.
            bus.migrate(key);
        }
        holds
    }

    /// Returns why a command for a key is not executed here.
    pub(super) fn refusal(&self, key: &str, asks: bool, now: Duration) -> Option<String> {
        let mut bus = self.bus();
        if bus.is_down(self.node, now) {
            return Some("CLUSTERDOWN The cluster is down".to_owned());
        }
        let (slot, part) = (slot_of(key), bus.part(key));
        let owner = bus.nodes[self.node].owners[part];
        if let Some(Migration { from, to, .. }) = bus.migrations.get(&part) {
            let (from, to) = (*from, *to);
            if to == self.node && asks {
                return None;
            }
            if from == self.node && owner == self.node {
                if bus.holder(key) == from {
                    return None;
                }
                bus.migrate(key);
                return Some(format!("ASK {slot} {}", address(to)));
            }
        }
        (owner != self.node).then(|| format!("MOVED {slot} {}", address(owner)))
    }

    pub(super) fn info(&self, now: Duration) -> String {
        let bus = self.bus();
        let state = if bus.is_down(self.node, now) { "fail" } else { "ok" };
        format!("cluster_state:{state}\r\ncluster_current_epoch:{}\r\n", bus.nodes[self.node].epoch)
    }

    pub(super) fn nodes(&self, now: Duration) -> String {
        let bus = self.bus();
        let (me, mut lines) = (&bus.nodes[self.node], String::new());
        let alone = me.is_silent_for(bus.node_timeout, now);
        for (node, seen) in me.seen.iter().enumerate() {
            let own = if node == self.node { "myself," } else { "" };
            let role = if seen.follows.is_none() { "master" } else { "slave" };
            let is_failing = node != self.node && (alone || bus.nodes[node].is_silent_for(bus.node_timeout, now));
            let failing = if is_failing { ",fail" } else { "" };
            let primary = seen.follows.map_or_else(|| "-".to_owned(), |primary| format!("{primary:040x}"));
            let (address, bus_port, epoch) =
                (address(node), usize::from(FIRST_PORT) + 10_000 + node, seen.config_epoch);
            write!(lines, "{node:040x} {address}@{bus_port} {own}{role}{failing} {primary} 0 0 {epoch} connected")
                .unwrap();
            let mut part = 0;
            while let Some(first) = bus.firsts.get(part) {
                let length = me.owners[part..].iter().take_while(|owner| **owner == node).count();
                part += length.max(1);
                if length > 0 {
                    let last = bus.firsts.get(part).map_or(SLOTS, |next| *next) - 1;
                    write!(lines, " {first}-{last}").unwrap();
                }
            }
            lines.push('\n');
        }
        lines
    }
}

pub(super) fn address(node: usize) -> String {
    format!("10.0.0.{}:{}", node + 1, usize::from(FIRST_PORT) + node)
}
