//! A reference model of the local tier: the rules written down as plainly as possible, over vectors searched from end
//! to end, to be compared with the real one step by step.
//!
//! It knows nothing of hashing, shards, locks or wakers. Times are in milliseconds, a value is a number, and so is its
//! digest.

mod loads;
mod policy;

use std::fmt;

use twotier_core::{Eviction, LocalStats};

use self::loads::Loading;

pub use self::loads::{ModelLoad, ModelLoadJoiner};
pub use self::policy::{LfuModel, ModelPolicy, QueueModel, RandomModel, S3FifoModel, WTinyLfuModel};

/// The model.
#[derive(Debug)]
pub struct ModelTier {
    max_entries: usize,
    max_bytes: usize,
    overhead: usize,
    max_staleness: u64,
    keeps_nothing: bool,
    now: u64,
    links: [ModelLink; 2],
    /// The keys that lie behind the second link.
    behind_second: Vec<String>,
    entries: Vec<ModelEntry>,
    policy: Box<dyn ModelPolicy>,
    new_policy: NewPolicy,
    flights: Vec<(String, u64)>,
    /// What a registered read was bound to by a refused one, by its ticket.
    bound: Vec<(u64, u8)>,
    /// Every write that has begun and not ended, in the order of beginning.
    writes: Vec<ModelWrite>,
    /// The registered loads, at most one for each key.
    loads: Vec<Loading>,
    /// The loads that died of an answer that differed from what they saw.
    overtaken: Vec<u64>,
    /// Every ticket ever given out; its number is its place.
    tickets: Vec<ModelTicket>,
    /// How each read and load ended for those who joined it, by ticket.
    outcomes: Vec<Option<ModelOutcome>>,
    counted: LocalStats,
    coherence: ModelCounters,
}

#[derive(Clone, Copy, Debug, Default)]
struct ModelLink {
    epoch: u64,
    /// Hits are served before it.
    lease: u64,
}

/// An epoch of a link, by its number.
type Stamp = (usize, u64);

/// Makes a policy that knows nobody yet.
struct NewPolicy(Box<dyn Fn() -> Box<dyn ModelPolicy>>);

impl fmt::Debug for NewPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewPolicy")
    }
}

#[derive(Clone, Debug)]
struct ModelEntry {
    key: String,
    value: u32,
    digest: u8,
    stamp: Stamp,
    deadline: u64,
    weight: usize,
}

#[derive(Clone, Debug)]
struct ModelWrite {
    ticket: u64,
    key: String,
    digest: u8,
    may_install: bool,
}

#[derive(Clone, Debug)]
struct ModelTicket {
    key: String,
    stamp: Stamp,
    at: u64,
}

/// What a read returns. Tickets are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelRead {
    /// It is there.
    Hit(u32),
    /// Join the read with this ticket.
    Join(ModelJoiner),
    /// Read, with this ticket.
    Lead(u64),
    /// The link is down.
    Bypass,
}

/// Somebody who joined a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelJoiner {
    /// The read's ticket.
    pub ticket: u64,
    /// The only bytes it may be given.
    only: Option<u8>,
    /// How many tickets there were when it began.
    began: usize,
}

/// How a read ended for one of those who joined it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelJoined {
    /// With a value.
    Value(u32),
    /// With an error.
    Failed,
    /// They must read again.
    ElectAgain,
}

/// How a read ended.
#[derive(Clone, Copy, Debug)]
enum ModelOutcome {
    Answered(u32, u8),
    Failed,
    Abandoned,
}

/// A value as it comes from the backend.
#[derive(Clone, Copy, Debug)]
pub struct ModelValue {
    /// The value.
    pub value: u32,
    /// Stands for its bytes.
    pub digest: u8,
    /// How many bytes it weighs.
    pub bytes: usize,
    /// How long a copy may live, in milliseconds.
    pub life: Option<u64>,
}

