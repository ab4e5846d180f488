//! The server: commands of several clients in one cycle of its event loop, pushes at the cycle's end.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use tokio::time::sleep;

use super::{
    command::execute,
    history::{Version, Writer},
    journal::Journal,
    network::Network,
    resp::{Command, Output, take_command},
    store::Store,
    tracking::{Changed, Tracked},
};

/// How the server goes about a cycle of its event loop.
#[derive(Clone, Copy, Debug)]
pub struct Cycles {
    /// Whether replies may leave before the end of the cycle that pushes what they acknowledge, as they do on Redis 8
    /// with several I/O threads.
    pub early_replies: bool,
    /// The longest pause between two clients of one cycle, in milliseconds: a cycle takes time.
    pub pause: u64,
    /// Whether the expiry of a key that a command finds is pushed before that command's reply, as on Redis 8, and not
    /// at the end of the cycle.
    pub expiry_at_once: bool,
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
}

/// What is left of the data when the server is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Everything is left.
    Nothing,
    /// What was there at the last snapshot is left.
    SinceSnapshot,
    /// Nothing is left.
    Everything,
}

/// A deletion by somebody connected over the network, whether or not the key was there.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// The key.
    pub key: String,
    /// The link it came over.
    pub link: usize,
    /// When it was executed.
    pub at: Duration,
    /// The version that was the present one afterwards: absent.
    pub index: usize,
}

/// A server inside the process. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    network: Network,
    journal: Journal,
    cycles: Cycles,
    state: Arc<Mutex<State>>,
}

pub(super) struct State {
    pub(super) rng: Rng,
    pub(super) store: Store,
    pub(super) deletions: Vec<Deletion>,
    /// Where a `SCAN` goes on: the last key of the page before.
    pub(super) cursors: HashMap<String, String>,
    /// What clients have queued since their `MULTI`.
    pub(super) transactions: HashMap<u64, Vec<Command>>,
    clients: BTreeMap<u64, Client>,
    foreign: VecDeque<Foreign>,
    changed: Changed,
    expiry_at_once: bool,
    /// Versions whose reply has not left yet, by connection.
    unacknowledged: Vec<(Option<u64>, String, usize)>,
    /// Connections that a client has ended, to be closed.
    ended: Vec<u64>,
    paused: bool,
    /// Whether its cycles take no time any more.
    quick: bool,
    alive: bool,
    /// Counts the lives, so that a cycle ends with the life it began in.
    life: u64,
    cycle: u64,
}

/// What the server knows about a connection.
#[derive(Debug)]
pub(super) struct Client {
    link: usize,
    input: Vec<u8>,
    pub(super) output: Output,
    pub(super) tracked: Option<Tracked>,
}

/// Whose turn it is in a cycle.
enum Request {
    Client(u64),
    Foreign(Foreign),
}

impl Server {
    /// Makes a server that listens on this network once [`serve`](Self::serve) runs.
    #[must_use]
    pub fn new(seed: u64, network: Network, cycles: Cycles, journal: Journal) -> Self {
        let state = State {
            rng: Rng::with_seed(seed),
            store: Store::default(),
            deletions: Vec::new(),
            cursors: HashMap::new(),
            transactions: HashMap::new(),
            clients: BTreeMap::new(),
            foreign: VecDeque::new(),
            changed: Changed::default(),
            expiry_at_once: cycles.expiry_at_once,
            unacknowledged: Vec::new(),
            ended: Vec::new(),
            paused: false,
            quick: false,
            alive: true,
            life: 0,
            cycle: 0,
        };
        network.listen(true);
        Self { network, journal, cycles, state: Arc::new(Mutex::new(state)) }
    }

    /// Runs the event loop for ever; to be spawned.
    pub async fn serve(self) {
        loop {
            if self.stands_still() {
                self.network.roused().await;
                continue;
            }
            let mut requests: Vec<Request> = self.network.ready().into_iter().map(Request::Client).collect();
            requests.extend(self.with(|state| state.foreign.drain(..).map(Request::Foreign).collect::<Vec<_>>()));
            if requests.is_empty() {
                self.network.work().await;
            } else {
                self.cycle(requests).await;
            }
        }
    }

    /// Has something done by somebody who is not connected over the network, in a cycle to come.
    pub fn foreign(&self, what: Foreign) {
        self.with(|state| state.foreign.push_back(what));
        self.network.rouse();
    }

    /// Stops the server in the middle of whatever it does, as SIGSTOP does, or lets it go on.
    pub fn pause(&self, paused: bool) {
        self.journal.note("server", || format!("paused = {paused}"));
        self.with(|state| state.paused = paused);
        self.network.rouse();
    }

