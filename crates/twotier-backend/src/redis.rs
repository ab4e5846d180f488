//! The backend for Redis and Valkey, on the crate `redis`.
//!
//! Six floors, each of which knows those below it: `wire` (streams and connections), `listeners` (the caches on a
//! link), `command` (reads and writes), `session` (making a link and proving it), `link` (keeping it), `cluster` (a
//! link to each primary). Beside `command` stands `authority`: where a primary is and who vouches for it, by the word
//! of `sentinel`s or by a `census` of the nodes.

mod authority;
mod census;
mod cluster;
mod command;
mod link;
mod listeners;
mod sentinel;
mod session;
mod wire;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use twotier_core::{
    BackendError, BackendErrorKind, ConfigError, LinkId, LinkState, LinkStatus, Namespace, RedisConfig,
};

use crate::{AnswerSink, Attachment, Backend, BackendResult, Counted, GetReply, Stored, Watch, Write, WriteCondition};

pub use self::wire::{CredentialsProvider, RedisCredentials};
use self::{
    cluster::Cluster,
    command::{Action, Change, Life, change, change_many},
    link::Link,
    wire::Target,
};

/// Redis or Valkey, over two connections: one on which changes are reported, and one for data.
///
/// **Clones share them**: thirty caches, each built with a clone, cost the server two connections and one heartbeat
/// (fewer than 4 commands a second). Each clone serves one cache. No two caches on a link have the same namespace, or
/// ones that [overlap](Namespace::overlaps); [`another_link`](Self::another_link) is for a second one of the same. The
/// link ends with the last clone, and lives in the runtime of whoever asked for it first, or again when that one has
/// ended. Every write on a server costs the more the more prefixes are tracked there, whoever's: with a
/// [`key_prefix`](RedisConfig::key_prefix) the link tracks that one, however many caches there are.
///
/// The link speaks RESP3 with `TCP_NODELAY`, is made by [`attach`](Backend::attach) or by the first operation, and is
/// made anew in the background whenever it is lost, with jittered pauses.
/// While it is being made reads wait for it, and writes once [`ready`](Backend::ready) was awaited; once an attempt has
/// failed they fail at once, with its cause behind the error, until another succeeds.
/// An operation that was under way when the link was lost is an error; it is never sent again, since a write may
/// already have taken effect.
///
/// A cache gathers reads that come at the same time, and many keys are one round trip: one `MGET`, and a `PTTL` for
/// each key; `GET`s in a cluster, and where the user may not run `MGET`. A read goes by itself while none is under
/// way. There is no timer: nobody waits for others that may not come.
///
/// With [`attach`](Backend::attach) it asks for [`CLIENT TRACKING ON BCAST PREFIX <namespace>: NOLOOP`][tracking]: the
/// server then reports every change under the namespace, by any client in any language. Small writes go over the
/// connection with the reports, so that the server leaves out our own; reads, and writes of 256 KiB and more, go over
/// the other one, so that reports and heartbeats do not wait behind them. A large write of our own is therefore
/// reported back like that of anybody else.
/// As the link comes up it tests itself: a key of each namespace is written and removed over the one connection, and
/// the report of it must arrive over the other; how long that took is in [`LinkUp`](twotier_core::LinkUp). Whatever the
/// user lacks for it is an error of that cache which names the command and the cure. Every 4 s it tests itself again,
/// with one namespace after the other: a server that has stopped reporting is a lost link, though it answers.
/// Where tracking is refused, and no mode was asked for, caches notify each other of their writes over a channel
/// instead ([`Coherence::PubSub`](twotier_core::Coherence)): each write is then a transaction with a `PUBLISH`, which
/// is tested in the same way.
/// Five times within the shortest staleness bound (at least every 500 ms) a `HELLO 3` proves that the link lives and
/// still ends at a primary. A refusal (`BUSY`, `MISCONF`, …) is an answer too: only silence, an end of the stream,
/// another role, and a reply of another shape than was asked for end a link.
///
/// Before a new link is used it ends the one before at the server, by `CLIENT KILL ID`: a write that failed takes
/// effect before that, or never. Where the user may not run that or `INFO`, [`LinkUp`](twotier_core::LinkUp) says that
/// the link is not fenced.
///
/// With a `redis-cluster://` URL there are such connections to each primary, which share what is said above of one:
/// commands go by slot and are followed where nodes redirect them, batches are split by node, and a copy is served only
/// while most of the primaries agree on who owns what. Only [`clear`](Backend::clear) takes more than one round trip to
/// a node.
///
/// With a `redis+sentinel://` URL the primary is the one that most of the sentinels name, and copies are served only
/// while most of them vouch for it; a failover is a lost link.
///
/// # Permissions
///
/// The user needs, on its own prefix, `get mget pttl set unlink`, and `scan` for `clear`, `eval` for `update`,
/// `multi exec` when it is used without reports, and always
/// `hello ping info client|kill client|tracking client|trackinginfo`, with a database in the URL `select` too;
/// and in a cluster `cluster|info cluster|nodes ASKING`;
/// the channel needs `subscribe publish multi exec` and the channel pattern of the prefix instead of `client|track…`.
/// Without `mget` keys are read one by one.
/// Every listener receives the *names* of all keys written under the namespace: keep secrets out of key names.
///
/// # Examples
///
/// ```no_run
/// # use twotier_backend as twotier;
/// use twotier::RedisBackend;
///
/// let plain = RedisBackend::new("redis://127.0.0.1:6379")?;
/// let acl = RedisBackend::new("redis://app:p%40ss@10.0.0.7/2")?;
/// let socket = RedisBackend::new("unix:///run/redis/redis.sock")?;
/// let cluster = RedisBackend::new("redis-cluster://10.0.0.7:6379,10.0.0.8:6379")?;
/// # Ok::<(), twotier_core::ConfigError>(())
/// ```
///
/// [tracking]: https://redis.io/docs/latest/commands/client-tracking/
pub struct RedisBackend {
    target: Arc<Target>,
    servers: Servers,
    /// This handle among those on the link or links.
    handle: u64,
    closed: AtomicBool,
}

