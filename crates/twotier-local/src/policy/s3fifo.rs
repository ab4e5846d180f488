//! S3-FIFO: Yang, Zhang, Qiu, Yue and Vigfusson, "FIFO queues are all you need for cache eviction", SOSP 2023.
//!
//! New keys queue in a small part. Who was hit there moves to the main part at its end; the others go, and are
//! remembered for as many evictions as the main part has entries. Who comes back within that time goes to the main part
//! at once. In the main part the oldest goes unless it was hit since it was last looked at.
//!
//! Four rules differ from the paper's:
//!
//! - One hit in the small part earns a place in the main one, where the paper asks for two. In a shard of 32 entries
//!   three keys make up the small part, and who waits there for a second hit has gone before it comes; and where
//!   recency is all there is, one hit is what LRU would have honoured too.
//! - While nothing has to go, what the small part cannot hold moves to the main part. The small part thus never grows
//!   beyond its share, and its nodes are not left over when the main part has filled.
//! - An entry that had earned its place in the main part and is removed because its value changed or expired is
//!   remembered like one that went, so that its next value need not earn the place again.
//! - An eviction spares at most [`SPARED`] entries for their hits and then takes the next: where everything was hit,
//!   the shard would else be locked for as long as it takes to look at all of it three times.

use super::{
    Looked, Verdict,
    ghost::Ghost,
    table::{Pair, Table},
    walk::Queue,
};
use crate::{
    entry::{Entry, Shift},
    hash::KeyHasher,
    options::Share,
};

/// The small part's share is a tenth: the paper's choice, and not sensitive.
pub(super) const SMALL_SHARE: usize = 10;
/// How many entries one eviction spares. On the real traces of the tests the hit
/// ratio is within 0.03 points of that without a bound.
pub(super) const SPARED: usize = 32;
/// Hits in the small part that earn a place in the main one.
const HITS_TO_STAY: u8 = 1;

#[derive(Debug)]
pub(super) struct S3Fifo<T> {
    small: Table<T>,
    main: Table<T>,
    ghost: Ghost,
    /// What the small part may hold.
    share: Share,
    /// Whether the key that is coming in went lately.
    returning: bool,
    /// Whether somebody went to make room for the key that is coming in.
    evicted: bool,
}

impl<T> S3Fifo<T> {
    pub(super) fn new(share: Share, hasher: KeyHasher) -> Self {
        Self {
            small: Table::new(small(share).reserved, hasher.clone()),
            main: Table::new(share.reserved, hasher.clone()),
            ghost: Ghost::new(share.reserved, hasher),
            share: small(share),
            returning: false,
            evicted: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.small.bytes() + self.main.bytes()
    }

    /// Returns the queues of keys, each from its oldest.
    pub(super) fn queues(&mut self) -> [&mut dyn Queue; 2] {
        [&mut self.small, &mut self.main]
    }

    #[inline]
    pub(super) fn look<R>(&mut self, hash: u64, key: &str, judge: impl FnOnce(&Entry<T>) -> Verdict<R>) -> Looked<R> {
        let mut slot = match self.main.find(hash, key) {
            Some(slot) => slot,
            None => match self.small.find(hash, key) {
                Some(slot) => slot,
                None => return Looked::Miss,
            },
        };
        match judge(slot.entry()) {
            Verdict::Serve(hit) => {
                slot.entry_mut().bump();
                Looked::Hit(hit)
            }
            Verdict::Keep(why) => Looked::Barred(why),
            Verdict::Remove(why) => Looked::Dead(why),
        }
    }

    pub(super) fn remove_if(&mut self, hash: u64, key: &str, wrong: impl FnOnce(&Entry<T>) -> bool) -> Option<Pair<T>> {
        let (slot, in_main) = match self.main.find(hash, key) {
            Some(slot) => (slot, true),
            None => (self.small.find(hash, key)?, false),
        };
        if !wrong(slot.entry()) {
            return None;
        }
        let pair = slot.remove().0;
        self.removed(hash, &pair.1, in_main);
        Some(pair)
    }

    pub(super) fn prepare(&mut self, hash: u64) {
        self.returning = self.ghost.contains(hash);
        self.evicted = false;
    }

    pub(super) fn evict(&mut self) -> Option<Pair<T>> {
        self.evicted = true;
        let mut spared = 0;
        loop {
            let tired = spared == SPARED;
            spared += 1;
            if (is_full(&self.small, self.share) || self.main.len() == 0)
                && let Some(oldest) = self.small.front()
            {
                let stays = oldest.entry().mark() >= HITS_TO_STAY && !tired;
                let pair = oldest.remove().0;
                let hash = self.main.hash_of(&pair.0);
                if stays {
                    to_main(&mut self.main, hash, pair);
                } else {
                    self.ghost.remember(hash, self.main.len().max(1));
                    return Some(pair);
                }
            } else {
                let mut oldest = self.main.front()?;
                let mark = oldest.entry().mark();
                if mark == 0 || tired {
                    return Some(oldest.remove().0);
                }
                oldest.entry_mut().set_mark(mark - 1);
                oldest.move_to_back();
            }
        }
    }

    pub(super) fn insert(&mut self, hash: u64, pair: Pair<T>) {
        if self.returning {
            self.main.push(hash, pair, ());
        } else {
            self.small.push(hash, pair, ());
        }
        if !self.evicted {
            spill(&mut self.small, &mut self.main, self.share);
        }
    }

    pub(super) fn shift(&mut self, by: Shift) {
        self.small.shift(by);
        self.main.shift(by);
    }

    /// Remembers an entry that was removed if it had earned its place.
    fn removed(&mut self, hash: u64, entry: &Entry<T>, in_main: bool) {
        if in_main || entry.mark() >= HITS_TO_STAY {
            self.ghost.remember(hash, self.main.len().max(1));
        }
    }
}

/// Returns what the small part of a cache may hold.
pub(super) fn small(whole: Share) -> Share {
    Share {
        max_entries: (whole.max_entries / SMALL_SHARE).max(1),
        max_bytes: (whole.max_bytes / SMALL_SHARE).max(1),
        reserved: whole.reserved / SMALL_SHARE,
        ..whole
    }
}

/// Returns whether the small part has its share.
pub(super) fn is_full<T>(small: &Table<T>, share: Share) -> bool {
    small.len() >= share.max_entries || small.bytes() >= share.max_bytes
}

/// Moves what the small part cannot hold to the main part, but for the newest, and no more than [`SPARED`] at once.
pub(super) fn spill<T>(small: &mut Table<T>, main: &mut Table<T>, share: Share) {
    for _ in 0..SPARED {
        let fits = small.len() <= share.max_entries && (small.bytes() <= share.max_bytes || small.len() <= 1);
        let Some(oldest) = small.front().filter(|_| !fits) else { return };
        let pair = oldest.remove().0;
        to_main(main, main.hash_of(&pair.0), pair);
    }
}

/// Puts an entry at the end of the main part.
pub(super) fn to_main<T>(main: &mut Table<T>, hash: u64, mut pair: Pair<T>) {
    pair.1.set_mark(0);
    main.push(hash, pair, ());
}
