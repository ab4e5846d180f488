//! Every policy equals its plain model, on the structure itself, where the hash of a key is known.
//!
//! The files under test are the crate's own, built here a second time. The package of the crate ships its unit tests,
//! and those can use nothing that is never published, as the models are.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "the files are those of a library, and a panic is how a test fails"
)]

#[path = "../src/entry.rs"]
mod entry;
#[path = "../src/hash.rs"]
mod hash;
#[path = "../src/options.rs"]
mod options;
#[path = "../src/policy/mod.rs"]
mod policy;

mod digest {
    pub(crate) use twotier_local::Digest;
}

use std::{collections::HashSet, hash::BuildHasher};

use proptest::prelude::*;
use smol_str::SmolStr;
use twotier_core::{Eviction, LinkId, Mark, Timestamp};
use twotier_testkit::model::{LfuModel, ModelPolicy, QueueModel, RandomModel, S3FifoModel, WTinyLfuModel};

use crate::{
    digest::Digest,
    entry::{Entry, NewEntry, Origin},
    hash::{KeyHasher, key_hasher},
    options::Share,
    policy::{Entries, Looked, Plan, Removed, Verdict, Walk, Way},
};

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    /// Looked up and, on a miss, put in.
    Through(u8, usize),
    Put(u8, usize),
    Remove(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || prop_oneof![3 => 0..12u8, 2 => 0..80u8];
    let weight = || prop_oneof![6 => Just(10usize), 1 => 1..90usize];
    prop_oneof![
        4 => key().prop_map(Step::Get),
        12 => (key(), weight()).prop_map(|(key, weight)| Step::Through(key, weight)),
        1 => (key(), weight()).prop_map(|(key, weight)| Step::Put(key, weight)),
        1 => key().prop_map(Step::Remove),
    ]
}

/// The structure and its model side by side.
struct Pair {
    real: Entries<u32>,
    hasher: KeyHasher,
    model: Box<dyn ModelPolicy>,
    held: Vec<(String, u32, usize)>,
    share: Share,
    puts: u32,
}

impl Pair {
    fn new(eviction: Eviction, share: Share) -> Self {
        let hasher = key_hasher(None);
        let real = Entries::from(Plan { eviction, share, hasher: hasher.clone() });
        let Share { max_entries, max_bytes, .. } = share;
        let model: Box<dyn ModelPolicy> = match eviction {
            Eviction::Lru => Box::new(QueueModel::lru()),
            Eviction::Fifo => Box::new(QueueModel::fifo()),
            Eviction::Lfu => Box::new(LfuModel::default()),
            Eviction::Random { seed } => Box::new(RandomModel::new(seed)),
            Eviction::S3Fifo => Box::new(S3FifoModel::new(max_entries, max_bytes)),
            _ => {
                let (luck, hasher) = (hasher.hash_one("luck") | 1, hasher.clone());
                Box::new(WTinyLfuModel::new(max_entries, max_bytes, luck, move |key| hasher.hash_one(key)))
            }
        };
        Self { real, hasher, model, held: Vec::new(), share, puts: 0 }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Get(key) => {
                self.get(key);
            }
            Step::Through(key, weight) => {
                if !self.get(key) {
                    self.put(key, weight);
                }
            }
            Step::Put(key, weight) => self.put(key, weight),
            Step::Remove(key) => {
                let key = key.to_string();
                let removed = self.real.remove_if(self.hasher.hash_one(key.as_str()), &key, |_| true);
                assert_eq!(removed.map(|(_, entry)| entry.value), self.forget(&key));
            }
        }
        assert_eq!(walk(&mut self.real, Way::Forwards, |_| {}), self.model.keys());
        assert_eq!(self.real.len(), self.held.len());
        assert_eq!(self.real.bytes(), self.bytes());
        assert!(self.real.len() <= self.share.max_entries && self.real.bytes() <= self.share.max_bytes);
    }

    fn get(&mut self, key: u8) -> bool {
        let key = key.to_string();
        let looked = self.real.look(self.hasher.hash_one(key.as_str()), &key, |entry| Verdict::Serve(entry.value));
        let held = self.held.iter().find(|held| held.0 == key).map(|held| held.1);
        let hit = if let Looked::Hit(value) = looked { Some(value) } else { None };
        assert_eq!(hit, held);
        if hit.is_some() {
            self.model.hit(&key);
        }
        hit.is_some()
    }

    fn put(&mut self, key: u8, weight: usize) {
        let key = key.to_string();
        self.puts += 1;
        let pair = packed(&key, self.puts, weight);
        let done = self.real.insert(self.hasher.hash_one(key.as_str()), pair, &mut Removed::default());
        assert_eq!(done.replaced, self.forget(&key).is_some());
        self.model.coming(&key);
        let before = self.held.len();
        while self.held.len() >= self.share.max_entries || self.bytes() + weight > self.share.max_bytes {
            let victim = self.model.victim();
            self.held.retain(|held| held.0 != victim);
        }
        assert_eq!(done.evicted_for_entries + done.evicted_for_bytes, (before - self.held.len()) as u64);
        self.model.arrived(&key, weight);
        self.held.push((key, self.puts, weight));
    }

    fn forget(&mut self, key: &str) -> Option<u32> {
        let place = self.held.iter().position(|held| held.0 == key)?;
        self.model.removed(key);
        Some(self.held.remove(place).1)
    }

    fn bytes(&self) -> usize {
        self.held.iter().map(|held| held.2).sum()
    }
}

