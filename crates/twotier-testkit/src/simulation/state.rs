//! The state of the server: its data, its clients, and what has not left it yet.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use fastrand::Rng;

use super::{
    bus::Membership,
    history::{Version, Writer},
    resp::{Command, Output},
    store::Histories,
    tracking::{Changed, Tracked},
};

pub(super) struct State {
    pub(super) rng: Rng,
    pub(super) histories: Histories,
    /// Which node of a cluster it is, if it is one.
    pub(super) membership: Option<Membership>,
    /// Where a `SCAN` goes on: the last key of the page before.
    pub(super) cursors: HashMap<String, String>,
    /// What clients have queued since their `MULTI`.
    pub(super) transactions: HashMap<u64, Vec<Command>>,
    pub(super) clients: BTreeMap<u64, Client>,
    pub(super) foreign: VecDeque<Foreign>,
    pub(super) changed: Changed,
    expiry_at_once: bool,
    /// Versions whose reply has not left yet, by connection.
    pub(super) unacknowledged: Vec<(Option<u64>, String, usize)>,
    /// Connections that a client has ended, to be closed.
    pub(super) ended: Vec<u64>,
    pub(super) paused: bool,
    /// Whether its cycles take no time any more.
    pub(super) quick: bool,
    pub(super) alive: bool,
    /// Counts the lives, so that a cycle ends with the life it began in.
    pub(super) life: u64,
    pub(super) cycle: u64,
}

/// What the server knows about a connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) link: usize,
    /// Whether the next command may be for a key that is still on its way here.
    pub(super) asks: bool,
    pub(super) input: Vec<u8>,
    pub(super) output: Output,
    pub(super) tracked: Option<Tracked>,
}

/// What somebody does who is not connected over the network.
#[derive(Clone, Debug)]
pub enum Foreign {
    /// Writes a value that lives for so long, or for ever.
    Set {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// How long it lives.
        ttl: Option<Duration>,
    },
    /// Removes a key.
    Delete(String),
    /// Gives a key another time to live, or takes it away.
    Expire(String, Option<Duration>),
    /// Removes a key as the server itself does when its memory is full.
    Evict(String),
    /// Removes every key.
    FlushAll,
    /// Looks for keys that expired, as the server does in its own time.
    Sweep,
    /// Reports keys that came or went with their slot, of which nobody else has notice.
    Report(Vec<String>),
    /// Reports everything, as a node does that begins to follow another.
    Resync,
}

impl State {
    pub(super) fn new(rng: Rng, expiry_at_once: bool, histories: Histories, membership: Option<Membership>) -> Self {
        Self {
            rng,
            histories,
            membership,
            cursors: HashMap::new(),
            transactions: HashMap::new(),
            clients: BTreeMap::new(),
            foreign: VecDeque::new(),
            changed: Changed::default(),
            expiry_at_once,
            unacknowledged: Vec::new(),
            ended: Vec::new(),
            paused: false,
            quick: false,
            alive: true,
            life: 0,
            cycle: 0,
        }
    }

    /// # Panics
    ///
    /// When the client is not known: its commands are only executed while it is.
    pub(super) fn client(&mut self, id: u64) -> &mut Client {
        self.clients.get_mut(&id).expect("a client that is served is known")
    }

    pub(super) fn client_over(&mut self, id: u64, link: usize) -> &mut Client {
        self.clients.entry(id).or_insert_with(|| Client {
            link,
            asks: false,
            input: Vec::new(),
            output: Output::default(),
            tracked: None,
        })
    }

    /// Ends a connection: what is still on its way from it is never executed. Returns whether it was there.
    pub(super) fn end(&mut self, id: u64) -> bool {
        self.ended.push(id);
        self.clients.remove(&id).is_some()
    }

    pub(super) fn writer(&self, client: Option<u64>) -> Writer {
        match client {
            None => Writer::Foreign,
            Some(id) => self.clients.get(&id).map_or(Writer::Foreign, |client| Writer::Link(client.link)),
        }
    }

    /// Returns since when a key belongs to another node, if this one does not know it yet.
    pub(super) fn lost_since(&self, key: &str) -> Option<Duration> {
        self.membership.as_ref()?.lost_since(key)
    }

    /// Returns what this server holds of a key.
    pub(super) fn present(&self, key: &str, now: Duration) -> Version {
        match self.membership.as_ref().and_then(|membership| Some((membership.node, membership.lost_since(key)?))) {
            Some((node, since)) => self.histories.store().forked(node, key, since, now),
            None => self.histories.store().present(key, now).clone(),
        }
    }

    /// Returns the keys that lie here, as [`Store::keys_after`](super::store::Store::keys_after) does.
    pub(super) fn keys_after(&self, prefix: &str, cursor: Option<&str>, now: Duration) -> Vec<String> {
        let mut keys = self.histories.store().keys_after(prefix, cursor, now);
        keys.retain(|key| self.holds(key));
        keys
    }

    /// Returns whether a key lies here.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.membership.as_ref().is_none_or(|membership| membership.holds(key))
    }

    /// Makes a new version, to be pushed at the end of the cycle.
    pub(super) fn write(
        &mut self,
        client: Option<u64>,
        key: &str,
        value: Option<String>,
        expires: Option<Duration>,
        now: Duration,
    ) {
        let by = self.writer(client);
        let lost = self.lost_since(key);
        let index = match &self.membership {
            Some(membership) if lost.is_some() => {
                let version = Version { expires, by, lost, ..Version::by_itself(value, now) };
                self.histories.store().fork(membership.node, key, version)
            }
            _ => self.histories.store().change(key, value, expires, by, now),
        };
        self.unacknowledged.push((client, key.to_owned(), index));
        self.changed.note(key, client);
    }

    /// As [`write`](Self::write), by a script: pushed to the one who runs it as well.
    pub(super) fn write_by_script(
        &mut self,
        client: u64,
        key: &str,
        value: Option<String>,
        expires: Option<Duration>,
        now: Duration,
    ) {
        self.write(Some(client), key, value, expires, now);
        self.changed.note(key, None);
    }

    /// Finds out whether a key expired, which is pushed to everyone.
    pub(super) fn touch(&mut self, key: &str, now: Duration) {
        if self.lost_since(key).is_some() || !self.histories.store().is_expired(key, now) {
            return;
        }
        let _ = self.present(key, now);
        if self.expiry_at_once {
            for client in self.clients.values_mut() {
                if client.tracked.as_ref().is_some_and(|tracked| key.starts_with(&tracked.prefix)) {
                    client.output.invalidate(Some(&[key]));
                }
            }
        } else {
            self.changed.note(key, None);
        }
    }

    /// Removes every key; reported to every tracked client at once, by one push without keys.
    pub(super) fn flush_all(&mut self, now: Duration) {
        for key in self.keys_after("", None, now) {
            let index = self.histories.store().change(&key, None, None, Writer::Foreign, now);
            self.unacknowledged.push((None, key, index));
        }
        self.report_all();
    }

    pub(super) fn report_all(&mut self) {
        for client in self.clients.values_mut().filter(|client| client.tracked.is_some()) {
            client.output.invalidate(None);
        }
    }

    /// The replies to a client leave.
    pub(super) fn acknowledge(&mut self, client: Option<u64>, now: Duration) {
        let Self { unacknowledged, histories, .. } = self;
        let mut store = histories.store();
        unacknowledged.retain(|(by, key, index)| {
            let theirs = *by == client;
            if theirs {
                store.acknowledge(key, *index, now);
            }
            !theirs
        });
    }
}
