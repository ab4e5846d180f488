//! The backend for Redis and Valkey, on the crate `redis`.

mod apart;
mod canary;
mod channel;
mod coalesce;
mod command;
mod connect;
mod connection;
mod dial;
mod error;
mod link;
mod push;
mod read;
mod target;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use twotier_core::{ConfigError, LinkState, RedisConfig};

use crate::{Attachment, Backend, BackendResult, Stored, Watch, Write};

use self::{link::Link, target::Target};

/// Redis or Valkey, over one connection, and a second one for reads once values are large.
///
/// The connection speaks RESP3 with `TCP_NODELAY`, is made by [`attach`](Backend::attach) or by the first operation, and
/// is made anew in the background whenever it is lost, with jittered pauses.
/// While it is being made operations wait for it; once an attempt has failed they fail at once, with its cause, until
/// another succeeds.
/// An operation that was under way when the connection was lost is an error; it is never sent again, since a write may
/// already have taken effect.
///
/// Single reads that come at the same time share a round trip: one `MGET`, and a `PTTL` for each key. A few go by
/// themselves. There is no timer: nobody waits for others that may not come.
///
/// With [`attach`](Backend::attach) it asks for [`CLIENT TRACKING ON BCAST PREFIX <namespace>: NOLOOP`][tracking]: the
/// server then reports every change under the namespace, by any client in any language, on the connection that also
/// carries the reads, so the order of replies and reports is the server's own.
/// As the link comes up it tests itself: a script writes and removes a key of the namespace, and the report of it must
/// arrive; how long that took is in [`LinkState::Up`]. Where the user may not run scripts the test is left out.
/// Where tracking is refused, and no mode was asked for, caches tell each other of their writes over a channel instead
/// ([`Coherence::PubSub`](twotier_core::Coherence)): each write is then a transaction with a `PUBLISH`.
/// Every quarter of the staleness bound (at most every 500 ms) a `HELLO 3` and a `PING` prove that the connection lives
/// and still ends at a primary.
///
/// Once one round trip has carried 64 KiB of values, reads go over a second connection, so that reports and heartbeats do
/// not wait behind them. Before it is used, the script run over it must be reported over the first: both end at one
/// server. Where scripts are not allowed there is no second connection. The two live and die together.
///
/// # Permissions
///
/// The user needs, on its own prefix, `get mget pttl set unlink`, and `scan` for `clear`, `eval` for `update`, `multi exec` when it is used
/// without a cache, and always `hello ping client|tracking client|trackinginfo`;
/// the channel needs `subscribe publish multi exec` and the channel pattern of the prefix instead of `client|…`.
/// Every listener hears the *names* of all keys written under the namespace: keep secrets out of key names.
///
/// # Examples
///
/// ```no_run
/// use twotier_backend::RedisBackend;
///
/// let plain = RedisBackend::new("redis://127.0.0.1:6379")?;
/// let acl = RedisBackend::new("redis://app:p%40ss@10.0.0.7/2")?;
/// let socket = RedisBackend::new("unix:///run/redis/redis.sock")?;
/// # Ok::<(), twotier_core::ConfigError>(())
/// ```
///
/// [tracking]: https://redis.io/docs/latest/commands/client-tracking/
pub struct RedisBackend {
    target: Arc<Target>,
    link: Link,
}

impl RedisBackend {
    /// Parses the URL; nothing is connected yet. The forms are listed at [`RedisConfig`].
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for the field `url`, which holds no part of the URL.
    pub fn new(url: impl Into<String>) -> Result<Self, ConfigError> {
        Self::with_config(&RedisConfig::new(url))
    }

    /// Validates a configuration; nothing is connected yet.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the field.
    pub fn with_config(config: &RedisConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self::to(Arc::new(Target::parse(config)?)))
    }

    /// Connects over streams made by the caller instead of sockets, for deterministic simulation: a server inside the
    /// process, in tokio's paused time.
    ///
    /// `dial` is called for each connection. The durations are those of [`RedisConfig`].
    #[cfg(feature = "simulation")]
    pub fn over_streams<F, Fut, S>(
        dial: F,
        connect_timeout: Duration,
        dead_after: Duration,
        max_backoff: Duration,
    ) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::io::Result<S>> + Send + 'static,
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let dialer = dial::streams::dialer(dial);
        Self::to(Arc::new(Target::over_streams(dialer, connect_timeout, dead_after, max_backoff)))
    }

    fn to(target: Arc<Target>) -> Self {
        Self { link: Link::new(Arc::clone(&target)), target }
    }
}

impl Clone for RedisBackend {
    /// Makes a handle with a connection of its own to the same server.
    fn clone(&self) -> Self {
        Self::to(Arc::clone(&self.target))
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("target", &self.target).field("link", &self.link.state()).finish()
    }
}

#[async_trait]
impl Backend for RedisBackend {
    async fn get(&self, key: &[u8]) -> BackendResult<Option<Stored>> {
        let connection = self.link.connection().await?;
        coalesce::get(&connection, key).await
    }

    async fn set(&self, key: &[u8], value: Bytes, ttl: Option<Duration>) -> BackendResult<()> {
        let connection = self.link.connection().await?;
        command::set(&connection, key, &value, ttl).await
    }

    async fn delete(&self, key: &[u8]) -> BackendResult<bool> {
        let connection = self.link.connection().await?;
        command::delete(&connection, key).await
    }

    async fn clear(&self, prefix: &[u8]) -> BackendResult<u64> {
        let connection = self.link.connection().await?;
        command::clear(&connection, prefix).await
    }

    async fn compare_and_set(
        &self,
        key: &[u8],
        expected: Option<Bytes>,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> BackendResult<bool> {
        let connection = self.link.connection().await?;
        command::compare_and_set(&connection, key, expected.as_deref(), value.as_deref(), ttl).await
    }

    async fn get_many(&self, keys: &[Bytes]) -> Vec<BackendResult<Option<Stored>>> {
        match self.link.connection().await {
            Ok(connection) => read::get_many(connection.reading(), keys).await,
            Err(error) => vec![Err(error); keys.len()],
        }
    }

    async fn set_many(&self, writes: &[Write]) -> Vec<BackendResult<bool>> {
        match self.link.connection().await {
            Ok(connection) => command::set_many(&connection, writes).await,
            Err(error) => vec![Err(error); writes.len()],
        }
    }

    async fn delete_many(&self, keys: &[Bytes]) -> Vec<BackendResult<bool>> {
        match self.link.connection().await {
            Ok(connection) => command::delete_many(&connection, keys).await,
            Err(error) => vec![Err(error); keys.len()],
        }
    }

    async fn attach(&self, watch: Watch) -> BackendResult<Attachment> {
        self.link.attach(watch).await
    }

    fn link(&self) -> LinkState {
        self.link.state()
    }

    async fn close(&self) {
        self.link.close();
    }
}