fn packed(key: &str, value: u32, weight: usize) -> (SmolStr, Entry<u32>) {
    let at = Timestamp::ZERO;
    let new = NewEntry {
        key: key.into(),
        value,
        digest: Digest::ABSENT,
        mark: Mark::new(LinkId::ONLY, 1, at),
        deadline: at,
        weight,
        fits: true,
    };
    Origin::default().pack(new)
}

/// Walks over all keys; `meanwhile` is done between two pieces.
fn walk(entries: &mut Entries<u32>, way: Way, mut meanwhile: impl FnMut(&mut Entries<u32>)) -> Vec<String> {
    let mut walk = Walk::new(way, usize::MAX);
    while !walk.has_ended() {
        let piece = entries.look_at_keys(&mut walk);
        walk.take(piece);
        meanwhile(entries);
    }
    walk.into_keys().map(String::from).collect()
}

fn policies() -> impl Strategy<Value = Eviction> {
    prop::sample::select(vec![
        Eviction::Lru,
        Eviction::Lfu,
        Eviction::Fifo,
        Eviction::Random { seed: 7 },
        Eviction::S3Fifo,
        Eviction::WTinyLfu,
    ])
}

proptest! {
    #[test]
    fn every_policy_equals_its_plain_model(
        eviction in policies(),
        max_entries in 1..40usize,
        max_bytes in prop_oneof![1 => 90..400usize, 2 => Just(100_000)],
        steps in prop::collection::vec(step(), 1..600),
    ) {
        let mut pair = Pair::new(eviction, Share { max_entries, max_bytes, granted: max_bytes, ..Share::default() });
        for step in &steps {
            pair.run(step);
        }
    }

    #[test]
    fn a_walk_finds_every_key_that_stays_and_none_twice(
        eviction in policies(),
        max_entries in 1..700usize,
        keys in 1..900u32,
        meanwhile in prop::collection::vec((0..900u32, 0..4u8), 0..400),
        at_once in 1..60usize,
    ) {
        let hasher = key_hasher(None);
        let share = Share { max_entries, max_bytes: 100_000, granted: 100_000, reserved: max_entries, remembered: 0 };
        let mut entries = Entries::from(Plan { eviction, share, hasher: hasher.clone() });
        let mut removed = Removed::default();
        let mut change = |entries: &mut Entries<u32>, key: u32, what: u8| {
            let key = key.to_string();
            let hash = hasher.hash_one(key.as_str());
            match what {
                0 | 1 => _ = entries.look(hash, &key, |_| Verdict::Serve(())),
                2 => _ = entries.remove_if(hash, &key, |_| true),
                _ => _ = entries.insert(hash, packed(&key, 0, 1), &mut removed),
            }
        };
        (0..keys).for_each(|key| change(&mut entries, key, 3));
        let mut always: HashSet<String> = walk(&mut entries, Way::Forwards, |_| {}).into_iter().collect();
        prop_assert_eq!(always.len(), entries.len());
        let mut changes = meanwhile.chunks(at_once);
        let found = walk(&mut entries, Way::Forwards, |entries| {
            for (key, what) in changes.next().into_iter().flatten() {
                change(entries, *key, *what);
                if *what == 3 {
                    // Put in anew, it may be where the walk has been.
                    always.remove(&key.to_string());
                }
                always.retain(|key| {
                    let mut held = false;
                    let _none = entries.remove_if(hasher.hash_one(key.as_str()), key, |_| {
                        held = true;
                        false
                    });
                    held
                });
            }
        });
        let distinct: HashSet<&String> = found.iter().collect();
        prop_assert_eq!(distinct.len(), found.len());
        let missed: Vec<_> = always.iter().filter(|key| !distinct.contains(key)).collect();
        prop_assert!(missed.is_empty(), "{eviction} missed {missed:?}");
        // With nothing in between the way back is the way there, but for a policy whose queue is not its order.
        let mut there = walk(&mut entries, Way::Forwards, |_| {});
        let mut back = walk(&mut entries, Way::Backwards, |_| {});
        back.reverse();
        if eviction == Eviction::Lfu {
            there.sort();
            back.sort();
        }
        prop_assert_eq!(there, back);
    }
}
