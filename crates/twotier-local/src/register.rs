//! What is under way by key: reads, own writes, loads.

use hashlink::{LinkedHashMap, linked_hash_map::RawEntryMut};
use smol_str::SmolStr;

use crate::hash::KeyHasher;

/// What identifies a ticket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TicketId<'t> {
    pub(crate) hash: u64,
    pub(crate) key: &'t SmolStr,
    pub(crate) id: u64,
    pub(crate) epoch: u64,
}

/// A map from keys to what is under way for them, usually empty: then no key is compared and no table searched.
#[derive(Debug)]
pub(crate) struct Register<V>(LinkedHashMap<SmolStr, V, KeyHasher>);

impl<V> Register<V> {
    pub(crate) fn new(hasher: KeyHasher) -> Self {
        Self(LinkedHashMap::with_hasher(hasher))
    }

    #[inline]
    pub(crate) fn find(&mut self, hash: u64, key: &str) -> Option<&mut V> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.raw_entry_mut().from_hash(hash, |held| *held == *key) {
            RawEntryMut::Occupied(entry) => Some(entry.into_mut()),
            RawEntryMut::Vacant(_) => None,
        }
    }

    /// Puts in what is under way now, in the place of what was.
    #[inline]
    pub(crate) fn put(&mut self, hash: u64, key: &SmolStr, value: V) {
        match self.0.raw_entry_mut().from_hash(hash, |held| *held == **key) {
            RawEntryMut::Occupied(mut entry) => _ = entry.replace_value(value),
            RawEntryMut::Vacant(entry) => _ = entry.insert_hashed_nocheck(hash, key.clone(), value),
        }
    }

    /// Removes what is under way for a key if `ended`.
    #[inline]
    pub(crate) fn remove_if(&mut self, hash: u64, key: &str, ended: impl FnOnce(&mut V) -> bool) -> Option<V> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.raw_entry_mut().from_hash(hash, |held| *held == *key) {
            RawEntryMut::Occupied(mut entry) => ended(entry.get_mut()).then(|| entry.remove()),
            RawEntryMut::Vacant(_) => None,
        }
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = V> {
        self.0.drain().map(|(_, value)| value)
    }
}
