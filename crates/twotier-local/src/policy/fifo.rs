//! The one that came in first goes: one list, which a hit does not touch.

use smol_str::SmolStr;

use super::{
    Looked, Verdict,
    table::{Pair, Table},
};
use crate::entry::{Entry, Shift};
use crate::hash::KeyHasher;

#[derive(Debug)]
pub(super) struct Fifo<T> {
    table: Table<T>,
}

impl<T> Fifo<T> {
    pub(super) fn new(hasher: KeyHasher) -> Self {
        Self { table: Table::new(hasher) }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes()
    }

    pub(super) fn keys(&self) -> impl DoubleEndedIterator<Item = &SmolStr> {
        self.table.keys()
    }

    #[inline]
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
        Some(slot.remove().0)
    }

    pub(super) fn prepare(&mut self, _hash: u64) {}

    pub(super) fn evict(&mut self) -> Option<Pair<T>> {
        Some(self.table.front()?.remove().0)
    }

    pub(super) fn insert(&mut self, hash: u64, pair: Pair<T>) {
        self.table.push(hash, pair, ());
    }

    pub(super) fn shift(&mut self, by: Shift) {
        self.table.shift(by);
    }
}
