//! What threads do to a cache, and how long they take.

use std::{sync::Barrier, thread};

use serde::Serialize;
use twotier_testkit::trace::Zipf;

use crate::{
    contestant::{Contestant, Value},
    cpu::Attention,
    stopwatch::Stopwatch,
};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Every key is there and stays: reads alone.
    Resident,
    /// Ten times more keys than entries: read, and after a miss fill.
    ReadThrough,
    /// Ten times more keys than entries: nine reads, then an insertion.
    NinetyTen,
}

/// A load on a cache of so many entries by so many threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Load {
    /// What is done.
    pub kind: Kind,
    /// How many entries the cache is asked to hold, or holds.
    pub entries: usize,
    /// How many threads do it.
    pub threads: usize,
}

impl Load {
    /// How many keys there are.
    #[must_use]
    pub fn keys(self) -> usize {
        match self.kind {
            Kind::Resident => self.entries,
            Kind::ReadThrough | Kind::NinetyTen => 10 * self.entries,
        }
    }

    /// What the cache is made for. When everything has to stay there is room to spare, for those who split it.
    #[must_use]
    pub fn capacity(self) -> usize {
        match self.kind {
            Kind::Resident => 2 * self.entries,
            Kind::ReadThrough | Kind::NinetyTen => self.entries,
        }
    }
}

/// The keys of a load, 11 bytes each, one behind the other.
#[derive(Debug)]
pub(super) struct Keys(String);

impl Keys {
    const LENGTH: usize = 11;

    /// Makes so many.
    pub(super) fn new(count: usize) -> Self {
        Self((0..count).map(|key| format!("key{key:08}")).collect())
    }

    /// Returns one of them.
    pub(super) fn at(&self, index: u32) -> &str {
        let from = index as usize * Self::LENGTH;
        &self.0[from..from + Self::LENGTH]
    }
}

/// Keys, values, and an order of access drawn by Zipf 0.99.
#[derive(Debug)]
pub(super) struct Material {
    /// The keys.
    pub(super) keys: Keys,
    /// As many values as the cache has entries, so that hits touch as much memory as in earnest.
    values: Vec<Value>,
    /// Which key each operation is about.
    pub(super) order: Vec<u32>,
}

impl Material {
    /// Makes it for a load of so many operations.
    pub(super) fn new(load: Load, operations: usize) -> Self {
        let mut zipf = Zipf::new(load.keys() as u64, 0.99, 42);
        // Popular keys do not lie side by side.
        let scattered = |rank: u64| u32::try_from(rank * 7919 % load.keys() as u64).unwrap_or(0);
        Self {
            keys: Keys::new(load.keys()),
            values: (0..load.entries).map(|_| Value::new([b'v'; 100])).collect(),
            order: (0..operations).map(|_| scattered(zipf.draw())).collect(),
        }
    }

    fn value(&self, key: u32) -> &Value {
        &self.values[key as usize % self.values.len()]
    }

    /// Fills a cache, and lets it see the load once.
    pub(super) fn warm(&self, cache: &impl Contestant, load: Load) {
        let keys = u32::try_from(load.entries).unwrap_or(u32::MAX);
        for key in 0..keys {
            cache.fill(self.keys.at(key), self.value(key));
        }
        cache.settle();
        self.operate(cache, load.kind, &self.order);
        cache.settle();
    }

    /// Does the operations of one thread and returns how many reads hit.
    fn operate(&self, cache: &impl Contestant, kind: Kind, order: &[u32]) -> usize {
        let mut hits = 0;
        match kind {
            Kind::Resident => {
                for &key in order {
                    hits += usize::from(cache.get(self.keys.at(key)));
                }
            }
            Kind::ReadThrough => {
                for &key in order {
                    let hit = cache.get(self.keys.at(key));
                    hits += usize::from(hit);
                    if !hit {
                        cache.fill(self.keys.at(key), self.value(key));
                    }
                }
            }
            Kind::NinetyTen => {
                for ten in order.chunks(10) {
                    let (insert, reads) = ten.split_last().expect("a chunk is not empty");
                    for &key in reads {
                        hits += usize::from(cache.get(self.keys.at(key)));
                    }
                    cache.insert(self.keys.at(*insert), self.value(*insert));
                }
            }
        }
        hits
    }

    /// Shares the operations out among threads and measures from their common start to the end of the last.
    pub(super) fn run(&self, cache: &impl Contestant, load: Load) -> Sample {
        if load.threads == 1 {
            let attention = Attention::start();
            let watch = Stopwatch::start();
            let hits = self.operate(cache, load.kind, &self.order);
            return self.sample(load, hits, watch.seconds(), attention.lost());
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let (barrier, clock) = (Barrier::new(load.threads), Stopwatch::start());
        let ran: Vec<(usize, f64, f64, bool)> = thread::scope(|scope| {
            let share = self.order.len().div_ceil(load.threads);
            let threads: Vec<_> = self
                .order
                .chunks(share)
                .map(|order| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        let attention = Attention::start();
                        let start = clock.seconds();
                        let hits = self.operate(cache, load.kind, order);
                        let end = clock.seconds();
                        // More threads than cores keep each other waiting, which is what is measured then.
                        (hits, start, end, load.threads <= cores && attention.kept_waiting())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no operation panics")).collect()
        });
        let start = ran.iter().map(|ran| ran.1).fold(f64::INFINITY, f64::min);
        let end = ran.iter().map(|ran| ran.2).fold(0.0, f64::max);
        let hits = ran.iter().map(|ran| ran.0).sum();
        self.sample(load, hits, end - start, ran.iter().any(|ran| ran.3))
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of operations")]
    fn sample(&self, load: Load, hits: usize, seconds: f64, lost: bool) -> Sample {
        let operations = self.order.len();
        let reads = if load.kind == Kind::NinetyTen { operations - operations.div_ceil(10) } else { operations };
        Sample { throughput: operations as f64 / seconds, hit_ratio: hits as f64 / reads as f64, lost }
    }
}

/// What one run came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Operations a second, by all threads together.
    pub(super) throughput: f64,
    /// The share of reads that hit.
    pub(super) hit_ratio: f64,
    /// Whether something else ran meanwhile.
    pub(super) lost: bool,
}
