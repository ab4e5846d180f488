//! The bytes of an entry beyond key and value, in a cache that was filled once, and in one that has evicted as many
//! entries as it holds: its tables have grown, and some remember what they evicted.

use serde::Serialize;

use super::{Count, Memory};
use crate::{
    contestant::{self, Contestant, Value, Visitor},
    format::thousands,
    sheet::Sheet,
    table::Table,
};

/// What an entry weighs.
#[derive(Clone, Debug, Serialize)]
pub struct Weight {
    /// Whose.
    pub name: String,
    /// How many entries it held when it was weighed.
    pub held: usize,
    /// Bytes of an entry beyond its key and its value, after as many keys as there is room for.
    pub filled: f64,
    /// The same after twice as many keys.
    pub churned: f64,
    /// How often a hit allocates.
    pub allocations_per_hit: f64,
}

impl Weight {
    pub(super) fn is_ours(&self) -> bool {
        self.name.starts_with("twotier")
    }
}

/// Hits that are counted.
const HITS: u32 = 1000;

struct Scales {
    entries: usize,
    keys: Vec<String>,
    value: Value,
    count: Count,
    weights: Vec<Weight>,
}

pub(super) fn measure(entries: usize, count: Count) -> Vec<Weight> {
    let keys = (0..2 * entries).map(|key| format!("key{key:08}")).collect();
    let mut scales = Scales { entries, keys, value: Value::new([b'v'; 100]), count, weights: Vec::new() };
    contestant::ours(&mut scales);
    contestant::peers(&mut scales);
    scales.weights
}

impl Visitor for Scales {
    #[allow(clippy::cast_precision_loss, reason = "bytes of a heap that fits this machine")]
    fn visit<C: Contestant>(&mut self, name: &str, make: impl Fn(usize) -> C) {
        let mut made = None;
        // The value is shared by all entries and was made outside: no part of it is counted.
        let mut weigh = |keys: &[String]| {
            let heap = (self.count)(&mut || {
                let cache = made.get_or_insert_with(|| make(self.entries));
                for key in keys {
                    cache.fill(key, &self.value);
                }
                // What was evicted is let go in several steps by some.
                for _step in 0..100 {
                    cache.settle();
                }
            });
            (heap.bytes, made.as_ref().map_or(0, Contestant::entries))
        };
        let (first, second) = self.keys.split_at(self.entries);
        let (filled, held_once) = weigh(first);
        let (grown, held) = weigh(second);
        let Some(cache) = made else { return };
        let Some(there) = self.keys.iter().rev().find(|key| cache.get(key)) else { return };
        let hits = (self.count)(&mut || {
            for _hit in 0..HITS {
                cache.get(there);
            }
        });
        let beyond = |bytes: i64, held: usize| bytes as f64 / held as f64 - there.len() as f64;
        self.weights.push(Weight {
            name: name.to_owned(),
            held,
            filled: beyond(filled, held_once),
            churned: beyond(filled + grown, held),
            allocations_per_hit: hits.allocations as f64 / f64::from(HITS),
        });
    }
}

pub(super) fn sheet(memory: &Memory) -> Sheet {
    let mut table = Table::new(&[
        "<candidate",
        "entries held",
        "bytes beyond, filled once",
        "bytes beyond, evicted as many",
        "allocations of a hit",
    ]);
    for Weight { name, held, filled, churned, allocations_per_hit } in &memory.weights {
        table.row([
            name.clone(),
            thousands(*held as u64),
            format!("{filled:.1}"),
            format!("{churned:.1}"),
            format!("{allocations_per_hit}"),
        ]);
    }
    let entries = thousands(memory.entries as u64);
    let notes = vec![
        format!("Made for {entries} entries, after insertion of as many and of twice as many keys of 11 bytes; n = 1: counts, not times."),
        "Beyond the key and the value. The last column but one is after the second half: tables have grown, some remember what they evicted."
            .to_owned(),
        "Bytes as they were asked of the allocator, whatever the cache keeps beside its entries included, divided by the entries held."
            .to_owned(),
        "The reference counts of the value's `Arc` count as value, for everybody.".to_owned(),
    ];
    Sheet { title: "the bytes of an entry".to_owned(), notes, table }
}
