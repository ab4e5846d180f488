//! The cache: what users call.

use std::{
    collections::HashMap,
    fmt,
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use twotier_core::{CacheStats, Namespace, Operation};

use crate::{
    CacheBuilder, Entry, Events, Get, Health, IntoChange, IntoValue, Invalidated, Key, LoaderError, LoaderOutput,
    Lookup, Result, SetOptions,
    attach::Attaching,
    health::Observed,
    key::{KeyTexts, text_of},
    read::LocalRead,
    tiers::Tiers,
    write::drop_aside,
};

/// A cache of typed values: a local tier in this process in front of a backend such as Redis.
///
/// Cloning is one reference count; all clones are the same cache. Reads of a key that is held locally cost no round
/// trip, no allocation and no decoding: values are kept decoded, behind an `Arc`.
///
/// # What is promised
///
/// Between the calls of one cache (all its clones together):
///
/// - *read your writes*: a read that starts after a write returned sees that write or a later one;
/// - *monotonic reads*: a read never returns something older than an earlier read returned;
/// - *bounded staleness*: where the backend reports changes, a local hit was not overwritten by any write acknowledged
///   longer than `max_staleness` ago, whoever wrote it; in practice the bound is the time a report takes to arrive;
/// - while the backend does not answer nothing older is returned than that, unless
///   [`stale_if_error`](CacheBuilder::stale_if_error) says how old it may be: it is marked as stale then;
/// - a value is never returned after its time to live in the backend;
/// - any future may be dropped at any point, or kept and never polled again: nothing leaks, nobody else waits, no
///   permit is held. A write that was sent is finished in the background; one that was not sent yet never is;
/// - writes are sent in the order of the calls. One that failed says whether it may have been executed
///   ([`Error::may_have_executed`](crate::Error::may_have_executed)): if so, it takes effect before the next link is
///   up, or never; an acknowledged write is never undone by an older one of this cache;
/// - a load never replaces anything newer than what it saw.
///
/// Two caches with the same namespace, even in one process, are strangers to each other: coherent within the bound, but
/// without read-your-writes between them.
///
/// Futures may be polled anywhere, outside any runtime too: requests and timers belong to the runtime that the cache
/// was built in. Once that has ended, local copies are served for as long as they may be, what needs the backend is an
/// error, and loaders run without a deadline.
///
/// # Panics
///
/// No method panics. A panic in a codec, weigher or loader of yours reaches the caller that ran it and nobody else.
///
/// # Examples
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use twotier::{Cache, MemoryBackend};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), twotier::Error> {
/// let names: Cache<String> = Cache::builder()
///     .namespace("names")
///     .time_to_live(Duration::from_secs(300))
///     .build(MemoryBackend::new())
///     .await?;
/// names.set("42", "Ada".to_owned()).await?;
/// assert_eq!(names.get("42").await?.as_deref(), Some(&"Ada".to_owned()));
/// assert_eq!(names.stats().local.hits, 1);
/// # Ok(())
/// # }
/// ```
pub struct Cache<V> {
    tiers: Arc<Tiers<V>>,
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self { tiers: Arc::clone(&self.tiers) }
    }
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<V> {
    /// Connects to Redis or Valkey with every default: JSON, 500 local entries, namespace `twotier`.
    ///
    /// # Errors
    ///
    /// As [`CacheBuilder::build`]; a wrong URL is an [`Error::Config`](crate::Error::Config) for the field `url`.
    #[cfg(feature = "redis")]
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder().build(crate::RedisBackend::new(url)?).await
    }
}

impl<V> Cache<V> {
    /// Starts building a cache.
    pub fn builder() -> CacheBuilder<V> {
        CacheBuilder::new()
    }

    pub(crate) fn from_tiers(tiers: Tiers<V>) -> Self {
        Self { tiers: Arc::new(tiers) }
    }

    #[cfg(any(feature = "metrics", feature = "prometheus-text"))]
    pub(crate) fn shared(&self) -> &Arc<Tiers<V>> {
        &self.tiers
    }

