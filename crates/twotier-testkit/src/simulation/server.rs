//! The server: commands of several clients in one cycle of its event loop, pushes at the cycle's end.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use tokio::time::sleep;

use super::{
    bus::Membership,
    journal::Journal,
    network::Network,
    resp::take_command,
    state::{Foreign, State},
    store::Histories,
    transaction::execute,
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

/// A server inside the process. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    network: Network,
    journal: Journal,
    /// What the journal calls it.
    who: Arc<str>,
    cycles: Cycles,
    state: Arc<Mutex<State>>,
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
        let histories = Histories::new(journal.clone());
        Self::with(seed, network, cycles, journal, histories, None)
    }

    pub(super) fn with(
        seed: u64,
        network: Network,
        cycles: Cycles,
        journal: Journal,
        histories: Histories,
        membership: Option<Membership>,
    ) -> Self {
        let who =
            membership.as_ref().map_or_else(|| "server".to_owned(), |membership| format!("node {}", membership.node));
        let state = State::new(Rng::with_seed(seed), cycles.expiry_at_once, histories, membership);
        network.listen(true);
        Self { network, journal, who: who.into(), cycles, state: Arc::new(Mutex::new(state)) }
    }

    /// Runs the event loop for ever; to be spawned.
    pub async fn serve(self) {
        loop {
            if self.stands_still() {
                self.network.roused().await;
                continue;
            }
            let mut requests: Vec<Request> = self.network.ready().into_iter().map(Request::Client).collect();
            requests.extend(self.lock(|state| state.foreign.drain(..).map(Request::Foreign).collect::<Vec<_>>()));
            if requests.is_empty() {
                self.network.work().await;
            } else {
                self.cycle(requests).await;
            }
        }
    }

    /// Has something done by somebody who is not connected over the network, in a cycle to come.
    pub fn foreign(&self, what: Foreign) {
        self.lock(|state| state.foreign.push_back(what));
        self.network.rouse();
    }

    /// Stops the server in the middle of whatever it does, as SIGSTOP does, or lets it go on.
    pub fn pause(&self, paused: bool) {
        self.journal.note(&self.who, || format!("paused = {paused}"));
        self.lock(|state| state.paused = paused);
        self.network.rouse();
    }

    /// Makes its cycles take no time from now on.
    pub fn hurry(&self) {
        self.lock(|state| state.quick = true);
    }

    /// Kills the server; every connection is reset.
    pub fn kill(&self, loss: Loss) {
        self.journal.note(&self.who, || format!("killed, losing {loss:?}"));
        let now = self.journal.now();
        self.lock(|state| {
            state.alive = false;
            state.paused = false;
            state.life += 1;
            state.clients.clear();
            state.foreign.clear();
            state.changed.clear();
            state.unacknowledged.clear();
            match loss {
                Loss::Nothing => {}
                Loss::SinceSnapshot => state.histories.store().fall_back(false, now),
                Loss::Everything => state.histories.store().fall_back(true, now),
            }
        });
        self.network.listen(false);
    }

    /// Starts a killed server again.
    pub fn restart(&self) {
        self.journal.note(&self.who, || "restarted".to_owned());
        self.lock(|state| state.alive = true);
        self.network.listen(true);
    }

    /// Takes a snapshot of the data, to which a loss falls back.
    pub fn take_snapshot(&self) {
        self.lock(|state| state.histories.store().take_snapshot());
    }

    /// Returns every version that its keys ever had.
    #[must_use]
    pub fn histories(&self) -> Histories {
        self.lock(|state| state.histories.clone())
    }

    fn stands_still(&self) -> bool {
        self.lock(|state| state.paused || !state.alive)
    }

    fn lock<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }
}

