//! The same cache for code without a runtime of its own.
//!
//! ```no_run
//! use twotier::{RedisBackend, blocking::Cache};
//!
//! let cache: Cache<String> = Cache::connect("redis://127.0.0.1:6379")?;
//! cache.set("greeting", "hello".to_owned())?;
//! assert_eq!(*cache.get("greeting")?.unwrap(), "hello");
//! # Ok::<(), twotier::Error>(())
//! ```

mod entry;
mod short_term;
mod wait;

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::{Builder, Runtime};
use twotier_backend::Backend;
use twotier_core::{BackendError, BackendErrorKind, CacheStats, Error, Namespace, Operation};

use crate::{
    CacheBuilder, Codec, Events, Health, IntoChange, IntoValue, Invalidated, Key, LoaderError, LoaderOutput, Lookup,
    Result, SetOptions, key::text_of, read::LocalRead, remote::entered,
};

use self::wait::{block_on, may_wait};

pub use self::{entry::Entry, short_term::ShortTermMemory};

/// A [`Cache`](crate::Cache) whose calls block, with a runtime of one thread of its own inside.
///
/// Every method does what its asynchronous twin of the same name does. The calling thread makes the call and waits; the
/// runtime inside only keeps the link and the timers, so no runtime is entered or needed where the call is made.
/// Cloning is cheap; the thread ends with the last clone, which may be dropped anywhere.
///
/// # Where it may be called
///
/// On any thread that may block: a plain thread, tokio's `spawn_blocking` and `block_in_place`, a loader of this or
/// another blocking cache. Within an asynchronous task a call is [`Error::Usage`], because it would block the thread
/// that everything else on that runtime needs; only what never waits works there ([`get_if_local`](Self::get_if_local),
/// a local hit of [`get`](Self::get), [`stats`](Self::stats), …). A task that opted out of tokio's budget
/// (`tokio::task::unconstrained`) cannot be distinguished from a thread that may block: a call stalls its runtime until
/// the answer is there.
///
/// # Loaders
///
/// Loaders, and the functions given to [`update`](Self::update), run on the calling thread, outside any runtime, so
/// they may use clients that start one. Nothing can interrupt them: `load_timeout` and `op_timeout` do not, and what a
/// loader brings late is stored and returned all the same. Those who wait for it run a loader of their own after
/// `load_wait`.
///
/// # Errors
///
/// Beside those of the twins: [`Error::Usage`] within an asynchronous task, and in the destructor of a thread-local
/// value that runs so late that tokio's own are gone.
pub struct Cache<V> {
    cache: crate::Cache<V>,
    runtime: Arc<Owned>,
}

/// The runtime; ended without waiting, since the last clone may be dropped inside another runtime.
struct Owned(Option<Runtime>);

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn start_runtime() -> Result<Runtime> {
    let built = Builder::new_multi_thread().worker_threads(1).thread_name("twotier").enable_all().build();
    built.or_else(|error| {
        Err(Error::Backend {
            operation: Operation::Build,
            namespace: Namespace::new("twotier")?,
            source: BackendError::new(BackendErrorKind::Unavailable, "no thread could be started").with_source(error),
        })
    })
}

/// Makes a call on this thread.
fn run<T>(operation: Operation, call: impl Future<Output = Result<T>>) -> Result<T> {
    may_wait(operation)?;
    block_on(call)
}

/// Makes a call with a result for each of its items.
fn run_each<T>(operation: Operation, items: usize, call: impl Future<Output = Vec<Result<T>>>) -> Vec<Result<T>> {
    match may_wait(operation) {
        Ok(()) => block_on(call),
        Err(refused) => std::iter::repeat_with(|| Err(refused.clone())).take(items).collect(),
    }
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), runtime: Arc::clone(&self.runtime) }
    }
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<V> {
    /// See [`Cache::connect`](crate::Cache::connect).
    ///
    /// # Errors
    ///
    /// As its twin.
    #[cfg(feature = "redis")]
    pub fn connect(url: &str) -> Result<Self> {
        Self::build(Self::builder(), crate::RedisBackend::new(url)?)
    }
}

impl<V> Cache<V> {
    /// See [`Cache::builder`](crate::Cache::builder); what it makes is given to [`build`](Self::build).
    pub fn builder() -> CacheBuilder<V> {
        CacheBuilder::new()
    }

    /// See [`Cache::namespace`](crate::Cache::namespace).
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        self.cache.namespace()
    }
}

#[cfg(any(feature = "metrics", feature = "prometheus-text"))]
impl<V> Cache<V> {
    /// Returns the cache whose calls are made here.
    pub(crate) fn inner(&self) -> &crate::Cache<V> {
        &self.cache
    }
}