/// What all clones of a backend share.
#[derive(Clone)]
enum Servers {
    /// The link to one server.
    One(Arc<Link>),
    /// The links to the primaries of a cluster.
    Cluster(Arc<Cluster>),
}

impl Servers {
    fn of(target: &Arc<Target>) -> Self {
        match target.seeds.is_empty() {
            true => Self::One(Arc::new(Link::new(Arc::clone(target)))),
            false => Self::Cluster(Arc::new(Cluster::new(Arc::clone(target)))),
        }
    }

    fn new_handle(&self) -> u64 {
        match self {
            Self::One(link) => link.new_handle(),
            Self::Cluster(cluster) => cluster.new_handle(),
        }
    }

    fn end_handle(&self, handle: u64) {
        match self {
            Self::One(link) => link.end_handle(handle),
            Self::Cluster(cluster) => cluster.end_handle(handle),
        }
    }
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
        Ok(Self::to(Arc::new(Target::parse(config, None)?)))
    }

    /// Validates a configuration that holds no credentials; nothing is connected yet. The provider is asked for them at
    /// each connection, and again before they expire.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the field, also where credentials are configured besides.
    pub fn with_credentials(config: &RedisConfig, provider: impl CredentialsProvider) -> Result<Self, ConfigError> {
        Ok(Self::to(Arc::new(Target::parse(config, Some(Arc::new(provider)))?)))
    }

    /// Validates a configuration whose servers are reached over streams made by the caller instead of sockets, for
    /// deterministic simulation: servers inside the process, in tokio's paused time.
    ///
    /// `dial` is called for each connection, with the host and the port of the server.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the field.
    #[cfg(feature = "simulation")]
    pub fn over_streams<F, Fut, S>(config: &RedisConfig, dial: F) -> Result<Self, ConfigError>
    where
        F: Fn(String, u16) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::io::Result<S>> + Send + 'static,
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        Ok(Self::to(Arc::new(Target::parse(config, None)?.over_streams(&wire::dialer(dial)))))
    }

    /// Makes a handle with a link of its own to the same server: for a second cache with the same namespace in one
    /// process, or for one of another [`Coherence`](twotier_core::Coherence).
    #[must_use]
    pub fn another_link(&self) -> Self {
        Self::to(Arc::clone(&self.target))
    }

    fn to(target: Arc<Target>) -> Self {
        Self::on(Servers::of(&target), target)
    }

    fn on(servers: Servers, target: Arc<Target>) -> Self {
        Self { target, handle: servers.new_handle(), servers, closed: AtomicBool::new(false) }
    }

    /// Returns the servers, unless this handle was closed.
    fn servers(&self) -> BackendResult<&Servers> {
        if self.closed.load(Ordering::Acquire) {
            return Err(BackendError::new(BackendErrorKind::Closed, "the backend was closed").not_sent());
        }
        Ok(&self.servers)
    }

    fn end(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.servers.end_handle(self.handle);
        }
    }
}

