//! A tier with a handful of keys, a backend that remembers the order of all writes, and what must never be seen.

use std::{
    array,
    sync::{Arc, Mutex as Held},
    time::Duration,
};

use shuttle::{future::block_on, rand::Rng, thread};
use twotier_core::{ChangeListener, Clock, Eviction, Lease, LinkId, Namespace, Timestamp};

use crate::{
    digest::Digest,
    flight::Joined,
    options::LocalOptions,
    ticket::FillTicket,
    tier::{LocalTier, Read},
};

pub(crate) type Tier = LocalTier<u64, &'static str>;

pub(crate) const LIFE: Option<Duration> = Some(Duration::from_secs(3600));
const KEYS: [&str; 3] = ["a", "b", "c"];
/// One less than there are keys, so that entries are evicted.
const ROOM: usize = 2;

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

/// A tier of one shard whose link is up and needs no proof.
pub(crate) fn new_tier(eviction: Eviction, max_entries: usize) -> Tier {
    made(LocalOptions::new(max_entries, 1_000_000, Duration::from_secs(2)).eviction(eviction))
}

/// The same, but nothing is ever kept.
pub(crate) fn new_tier_that_keeps_nothing() -> Tier {
    made(LocalOptions::keep_nothing(Duration::from_secs(2)))
}

fn made(mut options: LocalOptions) -> Tier {
    options.shards = Some(1);
    let tier = Tier::new(Namespace::new("n").unwrap(), options, Arc::new(Stopped));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    tier
}

/// One key at the backend: every write it ever saw, and the least that a read that begins now must see.
///
/// Locks of the standard library, because looking is no step of the system: nothing else runs while they are held.
#[derive(Debug, Default)]
struct Key {
    writes: Vec<u64>,
    floor: usize,
}

/// Everything the threads share.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) tier: Tier,
    keys: Arc<[Held<Key>; KEYS.len()]>,
    /// How many times a value was used, so that each is written once.
    values: Arc<Held<u64>>,
}

impl World {
    pub(crate) fn new(eviction: Eviction) -> Self {
        Self { tier: new_tier(eviction, ROOM), keys: Arc::default(), values: Arc::default() }
    }

    /// Lets another thread run, where a command is sent or a reply is waited for.
    fn pause() {
        thread::yield_now();
    }

    pub(crate) fn any_key() -> usize {
        shuttle::rand::thread_rng().gen_range(0..KEYS.len())
    }

    fn held(&self, key: usize) -> usize {
        self.keys[key].lock().unwrap().writes.len()
    }

    fn floor(&self, key: usize) -> usize {
        self.keys[key].lock().unwrap().floor
    }

    /// From now on nobody may see less than this.
    fn raise(&self, key: usize, version: usize) {
        let mut key = self.keys[key].lock().unwrap();
        key.floor = key.floor.max(version);
    }

    fn version_of(&self, key: usize, value: u64) -> usize {
        let key = self.keys[key].lock().unwrap();
        let written = key.writes.iter().position(|write| *write == value).map(|place| place + 1);
        written.unwrap_or_else(|| if value == 0 { 0 } else { panic!("{value} was never written") })
    }

    fn new_value(&self) -> u64 {
        let mut values = self.values.lock().unwrap();
        *values += 1;
        *values
    }

    /// The backend executes a write.
    fn execute(&self, key: usize, value: u64) -> usize {
        let mut key = self.keys[key].lock().unwrap();
        key.writes.push(value);
        key.writes.len()
    }

    fn execute_everywhere(&self) -> [usize; KEYS.len()] {
        array::from_fn(|key| self.execute(key, self.new_value()))
    }

    fn raise_everywhere(&self, versions: [usize; KEYS.len()]) {
        versions.into_iter().enumerate().for_each(|(key, version)| self.raise(key, version));
    }

    /// The backend executes a read.
    fn fetch(&self, key: usize) -> u64 {
        self.keys[key].lock().unwrap().writes.last().copied().unwrap_or(0)
    }

    /// Reads as the cache does, and holds that nothing older is returned than was known when the read began.
    pub(crate) fn read(&self, key: usize) {
        let floor = self.floor(key);
        let value = self.answer(key);
        let version = self.version_of(key, value);
        assert!(version >= floor, "{} = version {version}, but version {floor} was known before", KEYS[key]);
        self.raise(key, version);
    }

