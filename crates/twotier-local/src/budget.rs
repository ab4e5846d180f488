//! The bytes that all shards of a tier share, and how an entry gets its room.
//!
//! A shard may hold as many bytes as it was granted. What its entries leave of that is its own to use again, so that an
//! insertion into a tier that is full of entries writes to nothing that other shards share; much of it goes back. All
//! grants and what is left of the budget add up to the tier's bytes at any time, so no shards together ever hold more.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    entry::NewEntry,
    sync::{AtomicU64, MutexGuard, Ordering},
    tier::{Inner, TicketShard},
};

/// A shard keeps up to two of so many parts of its share unused, so that all of them keep a sixteenth at most.
const PARTS: usize = 32;

/// How many bytes a tier of several shards has not granted to any.
///
/// On cache lines of its own: no hit looks at it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Budget {
    left: AtomicU64,
    /// What each shard would have if all had the same.
    share: usize,
}

impl Budget {
    pub(crate) fn new(bytes: usize, shards: usize) -> Self {
        Self { left: AtomicU64::new(bytes as u64), share: bytes / shards }
    }

    /// Takes so many bytes, or as many as there are left, and returns how many.
    fn take(&self, bytes: usize) -> usize {
        let mut left = self.left.load(Ordering::Relaxed);
        loop {
            let taken = left.min(bytes as u64);
            if taken == 0 {
                return 0;
            }
            match self.left.compare_exchange_weak(left, left - taken, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return usize::try_from(taken).unwrap_or(bytes),
                Err(now) => left = now,
            }
        }
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn part(&self) -> usize {
        self.share / PARTS
    }
}

impl<T, E> Inner<T, E> {
    /// Locks the shard of a hash, with room for an entry that may come in: evicts where there is none. A shard that is
    /// alone sees to its bytes as it inserts.
    #[inline]
    pub(crate) fn shard_for(&self, hash: u64, new: &mut Option<NewEntry<T>>) -> MutexGuard<'_, TicketShard<T, E>> {
        let shard = self.shard(hash);
        match (&self.budget, new) {
            // Nobody goes for what a lost link, a flush or a clearing keeps out already: epochs only grow, and a
            // clearing ends with a flush.
            (Some(budget), Some(new))
                if new.fits && shard.unused() < new.weight && new.epoch == self.link.keeping_epoch() =>
            {
                let (shard, fits) = self.make_room(budget, shard, hash, new.weight);
                new.fits = fits;
                shard
            }
            _ => shard,
        }
    }

    #[cold]
    fn make_room<'t>(
        &'t self,
        budget: &Budget,
        mut shard: MutexGuard<'t, TicketShard<T, E>>,
        hash: u64,
        weight: usize,
    ) -> (MutexGuard<'t, TicketShard<T, E>>, bool) {
        let short = weight - shard.unused();
        shard.grant(budget.take(short.saturating_add(budget.part())));
        if shard.unused() >= weight {
            return (shard, true);
        }
        drop(shard);
        // Held here, it is not offered to anybody else.
        let room = self.collect(budget, hash, weight);
        let mut shard = self.shard(hash);
        let enough = room >= weight;
        if enough {
            shard.grant(room);
        } else {
            budget.give_back(room);
        }
        (shard, enough)
    }

    /// Takes so many bytes from shards: from the entry's own while that has more than half its share, then from the
    /// others, and below that only when nobody has more. Before anything goes for a large entry, it is given what all
    /// of them leave unused; a small one is not worth that walk. No more than some entries go while a shard is locked,
    /// and no two shards are locked at once.
    fn collect(&self, budget: &Budget, hash: u64, weight: usize) -> usize {
        let (own, shards) = (self.index(hash), self.shards.len());
        let mut room = 0;
        let unused_alone = (weight > budget.part()).then_some(usize::MAX);
        for floor in unused_alone.into_iter().chain([budget.share / 2, 0]) {
            let mut any = true;
            while any && room < weight {
                any = false;
                for step in 0..shards {
                    if room >= weight {
                        break;
                    }
                    let mut shard = self.lock_at((own + step) & (shards - 1));
                    let (taken, evicted) = shard.withdraw(weight - room, floor);
                    let removed = self.released(&mut shard);
                    drop(shard);
                    room += taken;
                    any |= evicted;
                    // A destructor that panics must not take the room along.
                    let _panicked = catch_unwind(AssertUnwindSafe(move || drop(removed)));
                }
            }
        }
        room
    }

    /// Gives back what a shard has no use for, but for a part to go on with.
    #[inline]
    pub(crate) fn give_back_unused(&self, shard: &mut TicketShard<T, E>) {
        if let Some(budget) = &self.budget
            && shard.unused() > 2 * budget.part()
        {
            budget.give_back(shard.take_unused(budget.part()));
        }
    }
}
