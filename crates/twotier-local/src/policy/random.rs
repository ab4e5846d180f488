//! Any goes, with equal chances: the hashes of all entries lie in a row, from which one is drawn.

use smol_str::SmolStr;

use super::{
    Looked, Verdict,
    table::{Pair, Table},
};
use crate::entry::{Entry, Shift};
use crate::hash::KeyHasher;

#[derive(Debug)]
pub(super) struct Random<T> {
    /// Beside each entry is its place in the row.
    table: Table<T, u32>,
    row: Vec<u64>,
    random: SplitMix64,
}

impl<T> Random<T> {
    pub(super) fn new(seed: u64, hasher: KeyHasher) -> Self {
        Self { table: Table::new(hasher), row: Vec::new(), random: SplitMix64(seed) }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &SmolStr> {
        self.table.keys()
    }

    /// Not inlined, as it would only be in the way of the policies that are chosen for speed.
    #[inline(never)]
    pub(super) fn look<R>(&mut self, hash: u64, key: &str, judge: impl FnOnce(&Entry<T>) -> Verdict<R>) -> Looked<R> {
        let Some(slot) = self.table.find(hash, key) else { return Looked::Miss };
        match judge(slot.entry()) {
            Verdict::Serve(hit) => Looked::Hit(hit),
            Verdict::Keep => Looked::Miss,
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