/// The counters of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelCounters {
    /// Changes reported.
    pub invalidations: u64,
    /// Reads not kept.
    pub refused_fills: u64,
    /// Writes not kept.
    pub refused_writes: u64,
    /// Loads that might not be stored.
    pub refused_loads: u64,
    /// Flushes and lost links.
    pub flushes: u64,
    /// Links.
    pub links: u64,
}

impl ModelTier {
    /// Makes an empty model whose link is down. `overhead` is what an entry weighs beside key and value.
    #[must_use]
    pub fn new(max_entries: usize, max_bytes: usize, overhead: usize, max_staleness: u64) -> Self {
        Self::by(|| Box::new(QueueModel::lru()), max_entries, max_bytes, overhead, max_staleness)
    }

    /// Makes an empty model that evicts as `policy` says.
    ///
    /// # Panics
    ///
    /// When there is no model of the policy that does without the hashes of keys.
    #[must_use]
    pub fn evicting_by(
        policy: Eviction,
        max_entries: usize,
        max_bytes: usize,
        overhead: usize,
        max_staleness: u64,
    ) -> Self {
        let new_policy = move || -> Box<dyn ModelPolicy> {
            match policy {
                Eviction::Lru => Box::new(QueueModel::lru()),
                Eviction::Fifo => Box::new(QueueModel::fifo()),
                Eviction::Lfu => Box::new(LfuModel::default()),
                Eviction::Random { seed } => Box::new(RandomModel::new(seed)),
                Eviction::S3Fifo => Box::new(S3FifoModel::new(max_entries, max_bytes)),
                other => panic!("no model of {other} that does without hashes"),
            }
        };
        Self::by(new_policy, max_entries, max_bytes, overhead, max_staleness)
    }

    /// Makes an empty model with a policy of the caller's, made anew whenever the cache is cleared.
    #[must_use]
    pub fn by(
        new_policy: impl Fn() -> Box<dyn ModelPolicy> + 'static,
        max_entries: usize,
        max_bytes: usize,
        overhead: usize,
        max_staleness: u64,
    ) -> Self {
        Self {
            policy: new_policy(),
            new_policy: NewPolicy(Box::new(new_policy)),
            max_entries,
            max_bytes,
            overhead,
            max_staleness,
            keeps_nothing: false,
            now: 0,
            links: [ModelLink::default(); 2],
            behind_second: Vec::new(),
            entries: Vec::new(),
            flights: Vec::new(),
            bound: Vec::new(),
            writes: Vec::new(),
            loads: Vec::new(),
            overtaken: Vec::new(),
            tickets: Vec::new(),
            outcomes: Vec::new(),
            counted: LocalStats::default(),
            coherence: ModelCounters::default(),
        }
    }

    /// Has the model keep nothing at all.
    pub fn keep_nothing(&mut self) {
        self.keeps_nothing = true;
    }

    /// Moves time forward.
    pub fn advance(&mut self, millis: u64) {
        self.now += millis;
    }

    /// Counted lookup.
    pub fn get(&mut self, key: &str) -> Option<u32> {
        let found = self.look(key);
        if found.is_some() {
            self.counted.hits += 1;
        } else {
            self.counted.misses += 1;
        }
        found
    }

    /// Second look.
    pub fn read(&mut self, key: &str) -> ModelRead {
        let began = self.tickets.len();
        self.look_or_read(key, began)
    }

    /// Third and later looks, after somebody joined a read in vain.
    pub fn read_again(&mut self, key: &str, in_vain: ModelJoiner) -> ModelRead {
        self.look_or_read(key, in_vain.began)
    }

    fn look_or_read(&mut self, key: &str, began: usize) -> ModelRead {
        if let Some(value) = self.look(key) {
            return ModelRead::Hit(value);
        }
        let stamp = self.stamp(self.link_of(key));
        if !is_up(stamp) {
            return ModelRead::Bypass;
        }
        if let Some(ticket) = self.flight(key) {
            let read = self.ticket(ticket);
            if read.stamp == stamp && self.now - read.at < self.max_staleness {
                let fresh = ticket >= began as u64;
                let only = self.bound.iter().find(|bound| bound.0 == ticket && !fresh).map(|bound| bound.1);
                return ModelRead::Join(ModelJoiner { ticket, only, began });
            }
            self.kill_flight(key);
        }
        let ticket = self.issue(key);
        self.flights.push((key.to_owned(), ticket));
        ModelRead::Lead(ticket)
    }