impl Clone for RedisBackend {
    /// Makes a handle on the same link, for one more cache.
    fn clone(&self) -> Self {
        Self::on(self.servers.clone(), Arc::clone(&self.target))
    }
}

impl Drop for RedisBackend {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("target", &self.target).field("link", &Backend::link(self)).finish()
    }
}

#[async_trait]
impl Backend for RedisBackend {
    async fn ready(&self) -> BackendResult<()> {
        match self.servers()? {
            Servers::One(link) => link.ready().await.map(drop),
            Servers::Cluster(cluster) => cluster.ready().await,
        }
    }

    async fn get(&self, key: &[u8]) -> BackendResult<Option<Stored>> {
        match self.servers()? {
            Servers::One(link) => {
                let connections = link.ready().await?;
                command::get(&connections, key).await
            }
            Servers::Cluster(cluster) => cluster.get(key).await,
        }
    }

    fn start_get(&self, key: &[u8], reply: GetReply) -> Option<GetReply> {
        let link = match self.servers() {
            Ok(Servers::One(link)) => link,
            Ok(Servers::Cluster(cluster)) => return cluster.start_get(key, reply),
            Err(closed) => {
                reply.send(Err(closed));
                return None;
            }
        };
        match link.known() {
            Some(Ok(connections)) => command::start_get(&connections, key, reply),
            Some(Err(cause)) => reply.send(Err(cause)),
            None => return Some(reply),
        }
        None
    }

    async fn set(&self, key: &[u8], value: Bytes, ttl: Option<Duration>) -> BackendResult<()> {
        self.change(key, Action::Set { value, ttl }).await.map(drop)
    }

    async fn delete(&self, key: &[u8]) -> BackendResult<bool> {
        self.change(key, Action::Remove).await
    }

    async fn clear(&self, prefix: &[u8]) -> BackendResult<u64> {
        match self.servers()? {
            Servers::One(link) => {
                let connections = link.current()?;
                command::clear(&connections, prefix).await
            }
            Servers::Cluster(cluster) => cluster.clear(prefix).await,
        }
    }

