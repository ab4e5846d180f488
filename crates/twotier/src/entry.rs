//! The full form of a load: what is known already, and what is to become of what is loaded.

use std::{fmt, sync::Arc, time::Duration};

use twotier_core::Operation;

use crate::{Key, LoaderError, LoaderOutput, Lookup, Result, SetOptions, key::text_of, tiers::Tiers};

/// Options of one load: made by [`LoadOptions::new`], which takes the cache's own settings for everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    pub(crate) set: SetOptions,
    pub(crate) keeping: Keeping,
    pub(crate) skip_local: bool,
    pub(crate) force_refresh: bool,
    pub(crate) timeout: Option<Duration>,
}

/// Where a loaded value is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keeping {
    #[default]
    BothTiers,
    LocalTier,
    Nowhere,
}

impl LoadOptions {
    /// Takes the cache's own settings for everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the loaded value lives in the backend, exactly, at least 1 ms; `None` is for ever. A life that the
    /// loader gives it goes before.
    #[must_use]
    pub fn time_to_live(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.set = self.set.time_to_live(ttl);
        self
    }

    /// Keeps what is loaded in no tier. Later reads find what is there, which may be older.
    #[must_use]
    pub fn no_store(mut self) -> Self {
        self.keeping = Keeping::Nowhere;
        self
    }

    /// Keeps what is loaded in the local tier alone, as a copy that any news of the key ends: for its time to live, but
    /// no longer than a copy of what is in the backend.
    #[must_use]
    pub fn local_only(mut self) -> Self {
        self.keeping = Keeping::LocalTier;
        self
    }

    /// Asks the backend although there is a local copy. What it brings takes the place of that.
    #[must_use]
    pub fn skip_local(mut self) -> Self {
        self.skip_local = true;
        self
    }

    /// Runs the loader although there is a value, which it is given as [`Prior`]. What it brings replaces that value,
    /// unless somebody else's write did meanwhile. Of several such calls at once each runs its own loader, one after
    /// the other.
    #[must_use]
    pub fn force_refresh(mut self) -> Self {
        self.force_refresh = true;
        self
    }

    /// Returns whether a local copy may be the answer.
    pub(crate) fn takes_copies(&self) -> bool {
        !self.skip_local && !self.force_refresh
    }

    /// Sets the longest that the loader may take, and that this call waits for somebody else's, instead of
    /// [`load_timeout`](crate::CacheBuilder::load_timeout) and [`load_wait`](crate::CacheBuilder::load_wait).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// What is known of a key before it is loaded: the argument of the loader of [`Entry::load_with`].
pub struct Prior<V> {
    pub(crate) found: Option<(Arc<V>, Duration)>,
}

impl<V> Prior<V> {
    /// Returns the value that is there, if any.
    #[must_use]
    pub fn value(&self) -> Option<&Arc<V>> {
        self.found.as_ref().map(|(value, _)| value)
    }

    /// Returns how long ago the backend was asked for it; zero when it was asked now.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.found.as_ref().map(|(_, age)| *age)
    }
}

impl<V> fmt::Debug for Prior<V> {
    /// Prints whether there is a value, not the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prior").field("present", &self.found.is_some()).field("age", &self.age()).finish()
    }
}

/// One key of a cache, for a load with options: made by [`Cache::entry`](crate::Cache::entry).
#[must_use = "an entry does nothing until it is loaded"]
pub struct Entry<'c, V, K> {
    tiers: &'c Tiers<V>,
    key: K,
    options: LoadOptions,
}

impl<'c, V, K> Entry<'c, V, K> {
    pub(crate) fn new(tiers: &'c Tiers<V>, key: K) -> Self {
        Self { tiers, key, options: LoadOptions::new() }
    }

    /// Sets the options of the load.
    pub fn with(mut self, options: LoadOptions) -> Self {
        self.options = options;
        self
    }
}

impl<V: Send + Sync + 'static, K: Key> Entry<'_, V, K> {
    /// Reads the value, or loads it as [`get_or_load`](crate::Cache::get_or_load) does, and says where it came from,
    /// how old the copy is, and how fresh.
    ///
    /// The loader is given what is known of the key: with [`force_refresh`](LoadOptions::force_refresh) the value that
    /// is there, else nothing. It may return that this is still right, see
    /// [`Loaded::not_modified`](crate::Loaded::not_modified).
    ///
    /// Costs no round trip on a local hit, one when the backend has the value, two when it is loaded. A refresh costs
    /// two when the value was not modified, and up to three when it was.
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](crate::Cache::get_or_load); [`Error::Usage`](crate::Error::Usage) when the loader says that a
    /// value was not modified and there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use twotier::{Cache, LoadOptions, Loaded, MemoryBackend, Prior, Tier};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), twotier::Error> {
    /// # let pages: Cache<String> = Cache::builder().build(MemoryBackend::new()).await?;
    /// let fetch = async |prior: Prior<String>| match prior.value() {
    ///     Some(_still_right) => Ok::<_, std::io::Error>(Loaded::not_modified()),
    ///     None => Ok(Loaded::new("a page").time_to_live(Duration::from_secs(60))),
    /// };
    /// let refresh = LoadOptions::new().force_refresh().timeout(Duration::from_secs(1));
    /// for _ in 0..2 {
    ///     let page = pages.entry("/").with(refresh).load_with(fetch).await?;
    ///     assert_eq!((page.tier, page.value.as_deref()), (Tier::Origin, Some(&"a page".to_owned())));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn load_with<F, Fut, T, E>(self, loader: F) -> Result<Lookup<V>>
    where
        F: FnOnce(Prior<V>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        let Self { tiers, key, options } = self;
        let text = text_of(&key);
        if options.takes_copies() {
            let known = |hit: &Lookup<V>| hit.value.is_some() || tiers.takes_known_absence::<T>(&text);
            if let Some(hit) = tiers.lookup_local_with_age(Operation::GetOrLoad, &text)?.filter(known) {
                return Ok(hit);
            }
        }
        Box::pin(tiers.load(&text, options, loader)).await
    }
}

impl<V, K> fmt::Debug for Entry<'_, V, K> {
    /// Does not print the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("options", &self.options).finish_non_exhaustive()
    }
}