    /// A read brought a value. Returns whether it is kept.
    pub fn fill(&mut self, ticket: u64, answer: ModelValue) -> bool {
        let ModelTicket { key, stamp, at } = self.ticket(ticket).clone();
        let registered = self.flight(&key) == Some(ticket);
        let written = self.writes.iter().any(|write| write.key == key);
        let bound = self.bound.iter().find(|bound| bound.0 == ticket).map(|bound| bound.1);
        let fits = bound.is_none_or(|bound| bound == answer.digest);
        self.see(&key, answer.digest);
        self.flights.retain(|flight| flight.1 != ticket);
        self.settle(ticket, ModelOutcome::Answered(answer.value, answer.digest));
        if registered && fits && self.is_good(stamp) && !written {
            return self.put(&key, stamp, at, answer);
        }
        // The digest remembered is that of the write that began last.
        if self.writes.iter().rev().find(|write| write.key == key).is_some_and(|last| last.digest != answer.digest) {
            self.forbid_install(&key);
        }
        if self.entries.iter().any(|entry| entry.key == key && entry.digest != answer.digest) {
            self.counted.superseded += self.remove(&key);
        }
        // The read that is registered now may have been executed earlier: it may bring nothing else.
        if let Some(other) = self.flight(&key) {
            match self.bound.iter().find(|bound| bound.0 == other) {
                Some(bound) if bound.1 != answer.digest => self.kill_flight(&key),
                Some(_) => {}
                None => self.bound.push((other, answer.digest)),
            }
        }
        self.coherence.refused_fills += 1;
        false
    }

    /// A read failed, or its leader went away.
    pub fn abandon(&mut self, ticket: u64, failed: bool) {
        let key = self.ticket(ticket).key.clone();
        let registered = self.flight(&key) == Some(ticket);
        self.flights.retain(|flight| flight.1 != ticket);
        self.settle(ticket, if failed && registered { ModelOutcome::Failed } else { ModelOutcome::Abandoned });
    }

    /// A write begins. Returns its ticket.
    pub fn begin_write(&mut self, key: &str, digest: u8) -> u64 {
        self.kill_load(key);
        self.register_write(key, digest)
    }

    fn register_write(&mut self, key: &str, digest: u8) -> u64 {
        let ticket = self.issue(key);
        let alone = !self.writes.iter().any(|write| write.key == key);
        self.forbid_install(key);
        self.writes.push(ModelWrite { ticket, key: key.to_owned(), digest, may_install: alone });
        self.counted.superseded += self.remove(key);
        self.kill_flight(key);
        ticket
    }

    /// A write ends, with a value if it succeeded and has one to install. Returns whether it is kept.
    pub fn end_write(&mut self, ticket: u64, installed: Option<ModelValue>) -> bool {
        let ModelTicket { key, stamp, at } = self.ticket(ticket).clone();
        let mut live = false;
        self.writes.retain(|write| {
            if write.ticket == ticket {
                live = write.may_install;
            }
            write.ticket != ticket
        });
        self.kill_flight(&key);
        self.write_ended(&key, ticket, installed.is_some());
        let Some(answer) = installed else {
            self.counted.superseded += self.remove(&key);
            return false;
        };
        if live && self.is_good(stamp) {
            return self.put(&key, stamp, at, answer);
        }
        self.counted.superseded += self.remove(&key);
        self.coherence.refused_writes += u64::from(self.deadline(at, answer).is_some());
        false
    }

    /// The backend reports a change.
    pub fn changed(&mut self, key: &str) {
        self.coherence.invalidations += 1;
        self.forget(key);
    }

