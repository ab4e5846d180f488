//! A map bounded by entries and bytes, and the policies by which it lets entries go.
//!
//! All policies are one type, dispatched by a `match` and not by a virtual call, and obey one set of rules: the bounds
//! are never exceeded, an entry found by its key is the last one put, and whatever goes is handed to the caller, who
//! drops it when no lock is held.

mod fifo;
mod ghost;
mod lfu;
mod lru;
mod random;
mod s3fifo;
mod sketch;
mod table;
mod walk;
mod wtinylfu;

use smol_str::SmolStr;
use twotier_core::{Eviction, RemovalCause};

pub(crate) use self::walk::{Piece, Walk, Way};
use self::{
    fifo::Fifo,
    lfu::Lfu,
    lru::Lru,
    random::Random,
    s3fifo::{S3Fifo, SPARED},
    table::Pair,
    walk::Queue,
    wtinylfu::WTinyLfu,
};
use crate::{
    entry::{Entry, Shift},
    hash::KeyHasher,
    options::Share,
};

/// What a lookup decides about an entry that it found.
#[derive(Debug)]
pub(crate) enum Verdict<R> {
    /// It is a hit: notify the policy, and return this.
    Serve(R),
    /// It is not served now, and stays, for this reason.
    Keep(BarredReason),
    /// It can never be served again, and this is why.
    Remove(DeadReason),
}

/// Why an entry is not served, though it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarredReason {
    /// There is no lease: the next proof of life makes it as good as before.
    Lease,
    /// It is past its soft life.
    SoftLife,
    /// It is of an epoch that ended with its link.
    LostLink,
}

/// Why an entry can never be served again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeadReason {
    /// It is past its deadline.
    Expired,
    /// It is from before a flush or a lost link.
    Outdated,
}

/// How a lookup ended.
#[derive(Debug)]
pub(crate) enum Looked<R> {
    Hit(R),
    Miss,
    /// An entry was found that is not served now, and stays.
    Barred(BarredReason),
    /// An entry was found that can never be served again, and is still there.
    Dead(DeadReason),
}

/// What an insertion did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Insertion {
    /// Whether an older value of the key went.
    pub(crate) replaced: bool,
    /// How many others went because there were too many entries.
    pub(crate) evicted_for_entries: u64,
    /// How many others went because there were too many bytes.
    pub(crate) evicted_for_bytes: u64,
}

/// The entries of one shard.
#[derive(Debug)]
pub(crate) struct Entries<T> {
    policy: Policy<T>,
    plan: Plan,
}

/// How entries are kept.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) eviction: Eviction,
    pub(crate) share: Share,
    pub(crate) hasher: KeyHasher,
}

impl<T> From<Plan> for Entries<T> {
    /// Makes an empty map, which allocates what its share reserves.
    fn from(plan: Plan) -> Self {
        Self { policy: Policy::new(plan.eviction, plan.share, plan.hasher.clone()), plan }
    }
}

#[derive(Debug)]
enum Policy<T> {
    Lru(Lru<T>),
    Fifo(Fifo<T>),
    Lfu(Lfu<T>),
    Random(Random<T>),
    S3Fifo(S3Fifo<T>),
    WTinyLfu(WTinyLfu<T>),
}

/// Does the same with whichever policy there is.
macro_rules! each {
    ($policy:expr, $it:ident => $do:expr) => {
        match $policy {
            Policy::Lru($it) => $do,
            Policy::S3Fifo($it) => $do,
            Policy::WTinyLfu($it) => $do,
            Policy::Fifo($it) => $do,
            Policy::Lfu($it) => $do,
            Policy::Random($it) => $do,
        }
    };
}

