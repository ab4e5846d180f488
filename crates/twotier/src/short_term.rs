//! A short-term memory that agents share: values by agent and key, for a while, over one cache.
//!
//! This is the face of the system that this crate comes from, over a [`Cache`] and with all its promises: a
//! repeated [`retrieve`](ShortTermMemory::retrieve) is a local hit, and what another process stashes is seen within the
//! bound.
//!
//! ```
//! use std::{collections::BTreeMap, time::Duration};
//!
//! use twotier::{
//!     CacheConfig, MemoryBackend,
//!     short_term::{AccessTier, Credentials, ShortTermMemory, TtlStrategy},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), twotier::Error> {
//! let memory = ShortTermMemory::build(CacheConfig::new("memory"), MemoryBackend::new()).await?;
//! let planner = Credentials::new("planner", AccessTier::Contributor)?;
//! let reader = Credentials::new("reader", AccessTier::Observer)?;
//!
//! memory.stash("plan", &["read", "write"], &planner).await?;
//! memory.stash_with("draft", &BTreeMap::from([("page", 1)]), TtlStrategy::Staged, &planner).await?;
//! let plan = memory.retrieve::<Vec<String>>("plan", &planner).await?;
//! assert_eq!(plan.as_deref(), Some(&vec!["read".to_owned(), "write".to_owned()]));
//!
//! // Everybody reads; who may write is decided before anything is sent.
//! assert_eq!(memory.retrieve_of::<Vec<String>>("planner", "plan", &reader).await?, plan);
//! let refused = memory.stash_with("plan", &"none", Duration::from_secs(1), &reader).await.unwrap_err();
//! assert_eq!(refused.kind(), twotier::ErrorKind::Forbidden);
//! # Ok(())
//! # }
//! ```
//!
//! # Who may do what
//!
//! | tier | reads everybody's memory | writes and clears its own | clears that of others |
//! |---|---|---|---|
//! | [`Observer`](AccessTier::Observer) | yes | | |
//! | [`Contributor`](AccessTier::Contributor) | yes | yes | |
//! | [`Validator`](AccessTier::Validator) | yes | yes | |
//! | [`Steward`](AccessTier::Steward) | yes | yes | yes |
//!
//! What is refused is [`Error::Forbidden`], and nothing of it was sent: a batch is refused whole. Nobody writes
//! into the memory of another agent.
//!
//! # Where it lies
//!
//! Under `<namespace>:<agent id>:<key>`, as plain JSON. A `:` within the agent id is written as `%3A` and a `%` as
//! `%25`, so that no two pairs of an agent and a key share a stored key, whatever their texts. An agent id, this way,
//! and a key have at most [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES) together.
//!
//! # What a hit costs
//!
//! Values of any types are in one cache, so it keeps JSON, and beside it the decoded value of the first type that a
//! copy was retrieved as. A repeated retrieve as that type decodes nothing and allocates nothing. The first one after a
//! stash, or after a read of the backend, decodes; so does *each* retrieve as another type, on the caller's own stack.
//! Both are counted against `max_bytes`: twice the size of the JSON.

mod credentials;
mod place;
mod stashed;
mod stats;
mod ttl;

