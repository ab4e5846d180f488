//! What all handles of a tier share: shards behind their locks, the link's state, and the clock.

use std::{hash::BuildHasher, sync::Arc, time::Duration};

use smol_str::SmolStr;
use twotier_core::{Clock, Eviction, LatencyRecorder, LinkId, Namespace};

use crate::{
    advisor::Advisor,
    budget::Budget,
    completion::LoadState,
    flight::Flight,
    hash::{KeyHasher, key_hasher},
    link::{Links, is_up},
    options::{LocalOptions, entry_overhead},
    policy::{Walk, Way},
    removal::{Released, RemovalListener},
    shard::{LookupTime, Shard},
    sync::{Mutex, MutexGuard},
};

/// Returns over which link a key is read and written now.
pub type Route = dyn Fn(&str) -> LinkId + Send + Sync;

/// How often a ticket is registered anew because its key went to another link meanwhile.
const ROUTED: usize = 8;
/// A link that never is up.
const NOWHERE: LinkId = LinkId::new(u16::MAX);

pub(crate) struct Inner<T, E> {
    pub(crate) links: Links,
    /// `None` where there is one link.
    route: Option<Box<Route>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) namespace: Namespace,
    /// For how long a read of the backend is joined.
    pub(crate) joinable: Duration,
    pub(crate) hasher: KeyHasher,
    /// Boxed, so that a hit of a tier without one finds out in what it reads anyway.
    pub(crate) advisor: Option<Box<Advisor>>,
    pub(crate) shards: Box<[Padded<T, E>]>,
    pub(crate) max_entries: usize,
    pub(crate) max_bytes: usize,
    /// What one entry may weigh.
    pub(crate) heaviest: usize,
    /// The bytes of several shards.
    pub(crate) budget: Option<Budget>,
    pub(crate) eviction: Eviction,
    pub(crate) keeps_nothing: bool,
    pub(crate) on_removal: Option<Box<dyn RemovalListener<T>>>,
    /// How long changes took to be reported.
    pub(crate) lag: LatencyRecorder,
}

pub(crate) type TicketShard<T, E> = Shard<T, Arc<Flight<T, E>>, Arc<LoadState<T, E>>>;

/// A shard on cache lines of its own: 128 bytes, since processors fetch lines in pairs.
#[repr(align(128))]
pub(crate) struct Padded<T, E>(pub(crate) Mutex<TicketShard<T, E>>);

impl<T, E> Inner<T, E> {
    /// Makes what is behind an empty tier whose link is down.
    pub(crate) fn new(
        namespace: Namespace,
        options: LocalOptions,
        clock: Arc<dyn Clock>,
        on_removal: Option<Box<dyn RemovalListener<T>>>,
        route: Option<Box<Route>>,
    ) -> Self {
        let hasher = key_hasher(options.seed);
        let shares = options.split();
        let heaviest = options.heaviest(shares.len());
        let budget = (shares.len() > 1).then(|| Budget::new(options.max_bytes, shares.len()));
        let shards = shares
            .into_iter()
            .map(|share| Padded(Mutex::new(Shard::new(options.eviction, share, hasher.clone()))))
            .collect();
        let links = Links::new(options.max_staleness, clock.resolution(), options.keeps_lost);
        let max_entries = options.max_entries.max(1);
        let LocalOptions { max_bytes, joinable, eviction, keeps_nothing, size_advice, .. } = options;
        let advised = size_advice && !keeps_nothing;
        let advisor = advised.then(|| Advisor::new((max_entries, max_bytes), eviction, &hasher, clock.now()).into());
        Self {
            links,
            route,
            clock,
            namespace,
            joinable,
            hasher,
            advisor,
            shards,
            max_entries,
            max_bytes,
            heaviest,
            budget,
            eviction,
            keeps_nothing,
            on_removal,
            lag: LatencyRecorder::new(),
        }
    }

