//! The tier: shards behind their locks, the link's state, and the clock.

use std::{
    fmt,
    hash::BuildHasher,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use smol_str::SmolStr;
use twotier_core::{
    ChangeListener, Clock, Eviction, LatencyRecorder, LatencySnapshot, LatencyStats, Lease, LocalStats, Mark,
    Namespace, RemovalCause, SizeCurve, Timestamp,
};

use crate::{
    advisor::Advisor,
    budget::Budget,
    counters::CoherenceCounters,
    digest::Digest,
    flight::{Flight, Joiner, Outcome},
    hash::{KeyHasher, key_hasher},
    link::{LeaseState, is_up},
    load::LoadState,
    options::{LocalOptions, entry_overhead},
    policy::{Entries, Removed, Walk, Way},
    shard::{FillRequest, FillStart, LookupTime, Shard},
    sync::{Mutex, MutexGuard},
    ticket::{FillTicket, WriteTicket},
};

/// The in-process tier: a bounded map whose hits come with a bound on their staleness.
///
/// `T` is the value kept: cheap to clone, such as an `Arc`, because it is cloned under a lock. `E` is the error that a
/// failed read shares with those who joined it.
///
/// A handle is cheap to clone and clones share everything. The link is down at first: nothing is served or kept before
/// [`link_up`](ChangeListener::link_up).
pub struct LocalTier<T, E> {
    inner: Arc<Inner<T, E>>,
}

pub(crate) struct Inner<T, E> {
    pub(crate) link: LeaseState,
    pub(crate) clock: Arc<dyn Clock>,
    namespace: Namespace,
    /// For how long a read of the backend is joined.
    joinable: Duration,
    hasher: KeyHasher,
    /// Boxed, so that a hit of a tier without one finds out in what it reads anyway.
    pub(crate) advisor: Option<Box<Advisor>>,
    pub(crate) shards: Box<[Padded<T, E>]>,
    max_entries: usize,
    max_bytes: usize,
    /// What one entry may weigh.
    pub(crate) heaviest: usize,
    /// The bytes of several shards.
    pub(crate) budget: Option<Budget>,
    eviction: Eviction,
    pub(crate) keeps_nothing: bool,
    on_removal: Option<Box<RemovalListener<T>>>,
    /// How long changes took to be reported.
    lag: LatencyRecorder,
}

/// Notified of each entry that goes: its key, its value, and why. Called when no lock is held.
pub type RemovalListener<T> = dyn Fn(&str, T, RemovalCause) + Send + Sync;

/// What a shard let go. Dropped when the shard is unlocked, it notifies the listener.
#[must_use = "values are dropped with it, which is not to happen under a lock"]
pub(crate) struct Released<'t, T> {
    removed: Removed<T>,
    listener: Option<&'t RemovalListener<T>>,
}

impl<T> Drop for Released<'_, T> {
    fn drop(&mut self) {
        if let Some(listener) = self.listener {
            notify(listener, mem::take(&mut self.removed).into_held());
        }
    }
}

/// A panic of the listener's is not that of whoever happened to be there.
fn notify<T>(listener: &RemovalListener<T>, gone: impl Iterator<Item = (SmolStr, T, RemovalCause)>) {
    for (key, value, cause) in gone {
        let _panicked = catch_unwind(AssertUnwindSafe(|| listener(&key, value, cause)));
    }
}

pub(crate) type TicketShard<T, E> = Shard<T, Arc<Flight<T, E>>, Arc<LoadState<T, E>>>;

/// A shard on cache lines of its own: 128 bytes, since processors fetch lines in pairs.
#[repr(align(128))]
pub(crate) struct Padded<T, E>(Mutex<TicketShard<T, E>>);

