//! Any goes, with equal chances: the hashes of all entries lie in a row, from which one is drawn.

use super::{
    Looked, Verdict,
    table::{Pair, Table},
    walk::Queue,
};
use crate::entry::{Entry, Shift};
use crate::hash::KeyHasher;
use crate::options::Share;

#[derive(Debug)]
pub(super) struct Random<T> {
    /// Beside each entry is its place in the row.
    table: Table<T, u32>,
    row: Vec<u64>,
    random: SplitMix64,
}

impl<T> Random<T> {
    pub(super) fn new(seed: u64, share: Share, hasher: KeyHasher) -> Self {
        let (table, row) = (Table::new(share.reserved, hasher), Vec::with_capacity(share.reserved));
        Self { table, row, random: SplitMix64(seed) }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Returns the queue of keys, which has no order.
    pub(super) fn queues(&mut self) -> [&mut dyn Queue; 1] {
        [&mut self.table]
    }

    /// Not inlined, as it would only be in the way of the policies that are chosen for speed.
    #[inline(never)]
    pub(super) fn look<R>(&mut self, hash: u64, key: &str, judge: impl FnOnce(&Entry<T>) -> Verdict<R>) -> Looked<R> {
        let Some(slot) = self.table.find(hash, key) else { return Looked::Miss };
        match judge(slot.entry()) {
            Verdict::Serve(hit) => Looked::Hit(hit),
            Verdict::Keep(why) => Looked::Barred(why),
            Verdict::Remove(why) => Looked::Dead(why),
        }
    }

    pub(super) fn remove_if(&mut self, hash: u64, key: &str, wrong: impl FnOnce(&Entry<T>) -> bool) -> Option<Pair<T>> {
        let slot = self.table.find(hash, key).filter(|slot| wrong(slot.entry()))?;
        let (pair, place) = slot.remove();
        self.leave(place);
        Some(pair)
    }

    pub(super) fn prepare(&mut self, _hash: u64) {}

    pub(super) fn evict(&mut self) -> Option<Pair<T>> {
        let place = self.random.below(self.row.len());
        let (pair, place) = self.table.find_by_hash(*self.row.get(place)?)?.remove();
        self.leave(place);
        Some(pair)
    }

    pub(super) fn insert(&mut self, hash: u64, pair: Pair<T>) {
        let place = u32::try_from(self.row.len()).expect("a shard holds fewer than 2^32 entries");
        self.row.push(hash);
        self.table.push(hash, pair, place);
    }

    pub(super) fn shift(&mut self, by: Shift) {
        self.table.shift(by);
    }

    /// Gives a place up to the last of the row.
    fn leave(&mut self, place: u32) {
        self.row.swap_remove(place as usize);
        if let Some(moved) = self.row.get(place as usize)
            && let Some(mut slot) = self.table.find_by_hash(*moved)
        {
            *slot.beside() = place;
        }
    }
}

/// The generator `splitmix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Draws a number below `bound`, each as likely as the others but for one part in 2^64 / `bound`.
    #[allow(clippy::cast_possible_truncation, reason = "the product's upper half is below the bound")]
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use twotier_core::{LinkId, Mark, Timestamp};

    use super::*;
    use crate::{
        digest::Digest,
        entry::{NewEntry, Origin},
        hash::key_hasher,
    };

    /// Each of a hundred entries goes about as often as the others: chi-squared with 99 degrees of freedom passes 160
    /// once in ten thousand seeds, and this one is fixed.
    #[test]
    fn random_victims_are_uniform_and_a_seed_repeats_them() {
        let victims = |seed| {
            let hasher = key_hasher(None);
            let mut random = Random::new(seed, Share::default(), hasher.clone());
            let put = |random: &mut Random<u32>, number: u32| {
                let (key, at) = (number.to_string(), Timestamp::ZERO);
                let new = NewEntry {
                    key: key.as_str().into(),
                    value: number,
                    digest: Digest::ABSENT,
                    mark: Mark::new(LinkId::ONLY, 1, at),
                    deadline: at,
                    weight: 1,
                    fits: true,
                };
                random.insert(hasher.hash_one(key.as_str()), Origin::default().pack(new));
            };
            for number in 0..100 {
                put(&mut random, number);
            }
            let mut victims = Vec::new();
            for _ in 0..20_000 {
                let victim = random.evict().expect("a hundred are there").1.value;
                put(&mut random, victim);
                victims.push(victim);
            }
            victims
        };
        let drawn = victims(1);
        assert_eq!(drawn, victims(1));
        assert_ne!(drawn, victims(2));
        let mut counts = [0u32; 100];
        for victim in drawn {
            counts[victim as usize] += 1;
        }
        let squares: f64 = counts.iter().map(|count| (f64::from(*count) - 200.0).powi(2) / 200.0).sum();
        assert!(squares < 160.0, "chi-squared {squares:.1}");
    }
}
