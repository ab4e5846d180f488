//! The caches whose figures leave the process.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use twotier_core::CacheStats;
#[cfg(feature = "metrics")]
use twotier_core::LatencySnapshot;

use crate::{Cache, tiers::Tiers};

/// What a cache shows, whatever its values are.
pub(crate) trait Source: Send + Sync {
    fn stats(&self) -> CacheStats;

    /// Returns what is recorded of each histogram, in the order of [`FAMILIES`](twotier_core::export::FAMILIES).
    #[cfg(feature = "metrics")]
    fn histograms(&self) -> Vec<LatencySnapshot>;
}

impl<V: Send + Sync + 'static> Source for Tiers<V> {
    fn stats(&self) -> CacheStats {
        self.stats()
    }

    #[cfg(feature = "metrics")]
    fn histograms(&self) -> Vec<LatencySnapshot> {
        let mut all = Vec::from(self.remote.meter.latencies());
        all.push(self.local.invalidation_lag_snapshot());
        all
    }
}

/// Caches by the value of their label `namespace`, each with what its exporter remembers of it. None is kept alive.
pub(crate) struct Registered<M>(Mutex<Vec<Entry<M>>>);

struct Entry<M> {
    name: Arc<str>,
    source: Weak<dyn Source>,
    memory: Arc<M>,
}

/// A registered cache that is still there.
pub(crate) struct Shown<M> {
    pub(crate) name: Arc<str>,
    pub(crate) source: Arc<dyn Source>,
    #[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "the text of Prometheus needs no memory"))]
    pub(crate) memory: Arc<M>,
}

impl<M: Default> Registered<M> {
    /// Adds a cache, in the place of one of the same name.
    pub(crate) fn add<V: Send + Sync + 'static>(&self, name: Option<&str>, cache: &Cache<V>) {
        let name: Arc<str> = name.unwrap_or_else(|| cache.namespace().as_str()).into();
        let shared: Weak<Tiers<V>> = Arc::downgrade(cache.shared());
        let entry = Entry { name, source: shared, memory: Arc::default() };
        let mut caches = self.0.lock();
        caches.retain(|other| other.name != entry.name);
        caches.push(entry);
    }

    /// Returns every cache that is still there, in the order in which they came, and forgets the others. The last clone
    /// of a cache may be dropped meanwhile, and then goes with what is returned: under no lock.
    pub(crate) fn all(&self) -> Vec<Shown<M>> {
        let mut all = Vec::new();
        self.0.lock().retain(|Entry { name, source, memory }| {
            let shown =
                source.upgrade().map(|source| Shown { name: Arc::clone(name), source, memory: Arc::clone(memory) });
            let is_there = shown.is_some();
            all.extend(shown);
            is_there
        });
        all
    }
}

impl<M> Default for Registered<M> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<M> fmt::Debug for Registered<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.lock().iter().map(|entry| &entry.name)).finish()
    }
}