impl<T> Policy<T> {
    fn new(eviction: Eviction, share: Share, hasher: KeyHasher) -> Self {
        match eviction {
            Eviction::Lfu => Self::Lfu(Lfu::new(share, hasher)),
            Eviction::Fifo => Self::Fifo(Fifo::new(share, hasher)),
            Eviction::Random { seed } => Self::Random(Random::new(seed, share, hasher)),
            Eviction::S3Fifo => Self::S3Fifo(S3Fifo::new(share, hasher)),
            Eviction::WTinyLfu => Self::WTinyLfu(WTinyLfu::new(share, hasher)),
            // The default stands for what a later version of the vocabulary may add.
            _ => Self::Lru(Lru::new(share, hasher)),
        }
    }
}

impl<T> Entries<T> {
    pub(crate) fn plan(&self) -> Plan {
        self.plan.clone()
    }

    pub(crate) fn len(&self) -> usize {
        each!(&self.policy, it => it.len())
    }

    pub(crate) fn bytes(&self) -> usize {
        each!(&self.policy, it => it.bytes())
    }

    /// Returns how many of the bytes granted are not held.
    #[inline]
    pub(crate) fn unused(&self) -> usize {
        self.plan.share.granted - self.bytes()
    }

    pub(crate) fn grant(&mut self, bytes: usize) {
        self.plan.share.granted += bytes;
    }

    /// Takes unused bytes back.
    pub(crate) fn withdraw(&mut self, bytes: usize) -> usize {
        self.plan.share.granted -= bytes;
        bytes
    }

    /// Puts the keys into a walk that it comes to next: forwards those that go first, as far as that is settled
    /// beforehand; backwards the hottest, by LFU those hit most often, else those that go last.
    pub(crate) fn look_at_keys(&mut self, walk: &mut Walk) -> Piece {
        if let (Policy::Lfu(lfu), Way::Backwards, 0) = (&mut self.policy, walk.way, walk.queue) {
            return lfu.piece(walk);
        }
        each!(&mut self.policy, it => {
            let queues = it.queues();
            let nth = match walk.way {
                Way::Forwards => Some(walk.queue),
                Way::Backwards => (queues.len() - 1).checked_sub(walk.queue),
            };
            let queue = nth.and_then(|nth| queues.into_iter().nth(nth));
            queue.map_or(Piece::End, |queue| queue.piece(walk))
        })
    }

    /// Looks a key up by its hash and lets `judge` decide. A hit notifies the policy.
    #[inline]
    pub(crate) fn look<R>(&mut self, hash: u64, key: &str, judge: impl FnOnce(&Entry<T>) -> Verdict<R>) -> Looked<R> {
        // Where a function is not inlined its closure lies in memory; one of its own, or that of the others would too.
        match &mut self.policy {
            Policy::Lru(it) => it.look(hash, key, judge),
            Policy::S3Fifo(it) => it.look(hash, key, judge),
            Policy::WTinyLfu(it) => it.look(hash, key, judge),
            Policy::Fifo(it) => it.look(hash, key, judge),
            Policy::Lfu(it) => it.look(hash, key, move |entry| judge(entry)),
            Policy::Random(it) => it.look(hash, key, move |entry| judge(entry)),
        }
    }

    /// Removes the entry of a key if `wrong`.
    pub(crate) fn remove_if(&mut self, hash: u64, key: &str, wrong: impl FnOnce(&Entry<T>) -> bool) -> Option<Pair<T>> {
        each!(&mut self.policy, it => it.remove_if(hash, key, wrong))
    }

    /// Puts an entry in, after letting go what stands in its way: the older one of its key, then others while there are
    /// too many entries, then others while there are too many bytes. What went is pushed to `removed`.
    ///
    /// It must not alone be heavier than what was granted.
    pub(crate) fn insert(&mut self, hash: u64, (key, entry): Pair<T>, removed: &mut Removed<T>) -> Insertion {
        let mut done = Insertion::default();
        if let Some(older) = self.remove_if(hash, &key, |_| true) {
            removed.push(older, RemovalCause::Superseded);
            done.replaced = true;
        }
        let weight = entry.weight();
        let Share { max_entries, granted, .. } = self.plan.share;
        each!(&mut self.policy, it => {
            // The policy is notified of the key first: it may have to weigh it against those who are there.
            it.prepare(hash);
            while it.len() >= max_entries && let Some(victim) = it.evict() {
                removed.push(victim, RemovalCause::EvictedForEntries);
                done.evicted_for_entries += 1;
            }
            while it.bytes() + weight > granted && let Some(victim) = it.evict() {
                removed.push(victim, RemovalCause::EvictedForBytes);
                done.evicted_for_bytes += 1;
            }
            it.insert(hash, (key, entry));
        });
        done
    }

