//! What the races have in common: a tier with one shard, a clock, a backend of one key, and the exploration itself.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64 as Count, Ordering as CountOrdering},
    },
    time::Duration,
};

use loom::{future::block_on, model::Builder, thread};
use twotier_core::{ChangeListener, Clock, Eviction, Lease, LinkId, Mark, Namespace, Timestamp};

use crate::{
    digest::Digest,
    flight::{Joined, Joiner},
    options::LocalOptions,
    sync::{AtomicU64, Mutex, Ordering},
    ticket::FillTicket,
    tier::{LocalTier, Read},
};

/// Values are versions of the key: what is written later is greater.
pub(crate) type Tier = LocalTier<u64, &'static str>;
pub(crate) type Ticket = FillTicket<u64, &'static str>;

pub(crate) const LIFE: Option<Duration> = Some(Duration::from_secs(3600));
/// The staleness bound, in steps of the clock.
pub(crate) const BOUND: u64 = 10;

const POLICIES: [Eviction; 6] =
    [Eviction::Lru, Eviction::Lfu, Eviction::Fifo, Eviction::Random { seed: 42 }, Eviction::S3Fifo, Eviction::WTinyLfu];

thread_local! {
    /// The policy of the tiers that are made now. All threads of a race are run by the one that explores it.
    static EVICTION: Cell<Eviction> = const { Cell::new(Eviction::Lru) };
}

/// Explores every execution of a race under every eviction policy and prints how many there were.
pub(crate) fn explore(race: impl Fn() + Send + Sync + 'static) {
    explore_under(&POLICIES, None, race);
}

/// Explores every execution in which a thread is put off while it could go on at most so many times.
pub(crate) fn explore_up_to(preemptions: usize, race: impl Fn() + Send + Sync + 'static) {
    explore_under(&POLICIES, Some(preemptions), race);
}

/// Explores a race that has many executions and is not about entries: under one eviction policy, all executions or
/// those with so many preemptions.
pub(crate) fn explore_under_lru(preemptions: Option<usize>, race: impl Fn() + Send + Sync + 'static) {
    explore_under(&[Eviction::Lru], preemptions, race);
}

fn explore_under(policies: &[Eviction], preemptions: Option<usize>, race: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(Count::new(0));
    let race = Arc::new(race);
    for &eviction in policies {
        EVICTION.set(eviction);
        let (race, counter) = (Arc::clone(&race), Arc::clone(&executions));
        let mut builder = Builder::new();
        builder.max_branches = 100_000;
        builder.preemption_bound = preemptions;
        builder.check(move || {
            counter.fetch_add(1, CountOrdering::Relaxed);
            race();
        });
    }
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let bound = preemptions.map_or_else(String::new, |most| format!(" with at most {most} preemptions"));
    eprintln!("{name}: {} executions, all there are{bound}", executions.load(CountOrdering::Relaxed));
}

/// Runs both at once and returns what they return. The caller is one of the two threads.
pub(crate) fn both<A: 'static, B>(other: impl FnOnce() -> A + 'static, this: impl FnOnce() -> B) -> (A, B) {
    let other = thread::spawn(other);
    let ours = this();
    (other.join().expect("its panic ended the exploration"), ours)
}

/// Time as everybody has it: whoever reads a time sees what had been done before it came. Reading it tells the others
/// nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Time(Arc<AtomicU64>);

impl Time {
    pub(crate) fn advance(&self, steps: u64) {
        self.0.fetch_add(steps, Ordering::AcqRel);
    }

    pub(crate) fn steps(&self) -> u64 {
        // An addition, because it sees the latest value where a load may see an earlier one.
        self.0.fetch_add(0, Ordering::Acquire)
    }
}

impl Clock for Time {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.steps())
    }

    fn resolution(&self) -> Duration {
        Duration::ZERO
    }
}

/// Time where no race is about it.
#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO
    }

    fn resolution(&self) -> Duration {
        Duration::ZERO
    }
}

/// A tier of so many entries whose link is down.
pub(crate) fn unlinked(max_entries: usize, clock: Arc<dyn Clock>) -> Tier {
    let mut options = LocalOptions::new(max_entries, 1_000_000, Duration::from_nanos(BOUND)).eviction(EVICTION.get());
    options.shards = Some(1);
    Tier::new(Namespace::new("n").unwrap(), options, clock)
}

/// A tier whose link is up and needs no proof.
pub(crate) fn linked() -> Tier {
    let tier = unlinked(10, Arc::new(Stopped));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    tier
}

/// The backend: one key, in which every write is one greater than the one before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backend(Arc<Mutex<u64>>);

impl Backend {
    pub(crate) fn read(&self) -> u64 {
        *self.0.lock()
    }

    /// Writes a version of one's own.
    pub(crate) fn write(&self, version: u64) {
        *self.0.lock() = version;
    }
}

pub(crate) fn digest(version: u64) -> Digest {
    Digest::of(&version.to_le_bytes())
}

pub(crate) fn fill(ticket: Ticket, version: u64) -> bool {
    ticket.fill(version, digest(version), 1, LIFE)
}

#[track_caller]
pub(crate) fn lead(tier: &Tier) -> Ticket {
    let Read::Lead(ticket, _) = tier.read("k") else { panic!("somebody else leads, or nothing is to be read") };
    ticket
}

#[track_caller]
pub(crate) fn join(tier: &Tier) -> Joiner<u64, &'static str> {
    let Read::Join(joiner) = tier.read("k") else { panic!("there is nobody to join") };
    joiner
}

/// Leads a read, and waits for it as everybody else does.
#[track_caller]
pub(crate) fn lead_and_join(tier: &Tier) -> (Ticket, Joiner<u64, &'static str>) {
    let Read::Lead(ticket, joiner) = tier.read("k") else { panic!("somebody else leads, or nothing is to be read") };
    (ticket, joiner)
}

pub(crate) fn wait(joiner: Joiner<u64, &'static str>) -> Joined<u64, &'static str> {
    block_on(async move { joiner.wait().await })
}

/// Puts a version in while nobody else is about.
pub(crate) fn put(tier: &Tier, version: u64) {
    assert!(fill(lead(tier), version));
}

/// Reports that somebody else has written the key.
pub(crate) fn push(tier: &Tier) {
    tier.changed(b"n:k");
}

/// Writes a version as this cache does, and returns whether it was kept.
pub(crate) fn write(tier: &Tier, backend: &Backend, version: u64) -> bool {
    let ticket = tier.begin_write("k", digest(version));
    backend.write(version);
    ticket.install(version, 1, LIFE)
}

/// Reads as the cache does, to the end, and returns what the caller is given.
pub(crate) fn read(tier: &Tier, backend: &Backend) -> u64 {
    go_on(tier, tier.read("k"), |ticket| {
        let version = backend.read();
        let _kept = fill(ticket, version);
        version
    })
}

/// Goes on from what the tier returned, until there is an answer.
pub(crate) fn go_on(tier: &Tier, mut next: Read<u64, &'static str>, fetch: impl Fn(Ticket) -> u64) -> u64 {
    loop {
        match next {
            Read::Hit(version) => return version,
            Read::Join(joiner) => match block_on(joiner.wait()) {
                Joined::Value(version) => return version,
                Joined::Failed(error) => panic!("{error}"),
                Joined::ElectAgain => next = tier.read_again("k", &joiner),
            },
            Read::Lead(ticket, _) | Read::Bypass(ticket, _) => return fetch(ticket),
        }
    }
}

pub(crate) fn mark(epoch: u64, steps: u64) -> Mark {
    Mark::new(LinkId::ONLY, epoch, Timestamp::from_nanos(steps))
}
