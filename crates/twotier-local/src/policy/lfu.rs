//! The one hit least often goes; of several the least recently used.
//!
//! Entries hit equally often form a level, which is a list with the least recently used at its head. Levels form a list
//! too, so that a hit, an insertion and an eviction each touch a few neighbours and never search.

use smol_str::SmolStr;

use super::{
    Looked, Verdict,
    table::{Pair, Table},
    walk::{PIECE, Piece, Queue, Walk},
};
use crate::entry::{Entry, Shift};
use crate::hash::KeyHasher;
use crate::options::Share;

#[derive(Debug)]
pub(super) struct Lfu<T> {
    /// Beside each entry is its place in the order.
    table: Table<T, u32>,
    order: Order,
}

impl<T> Lfu<T> {
    pub(super) fn new(share: Share, hasher: KeyHasher) -> Self {
        Self { table: Table::new(share.reserved, hasher), order: Order::new(share.reserved) }
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

    fn place(&mut self, key: &SmolStr) -> Option<u32> {
        let hash = self.table.hash_of(key);
        Some(*self.table.find(hash, key)?.beside())
    }

    /// Not inlined, as it would only be in the way of the policies that are chosen for speed.
    #[inline(never)]
    pub(super) fn look<R>(&mut self, hash: u64, key: &str, judge: impl FnOnce(&Entry<T>) -> Verdict<R>) -> Looked<R> {
        let Some(mut slot) = self.table.find(hash, key) else { return Looked::Miss };
        match judge(slot.entry()) {
            Verdict::Serve(hit) => {
                self.order.hit(*slot.beside());
                Looked::Hit(hit)
            }
            Verdict::Keep(why) => Looked::Barred(why),
            Verdict::Remove(why) => Looked::Dead(why),
        }
    }

    pub(super) fn remove_if(&mut self, hash: u64, key: &str, wrong: impl FnOnce(&Entry<T>) -> bool) -> Option<Pair<T>> {
        let slot = self.table.find(hash, key).filter(|slot| wrong(slot.entry()))?;
        let (pair, place) = slot.remove();
        self.order.remove(place);
        Some(pair)
    }

    pub(super) fn prepare(&mut self, _hash: u64) {}

    pub(super) fn evict(&mut self) -> Option<Pair<T>> {
        let (pair, place) = self.table.find_by_hash(self.order.first()?)?.remove();
        self.order.remove(place);
        Some(pair)
    }

    pub(super) fn insert(&mut self, hash: u64, pair: Pair<T>) {
        let place = self.order.insert(hash);
        self.table.push(hash, pair, place);
    }

    pub(super) fn shift(&mut self, by: Shift) {
        self.table.shift(by);
    }
}

/// The order by hits, from the one hit most often; of several from the most recently used.
impl<T> Queue for Lfu<T> {
    fn piece(&mut self, walk: &mut Walk) -> Piece {
        let mut place = self.order.last();
        if !walk.before.is_empty() {
            let still = walk.before.windows(2).rev().find_map(|pair| {
                let [hotter, colder] = [self.place(&pair[0])?, self.place(&pair[1])?];
                (self.order.before(hotter) == colder).then_some(colder)
            });
            let Some(still) = still else { return Piece::Lost };
            place = self.order.before(still);
        }
        while walk.keys.len() < PIECE
            && place != NONE
            && let Some(slot) = self.table.find_by_hash(self.order.members[place as usize].hash)
        {
            walk.keys.push(slot.key().clone());
            place = self.order.before(place);
        }
        Piece::Keys
    }
}

/// Stands for "nobody", in links.
const NONE: u32 = u32::MAX;

/// The order of eviction. Members and levels are named by their places in two vectors, whose free places are linked
/// too.
#[derive(Debug)]
struct Order {
    members: Vec<Member>,
    free_member: u32,
    levels: Vec<Level>,
    free_level: u32,
    /// The level of those hit least.
    lowest: u32,
    /// The level of those hit most.
    highest: u32,
}

#[derive(Debug)]
struct Member {
    hash: u64,
    level: u32,
    prev: u32,
    /// Also links free places.
    next: u32,
}

#[derive(Debug)]
struct Level {
    hits: u64,
    head: u32,
    tail: u32,
    lower: u32,
    /// Also links free places.
    higher: u32,
}

impl Order {
    fn new(reserved: usize) -> Self {
        Self {
            members: Vec::with_capacity(reserved),
            free_member: NONE,
            levels: Vec::new(),
            free_level: NONE,
            lowest: NONE,
            highest: NONE,
        }
    }