    /// Makes its cycles take no time from now on.
    pub fn hurry(&self) {
        self.with(|state| state.quick = true);
    }

    /// Kills the server; every connection is reset.
    pub fn kill(&self, loss: Loss) {
        self.journal.note("server", || format!("killed, losing {loss:?}"));
        let now = self.journal.now();
        self.with(|state| {
            state.alive = false;
            state.paused = false;
            state.life += 1;
            state.clients.clear();
            state.foreign.clear();
            state.changed.clear();
            state.unacknowledged.clear();
            match loss {
                Loss::Nothing => {}
                Loss::SinceSnapshot => state.store.fall_back(false, now),
                Loss::Everything => state.store.fall_back(true, now),
            }
        });
        self.network.listen(false);
    }

    /// Starts a killed server again.
    pub fn restart(&self) {
        self.journal.note("server", || "restarted".to_owned());
        self.with(|state| state.alive = true);
        self.network.listen(true);
    }

    /// Takes a snapshot of the data, to which a loss falls back.
    pub fn take_snapshot(&self) {
        self.with(|state| state.store.take_snapshot());
    }

    /// Returns every version of a key so far, the present one last. There is always at least one.
    #[must_use]
    pub fn history(&self, key: &str) -> Vec<Version> {
        let now = self.journal.now();
        self.with(|state| {
            if state.store.is_expired(key, now) {
                // Looking must not change what the server does: it has yet to find this.
                let mut history = state.store.raw(key);
                let at = history.last().and_then(|version| version.expires).unwrap_or(now);
                history.push(Version { value: None, at, acknowledged: None, expires: None, by: Writer::Server });
                return history;
            }
            state.store.raw(key)
        })
    }

    /// Returns the deletions of a key over a link that were executed in this time, the earliest first.
    #[must_use]
    pub fn deletions(&self, key: &str, link: usize, from: Duration, to: Duration) -> Vec<Deletion> {
        self.with(|state| {
            let wanted = |it: &&Deletion| it.key == key && it.link == link && it.at >= from && it.at <= to;
            state.deletions.iter().filter(wanted).cloned().collect()
        })
    }

    fn stands_still(&self) -> bool {
        self.with(|state| state.paused || !state.alive)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }
}

/// One cycle.
impl Server {
    /// Serves whoever has sent something, each at most once, and pushes what changed.
    async fn cycle(&self, requests: Vec<Request>) {
        let (life, cycle) = self.with(|state| {
            state.cycle += 1;
            (state.life, state.cycle)
        });
        let mut requests = requests;
        self.with(|state| state.rng.shuffle(&mut requests));
        let mut requests: VecDeque<Request> = requests.into();
        let mut served = Vec::new();
        while let Some(turn) = requests.pop_front() {
            match turn {
                Request::Client(id) => {
                    served.push(id);
                    self.serve_client(id, cycle);
                }
                Request::Foreign(what) => self.serve_foreign(what, cycle),
            }
            if !self.goes_on(life).await {
                return;
            }
            if self.cycles.early_replies {
                // Whoever has sent something since may be served in this cycle too.
                for id in self.network.ready() {
                    let waits = requests.iter().any(|turn| matches!(turn, Request::Client(other) if *other == id));
                    if !waits && !served.contains(&id) {
                        requests.push_back(Request::Client(id));
                    }
                }
            }
        }
        self.push(cycle);
    }

    /// Lets time pass between two requests, and returns whether the server still lives.
    async fn goes_on(&self, life: u64) -> bool {
        let pause = self.with(|state| match self.cycles.pause {
            _ if state.quick => 0,
            0 => 0,
            longest if state.rng.bool() => state.rng.u64(0..=longest),
            _ => 0,
        });
        if pause > 0 {
            sleep(Duration::from_millis(pause)).await;
        }
        loop {
            let (dead, paused) = self.with(|state| (state.life != life, state.paused));
            if dead {
                return false;
            }
            if !paused {
                return true;
            }
            self.network.roused().await;
        }
    }

