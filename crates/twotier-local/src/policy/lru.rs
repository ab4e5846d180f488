//! The least recently used goes: one list, front is the next to go.

use super::{
    Looked, Verdict,
    table::{Pair, Table},
    walk::Queue,
};
use crate::entry::{Entry, Shift};
use crate::hash::KeyHasher;
use crate::options::Share;

#[derive(Debug)]
pub(super) struct Lru<T> {
    table: Table<T>,
}

impl<T> Lru<T> {
    pub(super) fn new(share: Share, hasher: KeyHasher) -> Self {
        Self { table: Table::new(share.reserved, hasher) }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Returns the queue of keys, those that go first at the front.
    pub(super) fn queues(&mut self) -> [&mut dyn Queue; 1] {
        [&mut self.table]
    }

    #[inline]
    pub(super) fn look<R>(&mut self, hash: u64, key: &str, judge: impl FnOnce(&Entry<T>) -> Verdict<R>) -> Looked<R> {
        let Some(mut slot) = self.table.find(hash, key) else { return Looked::Miss };
        match judge(slot.entry()) {
            Verdict::Serve(hit) => {
                slot.move_to_back();
                Looked::Hit(hit)
            }
            Verdict::Keep(why) => Looked::Barred(why),
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
