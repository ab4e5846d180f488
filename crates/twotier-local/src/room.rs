//! How an entry that comes in gets its room, and who goes for it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    budget::Budget,
    entry::NewEntry,
    inner::{Inner, TicketShard},
    sync::MutexGuard,
};

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
                if new.fits
                    && shard.unused() < new.weight
                    && new.mark.epoch == self.links.keeping_epoch(new.mark.link) =>
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
}