    async fn compare_and_set(
        &self,
        key: &[u8],
        expected: Option<Bytes>,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> BackendResult<bool> {
        self.change(key, compare_and_set(expected, value, Life::New(ttl))).await
    }

    async fn increment(&self, key: &[u8], by: i64, ttl: Option<Duration>) -> BackendResult<Counted> {
        match self.servers()? {
            Servers::One(link) => {
                let connections = link.current()?;
                command::add(&connections, Bytes::copy_from_slice(key), by, ttl).await
            }
            Servers::Cluster(cluster) => cluster.add(key, by, ttl).await,
        }
    }

    async fn touch(&self, key: &[u8], ttl: Duration) -> BackendResult<bool> {
        self.change(key, Action::Touch { ttl }).await
    }

    async fn get_many(&self, keys: &[Bytes]) -> Vec<BackendResult<Option<Stored>>> {
        let failed = |error: BackendError| vec![Err(error); keys.len()];
        match self.servers() {
            Ok(Servers::One(link)) => match link.ready().await {
                Ok(connections) => command::get_many(&connections, keys).await,
                Err(error) => failed(error),
            },
            Ok(Servers::Cluster(cluster)) => cluster.get_many(keys).await,
            Err(error) => failed(error),
        }
    }

    async fn get_each(&self, keys: &[Bytes], answers: AnswerSink<'_>) {
        let failed = |error: BackendError| (0..keys.len()).for_each(|index| answers(index, Err(error.clone())));
        match self.servers() {
            Ok(Servers::One(link)) => match link.ready().await {
                Ok(connections) => command::get_each(&connections, keys, answers).await,
                Err(error) => failed(error),
            },
            Ok(Servers::Cluster(cluster)) => cluster.get_each(keys, answers).await,
            Err(error) => failed(error),
        }
    }

    fn reads_together(&self) -> bool {
        true
    }

    fn progress(&self) -> u64 {
        match &self.servers {
            Servers::One(link) => link.progress(),
            Servers::Cluster(cluster) => cluster.progress(),
        }
    }

    async fn set_many(&self, writes: &[Write]) -> Vec<BackendResult<bool>> {
        let change = |write: &Write| {
            let (value, ttl) = (write.value.clone(), write.ttl);
            let life = if write.keep_ttl { Life::Unchanged } else { Life::New(ttl) };
            let action = match &write.condition {
                WriteCondition::Always if write.keep_ttl => Action::SetKeeping { value, ttl },
                WriteCondition::Always => Action::Set { value, ttl },
                WriteCondition::Absent => Action::SetAbsent { value, ttl },
                WriteCondition::Holds(held) => compare_and_set(Some(held.clone()), Some(value), life),
            };
            Change { key: write.key.clone(), action }
        };
        self.change_many(writes.iter().map(change)).await
    }

    async fn delete_many(&self, keys: &[Bytes]) -> Vec<BackendResult<bool>> {
        self.change_many(keys.iter().map(|key| Change { key: key.clone(), action: Action::Remove })).await
    }

    fn key_prefix(&self) -> Option<&Namespace> {
        self.target.key_prefix.as_ref()
    }

    fn system(&self) -> &'static str {
        "redis"
    }

    async fn attach(&self, watch: Watch) -> BackendResult<Attachment> {
        match self.servers()? {
            Servers::One(link) => link.attach(watch, self.handle).await,
            Servers::Cluster(cluster) => cluster.attach(watch, self.handle).await,
        }
    }

    fn route(&self, key: &[u8]) -> LinkId {
        match &self.servers {
            Servers::One(_) => LinkId::ONLY,
            Servers::Cluster(cluster) => cluster.route(key),
        }
    }

    fn links(&self) -> Vec<LinkStatus> {
        match self.servers() {
            Ok(Servers::Cluster(cluster)) => cluster.links(),
            _ => vec![LinkStatus::new(LinkId::ONLY, Backend::link(self))],
        }
    }

    fn link(&self) -> LinkState {
        match self.servers() {
            Ok(Servers::One(link)) => link.state(),
            Ok(Servers::Cluster(cluster)) => cluster.state(),
            Err(_closed) => LinkState::Closed,
        }
    }

    /// Closes this handle, and with the last one the link.
    async fn close(&self) {
        self.end();
    }
}

impl RedisBackend {
    /// Writes are sent at once or never: they do not wait for a link.
    async fn change(&self, key: &[u8], action: Action) -> BackendResult<bool> {
        match self.servers()? {
            Servers::One(link) => {
                let connections = link.current()?;
                change(&connections, Change { key: Bytes::copy_from_slice(key), action }).await
            }
            Servers::Cluster(cluster) => cluster.change(key, action).await,
        }
    }

    async fn change_many(&self, changes: impl ExactSizeIterator<Item = Change>) -> Vec<BackendResult<bool>> {
        let link = match self.servers() {
            Ok(Servers::One(link)) => link.current(),
            Ok(Servers::Cluster(cluster)) => return cluster.change_many(changes.collect()).await,
            Err(closed) => Err(closed),
        };
        match link {
            Ok(connections) => change_many(&connections, changes.collect()).await,
            Err(error) => vec![Err(error); changes.len()],
        }
    }
}

fn compare_and_set(expected: Option<Bytes>, value: Option<Bytes>, life: Life) -> Action {
    match (expected, value, life) {
        (None, Some(value), Life::New(ttl)) => Action::SetAbsent { value, ttl },
        (expected, value, life) => Action::Replace { expected, value, life },
    }
}