/// One cycle.
impl Server {
    /// Serves whoever has sent something, each at most once, and pushes what changed.
    async fn cycle(&self, requests: Vec<Request>) {
        let (life, cycle) = self.lock(|state| {
            state.cycle += 1;
            (state.life, state.cycle)
        });
        let mut requests = requests;
        self.lock(|state| state.rng.shuffle(&mut requests));
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
        let pause = self.lock(|state| match self.cycles.pause {
            _ if state.quick => 0,
            0 => 0,
            longest if state.rng.bool() => state.rng.u64(0..=longest),
            _ => 0,
        });
        if pause > 0 {
            sleep(Duration::from_millis(pause)).await;
        }
        loop {
            let (dead, paused) = self.lock(|state| (state.life != life, state.paused));
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
        let early = self.lock(|state| {
            state.client_over(id, link).input.extend_from_slice(&input);
            while let Some(command) = take_command(&mut state.client(id).input) {
                self.journal.note(format_args!("{} {cycle}", self.who), || {
                    let words: Vec<_> = command.iter().map(|word| String::from_utf8_lossy(word)).collect();
                    format!("connection {id}: {}", words.join(" "))
                });
                execute(state, id, &command, now);
            }
            for ended in state.ended.drain(..) {
                self.journal.note(format_args!("{} {cycle}", self.who), || format!("connection {ended} is ended"));
                self.network.close(ended);
            }
            self.cycles.early_replies && state.rng.u8(..4) != 0
        });
        if !goes_on {
            self.journal.note(format_args!("{} {cycle}", self.who), || format!("connection {id} has ended"));
            self.lock(|state| state.clients.remove(&id));
        } else if early {
            self.flush(id);
        }
    }

    fn serve_foreign(&self, what: Foreign, cycle: u64) {
        let now = self.journal.now();
        self.journal.note(format_args!("{} {cycle}", self.who), || format!("foreign {what:?}"));
        self.lock(|state| {
            let key = match &what {
                Foreign::Set { key, .. } | Foreign::Delete(key) | Foreign::Evict(key) | Foreign::Expire(key, _) => key,
                Foreign::FlushAll | Foreign::Sweep | Foreign::Report(_) | Foreign::Resync => "",
            };
            // Whoever writes at a node that has the key no more is sent elsewhere.
            if !key.is_empty() && !state.holds(key) {
                return;
            }
            match what {
                Foreign::Set { key, value, ttl } => {
                    state.touch(&key, now);
                    state.write(None, &key, Some(value), ttl.map(|ttl| now + ttl), now);
                }
                Foreign::Delete(key) | Foreign::Evict(key) => {
                    state.touch(&key, now);
                    if state.present(&key, now).value.is_some() {
                        state.write(None, &key, None, None, now);
                    }
                }
                Foreign::Expire(key, ttl) => {
                    state.touch(&key, now);
                    if let Some(value) = state.present(&key, now).value {
                        state.write(None, &key, Some(value), ttl.map(|ttl| now + ttl), now);
                    }
                }
                Foreign::FlushAll => state.flush_all(now),
                Foreign::Sweep => {
                    let expired = state.histories.store().expired(now);
                    for key in &expired {
                        if state.holds(key) {
                            state.touch(key, now);
                        }
                    }
                }
                Foreign::Report(keys) => keys.iter().for_each(|key| state.changed.note(key, None)),
                Foreign::Resync => state.report_all(),
            }
            if self.cycles.early_replies && state.rng.u8(..4) != 0 {
                state.acknowledge(None, now);
            }
        });
    }

    /// Ends the cycle: the pushes, and every reply that has not left yet.
    fn push(&self, cycle: u64) {
        let clients = self.lock(|state| {
            let State { clients, changed, .. } = state;
            for (id, client) in &mut *clients {
                if let Some(tracked) = &client.tracked {
                    let keys = changed.tell(*id, tracked, &mut client.output);
                    if !keys.is_empty() {
                        let who = format_args!("{} {cycle}", self.who);
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
        let output = self.lock(|state| {
            state.acknowledge(Some(id), now);
            std::mem::take(&mut state.client(id).output)
        });
        if !output.0.is_empty() {
            self.network.send(id, &output.0);
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("cycles", &self.cycles).finish_non_exhaustive()
    }
}