    fn answer(&self, key: usize) -> u64 {
        let name = KEYS[key];
        if let Some(hit) = self.tier.get(name) {
            return hit;
        }
        let mut next = self.tier.read(name);
        loop {
            match next {
                Read::Hit(value) => return value,
                Read::Join(joiner) => match block_on(joiner.wait()) {
                    Joined::Value(value) => return value,
                    Joined::Failed(_) | Joined::ElectAgain => next = self.tier.read_again(name, &joiner),
                },
                Read::Lead(ticket, _) | Read::Bypass(ticket, _) => {
                    Self::pause();
                    let value = self.fetch(key);
                    Self::pause();
                    let _kept = fill(ticket, value);
                    return value;
                }
            }
        }
    }

    /// Begins to read, and goes away at some point.
    pub(crate) fn read_and_drop(&self, key: usize) {
        if let Read::Lead(ticket, _) = self.tier.read(KEYS[key]) {
            Self::pause();
            match shuttle::rand::thread_rng().gen_range(0..2) {
                0 => drop(ticket),
                _ => ticket.fail("down"),
            }
        }
    }

    /// Writes as the cache does: acknowledged, or lost to sight after it was executed.
    pub(crate) fn write(&self, key: usize) {
        let value = self.new_value();
        let ticket = self.tier.begin_write(KEYS[key], digest(value));
        Self::pause();
        let version = self.execute(key, value);
        Self::pause();
        if shuttle::rand::thread_rng().gen_range(0..4) == 0 {
            drop(ticket);
        } else {
            let _kept = ticket.install(value, 1, LIFE);
        }
        self.raise(key, version);
    }

    /// Somebody else writes, and it is reported.
    pub(crate) fn foreign_write(&self, key: usize) {
        let value = self.new_value();
        let version = self.execute(key, value);
        Self::pause();
        self.tier.changed(format!("n:{}", KEYS[key]).as_bytes());
        self.raise(key, version);
    }

    /// Somebody else writes everything, and it is reported as a flush.
    pub(crate) fn foreign_flush(&self) {
        let versions = self.execute_everywhere();
        Self::pause();
        self.tier.flushed(LinkId::ONLY);
        self.raise_everywhere(versions);
    }

    /// The link is lost, everything is written meanwhile, and it comes back.
    pub(crate) fn lose_the_link(&self) {
        self.tier.link_down(LinkId::ONLY);
        let versions = self.execute_everywhere();
        self.raise_everywhere(versions);
        Self::pause();
        self.tier.link_up(LinkId::ONLY, Lease::Unlimited);
    }

    /// This cache clears the backend, which nobody reports.
    pub(crate) fn clear(&self) {
        let (clearing, _cleared) = self.tier.begin_clear();
        let versions = array::from_fn(|key| {
            Self::pause();
            self.execute(key, self.new_value())
        });
        Self::pause();
        drop(clearing);
        self.raise_everywhere(versions);
    }

    /// When nothing is under way any more: no copy is stale, the bounds hold, and whatever is read is kept.
    pub(crate) fn judge(&self) {
        for (key, name) in KEYS.iter().enumerate() {
            let current = self.held(key);
            if let Some(copy) = self.tier.get(name) {
                assert_eq!(self.version_of(key, copy), current, "{name} is stale for ever");
            }
            self.read(key);
            assert_eq!(self.tier.get(name), Some(self.fetch(key)), "{name} cannot be kept any more");
        }
        let stats = self.tier.stats();
        assert!(stats.size <= ROOM);
        let gone =
            stats.evictions() + stats.expired + stats.outdated + stats.invalidated + stats.superseded + stats.cleared;
        assert_eq!(stats.insertions, stats.size as u64 + gone, "{stats:?}");
    }
}

fn fill(ticket: FillTicket<u64, &'static str>, value: u64) -> bool {
    ticket.fill(value, digest(value), 1, LIFE)
}

pub(crate) fn digest(value: u64) -> Digest {
    if value == 0 { Digest::ABSENT } else { Digest::of(&value.to_le_bytes()) }
}
