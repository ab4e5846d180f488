//! What a measurement runs on: a backend near or far, and caches over it.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use twotier::{Backend, Cache, MemoryBackend, RedisBackend};
use twotier_testkit::Proxy;

use crate::{Result, commands::Commands, server::Server};

/// The round trip of the case that started it: an application and its Redis in two regions.
pub const FAR: Duration = Duration::from_millis(37);

/// Values outlive every measurement, and do not outlive a benchmark that was interrupted by much.
const TIME_TO_LIVE: Duration = Duration::from_secs(1800);
/// A busy machine makes a figure worse; it should not end the benchmark.
const PATIENCE: Duration = Duration::from_secs(10);

/// How far away the backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Regime {
    /// In this process.
    InMemory,
    /// A server as near as it was given to us; loopback if it is a private one.
    Near,
    /// The same server with [`FAR`] added to each round trip.
    Far,
}

/// A backend that caches are built over.
#[derive(Debug)]
pub struct Stage {
    regime: Regime,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Memory(MemoryBackend),
    Redis { url: String, server: Arc<Server>, _proxy: Option<Proxy> },
}

/// What differs between the caches of a measurement.
#[derive(Clone, Copy, Debug)]
pub enum Local {
    /// No local tier.
    Off,
    /// A local tier of this many entries, without a bound of bytes that would be felt.
    Entries(usize),
}

impl Stage {
    /// Sets up a backend in this process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { regime: Regime::InMemory, source: Source::Memory(MemoryBackend::new()) }
    }

    /// Uses a server as it is.
    #[must_use]
    pub fn near(server: &Arc<Server>) -> Self {
        let source = Source::Redis { url: server.url().to_owned(), server: Arc::clone(server), _proxy: None };
        Self { regime: Regime::Near, source }
    }

    /// Puts [`FAR`] between us and a server.
    ///
    /// # Errors
    ///
    /// When the server's URL is none that a proxy can stand in for.
    pub fn far(server: &Arc<Server>) -> Result<Self> {
        let (proxy, url) = server.behind_proxy(FAR)?;
        let source = Source::Redis { url, server: Arc::clone(server), _proxy: Some(proxy) };
        Ok(Self { regime: Regime::Far, source })
    }

    /// Returns how far away it is.
    #[must_use]
    pub fn regime(&self) -> Regime {
        self.regime
    }

    /// Names it for a table.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.source {
            Source::Memory(_) => "in memory".to_owned(),
            Source::Redis { server, .. } if self.regime == Regime::Far => {
                format!("{}, {} + {} ms a round trip", server.product(), server.place(), FAR.as_millis())
            }
            Source::Redis { server, .. } => format!("{}, {}", server.product(), server.place()),
        }
    }

    /// Returns the URL of the server, or that which leads to it through the proxy; credentials included.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        match &self.source {
            Source::Memory(_) => None,
            Source::Redis { url, .. } => Some(url),
        }
    }

    /// Builds a cache.
    ///
    /// # Errors
    ///
    /// When the backend cannot be reached.
    pub async fn cache(&self, namespace: &str, local: Local) -> Result<Cache<String>> {
        let builder = Cache::builder()
            .namespace(namespace)
            .time_to_live(TIME_TO_LIVE)
            .local_time_to_live(TIME_TO_LIVE)
            .op_timeout(PATIENCE);
        let builder = match local {
            Local::Off => builder.without_local(),
            Local::Entries(entries) => builder.max_entries(entries).max_bytes(entries * 4096 + 1_000_000),
        };
        Ok(builder.build(self.backend()?).await?)
    }

    /// Returns the commands that the server has counted so far; `None` if there is no server.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub fn commands(&self) -> Result<Option<Commands>> {
        match &self.source {
            Source::Memory(_) => Ok(None),
            Source::Redis { server, .. } => server.commands().map(Some),
        }
    }

    /// Returns whether what the server counts is all ours.
    #[must_use]
    pub fn counts_are_ours(&self) -> bool {
        matches!(&self.source, Source::Redis { server, .. } if server.is_private())
    }

    fn backend(&self) -> Result<Box<dyn Backend>> {
        Ok(match &self.source {
            Source::Memory(shared) => Box::new(shared.clone()),
            Source::Redis { url, .. } => Box::new(RedisBackend::new(url)?),
        })
    }
}
