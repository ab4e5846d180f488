//! W-TinyLFU: Einziger, Friedman and Manes, "TinyLFU: A highly efficient cache admission policy", ACM Transactions on
//! Storage 13(4), 2017, on queues in which a hit only marks its entry.
//!
//! New keys queue in a window. At its end, who was hit there moves to the main part. The others must be asked for more
//! often, by the count of a sketch that remembers keys long gone, than the one of the main part that would have to go
//! for them. In the main part that is the oldest that was not hit since it was last looked at.
//!
//! That a hit in the window admits without a contest is what makes the policy follow the load: where recency counts, as
//! in a sequence of short bursts, keys pass through the window on their hits alone; in a scan or a loop longer than the
//! cache nobody is hit there, the contest decides every time, and a tie leaves those who are in, in. A window whose
//! size climbs after the hit ratio does the same a thousand requests late, and one that is split into many shards has
//! too few requests to climb by.

use std::hash::BuildHasher;

use super::{
    Looked, Verdict,
    s3fifo::{SPARED, is_full, small, spill, to_main},
    sketch::Sketch,
    table::{Pair, Table},
    walk::Queue,
};
use crate::{
    entry::{Entry, Shift},
    hash::KeyHasher,
    options::Share,
};

/// From this estimate on, who loses the contest is admitted once in [`CHANCES`]: if others can bring the estimate of
/// what is kept up on purpose, by keys that collide with it, they cannot hold the place for ever.
const WARM: u64 = 6;
const CHANCES: u64 = 128;

#[derive(Debug)]
pub(super) struct WTinyLfu<T> {
    window: Table<T>,
    main: Table<T>,
    sketch: Sketch,
    /// What the window may hold.
    share: Share,
    /// Whether somebody went to make room for the key that is coming in.
    evicted: bool,
    /// The state of a xorshift generator, never 0.
    random: u64,
}

impl<T> WTinyLfu<T> {
    pub(super) fn new(share: Share, hasher: KeyHasher) -> Self {
        Self {
            random: hasher.hash_one("luck") | 1,
            window: Table::new(small(share).reserved, hasher.clone()),
            main: Table::new(share.reserved, hasher),
            sketch: Sketch::new(share.reserved),
            share: small(share),
            evicted: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.window.len() + self.main.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.window.bytes() + self.main.bytes()
    }

    /// Returns the queues of keys, each from its oldest.
    pub(super) fn queues(&mut self) -> [&mut dyn Queue; 2] {
        [&mut self.window, &mut self.main]
    }

    #[inline]
    pub(super) fn look<R>(&mut self, hash: u64, key: &str, judge: impl FnOnce(&Entry<T>) -> Verdict<R>) -> Looked<R> {
        let mut slot = match self.main.find(hash, key) {
            Some(slot) => slot,
            None => match self.window.find(hash, key) {
                Some(slot) => slot,
                None => return Looked::Miss,
            },
        };
        match judge(slot.entry()) {
            Verdict::Serve(hit) => {
                slot.entry_mut().bump();
                self.sketch.count(hash);
                Looked::Hit(hit)
            }
            Verdict::Keep(why) => Looked::Barred(why),
            Verdict::Remove(why) => Looked::Dead(why),
        }
    }

    pub(super) fn remove_if(&mut self, hash: u64, key: &str, wrong: impl FnOnce(&Entry<T>) -> bool) -> Option<Pair<T>> {
        let slot = match self.main.find(hash, key) {
            Some(slot) => slot,
            None => self.window.find(hash, key)?,
        };
        wrong(slot.entry()).then(|| slot.remove().0)
    }

    pub(super) fn prepare(&mut self, hash: u64) {
        self.sketch.grow(self.len() + 1);
        self.sketch.count(hash);
        self.evicted = false;
    }

    pub(super) fn evict(&mut self) -> Option<Pair<T>> {
        self.evicted = true;
        let mut spared = 0;
        while is_full(&self.window, self.share) || self.main.len() == 0 {
            let Some(candidate) = self.window.front() else { break };
            let hit = candidate.entry().mark() > 0 && spared < SPARED;
            let pair = candidate.remove().0;
            let hash = self.main.hash_of(&pair.0);
            if hit {
                spared += 1;
                to_main(&mut self.main, hash, pair);
                continue;
            }
            let Some(victim) = self.victim(spared) else { return Some(pair) };
            if self.admits(hash, victim) {
                let victim = self.main.front()?.remove().0;
                to_main(&mut self.main, hash, pair);
                return Some(victim);
            }
            return Some(pair);
        }
        self.victim(spared)?;
        Some(self.main.front()?.remove().0)
    }

    pub(super) fn insert(&mut self, hash: u64, pair: Pair<T>) {
        self.window.push(hash, pair, ());
        if !self.evicted {
            spill(&mut self.window, &mut self.main, self.share);
        }
    }

    pub(super) fn shift(&mut self, by: Shift) {
        self.window.shift(by);
        self.main.shift(by);
    }

    /// Brings the one of the main part that would go to its front, and returns its hash. So many were spared before.
    fn victim(&mut self, mut spared: usize) -> Option<u64> {
        loop {
            let mut oldest = self.main.front()?;
            let mark = oldest.entry().mark();
            if mark == 0 || spared >= SPARED {
                let key = oldest.key().clone();
                return Some(self.main.hash_of(&key));
            }
            oldest.entry_mut().set_mark(mark - 1);
            oldest.move_to_back();
            spared += 1;
        }
    }

    fn admits(&mut self, candidate: u64, victim: u64) -> bool {
        let estimate = self.sketch.estimate(candidate);
        estimate > self.sketch.estimate(victim) || (estimate >= WARM && self.draw().is_multiple_of(CHANCES))
    }

    /// Draws from xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