    pub(crate) fn tiers(&self) -> &Tiers<V> {
        &self.tiers
    }

    /// Returns the prefix under which this cache keeps its keys.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.tiers.remote.namespace
    }
}

impl<V: Send + Sync + 'static> Cache<V> {
    /// Reads a value. A local hit takes no round trip and no allocation; a miss takes one round trip and fills the
    /// local tier. `None` is an absent key, which is remembered for the negative time to live.
    ///
    /// The local tier is looked at when `get` is called, the backend when the future is polled. Concurrent misses of
    /// one key share one backend read, which belongs to none of the callers: whoever goes away, or is not polled, holds
    /// up nobody.
    ///
    /// # Errors
    ///
    /// An invalid key, a backend that fails or does not answer within the operation timeout, too many calls that wait
    /// for the backend already, a value that the codec cannot
    /// decode or that is over `max_value_bytes`. Nothing is kept of a failed read.
    #[inline]
    pub fn get(&self, key: impl Key) -> Get<'_, V> {
        Get::new(&self.tiers, &key)
    }

    /// Reads a value as [`get`](Self::get) does, and says which tier answered, how old the copy is, and how fresh.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn lookup(&self, key: impl Key) -> Result<Lookup<V>> {
        if let Some(hit) = key.with_text(|key| self.tiers.lookup_local_with_age(Operation::Get, key))? {
            return Ok(hit);
        }
        let key = text_of(&key);
        self.tiers.read_through(key, Operation::Get).await
    }

    /// Reads a value from the local tier only; never touches the backend. Counts a hit or a miss.
    ///
    /// `None` when there is no valid copy, when the key is known to be absent, and after [`close`](Self::close).
    #[must_use]
    pub fn get_if_local(&self, key: impl Key) -> Option<Arc<V>> {
        match key.with_text(|key| self.tiers.lookup_local(Operation::Get, key)) {
            LocalRead::Hit(value) => value,
            LocalRead::Miss | LocalRead::Refused(_) => None,
        }
    }

    /// Reads many values: same length and order as `keys`, duplicates allowed. Local hits first, then one round trip
    /// for each 512 of the rest, several at a time where there is room; reads of single keys under way are shared.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), for the first key that fails; the values of the others are kept locally all the same. The
    /// deadline is one of progress: the call ends when nothing came for the operation timeout.
    pub async fn get_many<K: Key>(&self, keys: &[K]) -> Result<Vec<Option<Arc<V>>>> {
        let texts = KeyTexts::of(keys);
        self.tiers.read_many(&texts.to_vec(), Operation::GetMany, true).await
    }

    /// Reads many values as [`get_many`](Self::get_many) does, with a result for each: same length and order as `keys`,
    /// duplicates allowed. A key that fails does not fail the others.
    ///
    /// Local hits first, then one round trip for each 512 of the rest, several at a time where there is room. When
    /// nothing came for the operation timeout, what has come is returned and kept, and what was not asked for by then
    /// is not.
    ///
    /// # Errors
    ///
    /// Each as [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// # use twotier::{Cache, ErrorKind, MemoryBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), twotier::Error> {
    /// # let names: Cache<String> = Cache::builder().build(MemoryBackend::new()).await?;
    /// names.set("42", "Ada".to_owned()).await?;
    /// let found = names.get_each(&["42", ""]).await;
    /// assert!(matches!(&found[0], Ok(Some(name)) if **name == "Ada"));
    /// assert!(matches!(&found[1], Err(error) if error.kind() == ErrorKind::Invalid));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_each<K: Key>(&self, keys: &[K]) -> Vec<Result<Option<Arc<V>>>> {
        let texts = KeyTexts::of(keys);
        self.tiers.read_each(&texts.to_vec(), Operation::GetMany, true).await
    }

    /// Writes a value through: backend first, in one round trip, then the local tier, so that the next
    /// [`get`](Self::get) is a local hit.
    ///
    /// From the moment the write starts, other readers of this cache no longer see the old copy. Of two overlapping
    /// writes to one key neither is kept locally, because their order at the backend is unknown.
    ///
    /// # Errors
    ///
    /// An invalid key, a value that the codec cannot encode or that is over `max_value_bytes`: nothing was changed.
    /// Too many calls that wait for the backend already, or a deadline that passed before the write could be sent:
    /// nothing was changed either, and never will be.
    /// A backend that fails or does not answer in time: the local copy is gone.
    /// [`Error::may_have_executed`](crate::Error::may_have_executed) returns whether the write may have taken effect.
    pub async fn set(&self, key: impl Key, value: impl IntoValue<V>) -> Result<()> {
        self.set_with(key, value, SetOptions::new()).await
    }

    /// Writes a value as [`set`](Self::set) does, with options of its own.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set); also a time to live below 1 ms or above 100 years.
    pub async fn set_with(&self, key: impl Key, value: impl IntoValue<V>, options: SetOptions) -> Result<()> {
        self.tiers.set(&text_of(&key), value.into_value(), options).await
    }

    /// Writes many values through, in one round trip for each 512 or each MiB, several at a time where there is room.
    /// Of two values for one key the later one wins. On return those that were written are local hits.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set). Every key and value is checked before the first is written. When the backend fails for
    /// some keys the others are written all the same, and the first failure is returned. The deadline is one of
    /// progress: when nothing moved for the operation timeout, the rest is not sent.
    pub async fn set_many<K, T>(&self, items: impl IntoIterator<Item = (K, T)>) -> Result<()>
    where
        K: Key,
        T: IntoValue<V>,
    {
        let items = items.into_iter().map(|(key, value)| (key.with_text(str::to_owned), value.into_value())).collect();
        self.tiers.set_many(items, SetOptions::new()).await
    }

    /// Writes many values as [`set_many`](Self::set_many) does, with a result for each: same length and order as
    /// `items`. An item that is refused or fails does not fail the others. Of two values for one key the later one
    /// wins, and what becomes of it is the result of both.
    ///
    /// One round trip for each 512 or each MiB.
    ///
    /// # Errors
    ///
    /// Each as [`set`](Self::set), with the deadline of [`set_many`](Self::set_many).
    pub async fn set_each<K, T>(&self, items: impl IntoIterator<Item = (K, T)>) -> Vec<Result<()>>
    where
        K: Key,
        T: IntoValue<V>,
    {
        let items = items.into_iter().map(|(key, value)| (key.with_text(str::to_owned), value.into_value())).collect();
        self.tiers.set_each(items).await
    }

    /// Deletes a key from both tiers, in one round trip, and says whether it was there. A read under way cannot bring
    /// the value back.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn delete(&self, key: impl Key) -> Result<bool> {
        self.tiers.delete(&text_of(&key)).await
    }

    /// Deletes a key as [`delete`](Self::delete) does, and does not fail for want of a backend where
    /// [`queue_invalidations`](crate::CacheBuilder::queue_invalidations) says how many keys may wait for it: what to
    /// call after a change of the origin.
    ///
    /// While the backend is away the local copy goes at once, and [`Invalidated::Queued`](crate::Invalidated::Queued)
    /// is returned. The key is deleted as soon as the backend answers, and before this cache reads it there. Other
    /// instances see the deletion as any other. Should this process end before, the key is not deleted.
    ///
    /// # Errors
    ///
    /// As [`delete`](Self::delete); while keys may wait, only an invalid key, a closed cache, and a backend that
    /// refuses.
    ///
    /// # Examples
    ///
    /// ```
    /// # use twotier::{Cache, Invalidated, MemoryBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), twotier::Error> {
    /// let names: Cache<String> = Cache::builder().queue_invalidations(10_000).build(MemoryBackend::new()).await?;
    /// names.set(42, "Ada").await?;
    /// // ... the row 42 of the database was changed and committed:
    /// assert_eq!(names.invalidate(42).await?, Invalidated::Removed);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn invalidate(&self, key: impl Key) -> Result<Invalidated> {
        self.tiers.invalidate(&text_of(&key)).await
    }

    /// Deletes many keys from both tiers, in one round trip for each 512, and says how many were there.
    ///
    /// # Errors
    ///
    /// As [`set_many`](Self::set_many).
    pub async fn delete_many<K: Key>(&self, keys: &[K]) -> Result<usize> {
        let texts = KeyTexts::of(keys);
        self.tiers.delete_many(&texts.to_vec()).await
    }

    /// Deletes many keys as [`delete_many`](Self::delete_many) does, and says for each whether it was there: same
    /// length and order as `keys`, duplicates allowed. A key that fails does not fail the others.
    ///
    /// One round trip for each 512.
    ///
    /// # Errors
    ///
    /// Each as [`delete`](Self::delete).
    pub async fn delete_each<K: Key>(&self, keys: &[K]) -> Vec<Result<bool>> {
        let texts = KeyTexts::of(keys);
        self.tiers.delete_each(&texts.to_vec()).await
    }

    /// Reads a value, or loads and stores it when the key is absent: one load per key at a time in this cache.
    ///
    /// The loader is given the key. What it returns decides what this returns, see [`LoaderOutput`]: a loader of
    /// `Option<V>` may find nothing, one of `(V, Duration)` says how long the value lives. That there is nothing is
    /// remembered too, see [`Loaded::absent`](crate::Loaded::absent): callers whose loader may find nothing get `None`
    /// meanwhile, and one whose loader always brings a value has it run.
    ///
    /// Everyone who asks while the loader runs waits for it and gets its value or its own error. When the future that
    /// runs the loader is dropped, or takes longer than [`load_wait`](crate::CacheBuilder::load_wait), one of the
    /// others runs theirs. A loader may ask for other keys of this cache; asking for its own is an error at once.
    ///
    /// The value is stored only while nothing newer is known, and only if the backend still holds what the load saw: a
    /// write by anybody in the meantime stays. A value that is not stored for that reason is returned all the same.
    /// What is left is a deletion by somebody else that is not reported to this cache before the value is stored.
    ///
    /// When the backend does not answer, or refuses, the loader runs all the same, and its value is kept locally for
    /// [`outage_time_to_live`](crate::CacheBuilder::outage_time_to_live); at most
    /// [`outage_loads`](crate::CacheBuilder::outage_loads) of them run at a time. A loaded value that could not be
    /// stored is returned; the failure is counted in [`stats`](Self::stats), and logged now and then.
    ///
    /// Costs no round trip on a local hit, one when the backend has the value, two when it is loaded.
    ///
    /// # Errors
    ///
    /// [`Error::Load`](crate::Error::Load) with the loader's own error as its source, which
    /// [`Error::loader_error`](crate::Error::loader_error) returns by its type;
    /// [`Error::Timeout`](crate::Error::Timeout) when the loader took longer than
    /// [`load_timeout`](crate::CacheBuilder::load_timeout); [`Error::Usage`](crate::Error::Usage) when a loader asks
    /// for the key that it loads; as [`get`](Self::get) for a key or a value in the backend that is not valid.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use twotier::{Cache, MemoryBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), twotier::Error> {
    /// # let squares: Cache<u64> = Cache::builder().build(MemoryBackend::new()).await?;
    /// let square = squares.get_or_load(12, async |number| Ok::<_, std::io::Error>(number * number)).await?;
    /// assert_eq!(*square, 144);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_or_load<K, F, Fut, T, E>(&self, key: K, loader: F) -> Result<T::Found>
    where
        K: Key,
        F: FnOnce(K) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        match key.with_text(|key| self.tiers.lookup_local(Operation::GetOrLoad, key)) {
            LocalRead::Hit(Some(value)) => return Ok(T::found(value)),
            LocalRead::Hit(None) => {
                if let Some(absent) = T::absent()
                    && key.with_text(|key| self.tiers.takes_known_absence::<T>(key))
                {
                    return Ok(absent);
                }
            }
            LocalRead::Miss => {}
            LocalRead::Refused(error) => return Err(*error),
        }
        let text = text_of(&key);
        let found = Box::pin(self.tiers.get_or_load(&text, || loader(key))).await?;
        let found = found.value.map(T::found).or_else(T::absent);
        found.ok_or_else(|| self.tiers.abandoned(Operation::GetOrLoad))
    }

    /// Reads a value as [`get_or_load`](Self::get_or_load) does, and says where it came from, how old the copy is, and
    /// how fresh. [`Tier::Origin`](crate::Tier::Origin) is a value of this loader, or of a load that this call waited
    /// for.
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn lookup_or_load<K, F, Fut, T, E>(&self, key: K, loader: F) -> Result<Lookup<V>>
    where
        K: Key,
        F: FnOnce(K) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        let local = key.with_text(|key| self.tiers.lookup_local_with_age(Operation::GetOrLoad, key))?;
        let known =
            |hit: &Lookup<V>| hit.value.is_some() || key.with_text(|key| self.tiers.takes_known_absence::<T>(key));
        if let Some(hit) = local.filter(known) {
            return Ok(hit);
        }
        let text = text_of(&key);
        Box::pin(self.tiers.get_or_load(&text, || loader(key))).await
    }

    /// Takes a key for a load with options, and with a loader that is given what is there; see
    /// [`Entry::load_with`](crate::Entry::load_with).
    pub fn entry<K: Key>(&self, key: K) -> Entry<'_, V, K> {
        Entry::new(&self.tiers, key)
    }

    /// Reads many values, and loads and stores those that are absent: same length and order as `keys`, duplicates
    /// allowed.
    ///
    /// The loader is called once, with exactly the keys that neither tier has and nobody else is loading, each once;
    /// keys that this call need not load are not among them, and if there are none it is not called. It returns the
    /// values it found in any order; a key it does not return is absent, `None` in the result, which is remembered as
    /// the absence that [`get_or_load`](Self::get_or_load) finds. Values for keys it was not asked for are ignored.
    ///
    /// One load per key at a time, together with [`get_or_load`](Self::get_or_load): a key that somebody else is
    /// loading is waited for, and who asks meanwhile for a key of ours gets our value or our error, as soon as it is
    /// there. A `get_or_load` that waited for a key our loader has no value for runs its own loader. This call ends its
    /// own loads before it waits for others, so that no two batches wait for each other. When somebody we waited for
    /// gives up, because their future was dropped, or takes longer than [`load_wait`](crate::CacheBuilder::load_wait),
    /// the loader is called again, with the keys they left behind.
    ///
    /// Values are stored by one write for each 512, each under the conditions of [`get_or_load`](Self::get_or_load).
    /// When the backend does not answer, or refuses, the loader runs all the same. A loaded value that could not be
    /// stored is returned; the failure is counted in [`stats`](Self::stats), and logged now and then.
    ///
    /// Local hits cost no round trip; the rest costs one for each 512, and one more for each 512 that are loaded.
    ///
    /// # Errors
    ///
    /// [`Error::Load`](crate::Error::Load) with the loader's own error as its source, which everyone who waits for one
    /// of its keys is given too. As [`get_many`](Self::get_many) for keys, and for values in the backend, that are not
    /// valid: then the loader is not called.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use twotier::{Cache, MemoryBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), twotier::Error> {
    /// # let names: Cache<String> = Cache::builder().build(MemoryBackend::new()).await?;
    /// names.set(42, "Ada").await?;
    /// let loader = async |missing: Vec<u64>| {
    ///     assert_eq!(missing, [43]);
    ///     Ok::<_, std::io::Error>(HashMap::from([(43, "Grace".to_owned())]))
    /// };
    /// let found = names.get_many_or_load(&[43, 42, 43], loader).await?;
    /// assert_eq!(found.iter().flatten().map(|name| name.as_str()).collect::<Vec<_>>(), ["Grace", "Ada", "Grace"]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_many_or_load<K, F, Fut, I, Q, T, E>(
        &self,
        keys: &[K],
        mut loader: F,
    ) -> Result<Vec<Option<Arc<V>>>>
    where
        K: Key + Clone,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = Result<I, E>>,
        I: IntoIterator<Item = (Q, T)>,
        Q: Key,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        let texts = KeyTexts::of(keys);
        let texts = texts.to_vec();
        let mut by_text = HashMap::new();
        let loader = |missing: Vec<&str>| {
            if by_text.is_empty() {
                by_text.extend(texts.iter().copied().zip(keys));
            }
            loader(missing.into_iter().filter_map(|text| by_text.get(text)).map(|key| K::clone(key)).collect())
        };
        self.tiers.get_many_or_load(&texts, loader).await
    }

    /// Changes a value by a function of what the backend holds now, and returns what it holds then.
    ///
    /// This is a compare-and-set against the backend, never against a local copy: when somebody else changed the key in
    /// between, `change` is called again with the newer value. It is given `None` for an absent key, and returns `None`
    /// to remove the key; a [`Change`](crate::Change) says more, such as that the key is to stay as it is, or to expire
    /// when it would have. Else the value lives for the cache's time to live. The next [`get`](Self::get) reads the
    /// backend.
    ///
    /// Costs two round trips for each call of `change`, and one where nothing is to be written. Updates of one key by
    /// this cache take turns, so that `change` is called again only for what somebody elsewhere wrote; pauses drawn at
    /// random keep those from meeting again and again. The wait for the turn counts towards the operation timeout.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get) and [`set`](Self::set).
    ///
    /// # Examples
    ///
    /// ```
    /// # use twotier::{Cache, MemoryBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), twotier::Error> {
    /// # let visits: Cache<u64> = Cache::builder().build(MemoryBackend::new()).await?;
    /// for _ in 0..3 {
    ///     visits.update("page", |count| Some(count.copied().unwrap_or(0) + 1)).await?;
    /// }
    /// assert_eq!(visits.get("page").await?.as_deref(), Some(&3));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn update<C: IntoChange<V>>(
        &self,
        key: impl Key,
        mut change: impl FnMut(Option<&V>) -> C,
    ) -> Result<Option<Arc<V>>> {
        self.tiers.update(&text_of(&key), |held| change(held).into_change()).await
    }

    /// Adds to a whole number in the backend, in one step that nobody else's change falls into, and returns what it is
    /// then. An absent number counts as 0, and lives for the cache's time to live; one that is there keeps its life.
    ///
    /// One round trip. The next [`get`](Self::get) is a local hit, unless others changed the number meanwhile.
    ///
    /// The backend adds, so its numbers are decimal text. With [`Json`](crate::codec::Json), the default, a
    /// `Cache<i64>` has them, and so has one of any other type of whole numbers; [`Text`](crate::codec::Text) has them
    /// too. Other codecs, types and [`Sealed`](crate::codec::Sealed) have not. A sum that the type has no room for,
    /// such as a negative one in a `Cache<u64>`, is kept in the backend all the same, and an error of later reads.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`](crate::Error::Usage) where values are not whole numbers in decimal text: nothing was sent. Of
    /// kind [`Rejected`](crate::ErrorKind::Rejected) when what the backend holds is no integer of 64 bits, or the sum
    /// would be none: nothing was changed. Else as [`set`](Self::set): when
    /// [`Error::may_have_executed`](crate::Error::may_have_executed) says so, the number may have been added to, once.
    ///
    /// # Examples
    ///
    /// ```
    /// # use twotier::{Cache, MemoryBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), twotier::Error> {
    /// # let visits: Cache<i64> = Cache::builder().build(MemoryBackend::new()).await?;
    /// assert_eq!(visits.increment("page", 1).await?, 1);
    /// assert_eq!(visits.increment("page", -3).await?, -2);
    /// assert_eq!(visits.get("page").await?.as_deref(), Some(&-2));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn increment(&self, key: impl Key, by: i64) -> Result<i64> {
        self.increment_with(key, by, SetOptions::new()).await
    }

    /// Adds to a number as [`increment`](Self::increment) does, and says how long one lives that was absent.
    ///
    /// # Errors
    ///
    /// As [`increment`](Self::increment); also a time to live below 1 ms or above 100 years.
    pub async fn increment_with(&self, key: impl Key, by: i64, options: SetOptions) -> Result<i64> {
        self.tiers.increment(&text_of(&key), by, options).await
    }

    /// Has a value live for so long from now on, at least 1 ms, in the backend, whatever it was to live before, and
    /// says whether it was there. The value is neither read nor written.
    ///
    /// One round trip. A local copy goes on being served, and lives on where changes are reported, up to
    /// [`local_time_to_live`](crate::CacheBuilder::local_time_to_live); other instances are reported a change.
    /// [`sliding`](crate::CacheBuilder::sliding) has reads do this.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set), but that the local copy stays, for no longer than the shorter of both lives; also a time
    /// to live below 1 ms or above 100 years.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use twotier::{Cache, MemoryBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), twotier::Error> {
    /// # let sessions: Cache<String> = Cache::builder().build(MemoryBackend::new()).await?;
    /// sessions.set("a", "Ada").await?;
    /// assert!(sessions.touch("a", Duration::from_secs(1800)).await?);
    /// assert!(!sessions.touch("b", Duration::from_secs(1800)).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn touch(&self, key: impl Key, ttl: Duration) -> Result<bool> {
        self.tiers.touch(&text_of(&key), ttl).await
    }

    /// Reads keys into the local tier, in one round trip for each 512, and says how many are there now, each once.
    /// Missing keys are not counted; times to live are kept; nothing is counted as a hit or a miss.
    ///
    /// Keys that are held already are not read again. One batch is read at a time, and other tasks run between two.
    ///
    /// # Errors
    ///
    /// As [`get_many`](Self::get_many).
    pub async fn warm<K: Key>(&self, keys: &[K]) -> Result<usize> {
        let texts = KeyTexts::of(keys);
        self.tiers.warm(&texts.to_vec(), None).await
    }

    /// Warms as [`warm`](Self::warm) does, but no faster than so many keys a second, so that live reads hardly notice.
    ///
    /// Ten small batches a second, or more where a batch would have over 512 keys; for less than ten keys a second, one
    /// key at a time. The first failure ends it; what was read until then is kept.
    ///
    /// # Errors
    ///
    /// As [`warm`](Self::warm).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::num::NonZeroU32;
    /// # use twotier::{Cache, MemoryBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let names: Cache<String> = Cache::builder().build(MemoryBackend::new()).await?;
    /// # names.set("42", "Ada".to_owned()).await?;
    /// let export = serde_json::to_string(&names.hot_keys(1000))?; // before a restart
    ///
    /// names.clear_local();
    /// let hot: Vec<String> = serde_json::from_str(&export)?; // after it
    /// let pace = NonZeroU32::new(5000).expect("not zero");
    /// assert_eq!(names.warm_paced(&hot, pace).await?, 1);
    /// assert!(names.get_if_local("42").is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn warm_paced<K: Key>(&self, keys: &[K], keys_per_second: NonZeroU32) -> Result<usize> {
        let texts = KeyTexts::of(keys);
        self.tiers.warm(&texts.to_vec(), Some(keys_per_second)).await
    }

    /// Returns up to `n` of the keys held locally, the hottest first: those that would be evicted last. Never touches
    /// the backend; counts nothing and leaves the order of eviction as it is.
    ///
    /// A local tier of 2048 entries or more is split into shards, which take turns here: the order is exact within
    /// each. Keys whose copies are outdated, after a flush or a lost link, are among them, and so are keys known to be
    /// absent. The namespace is not part of them: they are what [`warm`](Self::warm) takes.
    #[must_use]
    pub fn hot_keys(&self, n: usize) -> Vec<String> {
        self.tiers.hot_keys(n)
    }

    /// Removes the local copy of a key and says whether there was one; never touches the backend. A read under way
    /// cannot bring the copy back.
    #[must_use = "says whether there was a copy; assign to `_` when that does not matter"]
    pub fn invalidate_local(&self, key: impl Key) -> bool {
        key.with_text(|key| self.tiers.local.invalidate(key))
    }

    /// Removes every local copy and says how many there were; never touches the backend. Counters stay. The values of
    /// many copies are dropped aside, on a thread of the runtime that this is called in.
    pub fn clear_local(&self) -> usize {
        let cleared = self.tiers.local.take_all();
        let entries = cleared.len();
        drop_aside(cleared);
        entries
    }

    /// Removes every key of the namespace, on every instance, and says how many there were.
    ///
    /// On Redis this is `SCAN` and `UNLINK` in batches, never `KEYS` or `FLUSHDB`: as many round trips as there are
    /// keys in the database divided by 512, and no key of another namespace is touched. There is no deadline for the
    /// whole; once started it goes on when the future is dropped. Keys written meanwhile may or may not be removed.
    ///
    /// # Errors
    ///
    /// A backend that fails; some keys may have been removed. The local copies are gone in any case.
    pub async fn clear(&self) -> Result<u64> {
        self.tiers.clear_under("").await
    }

    /// Returns the counters since the cache was built. Those of the local tier add up; what happens during the call may
    /// be counted or not.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.tiers.stats()
    }

    /// Subscribes to what happens from now on: copies that go, with the cause; flushes; the link lost, with the cause,
    /// and made again; the breaker. No round trip; without a subscriber it costs nothing.
    ///
    /// ```
    /// # use twotier::{Cache, Event, MemoryBackend, RemovalCause};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), twotier::Error> {
    /// let users: Cache<String> = Cache::builder().build(MemoryBackend::new()).await?;
    /// let mut events = users.events();
    /// users.set("42", "Ada".to_owned()).await?;
    /// users.invalidate_local("42");
    /// let Some(Event::Removed { key, cause, .. }) = events.next().await else { panic!() };
    /// assert_eq!((&*key, cause), ("42", RemovalCause::Invalidated));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self) -> Events {
        self.tiers.events.subscribe()
    }

    /// Returns what can be expected of operations and why, the state of the link and the promises in force, without a
    /// round trip.
    #[must_use]
    pub fn health(&self) -> Health {
        let Tiers { local, remote, .. } = &*self.tiers;
        Health::new(Observed {
            link: remote.backend.link(),
            links: remote.backend.links().into_iter().map(|status| (local.is_serving(status.link), status)).collect(),
            coherence: remote.settings.mode.get().copied(),
            coherence_asked: remote.settings.coherence_asked,
            bound: remote.settings.max_staleness,
            local_enabled: remote.settings.local_enabled,
            closed: remote.closed.load(Ordering::Acquire),
            breakers: remote.breakers.outages(),
        })
    }

    /// Closes the cache: every later call on any clone is an error, reads of local copies too.
    ///
    /// Without it the connection ends when the last clone and the last write under way are gone.
    pub async fn close(&self) {
        let Tiers { local, remote, .. } = &*self.tiers;
        remote.closed.store(true, Ordering::Release);
        self.tiers.attaching.iter().for_each(Attaching::end);
        // An even epoch serves nothing. The backend cannot take a link up again once it is closed.
        local.unlink();
        remote.runtime.entered(remote.backend.close()).await;
        // Nothing will read the copies any more.
        self.clear_local();
    }
}

impl<V> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("namespace", &self.tiers.remote.namespace).finish_non_exhaustive()
    }
}
