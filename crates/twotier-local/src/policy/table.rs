//! A map of entries that are also a queue, and weighs what it holds.

use hashlink::{
    LinkedHashMap,
    linked_hash_map::{CursorMut, RawEntryMut, RawOccupiedEntryMut},
};
use smol_str::SmolStr;

use super::walk::{PIECE, Piece, Queue, Walk, Way};
use crate::entry::{Entry, Shift};
use crate::hash::KeyHasher;

/// An entry with its key, and what a policy adds to it.
pub(crate) type Pair<T> = (SmolStr, Entry<T>);

/// The map. `S` is what a policy keeps beside each entry.
///
/// It is kept unbounded and evicted from here, because `hashlink::LruCache` evicts and drops on its own, under our lock
/// and uncounted.
#[derive(Debug)]
pub(super) struct Table<T, S = ()> {
    map: LinkedHashMap<SmolStr, (Entry<T>, S), KeyHasher>,
    bytes: usize,
}

impl<T, S> Table<T, S> {
    /// Makes an empty map with room for so many entries.
    pub(super) fn new(reserved: usize, hasher: KeyHasher) -> Self {
        Self { map: LinkedHashMap::with_capacity_and_hasher(reserved, hasher), bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts the keys into a walk that follow those of the piece before, or from the end where the walk begins; `None`
    /// when none of these is where it was.
    fn follow(&mut self, walk: &mut Walk) -> Option<()> {
        let Walk { way, before, keys, .. } = walk;
        let way = *way;
        let mut cursor = match before.as_slice() {
            [] if way == Way::Forwards => self.map.cursor_front_mut(),
            [] => self.map.cursor_back_mut(),
            _ => {
                let still = before.windows(2).rev().find(|pair| self.are_neighbours(way, &pair[0], &pair[1]))?;
                let mut cursor = self.cursor(&still[1])?;
                step(&mut cursor, way);
                cursor
            }
        };
        while keys.len() < PIECE
            && let Some((key, _)) = cursor.current()
        {
            keys.push(key.clone());
            step(&mut cursor, way);
        }
        Some(())
    }

    fn are_neighbours(&mut self, way: Way, first: &SmolStr, second: &SmolStr) -> bool {
        let Some(mut cursor) = self.cursor(second) else { return false };
        let before = if way == Way::Forwards { cursor.peek_prev() } else { cursor.peek_next() };
        before.is_some_and(|(key, _)| key == first)
    }

    fn cursor(&mut self, key: &SmolStr) -> Option<CursorMut<'_, SmolStr, (Entry<T>, S), KeyHasher>> {
        match self.map.raw_entry_mut().from_key(key) {
            RawEntryMut::Occupied(entry) => Some(entry.cursor_mut()),
            RawEntryMut::Vacant(_) => None,
        }
    }

    /// Finds an entry without touching the order. `hash` is that of `key` by the map's hasher.
    #[inline]
    pub(super) fn find(&mut self, hash: u64, key: &str) -> Option<Slot<'_, T, S>> {
        match self.map.raw_entry_mut().from_hash(hash, |held| *held == *key) {
            RawEntryMut::Occupied(entry) => Some(Slot { entry, bytes: &mut self.bytes }),
            RawEntryMut::Vacant(_) => None,
        }
    }

    /// Finds an entry by its hash alone. Should two hashes be equal in all 64 bits it finds one of the two.
    pub(super) fn find_by_hash(&mut self, hash: u64) -> Option<Slot<'_, T, S>> {
        let hasher = self.map.hasher().clone();
        let same = |held: &SmolStr| hash_of(&hasher, held) == hash;
        match self.map.raw_entry_mut().from_hash(hash, same) {
            RawEntryMut::Occupied(entry) => Some(Slot { entry, bytes: &mut self.bytes }),
            RawEntryMut::Vacant(_) => None,
        }
    }

    /// Returns the entry at the front.
    pub(super) fn front(&mut self) -> Option<Slot<'_, T, S>> {
        let entry = self.map.front_entry()?;
        Some(Slot { entry, bytes: &mut self.bytes })
    }

    /// Puts an entry at the back. There must be none of its key.
    pub(super) fn push(&mut self, hash: u64, (key, entry): Pair<T>, beside: S) {
        self.bytes += entry.weight();
        match self.map.raw_entry_mut().from_hash(hash, |held| *held == key) {
            RawEntryMut::Vacant(vacant) => {
                vacant.insert_hashed_nocheck(hash, key, (entry, beside));
            }
            RawEntryMut::Occupied(_) => unreachable!("an older entry of the key is removed first"),
        }
    }

    pub(super) fn shift(&mut self, by: Shift) {
        for (_, (entry, _)) in &mut self.map {
            by.apply(entry);
        }
    }

    /// Returns the hash of a key that is held.
    pub(super) fn hash_of(&self, key: &SmolStr) -> u64 {
        hash_of(self.map.hasher(), key)
    }
}

fn step<T, S>(cursor: &mut CursorMut<'_, SmolStr, (Entry<T>, S), KeyHasher>, way: Way) {
    match way {
        Way::Forwards => cursor.move_next(),
        Way::Backwards => cursor.move_prev(),
    }
}

impl<T, S> Queue for Table<T, S> {
    fn piece(&mut self, walk: &mut Walk) -> Piece {
        self.follow(walk).map_or(Piece::Lost, |()| Piece::Keys)
    }
}

fn hash_of(hasher: &KeyHasher, key: &SmolStr) -> u64 {
    std::hash::BuildHasher::hash_one(hasher, key.as_str())
}

/// An entry that was found.
pub(super) struct Slot<'m, T, S = ()> {
    entry: RawOccupiedEntryMut<'m, SmolStr, (Entry<T>, S), KeyHasher>,
    bytes: &'m mut usize,
}

impl<T, S> Slot<'_, T, S> {
    #[inline]
    pub(super) fn key(&self) -> &SmolStr {
        self.entry.key()
    }

    #[inline]
    pub(super) fn entry(&self) -> &Entry<T> {
        &self.entry.get().0
    }

    #[inline]
    pub(super) fn entry_mut(&mut self) -> &mut Entry<T> {
        &mut self.entry.get_mut().0
    }

    #[inline]
    pub(super) fn beside(&mut self) -> &mut S {
        &mut self.entry.get_mut().1
    }

    /// Moves the entry to the back.
    #[inline]
    pub(super) fn move_to_back(&mut self) {
        self.entry.to_back();
    }

    pub(super) fn remove(self) -> (Pair<T>, S) {
        let (key, (entry, beside)) = self.entry.remove_entry();
        *self.bytes -= entry.weight();
        ((key, entry), beside)
    }
}
