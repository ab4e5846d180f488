//! The nodes of a cluster: primaries, each with replicas.

mod partition;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use self::partition::Partition;
use super::{RedisServer, builder::free_port, process::Process, wait};
use crate::resp::{Client, Reply};

const SLOTS: u16 = 16_384;
/// What nodes call their host, where a certificate has to show it.
const NAME: &str = "localhost";
/// How far the port of the bus is from that of clients.
const BUS: u16 = 10_000;

/// A cluster of one test's own, which is at work from the start: its nodes know each other and their slots; all end
/// when this is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    primaries: usize,
    /// The ports by which nodes are known to clients.
    announced: Vec<u16>,
    partition: Option<Arc<Partition>>,
    tls: bool,
}

impl RedisCluster {
    /// Starts so many primaries, each with a share of the slots and so many replicas, which find each other dead after
    /// so long. First the primaries, then one replica of each, and so on.
    #[must_use]
    pub fn start(primaries: usize, replicas: usize, node_timeout: Duration) -> Self {
        Self::with(primaries, replicas, node_timeout, &[])
    }

    /// As [`start`](Self::start), each node with these directives of `redis.conf` besides.
    ///
    /// # Panics
    ///
    /// When the nodes do not come up.
    #[must_use]
    pub fn with(primaries: usize, replicas: usize, node_timeout: Duration, directives: &[(&str, &str)]) -> Self {
        Self::launch(primaries, replicas, node_timeout, directives, None, false)
    }

    /// As [`with`](Self::with), over TLS for clients and among the nodes, which announce the name `localhost`. The
    /// directives name the certificates. For servers from Redis 7.0 on, which announce names.
    #[must_use]
    pub fn over_tls(primaries: usize, node_timeout: Duration, directives: &[(&str, &str)]) -> Self {
        Self::launch(primaries, 0, node_timeout, directives, None, true)
    }

    /// As [`start`](Self::start), with relays in front of the nodes, so that [`isolate`](Self::isolate) can part them.
    /// For Linux, where there are many loopback addresses.
    #[must_use]
    pub fn that_can_be_parted(primaries: usize, replicas: usize, node_timeout: Duration) -> Self {
        Self::launch(primaries, replicas, node_timeout, &[], Some(Arc::default()), false)
    }

    fn launch(
        primaries: usize,
        replicas: usize,
        node_timeout: Duration,
        directives: &[(&str, &str)],
        partition: Option<Arc<Partition>>,
        tls: bool,
    ) -> Self {
        let free = || (0..primaries * (1 + replicas)).map(|_| free_ports()).collect::<Vec<u16>>();
        let ports = free();
        let open = if tls { free() } else { ports.clone() };
        let relayed = |by: u16| {
            let relay = |(node, port): (usize, &u16)| match &partition {
                Some(partition) => partition.relay(node, port + by),
                None => port + by,
            };
            open.iter().enumerate().map(relay).collect::<Vec<u16>>()
        };
        let (announced, buses) = (relayed(0), relayed(BUS));
        let timeout = node_timeout.as_millis().to_string();
        let nodes = ports.iter().enumerate().map(|(index, port)| {
            let mut arguments: Vec<String> = Vec::new();
            let mut add = |name: &str, value: &str| {
                arguments.push(format!("--{name}"));
                arguments.extend(value.split_whitespace().map(str::to_owned));
            };
            add("cluster-enabled", "yes");
            add("cluster-config-file", "nodes.conf");
            add("cluster-node-timeout", &timeout);
            add("repl-diskless-sync-delay", "0");
            if tls {
                add("tls-port", &open[index].to_string());
                add("tls-cluster", "yes");
                add("tls-replication", "yes");
                add("cluster-announce-hostname", NAME);
            }
            if partition.is_some() {
                let own = partition::source(index).to_string();
                add("bind", &format!("127.0.0.1 {own}"));
                add("bind-source-addr", &own);
                add("cluster-announce-ip", "127.0.0.1");
                add("cluster-announce-port", &announced[index].to_string());
                add("cluster-announce-bus-port", &buses[index].to_string());
            }
            directives.iter().for_each(|(name, value)| add(name, value));
            let process = Process::new(Some(*port), &arguments);
            process.write("nodes.conf", &known(&ports, &announced, &buses, primaries, index, tls));
            process.start().and_then(|()| process.wait_until_ready()).unwrap_or_else(|error| panic!("{error}"));
            RedisServer { process, port: Some(*port), password: None, witness: Mutex::default() }
        });
        let nodes = nodes.collect();
        let cluster = Self { nodes, primaries, announced, partition, tls };
        wait("the cluster is at work", || cluster.is_settled() && cluster.replicas_follow());
        cluster
    }

