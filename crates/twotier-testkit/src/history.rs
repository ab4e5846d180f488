//! A history of what several caches were seen to do, and the check of what they promise.
//!
//! # The rules
//!
//! Each key has *one writing party*, so its versions are totally ordered by the calls: 1, 2, 3 … A version is a value
//! or an absence (a deletion). A write ends in one of three ways ([`WriteOutcome`]):
//!
//! - *acknowledged*;
//! - *not sent*: it failed before anything was handed to the server, or was refused. It never takes effect;
//! - *unknown*: it was sent and not answered, or its caller went away. It takes effect before the next link of its
//!   party is up, or never. So either is right until a later write of the party is acknowledged, and then it is over:
//!   the party need not wait for anything before it writes again.
//!
//! Of a read that starts at `s` through a handle, this is checked:
//!
//! 1. *nothing is made up*: what is read was written before the read ended, and its write did not fail unsent;
//! 2. *read your writes*: nothing older than what this handle's own party had acknowledged before `s`;
//! 3. *monotonic reads*: nothing older than what an earlier read of this handle, ended before `s`, returned;
//! 4. *bounded staleness*: the next acknowledged version was acknowledged after `s − B`. `s` less that acknowledgement
//!    is the staleness of the read;
//! 5. *at rest* everybody reads what the server holds, and
//! 6. *nothing acknowledged is lost or undone*: the server holds the last acknowledged version or a later unknown one.
//!
//! Where 2, 4 or 6 is broken by the version of a write that had failed, that write undid an acknowledged one, and the
//! violation says so: [`Broken::Undone`].
//!
//! Servers may lose data on purpose (flush, eviction, a kill without persistence). A *loss* explains why a key is
//! absent that was written before the loss was over, and nothing else: a lost value never comes back. A value that is
//! read although a loss that took everything is over is as stale as that loss is long ago.
//!
//! A key may have an *origin* ([`History::with_origin`]): a version is then a row, written before the key is, and
//! whoever finds the key absent loads the row. It may be absent at any time, and a value that was lost may be loaded
//! again, so nothing is asked of absences. A row that was loaded may be ahead of the key: until its write is
//! acknowledged, what is read after it may be older ([`History::end_load`]).
//!
//! # What it costs
//!
//! Reads are checked as they end, against a few atomics of the key: nothing is kept of a read that was right but the
//! highest version seen, and an event in the ring of its [`Recorder`], from which the excerpt of a violation is made.
//! Memory does not grow with the length of a run.

mod event;
mod key;
mod loss;
mod recorder;
#[cfg(test)]
mod tests;
mod violation;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

pub use self::{
    event::{Event, HistoryTime, Outcome, WriteOutcome},
    recorder::{Reading, Recorder, Writing},
    violation::{Broken, Violation},
};
use self::{key::Key, loss::Losses};

/// How many violations are printed with the events around them.
const IN_FULL: usize = 5;

/// What one version of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A value.
    Value,
    /// A deletion.
    Absence,
}

/// Everything known about one group of keys and the handles through which they are read.
pub struct History {
    origin: Instant,
    keys: Box<[Key]>,
    handles: Box<[Handle]>,
    losses: Losses,
    calm: AtomicBool,
    broken: AtomicBool,
    violations: Mutex<Vec<Violation>>,
    excerpt: Mutex<Vec<(String, Event)>>,
}

/// What is known about one handle.
struct Handle {
    bound: Duration,
    /// The highest version seen, by key.
    seen: Box<[AtomicU64]>,
    /// Nanoseconds.
    worst_hit: AtomicU64,
    worst_calm_hit: AtomicU64,
    worst_read: AtomicU64,
}

/// The worst staleness that was seen through one handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worst {
    /// Of a local hit.
    pub hit: Duration,
    /// Of a local hit while no fault was in force.
    pub calm_hit: Duration,
    /// Of any read.
    pub read: Duration,
}