impl<V: Send + Sync + 'static> Cache<V> {
    /// Builds a cache; see [`CacheBuilder::build`].
    ///
    /// ```
    /// use twotier::{MemoryBackend, blocking::Cache};
    ///
    /// let cache = Cache::build(Cache::<u32>::builder().namespace("n"), MemoryBackend::new())?;
    /// cache.set("a", 1)?;
    /// # Ok::<(), twotier::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn build<C: Codec<V>>(builder: CacheBuilder<V, C>, backend: impl Backend) -> Result<Self> {
        may_wait(Operation::Build)?;
        let runtime = start_runtime()?;
        let handle = runtime.handle().clone();
        let runtime = Arc::new(Owned(Some(runtime)));
        let cache = block_on(entered(&handle, builder.build(backend)))?;
        Ok(Self { cache, runtime })
    }

    /// Builds a cache without waiting for its backend; see [`CacheBuilder::build_lazy`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn build_lazy<C: Codec<V>>(builder: CacheBuilder<V, C>, backend: impl Backend) -> Result<Self> {
        let runtime = start_runtime()?;
        let handle = runtime.handle().clone();
        let runtime = Arc::new(Owned(Some(runtime)));
        let _entered = handle.enter();
        Ok(Self { cache: builder.build_lazy(backend)?, runtime })
    }

    /// See [`Cache::get`](crate::Cache::get).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn get(&self, key: impl Key) -> Result<Option<Arc<V>>> {
        match key.with_text(|key| self.cache.tiers().lookup_local(Operation::Get, key)) {
            LocalRead::Hit(value) => Ok(value),
            LocalRead::Refused(error) => Err(*error),
            LocalRead::Miss => {
                let key = text_of(&key);
                run(Operation::Get, self.cache.tiers().read_through(key, Operation::Get)).map(|found| found.value)
            }
        }
    }

    /// See [`Cache::lookup`](crate::Cache::lookup).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn lookup(&self, key: impl Key) -> Result<Lookup<V>> {
        run(Operation::Get, self.cache.lookup(key))
    }

    /// See [`Cache::get_if_local`](crate::Cache::get_if_local).
    #[must_use]
    pub fn get_if_local(&self, key: impl Key) -> Option<Arc<V>> {
        self.cache.get_if_local(key)
    }

    /// See [`Cache::get_many`](crate::Cache::get_many).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn get_many<K: Key>(&self, keys: &[K]) -> Result<Vec<Option<Arc<V>>>> {
        run(Operation::GetMany, self.cache.get_many(keys))
    }

    /// See [`Cache::get_each`](crate::Cache::get_each).
    ///
    /// # Errors
    ///
    /// Each as its twin.
    pub fn get_each<K: Key>(&self, keys: &[K]) -> Vec<Result<Option<Arc<V>>>> {
        run_each(Operation::GetMany, keys.len(), self.cache.get_each(keys))
    }

    /// See [`Cache::set`](crate::Cache::set).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn set(&self, key: impl Key, value: impl IntoValue<V>) -> Result<()> {
        run(Operation::Set, self.cache.set(key, value))
    }

    /// See [`Cache::set_with`](crate::Cache::set_with).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn set_with(&self, key: impl Key, value: impl IntoValue<V>, options: SetOptions) -> Result<()> {
        run(Operation::Set, self.cache.set_with(key, value, options))
    }

    /// See [`Cache::set_many`](crate::Cache::set_many).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn set_many<K, T>(&self, items: impl IntoIterator<Item = (K, T)>) -> Result<()>
    where
        K: Key,
        T: IntoValue<V>,
    {
        run(Operation::SetMany, self.cache.set_many(items))
    }

    /// See [`Cache::set_each`](crate::Cache::set_each).
    ///
    /// # Errors
    ///
    /// Each as its twin.
    pub fn set_each<K, T>(&self, items: impl IntoIterator<Item = (K, T)>) -> Vec<Result<()>>
    where
        K: Key,
        T: IntoValue<V>,
    {
        let items: Vec<(K, T)> = items.into_iter().collect();
        run_each(Operation::SetMany, items.len(), self.cache.set_each(items))
    }

    /// See [`Cache::delete`](crate::Cache::delete).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn delete(&self, key: impl Key) -> Result<bool> {
        run(Operation::Delete, self.cache.delete(key))
    }

    /// See [`Cache::invalidate`](crate::Cache::invalidate).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn invalidate(&self, key: impl Key) -> Result<Invalidated> {
        run(Operation::Invalidate, self.cache.invalidate(key))
    }

    /// See [`Cache::delete_many`](crate::Cache::delete_many).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn delete_many<K: Key>(&self, keys: &[K]) -> Result<usize> {
        run(Operation::DeleteMany, self.cache.delete_many(keys))
    }

    /// See [`Cache::delete_each`](crate::Cache::delete_each).
    ///
    /// # Errors
    ///
    /// Each as its twin.
    pub fn delete_each<K: Key>(&self, keys: &[K]) -> Vec<Result<bool>> {
        run_each(Operation::DeleteMany, keys.len(), self.cache.delete_each(keys))
    }

    /// See [`Cache::get_or_load`](crate::Cache::get_or_load). The loader is an ordinary function here; it runs on the
    /// calling thread, outside any runtime, to its end.
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn get_or_load<K, F, T, E>(&self, key: K, loader: F) -> Result<T::Found>
    where
        K: Key,
        F: FnOnce(K) -> Result<T, E>,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        run(Operation::GetOrLoad, self.cache.get_or_load(key, |key| async { loader(key) }))
    }

    /// See [`Cache::lookup_or_load`](crate::Cache::lookup_or_load). The loader is an ordinary function here; it runs on
    /// the calling thread, outside any runtime, to its end.
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn lookup_or_load<K, F, T, E>(&self, key: K, loader: F) -> Result<Lookup<V>>
    where
        K: Key,
        F: FnOnce(K) -> Result<T, E>,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        run(Operation::GetOrLoad, self.cache.lookup_or_load(key, |key| async { loader(key) }))
    }

    /// See [`Cache::entry`](crate::Cache::entry).
    pub fn entry<K: Key>(&self, key: K) -> Entry<'_, V, K> {
        Entry::new(self.cache.entry(key))
    }

    /// See [`Cache::get_many_or_load`](crate::Cache::get_many_or_load). The loader is an ordinary function here; it
    /// runs on the calling thread, outside any runtime, to its end.
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn get_many_or_load<K, F, I, Q, T, E>(&self, keys: &[K], mut loader: F) -> Result<Vec<Option<Arc<V>>>>
    where
        K: Key + Clone,
        F: FnMut(Vec<K>) -> Result<I, E>,
        I: IntoIterator<Item = (Q, T)>,
        Q: Key,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        let loader = |missing| std::future::ready(loader(missing));
        run(Operation::GetManyOrLoad, self.cache.get_many_or_load(keys, loader))
    }

    /// See [`Cache::update`](crate::Cache::update).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn update<C: IntoChange<V>>(
        &self,
        key: impl Key,
        change: impl FnMut(Option<&V>) -> C,
    ) -> Result<Option<Arc<V>>> {
        run(Operation::Update, self.cache.update(key, change))
    }

    /// See [`Cache::increment`](crate::Cache::increment).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn increment(&self, key: impl Key, by: i64) -> Result<i64> {
        run(Operation::Increment, self.cache.increment(key, by))
    }

    /// See [`Cache::increment_with`](crate::Cache::increment_with).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn increment_with(&self, key: impl Key, by: i64, options: SetOptions) -> Result<i64> {
        run(Operation::Increment, self.cache.increment_with(key, by, options))
    }

    /// See [`Cache::touch`](crate::Cache::touch).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn touch(&self, key: impl Key, ttl: Duration) -> Result<bool> {
        run(Operation::Touch, self.cache.touch(key, ttl))
    }

    /// See [`Cache::events`](crate::Cache::events). A thread takes them by [`Events::try_next`].
    #[must_use]
    pub fn events(&self) -> Events {
        self.cache.events()
    }

    /// See [`Cache::warm`](crate::Cache::warm).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn warm<K: Key>(&self, keys: &[K]) -> Result<usize> {
        run(Operation::Warm, self.cache.warm(keys))
    }

    /// See [`Cache::warm_paced`](crate::Cache::warm_paced).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn warm_paced<K: Key>(&self, keys: &[K], keys_per_second: NonZeroU32) -> Result<usize> {
        run(Operation::Warm, self.cache.warm_paced(keys, keys_per_second))
    }

    /// See [`Cache::hot_keys`](crate::Cache::hot_keys).
    #[must_use]
    pub fn hot_keys(&self, n: usize) -> Vec<String> {
        self.cache.hot_keys(n)
    }

    /// See [`Cache::invalidate_local`](crate::Cache::invalidate_local).
    #[must_use = "says whether there was a copy; assign to `_` when that does not matter"]
    pub fn invalidate_local(&self, key: impl Key) -> bool {
        self.cache.invalidate_local(key)
    }

    /// See [`Cache::clear_local`](crate::Cache::clear_local).
    pub fn clear_local(&self) -> usize {
        self.cache.clear_local()
    }

    /// See [`Cache::clear`](crate::Cache::clear).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn clear(&self) -> Result<u64> {
        run(Operation::Clear, self.cache.clear())
    }

    /// See [`Cache::stats`](crate::Cache::stats).
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// See [`Cache::health`](crate::Cache::health).
    #[must_use]
    pub fn health(&self) -> Health {
        self.cache.health()
    }

    /// See [`Cache::close`](crate::Cache::close).
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where a call must not wait; see [`Cache`].
    pub fn close(&self) -> Result<()> {
        run(Operation::Close, async {
            self.cache.close().await;
            Ok(())
        })
    }
}

impl<V> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("blocking::Cache").field("cache", &self.cache).finish_non_exhaustive()
    }
}
