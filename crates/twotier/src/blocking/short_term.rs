//! The short-term memory for code without a runtime of its own.

use std::{fmt, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use twotier_backend::Backend;
use twotier_core::{CacheConfig, CacheStats, Namespace, Operation};

use super::{Cache, run};
use crate::{
    Health, Key, Result,
    short_term::{self, Credentials, LocalCacheStats, Stashed, TtlStrategy, builder},
};

/// A [`ShortTermMemory`](short_term::ShortTermMemory) whose calls block, with a runtime of one thread of its own
/// inside.
///
/// Every method does what its asynchronous twin of the same name does. Where it may be called, and what it returns
/// elsewhere, is said at [`blocking::Cache`](Cache); a local hit works everywhere.
///
/// ```
/// use twotier::{
///     CacheConfig, MemoryBackend,
///     blocking::ShortTermMemory,
///     short_term::{AccessTier, Credentials},
/// };
///
/// let memory = ShortTermMemory::build(CacheConfig::new("memory"), MemoryBackend::new())?;
/// let planner = Credentials::new("planner", AccessTier::Contributor)?;
/// memory.stash("steps", &3, &planner)?;
/// assert_eq!(memory.retrieve::<u32>("steps", &planner)?.as_deref(), Some(&3));
/// # Ok::<(), twotier::Error>(())
/// ```
#[derive(Clone)]
pub struct ShortTermMemory {
    memory: short_term::ShortTermMemory,
    /// The same cache, and the runtime that it lives in.
    cache: Cache<Stashed>,
}

impl ShortTermMemory {
    /// See [`ShortTermMemory::connect`](short_term::ShortTermMemory::connect).
    ///
    /// # Errors
    ///
    /// As its twin.
    #[cfg(feature = "redis")]
    pub fn connect(url: &str) -> Result<Self> {
        Self::build(short_term::default_config(), crate::RedisBackend::new(url)?)
    }

    /// See [`ShortTermMemory::build`](short_term::ShortTermMemory::build).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn build(config: CacheConfig, backend: impl Backend) -> Result<Self> {
        Ok(Self::over(Cache::build(builder(&config), backend)?))
    }

    /// See [`ShortTermMemory::build_lazy`](short_term::ShortTermMemory::build_lazy).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn build_lazy(config: CacheConfig, backend: impl Backend) -> Result<Self> {
        Ok(Self::over(Cache::build_lazy(builder(&config), backend)?))
    }

    fn over(cache: Cache<Stashed>) -> Self {
        Self { memory: short_term::ShortTermMemory::over(cache.cache.clone()), cache }
    }

    /// See [`ShortTermMemory::namespace`](short_term::ShortTermMemory::namespace).
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        self.memory.namespace()
    }

    /// See [`ShortTermMemory::stash`](short_term::ShortTermMemory::stash).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn stash<T: Serialize + ?Sized>(&self, key: impl Key, value: &T, credentials: &Credentials) -> Result<()> {
        run(Operation::Set, self.memory.stash(key, value, credentials))
    }

    /// See [`ShortTermMemory::stash_with`](short_term::ShortTermMemory::stash_with).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn stash_with<T: Serialize + ?Sized>(
        &self,
        key: impl Key,
        value: &T,
        ttl: impl Into<TtlStrategy>,
        credentials: &Credentials,
    ) -> Result<()> {
        run(Operation::Set, self.memory.stash_with(key, value, ttl, credentials))
    }

    /// See [`ShortTermMemory::stash_many`](short_term::ShortTermMemory::stash_many).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn stash_many<K: Key, T: Serialize>(
        &self,
        items: impl IntoIterator<Item = (K, T)>,
        credentials: &Credentials,
    ) -> Result<()> {
        run(Operation::SetMany, self.memory.stash_many(items, credentials))
    }

    /// See [`ShortTermMemory::stash_many_with`](short_term::ShortTermMemory::stash_many_with).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn stash_many_with<K: Key, T: Serialize>(
        &self,
        items: impl IntoIterator<Item = (K, T)>,
        ttl: impl Into<TtlStrategy>,
        credentials: &Credentials,
    ) -> Result<()> {
        run(Operation::SetMany, self.memory.stash_many_with(items, ttl, credentials))
    }

    /// See [`ShortTermMemory::retrieve`](short_term::ShortTermMemory::retrieve).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn retrieve<T>(&self, key: impl Key, credentials: &Credentials) -> Result<Option<Arc<T>>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        self.retrieve_of(credentials.agent_id(), key, credentials)
    }

    /// See [`ShortTermMemory::retrieve_of`](short_term::ShortTermMemory::retrieve_of).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn retrieve_of<T>(&self, agent_id: &str, key: impl Key, credentials: &Credentials) -> Result<Option<Arc<T>>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let place = self.memory.readable(Operation::Get, agent_id, &key, credentials)?;
        let found = self.cache.get(place)?;
        self.memory.decode(Operation::Get, found)
    }

    /// See [`ShortTermMemory::retrieve_many`](short_term::ShortTermMemory::retrieve_many).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn retrieve_many<T>(&self, keys: &[impl Key], credentials: &Credentials) -> Result<Vec<Option<Arc<T>>>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        run(Operation::GetMany, self.memory.retrieve_many(keys, credentials))
    }

    /// See [`ShortTermMemory::retrieve_many_of`](short_term::ShortTermMemory::retrieve_many_of).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn retrieve_many_of<T>(
        &self,
        agent_id: &str,
        keys: &[impl Key],
        credentials: &Credentials,
    ) -> Result<Vec<Option<Arc<T>>>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        run(Operation::GetMany, self.memory.retrieve_many_of(agent_id, keys, credentials))
    }

    /// See [`ShortTermMemory::forget`](short_term::ShortTermMemory::forget).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn forget(&self, key: impl Key, credentials: &Credentials) -> Result<bool> {
        run(Operation::Delete, self.memory.forget(key, credentials))
    }

    /// See [`ShortTermMemory::clear`](short_term::ShortTermMemory::clear).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn clear(&self, credentials: &Credentials) -> Result<u64> {
        run(Operation::Clear, self.memory.clear(credentials))
    }

    /// See [`ShortTermMemory::clear_of`](short_term::ShortTermMemory::clear_of).
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn clear_of(&self, agent_id: &str, credentials: &Credentials) -> Result<u64> {
        run(Operation::Clear, self.memory.clear_of(agent_id, credentials))
    }

    /// See [`ShortTermMemory::clear_local_cache`](short_term::ShortTermMemory::clear_local_cache).
    pub fn clear_local_cache(&self) -> usize {
        self.memory.clear_local_cache()
    }

    /// See [`ShortTermMemory::local_cache_stats`](short_term::ShortTermMemory::local_cache_stats).
    #[must_use]
    pub fn local_cache_stats(&self) -> LocalCacheStats {
        self.memory.local_cache_stats()
    }

    /// See [`ShortTermMemory::stats`](short_term::ShortTermMemory::stats).
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.memory.stats()
    }

    /// See [`ShortTermMemory::health`](short_term::ShortTermMemory::health).
    #[must_use]
    pub fn health(&self) -> Health {
        self.memory.health()
    }

    /// See [`ShortTermMemory::close`](short_term::ShortTermMemory::close).
    ///
    /// # Errors
    ///
    /// [`Error::Usage`](crate::Error::Usage) where a call must not wait; see [`Cache`].
    pub fn close(&self) -> Result<()> {
        self.cache.close()
    }
}

impl fmt::Debug for ShortTermMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("blocking::ShortTermMemory").field("memory", &self.memory).finish_non_exhaustive()
    }
}
