//! Figures as the text that Prometheus scrapes. Feature `prometheus-text`.
//!
//! What each metric means, its unit, and which to alert on: `docs/observability.md` in the repository.

use std::sync::Arc;

use crate::{Cache, blocking, registered::Registered};

/// The content type of what [`Registry::render`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The caches of a process whose figures are scraped together.
///
/// There is no global one: a program owns its registry, and whoever serves the scrape has a clone of it; clones share
/// everything. A cache is not kept alive by it, and vanishes with its last clone. Nothing is counted for it: figures
/// are read by [`render`](Self::render), in some microseconds for each cache and shard.
///
/// # Examples
///
/// ```
/// use twotier::{Cache, MemoryBackend, prometheus::Registry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), twotier::Error> {
/// let registry = Registry::new();
/// let users: Cache<String> = Cache::builder().namespace("users").build(MemoryBackend::new()).await?;
/// registry.register(&users);
///
/// users.set(42, "Ada").await?;
/// users.get(42).await?;
/// let page = registry.render(); // the answer to `GET /metrics`
/// assert!(page.contains("redis_client_csc_requests_total{namespace=\"users\",result=\"hit\"} 1\n"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Registry {
    caches: Arc<Registered<()>>,
}

impl Registry {
    /// Makes a registry without caches.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a cache under its namespace, the value of the label `namespace`. One that is registered under the same is
    /// no longer shown.
    pub fn register<V: Send + Sync + 'static>(&self, cache: &Cache<V>) {
        self.caches.add(None, cache);
    }

    /// Adds a cache under a name of its own, where two caches of a process have the same namespace in different
    /// backends.
    pub fn register_as<V: Send + Sync + 'static>(&self, name: &str, cache: &Cache<V>) {
        self.caches.add(Some(name), cache);
    }

    /// Does what [`register`](Self::register) does with a blocking cache.
    pub fn register_blocking<V: Send + Sync + 'static>(&self, cache: &blocking::Cache<V>) {
        self.register(cache.inner());
    }

    /// Returns the figures of all caches in the text format of Prometheus, version 0.0.4 ([`CONTENT_TYPE`]): each
    /// family once, with a line of help and one of its type. No round trip.
    #[must_use]
    pub fn render(&self) -> String {
        let all: Vec<_> = self.caches.all().into_iter().map(|shown| (shown.name, shown.source.stats())).collect();
        let all: Vec<_> = all.iter().map(|(name, stats)| (&**name, stats)).collect();
        let mut text = String::new();
        let written = twotier_core::export::write_prometheus(&mut text, &all);
        debug_assert!(written.is_ok(), "a string takes whatever is written");
        text
    }
}
