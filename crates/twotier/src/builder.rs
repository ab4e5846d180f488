//! The settings of a cache that is to be built.

mod build;

use std::{fmt, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use twotier_core::{CacheConfig, CacheLayer, Clock, Coherence, Eviction, OnUndecodable, RemovalCause, SystemClock};

use crate::{codec::Json, events::OnRemoval, remote::Weigher};

/// Builds a [`Cache`](crate::Cache); made by [`Cache::builder`](crate::Cache::builder).
///
/// Every setting has a default, listed at [`CacheConfig`]. Settings are checked together by [`build`](Self::build).
#[must_use = "a builder does nothing until `build` is called and awaited"]
pub struct CacheBuilder<V, C = Json> {
    /// What holds where nothing was set.
    defaults: CacheConfig,
    /// What was set.
    set: CacheLayer,
    codec: C,
    clock: Arc<dyn Clock>,
    weigher: Option<Arc<Weigher<V>>>,
    on_removal: Option<Arc<OnRemoval<V>>>,
}

impl<V> CacheBuilder<V, Json> {
    pub(crate) fn new() -> Self {
        let (defaults, set) = (CacheConfig::default(), CacheLayer::default());
        Self { defaults, set, codec: Json, clock: Arc::new(SystemClock::new()), weigher: None, on_removal: None }
    }
}

impl<V, C> CacheBuilder<V, C> {
    /// Takes a configuration for the defaults: every setting that no call sets, before this one or after it, is its.
    ///
    /// ```
    /// # use twotier::{Cache, CacheConfig, MemoryBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), twotier::Error> {
    /// let config = CacheConfig::default().max_entries(10_000).with_env("MYAPP_CACHE")?;
    /// let users = Cache::<String>::builder().namespace("users").defaults(&config).build(MemoryBackend::new()).await?;
    /// let pages = Cache::<String>::builder().namespace("pages").defaults(&config).build(MemoryBackend::new()).await?;
    /// assert_eq!(users.stats().local.max_size, 10_000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn defaults(mut self, config: &CacheConfig) -> Self {
        self.defaults = config.clone();
        self
    }

    /// Sets the prefix of every key in the backend: `<namespace>:<key>`; see [`Namespace`](crate::Namespace). Default
    /// `twotier`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.set.namespace = Some(namespace.into());
        self
    }

    /// Goes without a local tier: every read is a backend read.
    pub fn without_local(mut self) -> Self {
        self.set.local_enabled = Some(false);
        self
    }

    /// Sets the most entries in the local tier, at least 1. Default 500.
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.set.max_entries = Some(entries);
        self
    }

    /// Sets the most bytes in the local tier, overhead included. Default 2000 for each of `max_entries`. A value that
    /// weighs up to an eighth of it becomes a copy; with fewer than 2048 `max_entries`, up to all of it.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.set.max_bytes = Some(Some(bytes));
        self
    }

    /// Sets what a decoded value weighs, in bytes. Default: the size of its encoding.
    ///
    /// The function runs once for each value that enters the local tier, under no lock.
    pub fn weigher(mut self, weigher: impl Fn(&str, &V) -> usize + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(weigher));
        self
    }

    /// Sets which entry goes when the local tier is full. Default [`Eviction::Lru`].
    pub fn eviction(mut self, eviction: Eviction) -> Self {
        self.set.eviction = Some(eviction);
        self
    }

    /// Sets how long a written value lives in the backend, at least 1 ms; `None` is for ever, and the default.
    pub fn time_to_live(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.set.time_to_live = Some(ttl.into());
        self
    }

    /// Sets the longest a local copy is served without asking again; it never outlives the value in the backend.
    /// Default 60 s, or 5 s where the backend reports no changes.
    pub fn local_time_to_live(mut self, ttl: Duration) -> Self {
        self.set.local_time_to_live = Some(Some(ttl));
        self
    }

    /// Sets how long the local tier remembers that a key is absent, and that a loader found nothing; `None` not at all.
    /// Default 5 s. A loader says otherwise by [`Loaded::time_to_live`](crate::Loaded::time_to_live).
    pub fn negative_time_to_live(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.set.negative_time_to_live = Some(ttl.into());
        self
    }

    /// Sets whether it is stored in the backend too that a loader found nothing, so that no other instance loads until
    /// that expires or the key is written or deleted: one round trip for each absent key that was loaded. Takes a local
    /// tier and a codec that can say it: [`Sealed`](crate::codec::Sealed), or one of your own with
    /// [`encode_absence_at`](crate::Codec::encode_absence_at). Default false.
    pub fn share_absence(mut self, share: bool) -> Self {
        self.set.share_absence = Some(share);
        self
    }

    /// Has reads extend the life of what they find to the [`time_to_live`](Self::time_to_live) of the cache: a session
    /// ends when nobody has asked for it for so long. `share` is a part of the time to live, above 0 and up to 0.5;
    /// when that much of it has passed, the next read extends it, in the background. So it costs one small command
    /// (`PEXPIRE`) for each share and key, however many reads there are, and a value that was read lives on for at
    /// least the time to live less that share. 0, the default, is not at all; 0.1 is a good choice otherwise.
    ///
    /// The copy that was read goes on being served, and lives on too: for as long as the value in the backend where
    /// changes are reported, unless [`local_time_to_live`](Self::local_time_to_live) is set. Other instances are
    /// reported the extension as a change, and read the key once more. A value that was written with a shorter life of
    /// its own is extended as well; one with a longer life, or for ever, is not.
    pub fn sliding(mut self, share: f64) -> Self {
        self.set.sliding = Some(share);
        self
    }

    /// Sets by how much [`time_to_live`](Self::time_to_live) is shortened at random, as a share from 0 up to 1, so that
    /// values written together do not expire together. Default 0.
    pub fn ttl_jitter(mut self, share: f64) -> Self {
        self.set.ttl_jitter = Some(share);
        self
    }

    /// Asks for a coherence mode, instead of the best the backend has.
    pub fn coherence(mut self, coherence: Coherence) -> Self {
        self.set.coherence = Some(Some(coherence));
        self
    }

    /// Sets the longest a hit may be stale, between 50 ms and 1 h. Default 2 s.
    pub fn max_staleness(mut self, bound: Duration) -> Self {
        self.set.max_staleness = Some(bound);
        self
    }

    /// Sets the longest one call waits for the backend; for a batch, the longest it waits for the next of its answers.
    /// Default 500 ms.
    pub fn op_timeout(mut self, timeout: Duration) -> Self {
        self.set.op_timeout = Some(timeout);
        self
    }

    /// Sets the longest one run of a loader may take, between 1 ms and 1 h; then it is dropped, and the call is an
    /// error. Default 30 s.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.set.load_timeout = Some(timeout);
        self
    }

    /// Sets the longest a call waits for somebody else's loader before it runs its own, between 1 ms and 1 h. Default 2
    /// s.
    ///
    /// Of all who wait for a key only one runs its own loader then, and the others wait for that one.
    pub fn load_wait(mut self, patience: Duration) -> Self {
        self.set.load_wait = Some(patience);
        self
    }

    /// Sets the largest encoded value that is written or kept, in bytes. Default 16 MiB.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.set.max_value_bytes = Some(bytes);
        self
    }

    /// Sets what bytes in the backend are to a read when they do not decode: an error, or an absent key, which loads
    /// and updates replace. Default [`OnUndecodable::Error`].
    pub fn on_undecodable(mut self, reaction: OnUndecodable) -> Self {
        self.set.on_undecodable = Some(reaction);
        self
    }

    /// Sets whether each encoding is decoded and compared before it is written: a value that would not be read back
    /// equal is [`Error::Codec`](crate::Error::Codec), and changes nothing. Default true where debug assertions are on,
    /// else false.
    ///
    /// Costs a decoding for each write. Without it a codec still refuses what its format has no word for, but not what
    /// a type writes one way and reads in another ([`Codec::verify_at`](crate::Codec::verify_at)). Turn it off for
    /// types that serialize differently from one moment to the next.
    pub fn verify_writes(mut self, verify: bool) -> Self {
        self.set.verify_writes = Some(verify);
        self
    }

    /// Sets after how many calls in a row that got no answer the breaker opens: from then on calls over that link fail
    /// at once, and [`get_or_load`](crate::Cache::get_or_load) goes straight to its loader, until the backend answers
    /// one that is tried, or its link comes up. 0 is no breaker. Default 3.
    ///
    /// A refusal is an answer. An error of a call that was not made is of the kind
    /// [`Unavailable`](crate::ErrorKind::Unavailable) and was not sent; how the last call failed is behind it.
    pub fn breaker_failures(mut self, calls: u32) -> Self {
        self.set.breaker_failures = Some(calls);
        self
    }

    /// Sets how long without an answer opens the breaker before so many calls have failed, though not because of one
    /// call alone; between 1 ms and 1 h. Default 1 s.
    pub fn breaker_silence(mut self, silence: Duration) -> Self {
        self.set.breaker_silence = Some(silence);
        self
    }

    /// Sets the longest pause before another call is tried while the breaker is open, between 1 ms and 1 h. Default 2
    /// s.
    ///
    /// Pauses are drawn at random, the first from a quarter of a second and each further one from twice as much.
    pub fn breaker_pause(mut self, longest: Duration) -> Self {
        self.set.breaker_pause = Some(longest);
        self
    }

    /// Sets how many keys wait to be invalidated while the backend is away, at most 10 000 000; 0 is none, and the
    /// default.
    ///
    /// [`invalidate`](crate::Cache::invalidate) returns [`Queued`](crate::Invalidated::Queued) for them, and what fails
    /// of [`delete`](crate::Cache::delete) and its batches waits too. What the backend holds under a key that waits is
    /// not believed: the key is deleted first, and until then it counts as unavailable, so that
    /// [`get_or_load`](crate::Cache::get_or_load) loads it. Where more keys come to wait, the whole namespace is
    /// cleared instead. The keys are kept in memory: with the process they are gone.
    pub fn queue_invalidations(mut self, keys: usize) -> Self {
        self.set.queue_invalidations = Some(keys);
        self
    }

    /// Sets how many loaders run at a time while the backend does not answer, between 1 and 1 000 000; whoever waits
    /// for a place longer than [`load_wait`](Self::load_wait) gets an error. Default 16.
    pub fn outage_loads(mut self, loaders: usize) -> Self {
        self.set.outage_loads = Some(loaders);
        self
    }

    /// Sets how long a value is kept locally that was loaded while the backend did not answer, from before the load
    /// began; zero is not at all. Default: [`max_staleness`](Self::max_staleness), within which it is as fresh as any
    /// hit.
    ///
    /// No change by others is seen meanwhile. The copies end when the backend answers again.
    pub fn outage_time_to_live(mut self, ttl: Duration) -> Self {
        self.set.outage_time_to_live = Some(Some(ttl));
        self
    }

    /// Sets the most keys that are under way to the backend at once, between 1 and 1 000 000. Default 4096.
    ///
    /// Single keys and batches wait for their turn in the order in which they came.
    pub fn max_in_flight(mut self, keys: usize) -> Self {
        self.set.max_in_flight = Some(keys);
        self
    }

    /// Sets the most calls that wait while so many keys are under way; one more is
    /// [`Error::Overloaded`](crate::Error::Overloaded). Default 65 536.
    pub fn max_waiting(mut self, calls: usize) -> Self {
        self.set.max_waiting = Some(calls);
        self
    }

    /// Sets how many local hits a second are audited, at most: up to 1000, fractions allowed. Default 0, none; 1 is
    /// plenty, since a day of it shows over four nines.
    ///
    /// The first hit after moments drawn at random is a sample, so that keys are among them as often as they are hit.
    /// For each the backend is read, outside the call and past the local tier, and what it holds is compared with the
    /// copy. Where that differs, and the same copy would still be served when the staleness bound has passed since, the
    /// copy was served for longer than was promised: that is counted in [`stats`](crate::Cache::stats), logged, sent to
    /// [`events`](crate::Cache::events), and the copy removed. There are no false alarms; what the auditor cannot see
    /// is a lost report of a deletion, since a key may also expire, and of a key whose copy goes within the bound
    /// anyway.
    ///
    /// Only where the backend reports every change ([`Coherence::Broadcast`]). Costs one read of the backend for each
    /// sample, two where something is wrong, and on a hit the load of a flag.
    pub fn audit(mut self, hits_per_second: f64) -> Self {
        self.set.audit = Some(hits_per_second);
        self
    }

    /// Sets what is notified of each local copy that goes: its key, its value (`None` for a key that was known to be
    /// absent), and why. Copies that are outdated or past their life go when they are looked up or evicted, and are
    /// reported then.
    ///
    /// It runs in a task of the runtime, one removal after the other, in order: nobody waits for it, and what it has
    /// not been notified of yet is kept. A panic in it is logged. For counts and causes alone,
    /// [`Cache::stats`](crate::Cache::stats) is cheaper; for a program that watches,
    /// [`Cache::events`](crate::Cache::events).
    pub fn on_removal(mut self, listener: impl Fn(&str, Option<Arc<V>>, RemovalCause) + Send + Sync + 'static) -> Self {
        self.on_removal = Some(Arc::new(listener));
        self
    }

    /// Sets how stale a local copy may be, at most, when it stands in for a backend that does not answer. Default off.
    ///
    /// A copy is kept for so much longer than it is served as a hit, but never past its time to live in the backend.
    /// Its age counts from when it is last known to have been what the backend held: the last proof of life of its
    /// link. [`lookup`](crate::Cache::lookup) says that it is [`Stale`](crate::Freshness::Stale), and
    /// `stats().local.stale` counts. What is known to have changed is never returned: after a report, an own write, a
    /// flush or [`invalidate`](crate::Cache::invalidate), nor is anything older than what this cache returned before.
    ///
    /// `get_or_load` returns such a copy before it asks its loader.
    pub fn stale_if_error(mut self, longest: impl Into<Option<Duration>>) -> Self {
        self.set.stale_if_error = Some(longest.into());
        self
    }

    /// Sets how long a read waits for the backend before a copy within [`stale_if_error`](Self::stale_if_error) is
    /// returned, while the read goes on for whoever comes next. Zero is stale-while-revalidate. Left out: until the
    /// backend has failed or [`op_timeout`](Self::op_timeout) has passed.
    pub fn soft_timeout(mut self, timeout: Duration) -> Self {
        self.set.soft_timeout = Some(Some(timeout));
        self
    }

    /// Sets how many local copies, the hottest first, are read again when a link that was lost is back, so that they
    /// are hits again before they are asked for. 0 is none. Left out: half of [`max_entries`](Self::max_entries).
    ///
    /// 512 at a time, one call after the other. No loader runs.
    pub fn revalidate(mut self, copies: usize) -> Self {
        self.set.revalidate = Some(Some(copies));
        self
    }

    /// Sets whether a key whose local copy ends by a report is read again at once, in the background: a popular key
    /// that others write often stays a hit. Default false.
    ///
    /// At most 1024 keys wait for that, and 512 are read by one call, one call after the other; more are left to
    /// whoever asks for them.
    pub fn refresh_reported(mut self, refresh: bool) -> Self {
        self.set.refresh_reported = Some(refresh);
        self
    }

    /// Sets whether [`stats().advice()`](crate::CacheStats::advice) says what other sizes of the local tier would
    /// bring: from a quarter to eight times as much. Default false.
    ///
    /// Takes up to 0.4 MB whatever the tier's size, a comparison for each hit, and a microsecond or two of each miss.
    pub fn size_advice(mut self, advice: bool) -> Self {
        self.set.size_advice = Some(advice);
        self
    }

    /// Sets the clock of the local tier, for tests. Default [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets how values become bytes. Default [`Json`].
    pub fn codec<D>(self, codec: D) -> CacheBuilder<V, D> {
        let Self { defaults, set, clock, weigher, on_removal, .. } = self;
        CacheBuilder { defaults, set, codec, clock, weigher, on_removal }
    }
}

impl<V: Serialize + DeserializeOwned> Default for CacheBuilder<V, Json> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V, C> fmt::Debug for CacheBuilder<V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.defaults.clone().with(self.set.clone());
        f.debug_struct("CacheBuilder").field("config", &config).finish_non_exhaustive()
    }
}
