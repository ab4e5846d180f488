//! A map bounded by entries and bytes that lets the least recently used entry go.

use foldhash::fast::RandomState;
use hashlink::{
    LinkedHashMap,
    linked_hash_map::{RawEntryMut, RawOccupiedEntryMut},
};

use crate::options::Share;

/// The map itself: front is the least recently used.
///
/// It is kept unbounded and evicted from here, because `hashlink::LruCache` evicts and drops on its own, under our lock
/// and uncounted.
pub(crate) type Entries<V> = LinkedHashMap<Box<str>, Weighed<V>, RandomState>;

/// A value and what it weighs.
#[derive(Debug)]
pub(crate) struct Weighed<V> {
    value: V,
    weight: usize,
}

#[derive(Debug)]
pub(crate) struct Lru<V> {
    entries: Entries<V>,
    bytes: usize,
    share: Share,
}

/// What an insertion did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Insertion {
    /// Whether the value was kept; if not, it alone weighs more than the map may hold.
    pub(crate) kept: bool,
    /// Whether an older value of the key went.
    pub(crate) replaced: bool,
    /// How many others went because there were too many entries.
    pub(crate) evicted_for_entries: u64,
    /// How many others went because there were too many bytes.
    pub(crate) evicted_for_bytes: u64,
}

impl<V> Lru<V> {
    pub(crate) fn new(share: Share, hasher: RandomState) -> Self {
        Self { entries: Entries::with_hasher(hasher), bytes: 0, share }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the keys, least recently used first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(|key| &**key)
    }

    /// Finds an entry without touching the order. `hash` is that of `key` by the map's hasher.
    #[inline]
    pub(crate) fn find(&mut self, hash: u64, key: &str) -> Option<Slot<'_, V>> {
        match self.entries.raw_entry_mut().from_hash(hash, |held| **held == *key) {
            RawEntryMut::Occupied(entry) => Some(Slot { entry, bytes: &mut self.bytes }),
            RawEntryMut::Vacant(_) => None,
        }
    }

    /// Puts a value in as the most recently used, and lets go what does not fit any more: the older value of the key,
    /// then the least recently used while there are too many entries, then while there are too many bytes. What went, or
    /// never came in, is pushed to `removed`.
    ///
    /// A value that alone is too heavy evicts nobody, but the older value of its key goes all the same.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        key: Box<str>,
        value: V,
        weight: usize,
        removed: &mut Removed<V>,
    ) -> Insertion {
        let mut done = Insertion::default();
        if weight > self.share.max_bytes {
            if let Some(older) = self.find(hash, &key) {
                removed.push(older.remove());
                done.replaced = true;
            }
            removed.push((key, value));
            return done;
        }
        done.kept = true;
        match self.entries.raw_entry_mut().from_hash(hash, |held| **held == *key) {
            RawEntryMut::Occupied(mut entry) => {
                let older = entry.replace_value(Weighed { value, weight });
                entry.to_back();
                self.bytes = self.bytes - older.weight + weight;
                removed.push((key, older.value));
                done.replaced = true;
            }
            RawEntryMut::Vacant(entry) => {
                entry.insert_hashed_nocheck(hash, key, Weighed { value, weight });
                self.bytes += weight;
            }
        }
        // The new entry is the most recently used and fits alone, so these loops end before they reach it.
        while self.entries.len() > self.share.max_entries && self.evict(removed) {
            done.evicted_for_entries += 1;
        }
        while self.bytes > self.share.max_bytes && self.evict(removed) {
            done.evicted_for_bytes += 1;
        }
        done
    }

    /// Empties the map and returns what was in it.
    pub(crate) fn take(&mut self) -> Entries<V> {
        self.bytes = 0;
        let empty = Entries::with_hasher(self.entries.hasher().clone());
        std::mem::replace(&mut self.entries, empty)
    }

    fn evict(&mut self, removed: &mut Removed<V>) -> bool {
        let Some((key, Weighed { value, weight })) = self.entries.pop_front() else { return false };
        self.bytes -= weight;
        removed.push((key, value));
        true
    }
}

/// An entry that was found.
pub(crate) struct Slot<'m, V> {
    entry: RawOccupiedEntryMut<'m, Box<str>, Weighed<V>, RandomState>,
    bytes: &'m mut usize,
}

impl<V> Slot<'_, V> {
    #[inline]
    pub(crate) fn value(&self) -> &V {
        &self.entry.get().value
    }

    /// Makes the entry the most recently used.
    #[inline]
    pub(crate) fn promote(&mut self) {
        self.entry.to_back();
    }

    pub(crate) fn remove(self) -> (Box<str>, V) {
        let (key, Weighed { value, weight }) = self.entry.remove_entry();
        *self.bytes -= weight;
        (key, value)
    }
}

/// What was taken out of a map, to be dropped when no lock is held. The first needs no allocation, and there is seldom
/// a second.
#[derive(Debug)]
pub(crate) struct Removed<V> {
    first: Option<(Box<str>, V)>,
    more: Vec<(Box<str>, V)>,
}

impl<V> Removed<V> {
    pub(crate) fn push(&mut self, entry: (Box<str>, V)) {
        if self.first.is_none() {
            self.first = Some(entry);
        } else {
            self.more.push(entry);
        }
    }
}

impl<V> Extend<(Box<str>, V)> for Removed<V> {
    fn extend<I: IntoIterator<Item = (Box<str>, V)>>(&mut self, entries: I) {
        for entry in entries {
            self.push(entry);
        }
    }
}

impl<V> Default for Removed<V> {
    fn default() -> Self {
        Self { first: None, more: Vec::new() }
    }
}
