//! One trace through every cache at every capacity, on as many threads as there are cores.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use twotier::Eviction;

use super::{Cell, Score, reference::Known};
use crate::contestant::{self, Contestant, Local, Value, Visitor};

/// Our exact policies in one shard, which must equal the simulators hit for hit.
pub(super) const ONE_SHARD: [(Eviction, &str); 2] =
    [(Eviction::Lru, "twotier lru, 1 shard"), (Eviction::Fifo, "twotier fifo, 1 shard")];

/// Entries, beside 1, 5, 10 and 20 % of the keys.
const DEFAULT_CAPACITY: usize = 500;
const PER_CENT: [usize; 4] = [1, 5, 10, 20];

/// A trace whose keys are numbered by their first access.
pub(crate) struct Trace {
    keys: Vec<Box<str>>,
    accesses: Vec<u32>,
}

/// Replays a trace through a cache of so many entries and returns how many accesses hit.
type Replay = Box<dyn Fn(&Trace, usize) -> usize + Send + Sync>;

/// Every cache that plays.
pub(super) struct Players(Vec<(String, Replay)>);

impl Players {
    pub(super) fn all() -> Self {
        let mut players = Self(Vec::new());
        for (policy, name) in ONE_SHARD {
            if contestant::POLICIES.contains(&policy) {
                players.visit(name, move |entries| Local::new(entries, policy, Some(1)));
            }
        }
        contestant::ours(&mut players);
        contestant::peers(&mut players);
        players
    }
}

impl Visitor for Players {
    fn visit<C: Contestant>(&mut self, name: &str, make: impl Fn(usize) -> C + Send + Sync + 'static) {
        self.0.push((name.to_owned(), Box::new(move |trace, entries| trace.replay(&make(entries)))));
    }
}

impl Trace {
    pub(crate) fn new(accesses: &[u64]) -> Self {
        let mut numbers = HashMap::new();
        let mut keys = Vec::new();
        let accesses = accesses.iter().map(|&key| {
            *numbers.entry(key).or_insert_with(|| {
                keys.push(key.to_string().into_boxed_str());
                u32::try_from(keys.len() - 1).unwrap_or(u32::MAX)
            })
        });
        Self { accesses: accesses.collect(), keys }
    }

    /// Returns the key of each access.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.accesses.iter().map(|&key| &*self.keys[key as usize])
    }

    fn replay(&self, cache: &impl Contestant) -> usize {
        let value = Value::new([0; 100]);
        let mut hits = 0;
        for &key in &self.accesses {
            let key = &*self.keys[key as usize];
            if cache.get(key) {
                hits += 1;
            } else {
                cache.fill(key, &value);
            }
            // Else some hold more than they are allowed to for a while, which flatters them.
            cache.settle();
        }
        hits
    }
}

/// Replays one trace.
#[allow(clippy::cast_precision_loss, reason = "counts of accesses")]
pub(super) fn cells(
    players: &Players,
    name: &str,
    real: bool,
    accesses: &[u64],
    known: Option<&Known<'_>>,
) -> Vec<Cell> {
    let trace = Trace::new(accesses);
    let capacities = capacities(trace.keys.len());
    let jobs = capacities.len() * players.0.len();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= jobs {
                return done;
            }
            let (capacity, player) = (job % capacities.len(), job / capacities.len());
            done.push((capacity, player, (players.0[player].1)(&trace, capacities[capacity])));
        }
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        #[allow(clippy::needless_collect, reason = "all threads are started before the first is waited for")]
        let threads: Vec<_> =
            (0..thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no replay panics")).collect()
    });
    done.sort_unstable();
    let cell = |(index, &capacity): (usize, &usize)| {
        let mut hit_ratios = known.map_or_else(Vec::new, |known| known.at(capacity));
        let here = done.iter().filter(|(capacity, ..)| *capacity == index);
        hit_ratios.extend(here.map(|&(_, player, hits)| Score {
            name: players.0[player].0.clone(),
            hit_ratio: hits as f64 / trace.accesses.len() as f64,
        }));
        Cell {
            trace: name.to_owned(),
            real,
            accesses: trace.accesses.len(),
            unique: trace.keys.len(),
            capacity,
            hit_ratios,
        }
    };
    capacities.iter().enumerate().map(cell).collect()
}

/// Returns the capacities at which the reference was measured: rounded, in the order of their names.
fn capacities(unique: usize) -> Vec<usize> {
    let mut capacities = vec![DEFAULT_CAPACITY];
    capacities.extend(PER_CENT.map(|share| (unique * share + 50) / 100).into_iter().filter(|&entries| entries >= 10));
    capacities
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_rounded_as_in_the_reference() {
        assert_eq!(capacities(13_756), [500, 138, 688, 1376, 2751]);
        assert_eq!(capacities(76_349), [500, 763, 3817, 7635, 15_270]);
    }

    #[test]
    fn keys_are_numbered_by_their_first_access() {
        let trace = Trace::new(&[7, 3, 7]);
        assert_eq!(trace.accesses, [0, 1, 0]);
        assert_eq!(trace.keys, [Box::from("7"), Box::from("3")]);
    }

    #[test]
    fn one_shard_of_ours_hits_as_an_exact_list_does() {
        let trace = Trace::new(&[1, 2, 3, 1, 2, 4, 1]);
        // LRU of two: 1 2 3 evicts 1, and so on; no access hits. Of three: 1, 2 and 1 again.
        let hits = |entries| trace.replay(&Local::new(entries, Eviction::Lru, Some(1)));
        assert_eq!([hits(2), hits(3)], [0, 3]);
    }
}