    fn serve_client(&self, id: u64, cycle: u64) {
        let now = self.journal.now();
        let Some(link) = self.network.link(id) else { return };
        let mut input = Vec::new();
        let goes_on = self.network.receive(id, &mut input);
        let early = self.with(|state| {
            state.client_over(id, link).input.extend_from_slice(&input);
            while let Some(command) = take_command(&mut state.client(id).input) {
                self.journal.note(format_args!("server {cycle}"), || {
                    let words: Vec<_> = command.iter().map(|word| String::from_utf8_lossy(word)).collect();
                    format!("connection {id}: {}", words.join(" "))
                });
                execute(state, id, &command, now);
            }
            for ended in state.ended.drain(..) {
                self.journal.note(format_args!("server {cycle}"), || format!("connection {ended} is ended"));
                self.network.close(ended);
            }
            self.cycles.early_replies && state.rng.u8(..4) != 0
        });
        if !goes_on {
            self.journal.note(format_args!("server {cycle}"), || format!("connection {id} has ended"));
            self.with(|state| state.clients.remove(&id));
        } else if early {
            self.flush(id);
        }
    }

    fn serve_foreign(&self, what: Foreign, cycle: u64) {
        let now = self.journal.now();
        self.journal.note(format_args!("server {cycle}"), || format!("foreign {what:?}"));
        self.with(|state| {
            match what {
                Foreign::Set { key, value, ttl } => {
                    state.touch(&key, now);
                    state.write(None, &key, Some(value), ttl.map(|ttl| now + ttl), now);
                }
                Foreign::Delete(key) | Foreign::Evict(key) => {
                    state.touch(&key, now);
                    if state.store.present(&key, now).value.is_some() {
                        state.write(None, &key, None, None, now);
                    }
                }
                Foreign::Expire(key, ttl) => {
                    state.touch(&key, now);
                    if let Some(value) = state.store.present(&key, now).value.clone() {
                        state.write(None, &key, Some(value), ttl.map(|ttl| now + ttl), now);
                    }
                }
                Foreign::FlushAll => state.flush_all(now),
                Foreign::Sweep => {
                    for key in state.store.expired(now) {
                        state.touch(&key, now);
                    }
                }
            }
            if self.cycles.early_replies && state.rng.u8(..4) != 0 {
                state.acknowledge(None, now);
            }
        });
    }

    /// Ends the cycle: the pushes, and every reply that has not left yet.
    fn push(&self, cycle: u64) {
        let clients = self.with(|state| {
            let State { clients, changed, .. } = state;
            for (id, client) in &mut *clients {
                if let Some(tracked) = &client.tracked {
                    let keys = changed.tell(*id, tracked, &mut client.output);
                    if !keys.is_empty() {
                        let who = format_args!("server {cycle}");
                        self.journal.note(who, || format!("connection {id} is pushed {}", keys.join(" ")));
                    }
                }
            }
            let ids: Vec<u64> = clients.keys().copied().collect();
            changed.clear();
            state.acknowledge(None, self.journal.now());
            ids
        });
        for id in clients {
            self.flush(id);
        }
    }

    /// Lets a client's replies leave.
    fn flush(&self, id: u64) {
        let now = self.journal.now();
        let output = self.with(|state| {
            state.acknowledge(Some(id), now);
            std::mem::take(&mut state.client(id).output)
        });
        if !output.0.is_empty() {
            self.network.send(id, &output.0);
        }
    }
}

impl State {
    /// # Panics
    ///
    /// When the client is not known: its commands are only executed while it is.
    pub(super) fn client(&mut self, id: u64) -> &mut Client {
        self.clients.get_mut(&id).expect("a client that is served is known")
    }

    fn client_over(&mut self, id: u64, link: usize) -> &mut Client {
        self.clients.entry(id).or_insert_with(|| Client {
            link,
            input: Vec::new(),
            output: Output::default(),
            tracked: None,
        })
    }

    /// Returns which life of the server this is.
    pub(super) fn life(&self) -> u64 {
        self.life
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
        let index = self.store.change(key, value, expires, by, now);
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
        if !self.store.is_expired(key, now) {
            return;
        }
        let _ = self.store.present(key, now);
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
    fn flush_all(&mut self, now: Duration) {
        for key in self.store.keys_after("", None, now) {
            let index = self.store.change(&key, None, None, Writer::Foreign, now);
            self.unacknowledged.push((None, key, index));
        }
        for client in self.clients.values_mut().filter(|client| client.tracked.is_some()) {
            client.output.invalidate(None);
        }
    }

    /// The replies to a client leave.
    fn acknowledge(&mut self, client: Option<u64>, now: Duration) {
        let Self { unacknowledged, store, .. } = self;
        unacknowledged.retain(|(by, key, index)| {
            let theirs = *by == client;
            if theirs {
                store.acknowledge(key, *index, now);
            }
            !theirs
        });
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("cycles", &self.cycles).finish_non_exhaustive()
    }
}