impl<T, E> Inner<T, E> {
    pub(crate) fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
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
        Released { removed: shard.take_removed(), listener: self.on_removal.as_deref() }
    }

    /// Gives a shard back, and only then drops what it let go. Out of the way of hits.
    #[cold]
    #[inline(never)]
    fn unlock_and_drop(&self, shard: MutexGuard<'_, TicketShard<T, E>>) {
        drop(self.unlock(shard));
        if let Some(advisor) = &self.advisor {
            advisor.missed(|| self.requests());
        }
    }

    /// Shows an access to the advisor. Out of the way of those that are not sampled.
    #[cold]
    #[inline(never)]
    fn advise(&self, advisor: &Advisor, hash: u64, key: &str, lookup: LookupTime, hit: bool) {
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
    fn requests(&self) -> u64 {
        self.shards.iter().map(|shard| shard.0.lock().requests()).sum()
    }

    /// Walks over the keys of a shard.
    fn walk(&self, index: usize, way: Way, wanted: usize) -> Vec<SmolStr> {
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
}

/// The action for a key that was missed.
#[derive(Debug)]
#[must_use = "a ticket that is dropped abandons the read"]
pub enum Read<T, E> {
    /// Nothing: it came in meanwhile.
    Hit(T),
    /// Somebody reads it already: wait for them.
    Join(Joiner<T, E>),
    /// Send a read to the backend and put the answer in by the ticket; wait for it as everybody does who joins.
    Lead(FillTicket<T, E>, Joiner<T, E>),
    /// As [`Lead`](Self::Lead), but the link is down: nobody joins. The ticket keeps nothing; filling it removes what
    /// the answer may be newer than, should the link be up by then.
    Bypass(FillTicket<T, E>, Joiner<T, E>),
}

impl<T, E> LocalTier<T, E>
where
    T: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// Makes an empty tier whose link is down.
    ///
    /// Bounds are expected to have been validated; a `max_entries` of 0 is taken as 1.
    #[must_use]
    pub fn new(namespace: Namespace, options: LocalOptions, clock: Arc<dyn Clock>) -> Self {
        Self::listened(namespace, options, clock, None)
    }

    /// Makes an empty tier as [`new`](Self::new) does, whose removals notify a listener, outside every lock and
    /// after they happened: on the stack of whoever caused one, which for a report is the backend's. A panic in it ends
    /// there.
    #[must_use]
    pub fn with_listener(
        namespace: Namespace,
        options: LocalOptions,
        clock: Arc<dyn Clock>,
        on_removal: Box<RemovalListener<T>>,
    ) -> Self {
        Self::listened(namespace, options, clock, Some(on_removal))
    }

    fn listened(
        namespace: Namespace,
        options: LocalOptions,
        clock: Arc<dyn Clock>,
        on_removal: Option<Box<RemovalListener<T>>>,
    ) -> Self {
        let hasher = key_hasher(options.seed);
        let shares = options.split();
        let heaviest = options.heaviest(shares.len());
        let budget = (shares.len() > 1).then(|| Budget::new(options.max_bytes, shares.len()));
        let shards = shares
            .into_iter()
            .map(|share| Padded(Mutex::new(Shard::new(options.eviction, share, hasher.clone()))))
            .collect();
        let link = LeaseState::new(options.max_staleness, clock.resolution());
        let max_entries = options.max_entries.max(1);
        let LocalOptions { max_bytes, joinable, eviction, keeps_nothing, size_advice, .. } = options;
        let advised = size_advice && !keeps_nothing;
        let advisor = advised.then(|| Advisor::new((max_entries, max_bytes), eviction, &hasher, clock.now()).into());
        let inner = Inner {
            link,
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
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner<T, E>> {
        &self.inner
    }

    /// Looks a key up, and counts exactly one hit or one miss.
    ///
    /// A hit notifies the eviction policy, which may make the entry the most recently used or only mark it; it
    /// allocates nothing. An entry past its life, or from before a flush or a lost link, is removed.
    #[inline]
    #[must_use]
    pub fn get(&self, key: &str) -> Option<T> {
        self.lookup(key, |value, _| value.clone())
    }

    /// Does what [`get`](Self::get) does, and returns the age of the value too: the time since before the command that
    /// fetched or wrote it was sent.
    #[inline]
    #[must_use]
    pub fn get_with_age(&self, key: &str) -> Option<(T, Duration)> {
        self.lookup(key, |value, age| (value.clone(), age))
    }

    /// Does what [`get`](Self::get) does, and returns what `read` makes of the value in its place: nothing is cloned,
    /// which for an `Arc` saves two writes to memory that other threads write to as well.
    ///
    /// `read` runs while the shard is locked, the one exception to the rule that no user code does: whoever asks for a
    /// key of the same shard meanwhile waits. It must be short, must not wait for anything, and **must not use the
    /// tier**: that may wait for itself. A panic in it leaves the tier as if the key had not been asked for.
    #[inline]
    pub fn get_with<R>(&self, key: &str, read: impl FnOnce(&T) -> R) -> Option<R> {
        self.lookup(key, |value, _| read(value))
    }

    #[inline]
    fn lookup<R>(&self, key: &str, serve: impl FnOnce(&T, Duration) -> R) -> Option<R> {
        let inner = &*self.inner;
        let hash = inner.hasher.hash_one(key);
        let now = inner.clock.now();
        let lease = inner.link.lease();
        let mut shard = inner.shard(hash);
        let lookup = LookupTime { now, lease, epoch: inner.link.epoch() };
        let hit = shard.get(hash, key, lookup, |value, fetched_at| serve(value, now.since(fetched_at)));
        if hit.is_none() {
            inner.unlock_and_drop(shard);
        } else {
            drop(shard);
        }
        if let Some(advisor) = &inner.advisor
            && advisor.samples(hash)
        {
            inner.advise(advisor, hash, key, lookup, hit.is_some());
        }
        hit
    }

    /// Looks a key up again after a counted miss, and returns the action for it. Counts neither a hit nor a
    /// miss.
    ///
    /// Of all who call this for one key while it is being read, one leads and the others join, unless news about the
    /// key came in between: a read that may have been overtaken is never joined, nor is one that has been under way for
    /// longer than copies may be stale. Everybody waits by a [`Joiner`], the leader included.
    pub fn read(&self, key: &str) -> Read<T, E> {
        self.look_or_read(key, None)
    }

    /// Does what [`read`](Self::read) does, for somebody who joined a read in vain.
    ///
    /// What began before a read was registered may be given any answer of it, so whoever waits in vain once is served
    /// by the next answer.
    pub fn read_again(&self, key: &str, in_vain: &Joiner<T, E>) -> Read<T, E> {
        self.look_or_read(key, Some(in_vain.began))
    }

    fn look_or_read(&self, key: &str, began: Option<u64>) -> Read<T, E> {
        let inner = &*self.inner;
        let hash = inner.hasher.hash_one(key);
        let flight = Flight::new();
        let key = SmolStr::new(key);
        let now = inner.clock.now();
        let lease = inner.link.lease();
        let mut shard = inner.shard(hash);
        let epoch = inner.link.epoch();
        let request = FillRequest { flight: &flight, began, joinable: inner.joinable };
        let start = shard.begin_fill(hash, &key, LookupTime { now, lease, epoch }, &request);
        let removed = inner.unlock(shard);
        let read = match start {
            FillStart::Hit(value) => Read::Hit(value),
            FillStart::Join { flight, only, began } => {
                // Who leaves in between may be the last one and drop the answer: this one then elects again.
                flight.join();
                Read::Join(Joiner::counted(flight, only, began))
            }
            FillStart::Lead { id, began } => {
                let ticket = self.fill_ticket(hash, key, id, Mark::new(epoch, now), &flight);
                Read::Lead(ticket, Joiner::counted(flight, None, began))
            }
            FillStart::Bypass { began } => {
                // Identifiers begin at 1: this one is registered nowhere.
                let ticket = self.fill_ticket(hash, key, 0, Mark::new(epoch, now), &flight);
                Read::Bypass(ticket, Joiner::counted(flight, None, began))
            }
        };
        drop(removed);
        read
    }

    fn fill_ticket(
        &self,
        hash: u64,
        key: SmolStr,
        id: u64,
        mark: Mark,
        flight: &Arc<Flight<T, E>>,
    ) -> FillTicket<T, E> {
        FillTicket::new(Arc::clone(&self.inner), hash, key, id, mark, Arc::clone(flight))
    }

    /// Registers an own write before its command is sent: removes the entry, and kills the reads under way.
    ///
    /// `digest` is that of the bytes written, or [`Digest::ABSENT`] for a deletion. While the write is under way no
    /// read of the key is kept. Two writes of one key at the same time leave it empty: which of them the server
    /// executed last is not known here.
    pub fn begin_write(&self, key: &str, digest: Digest) -> WriteTicket<T, E> {
        let inner = &*self.inner;
        let hash = inner.hasher.hash_one(key);
        let key = SmolStr::new(key);
        let at = inner.clock.now();
        let mut shard = inner.shard(hash);
        let epoch = inner.link.epoch();
        let id = shard.begin_write(hash, &key, digest);
        let removed = inner.unlock(shard);
        inner.advise_removed(hash);
        let ticket = WriteTicket::new(Arc::clone(&self.inner), hash, key, id, Mark::new(epoch, at), digest);
        drop(removed);
        ticket
    }

    /// Forgets a key, and returns whether an entry was there. Nothing read or written before the call is kept after it,
    /// and whoever waits for a read from before it looks again.
    pub fn invalidate(&self, key: &str) -> bool {
        let inner = &*self.inner;
        let hash = inner.hasher.hash_one(key);
        let mut shard = inner.shard(hash);
        let (held, dead) = shard.invalidate(hash, key);
        let removed = inner.unlock(shard);
        inner.advise_removed(hash);
        if let Some(dead) = dead {
            dead.settle(Outcome::Abandoned);
        }
        drop(removed);
        held
    }

    /// Forgets everything, drops it, and returns how many entries there were; see [`take_all`](Self::take_all).
    pub fn clear(&self) -> usize {
        self.take_all().len()
    }

    /// Forgets everything, and returns it, for the caller to drop where the time that takes does no harm: a second for
    /// some millions of entries. Nothing read or written before the call is kept after it. Counters go on.
    ///
    /// Shards are emptied one after the other: a concurrent caller may see some keys gone and others not yet.
    pub fn take_all(&self) -> Cleared<T, E> {
        let mut removed = Vec::with_capacity(self.inner.shards.len());
        for shard in &self.inner.shards {
            let plan = shard.0.lock().plan();
            let empty = plan.into();
            let mut shard = shard.0.lock();
            let emptied = shard.clear(empty);
            self.inner.give_back_unused(&mut shard);
            drop(shard);
            removed.push(emptied);
        }
        if let Some(advisor) = &self.inner.advisor {
            advisor.cleared();
        }
        for flight in removed.iter().flat_map(|emptied| &emptied.flights) {
            flight.settle(Outcome::Abandoned);
        }
        Cleared { entries: removed.into_iter().map(|emptied| emptied.entries).collect(), tier: self.clone() }
    }

    /// Begins a clearing of the backend by this cache itself, whose removals nobody reports: forgets everything now and
    /// again when the guard is dropped, and keeps nothing in between. Returns what was forgotten now, too.
    pub fn begin_clear(&self) -> (Clearing<T, E>, Cleared<T, E>) {
        self.inner.link.begin_clearing();
        self.flush();
        let cleared = self.take_all();
        (Clearing { tier: self.clone() }, cleared)
    }

    /// Declares all copies outdated, as a flush of the backend does: nothing read or written before the call is served
    /// or kept after it. Entries are counted as outdated when they are found. Does nothing while the link is down, when
    /// that is so anyway.
    pub fn flush(&self) {
        self.inner.link.flush();
    }

    /// Returns what an entry counts against `max_bytes`: key, value and [`entry_overhead`].
    #[must_use]
    pub fn weight_of(&self, key: &str, value_bytes: usize) -> usize {
        self.inner.weight(key, value_bytes)
    }

    /// Returns whether copies are served: the link is up, and its last proof of life is not too long ago.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        let now = self.inner.clock.now();
        let lease = self.inner.link.lease();
        is_up(self.inner.link.epoch()) && now < lease
    }

    /// Returns for how long copies may be served unless there is another proof of life: zero while the link is down,
    /// `None` while nothing need be renewed.
    #[must_use]
    pub fn lease_remaining(&self) -> Option<Duration> {
        let now = self.inner.clock.now();
        let lease = self.inner.link.lease();
        if !is_up(self.inner.link.epoch()) {
            return Some(Duration::ZERO);
        }
        (lease != Timestamp::MAX).then(|| lease.since(now))
    }

    /// Returns how long changes took to be reported, as the backend [measured](ChangeListener::invalidation_took) it.
    #[must_use]
    pub fn invalidation_lag(&self) -> LatencyStats {
        self.inner.lag.stats()
    }

    /// Returns all that [`invalidation_lag`](Self::invalidation_lag) is taken from.
    #[must_use]
    pub fn invalidation_lag_snapshot(&self) -> LatencySnapshot {
        self.inner.lag.snapshot()
    }

    /// Returns the statistics, each shard's as they are at one moment: what one counter says of another, such as that
    /// every insertion is held or was counted as it went, holds for the sums too. What happens during the call may be
    /// counted or not. All zero for a tier that [keeps nothing](LocalOptions::keep_nothing).
    #[must_use]
    pub fn stats(&self) -> LocalStats {
        let mut stats = LocalStats::default();
        if self.inner.keeps_nothing {
            return stats;
        }
        stats.enabled = true;
        stats.max_size = self.inner.max_entries;
        stats.max_bytes = self.inner.max_bytes;
        for shard in &self.inner.shards {
            shard.0.lock().add_to(&mut stats);
        }
        // Bytes that one shard gave to another during the call may have been counted in both.
        stats.bytes = stats.bytes.min(stats.max_bytes);
        stats
    }

    /// Returns how often the tier would hit if it were smaller or larger, as far as its
    /// [advisor](LocalOptions::size_advice) knows; `None` where it has none.
    #[must_use]
    pub fn size_curve(&self) -> Option<SizeCurve> {
        let advisor = self.inner.advisor.as_ref()?;
        Some(advisor.curve(self.inner.requests(), self.inner.clock.now()))
    }

    /// Returns what the coherence protocol did, each shard as it is at one moment, and the link as it is just after.
    #[must_use]
    pub fn counters(&self) -> CoherenceCounters {
        let mut sum = CoherenceCounters::default();
        for shard in &self.inner.shards {
            let counters = *shard.0.lock().counters();
            sum.invalidations += counters.invalidations;
            sum.refused_fills += counters.refused_fills;
            sum.refused_writes += counters.refused_writes;
            sum.refused_loads += counters.refused_loads;
        }
        let changes = self.inner.link.changes();
        CoherenceCounters { flushes: changes.flushes, links: changes.links, ..sum }
    }

    /// Returns the keys held, shard by shard. By LRU and FIFO they come in the order in which they would be evicted; by
    /// S3-FIFO and W-TinyLFU the queue of new keys comes first, each queue from its oldest; else as they came in.
    /// Entries that would not be served any more are among them until they are found.
    ///
    /// A shard is locked for some keys at a time. A key that stays is returned, once; one that comes, goes or is
    /// written anew meanwhile may be.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let all = |index| self.inner.walk(index, Way::Forwards, usize::MAX);
        (0..self.inner.shards.len()).flat_map(all).map(String::from).collect()
    }

    /// Returns up to `n` keys, the hottest first, shards taking turns: by LFU those hit most often, else those last in
    /// [`keys`](Self::keys). As there, entries that would not be served any more are among them: after a flush these
    /// are the keys to read again. A key that is hit meanwhile may be missing.
    #[must_use]
    pub fn hottest(&self, n: usize) -> Vec<String> {
        let hottest = |each: usize| -> Vec<_> {
            (0..self.inner.shards.len()).map(|index| self.inner.walk(index, Way::Backwards, each).into_iter()).collect()
        };
        // More than the turn of each: some shards hold fewer than others.
        let mut shards = hottest(n.div_ceil(self.inner.shards.len()).saturating_mul(2).min(n));
        if shards.iter().map(ExactSizeIterator::len).sum::<usize>() < n {
            shards = hottest(n);
        }
        let longest = shards.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let turns = (0..longest).flat_map(|_| shards.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>());
        turns.take(n).map(String::from).collect()
    }
}

