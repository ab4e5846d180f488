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

use std::{fmt, num::NonZeroU32, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::{Builder, Handle, Runtime};
use twotier_backend::Backend;
use twotier_core::{BackendError, BackendErrorKind, CacheStats, Error, Namespace, Operation};

use crate::{
    CacheBuilder, Codec, Health, IntoValue, Key, LoaderError, LoaderOutput, Lookup, Result, SetOptions, key::text_of,
    read::LocalRead,
};

/// A [`Cache`](crate::Cache) whose calls block, with a runtime of one thread of its own inside.
///
/// Every method does what its asynchronous twin of the same name does. Local hits do not enter the runtime.
/// Cloning is cheap; the thread ends with the last clone.
///
/// # Errors
///
/// Beside those of the twins: a call from within an asynchronous task is [`Error::Usage`], because it would block the
/// thread that everything else on that runtime needs.
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

impl Owned {
    fn new() -> Result<Self> {
        let built = Builder::new_multi_thread().worker_threads(1).thread_name("twotier").enable_all().build();
        match built {
            Ok(runtime) => Ok(Self(Some(runtime))),
            Err(error) => Err(Error::Backend {
                operation: Operation::Build,
                namespace: Namespace::new("twotier")?,
                source: BackendError::new(BackendErrorKind::Unavailable, "no thread could be started")
                    .with_source(error),
            }),
        }
    }

    fn run<T>(&self, operation: Operation, call: impl Future<Output = Result<T>>) -> Result<T> {
        let usage = |hint| Err(Error::Usage { operation, hint });
        if Handle::try_current().is_ok() {
            return usage("a blocking call cannot be made within an asynchronous task; use twotier::Cache there");
        }
        match &self.0 {
            Some(runtime) => runtime.block_on(call),
            None => usage("the runtime has ended"),
        }
    }

    /// Runs a call with a result for each of its items.
    fn run_each<T>(
        &self,
        operation: Operation,
        items: usize,
        call: impl Future<Output = Vec<Result<T>>>,
    ) -> Vec<Result<T>> {
        let results = self.run(operation, async { Ok(call.await) });
        results.unwrap_or_else(|error| std::iter::repeat_with(|| Err(error.clone())).take(items).collect())
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
        Self::build(crate::Cache::builder(), crate::RedisBackend::new(url)?)
    }
}

impl<V: Send + Sync + 'static> Cache<V> {
    /// Builds a cache; see [`CacheBuilder::build`].
    ///
    /// ```
    /// use twotier::{Cache, MemoryBackend, blocking};
    ///
    /// let cache = blocking::Cache::build(Cache::<u32>::builder().namespace("n"), MemoryBackend::new())?;
    /// cache.set("a", 1)?;
    /// # Ok::<(), twotier::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn build<C: Codec<V>>(builder: CacheBuilder<V, C>, backend: impl Backend) -> Result<Self> {
        let runtime = Owned::new()?;
        let cache = runtime.run(Operation::Build, builder.build(backend))?;
        Ok(Self { cache, runtime: Arc::new(runtime) })
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
                let read = async { self.cache.tiers().read_through(&key, Operation::Get).await };
                self.runtime.run(Operation::Get, read).map(|found| found.value)
            }
        }
    }

    /// See [`Cache::lookup`](crate::Cache::lookup).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn lookup(&self, key: impl Key) -> Result<Lookup<V>> {
        self.runtime.run(Operation::Get, self.cache.lookup(key))
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
        self.runtime.run(Operation::GetMany, self.cache.get_many(keys))
    }

    /// See [`Cache::get_each`](crate::Cache::get_each).
    ///
    /// # Errors
    ///
    /// Each as its twin.
    pub fn get_each<K: Key>(&self, keys: &[K]) -> Vec<Result<Option<Arc<V>>>> {
        self.runtime.run_each(Operation::GetMany, keys.len(), self.cache.get_each(keys))
    }

    /// See [`Cache::set`](crate::Cache::set).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn set(&self, key: impl Key, value: impl IntoValue<V>) -> Result<()> {
        self.runtime.run(Operation::Set, self.cache.set(key, value))
    }

    /// See [`Cache::set_with`](crate::Cache::set_with).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn set_with(&self, key: impl Key, value: impl IntoValue<V>, options: SetOptions) -> Result<()> {
        self.runtime.run(Operation::Set, self.cache.set_with(key, value, options))
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
        self.runtime.run(Operation::SetMany, self.cache.set_many(items))
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
        self.runtime.run_each(Operation::SetMany, items.len(), self.cache.set_each(items))
    }

    /// See [`Cache::delete`](crate::Cache::delete).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn delete(&self, key: impl Key) -> Result<bool> {
        self.runtime.run(Operation::Delete, self.cache.delete(key))
    }

    /// See [`Cache::delete_many`](crate::Cache::delete_many).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn delete_many<K: Key>(&self, keys: &[K]) -> Result<usize> {
        self.runtime.run(Operation::DeleteMany, self.cache.delete_many(keys))
    }

    /// See [`Cache::delete_each`](crate::Cache::delete_each).
    ///
    /// # Errors
    ///
    /// Each as its twin.
    pub fn delete_each<K: Key>(&self, keys: &[K]) -> Vec<Result<bool>> {
        self.runtime.run_each(Operation::DeleteMany, keys.len(), self.cache.delete_each(keys))
    }

    /// See [`Cache::get_or_load`](crate::Cache::get_or_load). The loader is an ordinary function here, and runs on the
    /// calling thread.
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
        self.runtime.run(Operation::GetOrLoad, self.cache.get_or_load(key, |key| async { loader(key) }))
    }

    /// See [`Cache::get_many_or_load`](crate::Cache::get_many_or_load). The loader is an ordinary function here, and
    /// runs on the calling thread.
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
        self.runtime.run(Operation::GetManyOrLoad, self.cache.get_many_or_load(keys, loader))
    }

    /// See [`Cache::update`](crate::Cache::update).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn update<T>(&self, key: impl Key, change: impl FnMut(Option<&V>) -> Option<T>) -> Result<Option<Arc<V>>>
    where
        T: IntoValue<V>,
    {
        self.runtime.run(Operation::Update, self.cache.update(key, change))
    }

    /// See [`Cache::warm`](crate::Cache::warm).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn warm<K: Key>(&self, keys: &[K]) -> Result<usize> {
        self.runtime.run(Operation::Warm, self.cache.warm(keys))
    }

    /// See [`Cache::warm_paced`](crate::Cache::warm_paced).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn warm_paced<K: Key>(&self, keys: &[K], keys_per_second: NonZeroU32) -> Result<usize> {
        self.runtime.run(Operation::Warm, self.cache.warm_paced(keys, keys_per_second))
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
        self.runtime.run(Operation::Clear, self.cache.clear())
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
    /// [`Error::Usage`] when called within an asynchronous task.
    pub fn close(&self) -> Result<()> {
        self.runtime.run(Operation::Close, async {
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