    /// Returns the hash of the one to go.
    fn first(&self) -> Option<u64> {
        let lowest = self.levels.get(self.lowest as usize)?;
        Some(self.members[lowest.head as usize].hash)
    }

    /// Returns the place of the one that goes last, if there is one.
    fn last(&self) -> u32 {
        self.levels.get(self.highest as usize).map_or(NONE, |level| level.tail)
    }

    /// Returns the place of the one that goes just before another, if there is one.
    fn before(&self, place: u32) -> u32 {
        let Member { prev, level, .. } = self.members[place as usize];
        let lower = || self.levels.get(self.levels[level as usize].lower as usize).map_or(NONE, |lower| lower.tail);
        if prev == NONE { lower() } else { prev }
    }

    /// Adds a member that was not hit yet and returns its place.
    fn insert(&mut self, hash: u64) -> u32 {
        let member = Member { hash, level: NONE, prev: NONE, next: NONE };
        let place = if self.free_member == NONE {
            self.members.push(member);
            u32::try_from(self.members.len() - 1).expect("a shard holds fewer than 2^32 entries")
        } else {
            let place = self.free_member;
            self.free_member = self.members[place as usize].next;
            self.members[place as usize] = member;
            place
        };
        let level = match self.levels.get(self.lowest as usize) {
            Some(lowest) if lowest.hits == 0 => self.lowest,
            _ => self.add_level(0, NONE, self.lowest),
        };
        self.join(place, level);
        place
    }

    /// Moves a member up by one hit.
    fn hit(&mut self, place: u32) {
        let from = self.members[place as usize].level;
        let Level { hits, higher, .. } = self.levels[from as usize];
        let to = match self.levels.get(higher as usize) {
            Some(level) if level.hits == hits + 1 => higher,
            _ => self.add_level(hits + 1, from, higher),
        };
        self.part(place);
        self.join(place, to);
    }

    fn remove(&mut self, place: u32) {
        self.part(place);
        self.members[place as usize].next = self.free_member;
        self.free_member = place;
    }

    /// Adds an empty level between two neighbours.
    fn add_level(&mut self, hits: u64, lower: u32, higher: u32) -> u32 {
        let level = Level { hits, head: NONE, tail: NONE, lower, higher };
        let at = if self.free_level == NONE {
            self.levels.push(level);
            u32::try_from(self.levels.len() - 1).expect("there are no more levels than members, and one")
        } else {
            let at = self.free_level;
            self.free_level = self.levels[at as usize].higher;
            self.levels[at as usize] = level;
            at
        };
        self.link_levels(lower, at);
        self.link_levels(at, higher);
        at
    }

    fn link_levels(&mut self, lower: u32, higher: u32) {
        match self.levels.get_mut(lower as usize) {
            Some(level) => level.higher = higher,
            None => self.lowest = higher,
        }
        match self.levels.get_mut(higher as usize) {
            Some(level) => level.lower = lower,
            None => self.highest = lower,
        }
    }

    /// Puts a member at the tail of a level.
    fn join(&mut self, place: u32, to: u32) {
        let level = &mut self.levels[to as usize];
        let last = std::mem::replace(&mut level.tail, place);
        if last == NONE {
            level.head = place;
        } else {
            self.members[last as usize].next = place;
        }
        let member = &mut self.members[place as usize];
        (member.level, member.prev, member.next) = (to, last, NONE);
    }

    /// Takes a member out of its level, and the level away if it was the last.
    fn part(&mut self, place: u32) {
        let Member { level: from, prev, next, .. } = self.members[place as usize];
        let level = &mut self.levels[from as usize];
        if prev == NONE {
            level.head = next;
        }
        if next == NONE {
            level.tail = prev;
        }
        let (emptied, lower, higher) = (level.head == NONE, level.lower, level.higher);
        if let Some(member) = self.members.get_mut(prev as usize) {
            member.next = next;
        }
        if let Some(member) = self.members.get_mut(next as usize) {
            member.prev = prev;
        }
        if emptied {
            self.link_levels(lower, higher);
            self.levels[from as usize].higher = self.free_level;
            self.free_level = from;
        }
    }
}