    /// Cuts nodes off from all others, and with them the clients that use the URL, or nobody else: `client` talks to
    /// all of them as before. No nodes at all end the partition.
    ///
    /// # Panics
    ///
    /// When the cluster is not one [that can be parted](Self::that_can_be_parted).
    pub fn isolate(&self, nodes: &[usize], with_clients: bool) {
        self.partition.as_ref().expect("it can be parted").isolate(nodes, with_clients);
    }

    /// Returns the URL that names every node.
    #[must_use]
    pub fn url(&self) -> String {
        let (scheme, host) = if self.tls { ("rediss-cluster", NAME) } else { ("redis-cluster", "127.0.0.1") };
        let hosts: Vec<String> = self.announced.iter().map(|port| format!("{host}:{port}")).collect();
        format!("{scheme}://{}", hosts.join(","))
    }

    /// Returns the nodes: the primaries there were at the start come first.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// Returns how many primaries there were at the start.
    #[must_use]
    pub fn primaries(&self) -> usize {
        self.primaries
    }

    /// Returns the name of a node in the cluster.
    #[must_use]
    pub fn id(&self, node: usize) -> String {
        id(self.nodes[node].port())
    }

    /// Returns the slot of a key.
    #[must_use]
    pub fn slot(&self, key: &str) -> u16 {
        let up = self.nodes.iter().find_map(|node| node.try_command(&["CLUSTER", "KEYSLOT", key]).ok());
        u16::try_from(up.expect("a node is up").as_int()).expect("slots are small")
    }

    /// Returns which node owns a slot, as most of those that are up have it; `None` while they do not agree.
    #[must_use]
    pub fn owner(&self, slot: u16) -> Option<usize> {
        let mut votes: BTreeMap<usize, usize> = BTreeMap::new();
        for view in self.views() {
            if let Some(owner) = view.get(&slot) {
                *votes.entry(*owner).or_default() += 1;
            }
        }
        votes.into_iter().find(|(_, votes)| 2 * votes > self.nodes.len()).map(|(owner, _)| owner)
    }