impl<T, E> ChangeListener for LocalTier<T, E>
where
    T: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    fn mark(&self) -> Mark {
        let epoch = self.inner.link.epoch();
        Mark::new(epoch, self.inner.clock.now())
    }

    fn proof_of_life(&self, mark: Mark) {
        self.inner.link.proof(mark);
    }

    /// Forgets the key if it is of the namespace, and drops the value when the shard is unlocked. Its destructor is
    /// user code, which runs where the backend reports: a panic in it ends here.
    fn changed(&self, key: &[u8]) {
        // Every key of ours is UTF-8, so a name that is not cannot be one.
        let Some(Ok(key)) = self.inner.namespace.strip(key).map(str::from_utf8) else { return };
        let hash = self.inner.hasher.hash_one(key);
        let mut shard = self.inner.shard(hash);
        shard.changed(hash, key);
        let removed = self.inner.unlock(shard);
        self.inner.advise_removed(hash);
        let _panicked = catch_unwind(AssertUnwindSafe(move || drop(removed)));
    }

    fn flushed(&self) {
        self.inner.link.flush();
    }

    fn link_up(&self, lease: Lease) {
        self.inner.link.up(lease);
    }

    fn link_down(&self) {
        self.inner.link.down();
    }

    fn invalidation_took(&self, lag: Duration) {
        self.inner.lag.record(lag);
    }
}