use std::{fmt, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use twotier_backend::Backend;
use twotier_core::{CacheConfig, CacheStats, CodecError, Error, KeyError, Namespace, OnUndecodable, Operation};

use crate::{Cache, CacheBuilder, Health, Key, Result, SetOptions, tiers::yield_every};

use self::place::beginning;

pub use self::{
    credentials::{Credentials, MAX_AGENT_ID_BYTES},
    stats::LocalCacheStats,
    ttl::TtlStrategy,
};
pub use twotier_core::AccessTier;

pub(crate) use self::{
    place::Place,
    stashed::{Stashed, StashedJson},
};

/// A memory that agents share, each with a key space of its own; see the [module](self).
///
/// Cloning is one reference count; all clones are the same memory. Errors name the operation of the cache: `set` is
/// [`stash`](Self::stash), `get` is [`retrieve`](Self::retrieve), `delete` is [`forget`](Self::forget).
///
/// # Panics
///
/// No method panics. A panic in a `Serialize` or `Deserialize` of yours reaches the caller that ran it and nobody else.
#[derive(Clone)]
pub struct ShortTermMemory {
    cache: Cache<Stashed>,
}

impl ShortTermMemory {
    /// Connects to Redis or Valkey with every default: 500 local entries, namespace `short_term`.
    ///
    /// # Errors
    ///
    /// As [`Cache::connect`].
    #[cfg(feature = "redis")]
    pub async fn connect(url: &str) -> Result<Self> {
        Self::build(default_config(), crate::RedisBackend::new(url)?).await
    }

    /// Builds the memory over a backend, and connects it: a few round trips. Where the configuration has no
    /// `time_to_live`, it is that of [`TtlStrategy::WorkingResults`]: what is in short-term memory ends.
    ///
    /// # Errors
    ///
    /// As [`CacheBuilder::build`].
    pub async fn build(config: CacheConfig, backend: impl Backend) -> Result<Self> {
        Ok(Self::over(builder(&config).build(backend).await?))
    }

    /// Builds the memory as [`build`](Self::build) does, without waiting for its backend.
    ///
    /// # Errors
    ///
    /// As [`CacheBuilder::build_lazy`].
    pub fn build_lazy(config: CacheConfig, backend: impl Backend) -> Result<Self> {
        Ok(Self::over(builder(&config).build_lazy(backend)?))
    }

    pub(crate) fn over(cache: Cache<Stashed>) -> Self {
        Self { cache }
    }

    /// Returns the prefix under which all agents' memory lies.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        self.cache.namespace()
    }

    /// Stashes a value in the memory of the agent whose credentials these are: backend first, in one round trip, then
    /// the local tier, so that the next [`retrieve`](Self::retrieve) is a local hit.
    ///
    /// It lives for the configured time to live, 1 h by default.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] below [`Contributor`](AccessTier::Contributor): nothing was sent. As [`Cache::set`]
    /// otherwise; a key that is empty, or too long together with the agent id, is an invalid key. What JSON has no word
    /// for is refused; as which type it will be read is not known, so `verify_writes` checks that it is JSON, and no
    /// more.
    pub async fn stash<T: Serialize + ?Sized>(
        &self,
        key: impl Key,
        value: &T,
        credentials: &Credentials,
    ) -> Result<()> {
        self.stash_for(key, value, SetOptions::new(), credentials).await
    }

    /// Stashes a value as [`stash`](Self::stash) does, for a time to live of its own.
    ///
    /// # Errors
    ///
    /// As [`stash`](Self::stash); also a time to live below 1 ms or above 100 years.
    pub async fn stash_with<T: Serialize + ?Sized>(
        &self,
        key: impl Key,
        value: &T,
        ttl: impl Into<TtlStrategy>,
        credentials: &Credentials,
    ) -> Result<()> {
        self.stash_for(key, value, lives(ttl), credentials).await
    }

    async fn stash_for<T: Serialize + ?Sized>(
        &self,
        key: impl Key,
        value: &T,
        options: SetOptions,
        credentials: &Credentials,
    ) -> Result<()> {
        self.permit(Operation::Set, AccessTier::Contributor, credentials)?;
        let place = self.place(Operation::Set, credentials.agent_id(), &key)?;
        let stashed = self.encode(Operation::Set, value)?;
        self.cache.set_with(place, stashed, options).await
    }

    /// Stashes many values as [`stash`](Self::stash) does, in one round trip for each 512 or each MiB. Of two values
    /// for one key the later one wins. Values of several types go as `serde_json::Value`.
    ///
    /// # Errors
    ///
    /// As [`stash`](Self::stash), and as [`Cache::set_many`] of what the backend fails. The credentials, every key and
    /// every value are checked before the first is sent: what is refused is refused whole.
    pub async fn stash_many<K: Key, T: Serialize>(
        &self,
        items: impl IntoIterator<Item = (K, T)>,
        credentials: &Credentials,
    ) -> Result<()> {
        self.stash_many_for(items, SetOptions::new(), credentials).await
    }

    /// Stashes many values as [`stash_many`](Self::stash_many) does, for a time to live of their own.
    ///
    /// # Errors
    ///
    /// As [`stash_many`](Self::stash_many) and [`stash_with`](Self::stash_with).
    pub async fn stash_many_with<K: Key, T: Serialize>(
        &self,
        items: impl IntoIterator<Item = (K, T)>,
        ttl: impl Into<TtlStrategy>,
        credentials: &Credentials,
    ) -> Result<()> {
        self.stash_many_for(items, lives(ttl), credentials).await
    }

    async fn stash_many_for<K: Key, T: Serialize>(
        &self,
        items: impl IntoIterator<Item = (K, T)>,
        options: SetOptions,
        credentials: &Credentials,
    ) -> Result<()> {
        let operation = Operation::SetMany;
        self.permit(operation, AccessTier::Contributor, credentials)?;
        let mut stashed = Vec::new();
        for (index, (key, value)) in items.into_iter().enumerate() {
            yield_every(index).await;
            let place = self.place(operation, credentials.agent_id(), &key)?;
            stashed.push((place.with_text(str::to_owned), Arc::new(self.encode(operation, &value)?)));
        }
        self.cache.tiers().set_many(stashed, options).await
    }

    /// Retrieves a value from the memory of the agent whose credentials these are. A local hit takes no round trip, a
    /// miss takes one. `None` is an absent key.
    ///
    /// What decoding costs is said in the [module](self#what-a-hit-costs).
    ///
    /// # Errors
    ///
    /// As [`Cache::get`]. What is there and is no `T` is an [`Error::Codec`], or `None` with
    /// [`OnUndecodable::Miss`]; it stays as it is.
    pub async fn retrieve<T>(&self, key: impl Key, credentials: &Credentials) -> Result<Option<Arc<T>>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        self.retrieve_of(credentials.agent_id(), key, credentials).await
    }

    /// Retrieves a value as [`retrieve`](Self::retrieve) does, from the memory of any agent.
    ///
    /// # Errors
    ///
    /// As [`retrieve`](Self::retrieve); also an agent id that [`Credentials::new`] refuses.
    pub async fn retrieve_of<T>(
        &self,
        agent_id: &str,
        key: impl Key,
        credentials: &Credentials,
    ) -> Result<Option<Arc<T>>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let place = self.readable(Operation::Get, agent_id, &key, credentials)?;
        let found = self.cache.get(place).await?;
        self.decode(Operation::Get, found)
    }

    /// Retrieves many values as [`retrieve`](Self::retrieve) does: same length and order as `keys`, duplicates allowed.
    /// Misses cost one round trip for each 512.
    ///
    /// # Errors
    ///
    /// As [`retrieve`](Self::retrieve), for the first key that fails.
    pub async fn retrieve_many<T>(&self, keys: &[impl Key], credentials: &Credentials) -> Result<Vec<Option<Arc<T>>>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        self.retrieve_many_of(credentials.agent_id(), keys, credentials).await
    }

    /// Retrieves many values as [`retrieve_many`](Self::retrieve_many) does, from the memory of any agent.
    ///
    /// # Errors
    ///
    /// As [`retrieve_many`](Self::retrieve_many); also an agent id that [`Credentials::new`] refuses.
    pub async fn retrieve_many_of<T>(
        &self,
        agent_id: &str,
        keys: &[impl Key],
        credentials: &Credentials,
    ) -> Result<Vec<Option<Arc<T>>>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let operation = Operation::GetMany;
        let mut places = Vec::with_capacity(keys.len());
        for (index, key) in keys.iter().enumerate() {
            yield_every(index).await;
            places.push(self.readable(operation, agent_id, key, credentials)?);
        }
        let found = self.cache.get_many(&places).await?;
        let mut values = Vec::with_capacity(found.len());
        for (index, found) in found.into_iter().enumerate() {
            yield_every(index).await;
            values.push(self.decode(operation, found)?);
        }
        Ok(values)
    }

    /// Deletes a key of the agent whose credentials these are from both tiers, in one round trip, and says whether it
    /// was there.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] below [`Contributor`](AccessTier::Contributor): nothing was sent. As [`Cache::delete`]
    /// otherwise.
    pub async fn forget(&self, key: impl Key, credentials: &Credentials) -> Result<bool> {
        self.permit(Operation::Delete, AccessTier::Contributor, credentials)?;
        let place = self.place(Operation::Delete, credentials.agent_id(), &key)?;
        self.cache.delete(place).await
    }

    /// Deletes all memory of the agent whose credentials these are, on every instance, and says how many keys there
    /// were. No other agent's is touched.
    ///
    /// On Redis as many round trips as [`Cache::clear`]. Local copies go by another measure: this memory lets go of
    /// those of *all* agents, each of which is one round trip when it is retrieved next. Other instances lose those of
    /// the keys that were deleted. Keys written meanwhile may or may not be deleted.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] below [`Contributor`](AccessTier::Contributor): nothing was sent. A backend that fails;
    /// some keys may have been deleted.
    pub async fn clear(&self, credentials: &Credentials) -> Result<u64> {
        self.clear_of(credentials.agent_id(), credentials).await
    }

    /// Deletes all memory of any agent, as [`clear`](Self::clear) does.
    ///
    /// # Errors
    ///
    /// As [`clear`](Self::clear); [`Error::Forbidden`] below [`Steward`](AccessTier::Steward) too, where the agent is
    /// another than that of the credentials. An agent id that [`Credentials::new`] refuses.
    pub async fn clear_of(&self, agent_id: &str, credentials: &Credentials) -> Result<u64> {
        let own = agent_id == credentials.agent_id();
        let needed = if own { AccessTier::Contributor } else { AccessTier::Steward };
        self.permit(Operation::Clear, needed, credentials)?;
        self.check_agent_id(Operation::Clear, agent_id)?;
        let beginning = beginning(agent_id).with_text(str::to_owned);
        self.cache.tiers().clear_under(&beginning).await
    }

    /// Removes every local copy, of all agents, and says how many there were; never touches the backend. Counters stay.
    pub fn clear_local_cache(&self) -> usize {
        self.cache.clear_local()
    }

    /// Returns the counters of the local tier.
    #[must_use]
    pub fn local_cache_stats(&self) -> LocalCacheStats {
        self.cache.stats().local.into()
    }

    /// Returns all counters; see [`Cache::stats`].
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Returns what can be expected of operations and why; see [`Cache::health`].
    #[must_use]
    pub fn health(&self) -> Health {
        self.cache.health()
    }

    /// Closes the memory: every later call on any clone is an error; see [`Cache::close`].
    pub async fn close(&self) {
        self.cache.close().await;
    }

    /// Returns where to read, if that is permitted.
    pub(crate) fn readable<'a, K: Key + ?Sized>(
        &self,
        operation: Operation,
        agent_id: &'a str,
        key: &'a K,
        credentials: &Credentials,
    ) -> Result<Place<'a, K>> {
        self.permit(operation, AccessTier::Observer, credentials)?;
        self.check_agent_id(operation, agent_id)?;
        self.place(operation, agent_id, key)
    }

    /// Decodes what the cache has.
    pub(crate) fn decode<T>(&self, operation: Operation, found: Option<Arc<Stashed>>) -> Result<Option<Arc<T>>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let Some(stashed) = found else { return Ok(None) };
        stashed.decode().map(Some).or_else(|source| {
            let remote = &self.cache.tiers().remote;
            remote.meter.undecodable();
            match remote.settings.on_undecodable {
                OnUndecodable::Miss => Ok(None),
                _ => Err(self.codec_failed(operation, source)),
            }
        })
    }

    fn permit(&self, operation: Operation, needed: AccessTier, credentials: &Credentials) -> Result<()> {
        credentials.permit(operation, self.namespace(), needed)
    }

    fn check_agent_id(&self, operation: Operation, agent_id: &str) -> Result<()> {
        credentials::check_agent_id(agent_id).map_err(|source| Error::InvalidOption {
            operation,
            namespace: self.namespace().clone(),
            source,
        })
    }

    /// Returns where a value lies. The cache does not see that the key itself is empty.
    fn place<'a, K: Key + ?Sized>(&self, operation: Operation, agent_id: &'a str, key: &'a K) -> Result<Place<'a, K>> {
        if key.with_text(str::is_empty) {
            let namespace = self.namespace().clone();
            return Err(Error::InvalidKey { operation, namespace, source: KeyError::Empty });
        }
        Ok(Place { agent_id, key })
    }

    fn encode<T: Serialize + ?Sized>(&self, operation: Operation, value: &T) -> Result<Stashed> {
        Stashed::encode(value).map_err(|source| self.codec_failed(operation, source))
    }

    fn codec_failed(&self, operation: Operation, source: CodecError) -> Error {
        Error::Codec { operation, namespace: self.namespace().clone(), source }
    }
}

impl fmt::Debug for ShortTermMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShortTermMemory").field("namespace", self.namespace()).finish_non_exhaustive()
    }
}

/// Starts building the cache below a memory.
pub(crate) fn builder(config: &CacheConfig) -> CacheBuilder<Stashed, StashedJson> {
    let ttl = config.time_to_live.unwrap_or_else(|| TtlStrategy::default().time_to_live());
    CacheBuilder::new().defaults(config).time_to_live(ttl).codec(StashedJson)
}

#[cfg(feature = "redis")]
pub(crate) fn default_config() -> CacheConfig {
    CacheConfig::new("short_term")
}

fn lives(ttl: impl Into<TtlStrategy>) -> SetOptions {
    SetOptions::new().time_to_live(ttl.into().time_to_live())
}