impl History {
    /// Starts a history of so many keys, read through one handle for each staleness bound.
    ///
    /// `owners` says for each key which handle writes it; `None` is a party that reads through none.
    #[must_use]
    pub fn new(owners: &[Option<usize>], bounds: &[Duration]) -> Self {
        let handles = bounds.iter().map(|&bound| Handle {
            bound,
            seen: owners.iter().map(|_| AtomicU64::new(0)).collect(),
            worst_hit: AtomicU64::new(0),
            worst_calm_hit: AtomicU64::new(0),
            worst_read: AtomicU64::new(0),
        });
        Self {
            origin: Instant::now(),
            keys: owners.iter().map(|&owner| Key::new(owner)).collect(),
            handles: handles.collect(),
            losses: Losses::default(),
            calm: AtomicBool::new(true),
            broken: AtomicBool::new(false),
            violations: Mutex::default(),
            excerpt: Mutex::default(),
        }
    }

    /// Declares that this key has an origin.
    #[must_use]
    pub fn with_origin(mut self, key: usize) -> Self {
        self.keys[key].set_origin();
        self
    }

    /// Returns the time.
    #[must_use]
    pub fn now(&self) -> HistoryTime {
        HistoryTime::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).expect("a run does not take 500 years"))
    }

    /// Returns whether a rule was broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.load(SeqCst)
    }

    /// Returns how many rules were broken.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.violations.lock().unwrap().clone()
    }

    /// Returns the worst staleness seen through a handle.
    #[must_use]
    pub fn worst(&self, handle: usize) -> Worst {
        let handle = &self.handles[handle];
        let [hit, calm_hit, read] = [&handle.worst_hit, &handle.worst_calm_hit, &handle.worst_read]
            .map(|worst| Duration::from_nanos(worst.load(SeqCst)));
        Worst { hit, calm_hit, read }
    }

    /// Records whether no fault is in force, which only sorts the figures.
    pub fn set_calm(&self, calm: bool) {
        self.calm.store(calm, SeqCst);
    }

    /// Records that from now on the server may lose data, whatever was or is being written.
    pub fn losing(&self, at: HistoryTime) {
        self.losses.begin(at);
    }

    /// Records that the server loses nothing any more. `everything` is whether nothing that had been acknowledged
    /// before [`losing`](Self::losing) is left.
    pub fn lost(&self, everything: bool, at: HistoryTime) {
        self.losses.end(everything, at);
    }

    /// Begins a write: the next version of a key. To be called before anything is sent.
    pub fn begin_write(&self, key: usize, change: Change, at: HistoryTime) -> u64 {
        self.keys[key].issue(change, at)
    }

    /// Ends a write. A version that is never ended is one of an unknown outcome.
    pub fn end_write(&self, key: usize, version: u64, outcome: WriteOutcome, at: HistoryTime) {
        let log = &self.keys[key];
        match outcome {
            WriteOutcome::Acknowledged => log.acknowledge(version, at),
            WriteOutcome::Unknown => {}
            WriteOutcome::NotSent => {
                if log.not_sent(version) {
                    self.report(Violation {
                        broken: Broken::NotSentSeen,
                        handle: None,
                        key,
                        version: Some(version),
                        at,
                    });
                }
            }
        }
    }

    /// Begins a read: notes what it may not fall behind. To be called before the read.
    pub fn begin_read(&self, handle: usize, key: usize, at: HistoryTime) -> Reading {
        let log = &self.keys[key];
        let own = if log.owner() == Some(handle) { log.acknowledged() } else { 0 };
        Reading { key, start: at, own, seen: self.handles[handle].seen[key].load(SeqCst) }
    }

    /// Checks a read that has ended: the version read, `None` when the key was absent.
    pub fn end_read(&self, handle: usize, reading: Reading, version: Option<u64>, hit: bool) {
        self.check(handle, reading, version, hit, u64::MAX);
    }

    /// Checks a read that may have been answered by the origin of its key.
    pub fn end_load(&self, handle: usize, reading: Reading, version: u64) {
        let complete = self.keys[reading.key].acknowledged();
        self.check(handle, reading, Some(version), false, complete);
    }

    /// Checks a read, which raises what the handle has seen up to this version at most.
    fn check(&self, handle: usize, reading: Reading, version: Option<u64>, hit: bool, most: u64) {
        let checked = match version {
            Some(version) => self.value_read(handle, reading, version, most),
            None if self.keys[reading.key].has_origin() => return,
            None => self.absence_read(handle, reading),
        };
        match checked {
            Ok(staleness) => self.measure(handle, reading, version, staleness, hit),
            Err(broken) => {
                self.report(Violation { broken, handle: Some(handle), key: reading.key, version, at: reading.start });
            }
        }
    }

    /// Checks what the server holds of a key while nobody writes.
    pub fn end_of_writes(&self, key: usize, held: Option<u64>, at: HistoryTime) {
        let log = &self.keys[key];
        let acknowledged = log.acknowledged();
        let broken = match held {
            Some(version) if log.see(version) == WriteOutcome::NotSent => Some(Broken::NotSentSeen),
            Some(version) if version >= acknowledged && log.change(version) == Some(Change::Value) => None,
            Some(version) if log.outcome(version) == Some(WriteOutcome::Unknown) => {
                Some(Broken::Undone { acknowledged })
            }
            None if acknowledged == 0 || log.has_origin() || self.explains_absence(log, acknowledged) => None,
            None if log.is_undone_by_deletion(acknowledged) => Some(Broken::Undone { acknowledged }),
            _ => Some(Broken::Lost { acknowledged }),
        };
        if let Some(broken) = broken {
            self.report(Violation { broken, handle: None, key, version: held, at });
        }
    }

    /// Checks what a handle reads at rest against what the server holds.
    pub fn at_rest(&self, handle: usize, key: usize, read: Option<u64>, held: Option<u64>, at: HistoryTime) {
        if read != held {
            self.report(Violation { broken: Broken::AtRest { held }, handle: Some(handle), key, version: read, at });
        }
    }

    /// Adds a violation that was found elsewhere.
    pub fn report(&self, violation: Violation) {
        let mut violations = self.violations.lock().unwrap();
        // The first few tell the story; a broken cache would make millions.
        if violations.len() < 20 {
            violations.push(violation);
        }
        self.broken.store(true, SeqCst);
    }

    fn value_read(&self, handle: usize, reading: Reading, version: u64, most: u64) -> Result<Duration, Broken> {
        let log = &self.keys[reading.key];
        if version == 0 || version > log.issued() || log.change(version) == Some(Change::Absence) {
            return Err(Broken::MadeUp);
        }
        let outcome = log.see(version);
        if outcome == WriteOutcome::NotSent {
            return Err(Broken::NotSentSeen);
        }
        if version < reading.own {
            let acknowledged = reading.own;
            return Err(match outcome {
                WriteOutcome::Unknown => Broken::Undone { acknowledged },
                _ => Broken::OwnWriteUnseen { acknowledged },
            });
        }
        if version < reading.seen {
            return Err(Broken::WentBack { seen: reading.seen });
        }
        let mut staleness = log.overwritten(version).map_or(Duration::ZERO, |at| reading.start.since(at));
        if outcome == WriteOutcome::Unknown && staleness > self.handles[handle].bound {
            return Err(Broken::Undone { acknowledged: log.acknowledged() });
        }
        if let Some(acknowledged) = log.acknowledged_at(version)
            && let Some(lost) = self.losses.everything_after(acknowledged)
            && !log.has_origin()
        {
            staleness = staleness.max(reading.start.since(lost));
        }
        self.handles[handle].seen[reading.key].fetch_max(version.min(most), SeqCst);
        Ok(staleness)
    }

    fn absence_read(&self, handle: usize, reading: Reading) -> Result<Duration, Broken> {
        let log = &self.keys[reading.key];
        let floor = reading.own.max(reading.seen);
        let lost = floor == 0 || self.lost_since(log, floor);
        let mut deletions = log.absences_from(floor);
        match deletions.next() {
            // With no loss to explain it, at least the first deletion since has been seen.
            Some(deletion) if !lost => {
                if deletions.next().is_none() && log.see(deletion) == WriteOutcome::NotSent {
                    return Err(Broken::NotSentSeen);
                }
                self.handles[handle].seen[reading.key].fetch_max(deletion, SeqCst);
            }
            None if !lost && reading.own >= reading.seen => {
                let acknowledged = reading.own;
                let undone = log.is_undone_by_deletion(acknowledged);
                return Err(if undone {
                    Broken::Undone { acknowledged }
                } else {
                    Broken::OwnWriteUnseen { acknowledged }
                });
            }
            None if !lost => return Err(Broken::WentBack { seen: reading.seen }),
            _ => {}
        }
        let absent = log.last_absence(|began| self.losses.may_include(began));
        Ok(absent.and_then(|version| log.overwritten(version)).map_or(Duration::ZERO, |at| reading.start.since(at)))
    }

    /// Returns whether a key may be absent though this version was acknowledged.
    fn explains_absence(&self, log: &Key, acknowledged: u64) -> bool {
        log.absences_from(acknowledged).next().is_some() || self.lost_since(log, acknowledged)
    }

    /// Returns whether a version may have been lost.
    fn lost_since(&self, log: &Key, version: u64) -> bool {
        log.began(version).is_none_or(|began| self.losses.may_include(began))
    }

    fn measure(&self, handle: usize, reading: Reading, version: Option<u64>, staleness: Duration, hit: bool) {
        if staleness.is_zero() {
            return;
        }
        let Handle { bound, worst_hit, worst_calm_hit, worst_read, .. } = &self.handles[handle];
        let nanos = u64::try_from(staleness.as_nanos()).unwrap_or(u64::MAX);
        worst_read.fetch_max(nanos, SeqCst);
        if hit {
            worst_hit.fetch_max(nanos, SeqCst);
            if self.calm.load(SeqCst) {
                worst_calm_hit.fetch_max(nanos, SeqCst);
            }
        }
        if staleness > *bound {
            let broken = Broken::TooStale { staleness, bound: *bound, hit };
            self.report(Violation { broken, handle: Some(handle), key: reading.key, version, at: reading.start });
        }
    }

    /// Takes over the events of a recorder that concern violations.
    fn keep(&self, name: &str, events: impl Iterator<Item = Event>) {
        let keys: BTreeSet<usize> = self.violations.lock().unwrap().iter().map(|violation| violation.key).collect();
        let events = events.filter(|event| keys.contains(&event.key)).map(|event| (name.to_owned(), event));
        self.excerpt.lock().unwrap().extend(events);
    }

    /// Returns every violation with what happened around it, as text; to be asked for when all recorders are gone.
    #[must_use]
    pub fn story(&self) -> String {
        let mut text = String::new();
        for (number, violation) in self.violations().iter().enumerate() {
            text += &format!("\nVIOLATION {violation}\n");
            if number >= IN_FULL {
                continue;
            }
            text += &self.keys[violation.key].story(violation.at);
            let mut events = self.excerpt.lock().unwrap().clone();
            events.retain(|(_, event)| event.key == violation.key);
            events.sort_by_key(|(_, event)| (event.start, event.end));
            // Of a run of equal hits the first is enough.
            events.dedup_by(|(name, event), (before, earlier)| {
                name == before && event.outcome == Outcome::Hit && event.is_like(earlier)
            });
            let around = events.partition_point(|(_, event)| event.start <= violation.at);
            for (name, event) in &events[around.saturating_sub(40)..events.len().min(around + 10)] {
                text += &format!("  {event}  by {name}\n");
            }
        }
        text
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("violations", &self.violations).finish_non_exhaustive()
    }
}