    /// Returns whether every node that is up finds the cluster at work, and all have the same owners of all slots.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let at_work = |node: &RedisServer| {
            let info = node.try_command(&["CLUSTER", "INFO"]);
            info.is_err() || info.is_ok_and(|info| text(&info).contains("cluster_state:ok"))
        };
        let views: Vec<_> = self.views().collect();
        views.first().is_some_and(|first| first.len() == usize::from(SLOTS))
            && views.iter().all(|view| *view == views[0])
            && self.nodes.iter().all(at_work)
    }

    /// Waits until [`is_settled`](Self::is_settled).
    pub fn settle(&self) {
        wait("the nodes agree", || self.is_settled());
    }

    /// Returns whether every replica that is up follows its primary.
    #[must_use]
    pub fn replicas_follow(&self) -> bool {
        self.nodes.iter().all(|node| {
            node.try_command(&["INFO", "replication"]).map_or(true, |info| {
                let info = text(&info);
                info.contains("role:master") || info.contains("master_link_status:up")
            })
        })
    }

    /// Moves a slot with its keys to another primary, as `redis-cli --cluster reshard` does; returns once both ends
    /// know of it.
    ///
    /// # Panics
    ///
    /// When a node refuses.
    pub fn migrate(&self, slot: u16, to: usize) {
        let from = self.owner(slot).expect("the slot has an owner");
        self.begin_migration(slot, from, to);
        self.migrate_keys(slot, from, to);
        self.set_owner(slot, from, to);
    }

    /// Returns whether a slot can move with all its keys in one step, as in Valkey from 9.0 on.
    #[must_use]
    pub fn migrates_at_once(&self) -> bool {
        self.nodes[0].try_command(&["PING"]).is_ok()
            && self.nodes[0].is_valkey()
            && self.nodes[0].version() >= (9, 0, 0)
    }

    /// Moves a slot with all its keys in one step: `CLUSTER MIGRATESLOTS`; returns once everybody knows of it.
    ///
    /// # Panics
    ///
    /// When a node refuses.
    pub fn migrate_at_once(&self, slot: u16, to: usize) {
        let (from, text) = (self.owner(slot).expect("the slot has an owner"), slot.to_string());
        let words = ["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", &text, &text, "NODE", &self.id(to)];
        let reply = self.nodes[from].command(&words);
        assert!(reply.is_ok(), "{reply:?}");
        wait("the slot moves", || self.owner(slot) == Some(to));
    }

    /// Begins to move a slot: keys that are not there any more are asked for at the other end.
    pub fn begin_migration(&self, slot: u16, from: usize, to: usize) {
        self.set_slot(to, slot, &["IMPORTING", &self.id(from)]);
        self.set_slot(from, slot, &["MIGRATING", &self.id(to)]);
    }

    /// Moves the keys of a slot.
    ///
    /// # Panics
    ///
    /// When a node refuses.
    pub fn migrate_keys(&self, slot: u16, from: usize, to: usize) {
        let (slot, port) = (slot.to_string(), self.nodes[to].port().to_string());
        loop {
            let keys = self.nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            let keys = keys.as_array();
            if keys.is_empty() {
                return;
            }
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "REPLACE", "KEYS"];
            words.extend(keys.iter().map(Reply::as_str));
            let moved = self.nodes[from].command(&words);
            assert!(!moved.is_error(), "{moved:?}");
        }
    }

    /// Gives a slot to another primary, first at its own end: keys that were left behind vanish.
    pub fn set_owner(&self, slot: u16, from: usize, to: usize) {
        self.set_slot(to, slot, &["NODE", &self.id(to)]);
        let _refused_while_it_has_keys =
            self.nodes[from].command(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &self.id(to)]);
    }

    /// Has the replica take the place of its primary: `CLUSTER FAILOVER`, or `CLUSTER FAILOVER <how>`.
    ///
    /// # Panics
    ///
    /// When it refuses.
    pub fn failover(&self, replica: usize, how: Option<&str>) {
        let words: Vec<&str> = ["CLUSTER", "FAILOVER"].into_iter().chain(how).collect();
        let reply = self.nodes[replica].command(&words);
        assert!(reply.is_ok(), "{reply:?}");
    }

    /// Returns which replica of a primary would take its place.
    #[must_use]
    pub fn replica_of(&self, primary: usize) -> Option<usize> {
        let own = self.id(primary);
        let nodes = self.nodes.iter().find_map(|node| node.try_command(&["CLUSTER", "NODES"]).ok())?;
        let follows = |line: &&str| line.split(' ').nth(3) == Some(&own) && !line.contains("fail");
        let line = text(&nodes).lines().find(follows)?.split(' ').next()?.to_owned();
        (0..self.nodes.len()).find(|index| self.id(*index) == line)
    }

    /// Returns whether a replica is a primary by now, and most nodes have it as the owner of slots.
    #[must_use]
    pub fn is_promoted(&self, replica: usize) -> bool {
        let views: Vec<_> = self.views().collect();
        2 * views.iter().filter(|view| view.values().any(|owner| *owner == replica)).count() > views.len()
    }

    fn set_slot(&self, node: usize, slot: u16, what: &[&str]) {
        let (slot, mut words) = (slot.to_string(), vec!["CLUSTER", "SETSLOT"]);
        words.push(&slot);
        words.extend(what);
        let reply = self.nodes[node].command(&words);
        assert!(reply.is_ok(), "{reply:?}");
    }

    /// Returns who owns each slot, as each node that is up has it.
    fn views(&self) -> impl Iterator<Item = BTreeMap<u16, usize>> {
        self.nodes.iter().filter_map(|node| {
            let reply = node.try_command(&["CLUSTER", "NODES"]).ok()?;
            let mut owners = BTreeMap::new();
            for line in text(&reply).lines() {
                let mut words = line.split(' ');
                let Some(id) = words.next() else { continue };
                let Some(owner) = (0..self.nodes.len()).find(|index| self.id(*index) == id) else { continue };
                for range in words.skip(7).filter(|word| !word.is_empty() && !word.starts_with('[')) {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse()) else { continue };
                    owners.extend((first..=last).map(|slot| (slot, owner)));
                }
            }
            Some(owners)
        })
    }
}