    pub(crate) fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Registers a ticket of a key with the link that the key is read and written over, whatever kind of ticket it is.
    ///
    /// The route is asked once more after the ticket was registered, and if it says another link the ticket is dropped
    /// and registered anew. If it still says the same, a map that takes the key from this link is put in force later,
    /// and the link's epoch changes [after that](twotier_core::ChangeListener): the ticket is registered by then, and
    /// dies of it.
    pub(crate) fn routed<R>(&self, key: &str, register: impl Fn(LinkId) -> R) -> R {
        let mut link = self.route(key);
        for _ in 0..ROUTED {
            let registered = register(link);
            let now = self.route(key);
            if now == link {
                return registered;
            }
            drop(registered);
            link = now;
        }
        register(NOWHERE)
    }

    /// Returns over which link a key is read and written now. Who has the one link that is alone need not be asked.
    #[inline]
    pub(crate) fn route(&self, key: &str) -> LinkId {
        match &self.route {
            Some(route) if !is_up(self.links.epoch(LinkId::ONLY)) => route(key),
            _ => LinkId::ONLY,
        }
    }

    /// Locks the shard of a key's hash.
    #[inline]
    pub(crate) fn shard(&self, hash: u64) -> MutexGuard<'_, TicketShard<T, E>> {
        self.shards[self.index(hash)].0.lock()
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the mask keeps at most 16 bits")]
    pub(crate) fn index(&self, hash: u64) -> usize {
        // The map uses the lowest bits and the top seven; the shard is chosen by others.
        (hash >> 40) as usize & (self.shards.len() - 1)
    }

    pub(crate) fn lock_at(&self, index: usize) -> MutexGuard<'_, TicketShard<T, E>> {
        self.shards[index].0.lock()
    }

    /// Gives a shard back, and returns what it let go, for the caller to drop.
    pub(crate) fn unlock(&self, mut shard: MutexGuard<'_, TicketShard<T, E>>) -> Released<'_, T> {
        self.give_back_unused(&mut shard);
        self.released(&mut shard)
    }

    /// Takes what a shard let go, to be dropped when it is unlocked.
    pub(crate) fn released(&self, shard: &mut TicketShard<T, E>) -> Released<'_, T> {
        Released::new(shard.take_removed(), self.on_removal.as_deref())
    }

    /// Gives a shard back, and only then drops what it let go. Out of the way of hits.
    #[cold]
    #[inline(never)]
    pub(crate) fn unlock_and_drop(&self, shard: MutexGuard<'_, TicketShard<T, E>>) {
        drop(self.unlock(shard));
        if let Some(advisor) = &self.advisor {
            advisor.missed(|| self.requests());
        }
    }

    /// Shows an access to the advisor. Out of the way of those that are not sampled.
    #[cold]
    #[inline(never)]
    pub(crate) fn advise(&self, advisor: &Advisor, hash: u64, key: &str, lookup: LookupTime<'_>, hit: bool) {
        advisor.accessed(hash, lookup, hit, || self.shard(hash).copy_traits(hash, key), || self.requests());
    }

    /// Shows the advisor that a copy of the key can be in no tier of whatever size.
    #[inline]
    pub(crate) fn advise_removed(&self, hash: u64) {
        if let Some(advisor) = &self.advisor {
            advisor.removed(hash);
        }
    }

    /// Returns how often keys were asked for.
    pub(crate) fn requests(&self) -> u64 {
        self.shards.iter().map(|shard| shard.0.lock().requests()).sum()
    }

    /// Walks over the keys of a shard.
    pub(crate) fn walk(&self, index: usize, way: Way, wanted: usize) -> Vec<SmolStr> {
        let mut walk = Walk::new(way, wanted);
        while !walk.has_ended() {
            let piece = self.lock_at(index).look_at_keys(&mut walk);
            walk.take(piece);
        }
        walk.into_keys().collect()
    }

    /// Returns what an entry counts against `max_bytes`.
    pub(crate) fn weight(&self, key: &str, value_bytes: usize) -> usize {
        key.len().saturating_add(value_bytes).saturating_add(entry_overhead(self.eviction))
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
