//! The tier as its users see it.

use std::{
    fmt,
    hash::BuildHasher,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use smol_str::SmolStr;
use twotier_core::{
    ChangeListener, Clock, LatencySnapshot, LatencyStats, Lease, LinkId, LocalStats, Mark, Namespace, SizeCurve,
    Timestamp,
};

use crate::{
    clearing::{Cleared, Clearing},
    counters::CoherenceCounters,
    digest::Digest,
    flight::{Flight, Joiner, Outcome},
    inner::{Inner, Route},
    link::{OUTAGE, is_up},
    options::LocalOptions,
    policy::Way,
    removal::RemovalListener,
    shard::{FillRequest, FillStart, LookupTime},
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

/// A copy of which nobody says that it is current.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StaleCopy<T> {
    /// The value.
    pub value: T,
    /// The time since it is known to have been what the backend held: since the last proof of life of its link, or
    /// since before the command that fetched or wrote it was sent, whichever is later.
    pub at_most: Duration,
}

/// A copy that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalCopy<T> {
    /// The value.
    pub value: T,
    /// The time since before the command that fetched or wrote it was sent, or before its load began.
    pub age: Duration,
    /// Whether it came from the origin while the backend did not answer; see
    /// [`LoadTicket::keep`](crate::LoadTicket::keep).
    pub is_loaded: bool,
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
        Self { inner: Arc::new(Inner::new(namespace, options, clock, None, None)) }
    }

    /// Makes an empty tier as [`new`](Self::new) does, for a backend of any number of links, whose removals notify a
    /// listener.
    ///
    /// `route` returns over which link a key is read and written. It is asked before and after every ticket is
    /// registered, outside every lock, and not while [`LinkId::ONLY`] is up.
    ///
    /// The listener is notified outside every lock and after removals happened: on the stack of whoever caused one,
    /// which for a report is the backend's. A panic in it ends there.
    #[must_use]
    pub fn with_listener(
        namespace: Namespace,
        options: LocalOptions,
        clock: Arc<dyn Clock>,
        on_removal: Box<dyn RemovalListener<T>>,
        route: Box<Route>,
    ) -> Self {
        Self { inner: Arc::new(Inner::new(namespace, options, clock, Some(on_removal), Some(route))) }
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
        self.lookup(key, |value, _, _| value.clone())
    }

    /// Does what [`get`](Self::get) does, and returns the age of the value too: the time since before the command that
    /// fetched or wrote it was sent.
    #[inline]
    #[must_use]
    pub fn get_with_age(&self, key: &str) -> Option<(T, Duration)> {
        self.lookup(key, |value, age, _| (value.clone(), age))
    }

    /// Does what [`get`](Self::get) does, and returns all that is known of the copy.
    #[inline]
    #[must_use]
    pub fn get_copy(&self, key: &str) -> Option<LocalCopy<T>> {
        self.lookup(key, |value, age, link| LocalCopy { value: value.clone(), age, is_loaded: link == OUTAGE })
    }

    /// Does what [`get`](Self::get) does, and returns what `read` makes of the value in its place: nothing is cloned,
    /// which for an `Arc` saves two writes to memory that other threads write to as well.
    ///
    /// `read` runs while the shard is locked, the one exception to the rule that no user code does: whoever asks for a
    /// key of the same shard meanwhile waits. It must be short, must not wait for anything, and **must not use the
    /// tier**: that may wait for itself. A panic in it leaves the tier as if the key had not been asked for.
    #[inline]
    pub fn get_with<R>(&self, key: &str, read: impl FnOnce(&T) -> R) -> Option<R> {
        self.lookup(key, |value, _, _| read(value))
    }

    #[inline]
    fn lookup<R>(&self, key: &str, serve: impl FnOnce(&T, Duration, LinkId) -> R) -> Option<R> {
        let inner = &*self.inner;
        let hash = inner.hasher.hash_one(key);
        let now = inner.clock.now();
        let lookup = LookupTime { now, links: &inner.links };
        let mut shard = inner.shard(hash);
        let hit = shard.get(hash, key, lookup, |value, fetched_at, link| serve(value, now.since(fetched_at), link));
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

    /// Returns the copy of a key though it may be stale by up to `longest`: without a lease, past its soft life, or,
    /// where such are [kept](LocalOptions::keep_lost), from before its link was lost. `None` of a copy that is past its
    /// deadline, or that is not `wanted`.
    ///
    /// Counted as [stale](LocalStats::stale), and neither as a hit nor as a miss. Reads stay monotonic: whatever newer
    /// value was handed out for the key, by a read, a write or a load, has taken the copy's place or removed it before.
    pub fn stale(&self, key: &str, longest: Duration, wanted: impl FnOnce(&T) -> bool) -> Option<StaleCopy<T>> {
        let inner = &*self.inner;
        let (hash, link) = (inner.hash(key), inner.route(key));
        let now = inner.clock.now();
        let lookup = LookupTime { now, links: &inner.links };
        inner.shard(hash).stale((hash, key), lookup, link, |value, current_at| {
            let at_most = now.since(current_at).saturating_add(inner.clock.resolution());
            (at_most <= longest && wanted(value)).then(|| StaleCopy { value: value.clone(), at_most })
        })
    }

    /// Returns whether the copy of a key is from before its link was lost, though that is up again: whether to read it
    /// again, or to leave that to whoever asks for it.
    #[must_use]
    pub fn is_lost(&self, key: &str) -> bool {
        let inner = &*self.inner;
        let hash = inner.hash(key);
        let lookup = LookupTime { now: inner.clock.now(), links: &inner.links };
        inner.shard(hash).is_lost(hash, key, lookup)
    }

    /// Has copies served for no longer than `life` since before they were fetched, less up to a tenth, though they may
    /// be kept for longer. They can be [stale](Self::stale) ones from then on. Without it their deadlines are all there
    /// is.
    pub fn set_soft_life(&self, life: Duration) {
        self.inner.links.set_soft_life(life);
    }

    /// Returns over which link a key is read and written now.
    #[inline]
    #[must_use]
    pub fn route(&self, key: &str) -> LinkId {
        self.inner.route(key)
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
        self.inner.routed(key, |link| self.look_or_read_over(link, key, began))
    }

    fn look_or_read_over(&self, link: LinkId, key: &str, began: Option<u64>) -> Read<T, E> {
        let inner = &*self.inner;
        let hash = inner.hasher.hash_one(key);
        let flight = Flight::new();
        let key = SmolStr::new(key);
        let now = inner.clock.now();
        let mut shard = inner.shard(hash);
        let epoch = inner.links.epoch(link);
        let request = FillRequest { flight: &flight, began, joinable: inner.joinable, epoch };
        let start = shard.begin_fill(hash, &key, LookupTime { now, links: &inner.links }, &request);
        let removed = inner.unlock(shard);
        let read = match start {
            FillStart::Hit(value) => Read::Hit(value),
            FillStart::Join { flight, only, began } => {
                // Who leaves in between may be the last one and drop the answer: this one then elects again.
                flight.join();
                Read::Join(Joiner::counted(flight, only, began))
            }
            FillStart::Lead { id, began } => {
                let ticket = self.fill_ticket(hash, key, id, Mark::new(link, epoch, now), &flight);
                Read::Lead(ticket, Joiner::counted(flight, None, began))
            }
            FillStart::Bypass { began } => {
                // Identifiers begin at 1: this one is registered nowhere.
                let ticket = self.fill_ticket(hash, key, 0, Mark::new(link, epoch, now), &flight);
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
        self.inner.routed(key, |link| self.begin_write_over(link, key, digest))
    }

    fn begin_write_over(&self, link: LinkId, key: &str, digest: Digest) -> WriteTicket<T, E> {
        let inner = &*self.inner;
        let hash = inner.hasher.hash_one(key);
        let key = SmolStr::new(key);
        let at = inner.clock.now();
        let mut shard = inner.shard(hash);
        let epoch = inner.links.epoch(link);
        let id = shard.begin_write(hash, &key, digest);
        let removed = inner.unlock(shard);
        inner.advise_removed(hash);
        let ticket = WriteTicket::new(Arc::clone(&self.inner), hash, key, id, Mark::new(link, epoch, at), digest);
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
        self.inner.take_all()
    }

    /// Begins a clearing of the backend by this cache itself, whose removals nobody reports: forgets everything now and
    /// again when the guard is dropped, and keeps nothing in between. Returns what was forgotten now, too.
    pub fn begin_clear(&self) -> (Clearing<T, E>, Cleared<T, E>) {
        self.inner.links.begin_clearing();
        self.flush();
        let cleared = self.take_all();
        (Clearing::of(&self.inner), cleared)
    }

    /// Declares all copies outdated, as a flush of the backend does over each link: nothing read or written before the
    /// call is served or kept after it. Entries are counted as outdated when they are found. Does nothing about links
    /// that are down, when that is so anyway.
    pub fn flush(&self) {
        self.inner.links.flush_all();
    }

    /// Declares outdated what was [kept of loads](crate::LoadTicket::keep) while the backend did not answer: it answers
    /// again.
    pub fn end_outage(&self) {
        self.inner.links.end_outage();
    }

    /// Takes all links for down: nothing is served or kept until one comes up again.
    pub fn unlink(&self) {
        self.inner.links.all_down();
    }

    /// Returns what an entry counts against `max_bytes`: key, value and [`entry_overhead`](crate::entry_overhead).
    #[must_use]
    pub fn weight_of(&self, key: &str, value_bytes: usize) -> usize {
        self.inner.weight(key, value_bytes)
    }

    /// Returns whether copies that came over a link are served: it is up, and its last proof of life is not too long
    /// ago.
    #[must_use]
    pub fn is_serving(&self, link: LinkId) -> bool {
        let now = self.inner.clock.now();
        let (lease, epoch) = self.inner.links.lease_and_epoch(link);
        is_up(epoch) && now < lease
    }

    /// Returns for how long copies that came over a link may be served unless there is another proof of life: zero
    /// while it is down, `None` while nothing need be renewed.
    #[must_use]
    pub fn lease_remaining(&self, link: LinkId) -> Option<Duration> {
        let now = self.inner.clock.now();
        let (lease, epoch) = self.inner.links.lease_and_epoch(link);
        if !is_up(epoch) {
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

    /// Returns what the coherence protocol did, each shard as it is at one moment, and the links as they are just
    /// after.
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
        let (flushes, links) = self.inner.links.flushes_and_links();
        CoherenceCounters { flushes, links, ..sum }
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
    fn mark(&self, link: LinkId) -> Mark {
        let epoch = self.inner.links.epoch(link);
        Mark::new(link, epoch, self.inner.clock.now())
    }

    fn proof_of_life(&self, mark: Mark) {
        self.inner.links.proof(mark);
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

    fn flushed(&self, link: LinkId) {
        self.inner.links.flush(link);
    }

    fn link_up(&self, link: LinkId, lease: Lease) {
        self.inner.links.up(link, lease);
    }

    fn link_down(&self, link: LinkId) {
        self.inner.links.down(link);
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
            .field("links", &self.inner.links)
            .finish_non_exhaustive()
    }
}