    /// The user forgets a key.
    pub fn invalidate(&mut self, key: &str) -> bool {
        if let Some(ticket) = self.flight(key) {
            self.settle(ticket, ModelOutcome::Abandoned);
        }
        self.forget(key) == 1
    }

    /// The user forgets everything.
    pub fn clear(&mut self) -> usize {
        let held = self.entries.len();
        self.counted.cleared += held as u64;
        self.entries.clear();
        self.loads.clear();
        self.policy = (self.new_policy.0)();
        for (_, ticket) in std::mem::take(&mut self.flights) {
            self.settle(ticket, ModelOutcome::Abandoned);
        }
        for write in &mut self.writes {
            write.may_install = false;
        }
        held
    }

    /// Everything may have changed.
    pub fn flush(&mut self) {
        (0..self.links.len()).for_each(|link| self.flushed(link));
    }

    /// Everything behind a link, the first or the second, may have changed.
    pub fn flushed(&mut self, link: usize) {
        if is_up(self.stamp(link)) {
            self.links[link].epoch += 2;
            self.coherence.flushes += 1;
        }
    }

    /// A link comes up.
    pub fn link_up(&mut self, link: usize, unlimited: bool) {
        if !is_up(self.stamp(link)) {
            self.links[link].epoch += 1;
            self.links[link].lease = if unlimited { u64::MAX } else { 0 };
            self.coherence.links += 1;
        }
    }

    /// A link goes down.
    pub fn link_down(&mut self, link: usize) {
        if is_up(self.stamp(link)) {
            self.links[link].epoch += 1;
            self.coherence.flushes += 1;
        }
    }

    /// A key goes from one link to the other, which flushes both. At first all lie behind the first.
    pub fn moved(&mut self, key: &str) {
        match self.behind_second.iter().position(|there| there == key) {
            Some(place) => _ = self.behind_second.swap_remove(place),
            None => self.behind_second.push(key.to_owned()),
        }
        self.flush();
    }

    /// Takes a mark of a link: which, its epoch, and the time.
    #[must_use]
    pub fn mark(&self, link: usize) -> (usize, u64, u64) {
        (link, self.links[link].epoch, self.now)
    }

    /// Proves life since a mark.
    pub fn proof_of_life(&mut self, (link, epoch, at): (usize, u64, u64)) {
        if self.is_good((link, epoch)) {
            let lease = &mut self.links[link].lease;
            *lease = (*lease).max(at + self.max_staleness);
        }
    }