    /// Lets entries go until those weigh enough, but no more than a few, and none once there are no more bytes than
    /// `floor`. Returns how many went, pushed to `removed`.
    pub(crate) fn evict(&mut self, enough: usize, floor: usize, removed: &mut Removed<T>) -> u64 {
        let (before, mut went) = (self.bytes(), 0);
        each!(&mut self.policy, it => {
            while went < SPARED as u64
                && before - it.bytes() < enough
                && it.bytes() > floor
                && let Some(victim) = it.evict()
            {
                removed.push(victim, RemovalCause::EvictedForBytes);
                went += 1;
            }
        });
        went
    }

    /// Puts an empty map in the place of this one, which keeps what it was granted, and returns it as it was.
    pub(crate) fn replace(&mut self, mut empty: Self) -> Self {
        empty.plan.share.granted = self.plan.share.granted;
        std::mem::replace(self, empty)
    }

    /// Hands over all entries, with the cause of their going.
    pub(crate) fn each_held(mut self, cause: RemovalCause, mut take: impl FnMut(&str, T, RemovalCause)) {
        each!(&mut self.policy, it => {
            while let Some((key, entry)) = it.evict() {
                take(&key, entry.value, cause);
            }
        });
    }

    /// Moves every entry's times along with the origin.
    pub(crate) fn shift(&mut self, by: Shift) {
        each!(&mut self.policy, it => it.shift(by));
    }
}

/// What was taken out of a map, to be dropped when no lock is held. The first needs no allocation, and there is seldom
/// a second.
#[derive(Debug)]
pub(crate) struct Removed<T> {
    first: Option<Gone<T>>,
    more: Vec<Gone<T>>,
    /// Maps that were emptied, all outdated.
    outdated: Vec<Entries<T>>,
}

/// A key, its value, and why it went, unless it never came in.
type Gone<T> = (SmolStr, T, Option<RemovalCause>);

impl<T> Removed<T> {
    /// Returns whether there is nothing to drop. The first comes first.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.outdated.is_empty()
    }

    /// Returns how many single entries there are.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    /// Returns the keys of the entries that came after so many others.
    pub(crate) fn keys_after(&self, others: usize) -> impl Iterator<Item = &SmolStr> {
        self.first.iter().chain(&self.more).skip(others).map(|(key, ..)| key)
    }

    pub(crate) fn push(&mut self, (key, entry): Pair<T>, cause: RemovalCause) {
        self.push_gone((key, entry.value, Some(cause)));
    }

    pub(crate) fn push_refused(&mut self, key: SmolStr, value: T) {
        self.push_gone((key, value, None));
    }

    fn push_gone(&mut self, gone: Gone<T>) {
        if self.first.is_none() {
            self.first = Some(gone);
        } else {
            self.more.push(gone);
        }
    }

    pub(crate) fn push_outdated(&mut self, entries: Entries<T>) {
        self.outdated.push(entries);
    }

    /// Hands over everything that was held, with the cause.
    pub(crate) fn each_held(self, mut take: impl FnMut(&str, T, RemovalCause)) {
        for (key, value, cause) in self.first.into_iter().chain(self.more) {
            if let Some(cause) = cause {
                take(&key, value, cause);
            }
        }
        self.outdated.into_iter().for_each(|entries| entries.each_held(RemovalCause::Outdated, &mut take));
    }
}

impl<T> Default for Removed<T> {
    fn default() -> Self {
        Self { first: None, more: Vec::new(), outdated: Vec::new() }
    }
}