/// What a node knows of all of them as it starts, in the words of its own file.
fn known(ports: &[u16], announced: &[u16], buses: &[u16], primaries: usize, own: usize, tls: bool) -> String {
    let share = SLOTS.div_ceil(u16::try_from(primaries).expect("there are few"));
    let mut lines = String::new();
    for (index, port) in ports.iter().enumerate() {
        let own = if index == own { "myself," } else { "" };
        let name = if tls { format!(",{NAME}") } else { String::new() };
        let address = format!("{} 127.0.0.1:{}@{}{name}", id(*port), announced[index], buses[index]);
        let (primary, epoch) = (index % primaries, index % primaries + 1);
        if index < primaries {
            let first = share * u16::try_from(primary).expect("there are few");
            let last = (first + share).min(SLOTS) - 1;
            lines += &format!("{address} {own}master - 0 0 {epoch} connected {first}-{last}\n");
        } else {
            lines += &format!("{address} {own}slave {} 0 0 {epoch} connected\n", id(ports[primary]));
        }
    }
    format!("{lines}vars currentEpoch {primaries} lastVoteEpoch 0\n")
}

impl Drop for RedisCluster {
    fn drop(&mut self) {
        if let Some(partition) = &self.partition {
            partition.end();
        }
    }
}

fn id(port: u16) -> String {
    format!("{port:040x}")
}

/// Chooses a free port whose bus port is free too, below the range of outgoing connections.
fn free_ports() -> u16 {
    loop {
        let port = free_port();
        if port < 22_000 && TcpListener::bind(("127.0.0.1", port + BUS)).is_ok() {
            return port;
        }
    }
}

fn text(reply: &Reply) -> &str {
    match reply {
        Reply::Bulk(_) => reply.as_str(),
        _ => "",
    }
}

/// Follows a client's redirections: for a witness that writes as another client of the cluster does.
#[derive(Debug)]
pub struct ClusterClient<'c> {
    cluster: &'c RedisCluster,
    clients: BTreeMap<u16, Client>,
    /// The node that executed the last command.
    last: usize,
}

impl<'c> ClusterClient<'c> {
    /// Makes one; it connects to a node when it needs it.
    #[must_use]
    pub fn new(cluster: &'c RedisCluster) -> Self {
        Self { cluster, clients: BTreeMap::new(), last: 0 }
    }

    /// Sends a command of one key, first to the node that the test believes to own it. `None` when that cannot be
    /// reached, or nobody takes it for now: the command was not executed, or nobody knows.
    pub fn try_command(&mut self, first: usize, words: &[&str]) -> Option<Reply> {
        let (mut port, mut redirected) = (self.cluster.nodes[first].port(), false);
        for _ in 0..10 {
            let reply = self.send(port, redirected, words)?;
            let Reply::Error(refused) = &reply else {
                self.last = self.cluster.nodes.iter().position(|node| node.port() == port)?;
                return Some(reply);
            };
            let mut parts = refused.split(' ');
            let kind = parts.next()?;
            if !matches!(kind, "MOVED" | "ASK") {
                return if kind == "CLUSTERDOWN" || kind == "TRYAGAIN" { None } else { Some(reply) };
            }
            redirected = kind == "ASK";
            let announced: u16 = parts.nth(1)?.rsplit_once(':')?.1.parse().ok()?;
            let node = self.cluster.announced.iter().position(|port| *port == announced)?;
            port = self.cluster.nodes[node].port();
        }
        None
    }

    /// Sends a write of one key, and waits for at most so many milliseconds until so many replicas have it. Returns
    /// whether they do: else it may have been executed.
    pub fn write_to_replica(&mut self, words: &[&str], replicas: i64, millis: u64) -> bool {
        let Some(reply) = self.try_command(self.last, words) else { return false };
        if reply.is_error() {
            return false;
        }
        let port = self.cluster.nodes[self.last].port();
        let waited = self.send(port, false, &["WAIT", &replicas.to_string(), &millis.to_string()]);
        matches!(waited, Some(Reply::Int(number)) if number >= replicas)
    }

    fn send(&mut self, port: u16, redirected: bool, words: &[&str]) -> Option<Reply> {
        let mut client = match self.clients.remove(&port) {
            Some(client) => client,
            None => Client::tcp((std::net::Ipv4Addr::LOCALHOST, port).into()).ok()?,
        };
        if redirected {
            client.try_command(&["ASKING"]).ok()?;
        }
        let reply = client.try_command(words).ok()?;
        self.clients.insert(port, client);
        Some(reply)
    }
}