    /// Returns the keys held, in the order of the policy.
    ///
    /// # Panics
    ///
    /// When the policy and the tier disagree about who is there.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let keys = self.policy.keys();
        assert_eq!(keys.len(), self.entries.len(), "the policy knows who is there");
        keys
    }

    /// Returns the statistics.
    #[must_use]
    pub fn stats(&self) -> LocalStats {
        if self.keeps_nothing {
            return LocalStats::default();
        }
        let mut stats = self.counted;
        stats.enabled = true;
        stats.size = self.entries.len();
        stats.max_size = self.max_entries;
        stats.bytes = self.bytes();
        stats.max_bytes = self.max_bytes;
        stats
    }

    /// Returns the counters of the protocol.
    #[must_use]
    pub fn counters(&self) -> ModelCounters {
        self.coherence
    }

    /// Returns how a read ended for one of those who joined it, `None` while it has not.
    ///
    /// # Panics
    ///
    /// When there is no such ticket.
    #[must_use]
    pub fn outcome(&self, joiner: ModelJoiner) -> Option<ModelJoined> {
        let outcome = self.outcomes[usize::try_from(joiner.ticket).expect("tickets are few")];
        outcome.map(|outcome| match outcome {
            ModelOutcome::Answered(value, digest) if joiner.only.is_none_or(|only| only == digest) => {
                ModelJoined::Value(value)
            }
            ModelOutcome::Failed => ModelJoined::Failed,
            ModelOutcome::Answered(..) | ModelOutcome::Abandoned => ModelJoined::ElectAgain,
        })
    }

    fn forget(&mut self, key: &str) -> u64 {
        let held = self.remove(key);
        self.counted.invalidated += held;
        self.forbid_install(key);
        self.kill_flight(key);
        self.kill_load(key);
        held
    }

    fn link_of(&self, key: &str) -> usize {
        usize::from(self.behind_second.iter().any(|there| there == key))
    }

    fn stamp(&self, link: usize) -> Stamp {
        (link, self.links[link].epoch)
    }

    /// Whether its link is up and has still the same epoch.
    fn is_good(&self, stamp: Stamp) -> bool {
        is_up(stamp) && stamp == self.stamp(stamp.0)
    }

    fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.weight).sum()
    }

    fn look(&mut self, key: &str) -> Option<u32> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?.clone();
        if entry.stamp != self.stamp(entry.stamp.0) {
            self.counted.outdated += self.remove(key);
            return None;
        }
        if entry.deadline <= self.now {
            self.counted.expired += self.remove(key);
            return None;
        }
        if self.links[entry.stamp.0].lease <= self.now {
            return None;
        }
        self.policy.hit(key);
        Some(entry.value)
    }

    fn deadline(&self, at: u64, answer: ModelValue) -> Option<u64> {
        answer.life.map(|life| at + life).filter(|&deadline| deadline > self.now && !self.keeps_nothing)
    }

    fn put(&mut self, key: &str, stamp: Stamp, at: u64, answer: ModelValue) -> bool {
        self.counted.superseded += self.remove(key);
        let Some(deadline) = self.deadline(at, answer) else { return false };
        let weight = key.len() + answer.bytes + self.overhead;
        if weight > self.max_bytes {
            self.counted.oversized += 1;
            return false;
        }
        self.policy.coming(key);
        while self.entries.len() >= self.max_entries {
            self.evict();
            self.counted.evicted_for_entries += 1;
        }
        while self.bytes() + weight > self.max_bytes {
            self.evict();
            self.counted.evicted_for_bytes += 1;
        }
        let ModelValue { value, digest, .. } = answer;
        self.entries.push(ModelEntry { key: key.to_owned(), value, digest, stamp, deadline, weight });
        self.policy.arrived(key, weight);
        self.counted.insertions += 1;
        true
    }

    fn evict(&mut self) {
        let victim = self.policy.victim();
        let place = self.entries.iter().position(|entry| entry.key == victim).expect("the policy knows who is there");
        self.entries.remove(place);
    }

    fn remove(&mut self, key: &str) -> u64 {
        let Some(place) = self.entries.iter().position(|entry| entry.key == key) else { return 0 };
        self.entries.remove(place);
        self.policy.removed(key);
        1
    }

    fn forbid_install(&mut self, key: &str) {
        for write in self.writes.iter_mut().filter(|write| write.key == key) {
            write.may_install = false;
        }
    }

    fn flight(&self, key: &str) -> Option<u64> {
        self.flights.iter().find(|flight| flight.0 == key).map(|flight| flight.1)
    }

    /// Nobody joins the read any more; those who did receive its end.
    fn kill_flight(&mut self, key: &str) {
        self.flights.retain(|flight| flight.0 != key);
    }

    fn settle(&mut self, ticket: u64, outcome: ModelOutcome) {
        let place = usize::try_from(ticket).expect("tickets are few");
        self.outcomes[place].get_or_insert(outcome);
    }

    fn issue(&mut self, key: &str) -> u64 {
        let stamp = self.stamp(self.link_of(key));
        self.tickets.push(ModelTicket { key: key.to_owned(), stamp, at: self.now });
        self.outcomes.push(None);
        self.tickets.len() as u64 - 1
    }

    fn ticket(&self, ticket: u64) -> &ModelTicket {
        &self.tickets[usize::try_from(ticket).expect("tickets are few")]
    }
}

fn is_up((_, epoch): Stamp) -> bool {
    epoch % 2 == 1
}