impl<T, E> Clone for LocalTier<T, E> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T, E> fmt::Debug for LocalTier<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTier")
            .field("namespace", &self.inner.namespace)
            .field("max_entries", &self.inner.max_entries)
            .field("max_bytes", &self.inner.max_bytes)
            .field("eviction", &self.inner.eviction)
            .field("shards", &self.inner.shards.len())
            .field("link", &self.inner.link)
            .finish_non_exhaustive()
    }
}

/// What a tier held before it was [cleared](LocalTier::take_all). Dropped, it notifies the tier's listener.
#[must_use = "dropping it drops every value"]
pub struct Cleared<T, E> {
    entries: Vec<Entries<T>>,
    tier: LocalTier<T, E>,
}

impl<T, E> Cleared<T, E> {
    /// Returns how many entries there were.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.iter().map(Entries::len).sum()
    }

    /// Returns whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T, E> Drop for Cleared<T, E> {
    fn drop(&mut self) {
        if let Some(listener) = &self.tier.inner.on_removal {
            let entries = mem::take(&mut self.entries).into_iter();
            notify(&**listener, entries.flat_map(|entries| entries.into_held(RemovalCause::Cleared)));
        }
    }
}

impl<T, E> fmt::Debug for Cleared<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cleared").field(&self.len()).finish()
    }
}

/// A clearing of the backend under way; see [`LocalTier::begin_clear`].
#[must_use = "dropping it ends the clearing"]
pub struct Clearing<T, E>
where
    T: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    tier: LocalTier<T, E>,
}

impl<T, E> Drop for Clearing<T, E>
where
    T: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        // What was registered before this flush saw keys that are gone now; what is registered after it did not.
        self.tier.flush();
        self.tier.clear();
        self.tier.inner.link.end_clearing();
    }
}

impl<T, E> fmt::Debug for Clearing<T, E>
where
    T: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clearing").finish_non_exhaustive()
    }
}
