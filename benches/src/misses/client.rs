//! The clients that are compared, each over one connection.

use std::{sync::Arc, time::Duration};

use twotier::{
    Backend, Cache, ChangeListener, Coherence, Lease, LinkId, Mark, Namespace, RedisBackend, Timestamp, Watch,
    codec::Text,
};

use crate::{Result, server::Server};

use super::load::{Keys, Sample, load};

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As the crate sets it up: Nagle's algorithm is on, so that writes wait for the acknowledgement of those before
    /// them and then go together. A batch made by the kernel, which is why it is the faster one on a near network.
    RedisRs,
    /// Each command is sent at once.
    RedisRsAtOnce,
    Backend,
    Cache,
    Fred,
    Rustis,
}

impl Kind {
    pub(super) const ALL: [Self; 6] =
        [Self::RedisRs, Self::RedisRsAtOnce, Self::Backend, Self::Cache, Self::Fred, Self::Rustis];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RedisRs => "redis-rs MultiplexedConnection, GET",
            Self::RedisRsAtOnce => "the same with TCP_NODELAY",
            Self::Backend => "twotier RedisBackend::get, value and TTL",
            Self::Cache => "twotier Cache::get, every read a miss",
            Self::Fred => "fred Client, GET",
            Self::Rustis => "rustis Client, GET",
        }
    }
}

/// A connected client.
#[derive(Debug)]
pub(super) enum Client {
    RedisRs(redis::aio::MultiplexedConnection),
    RedisRsAtOnce(redis::aio::MultiplexedConnection),
    Backend(Arc<RedisBackend>),
    Cache(Cache<String>),
    #[cfg(feature = "peers")]
    Fred(fred::clients::Client),
    #[cfg(feature = "peers")]
    Rustis(Box<peers::Rustis>),
}

impl Client {
    pub(super) async fn connect(kind: Kind, server: &Server, namespace: &str) -> Result<Self> {
        Ok(match kind {
            Kind::RedisRs => Self::RedisRs(redis_rs(server.url(), false).await?),
            Kind::RedisRsAtOnce => Self::RedisRsAtOnce(redis_rs(server.url(), true).await?),
            Kind::Backend => {
                let backend = RedisBackend::new(server.url())?;
                let watch = Watch::new(Namespace::new(namespace)?, Arc::new(Ignored)).coherence(Coherence::Broadcast);
                backend.attach(watch).await?;
                Self::Backend(Arc::new(backend))
            }
            Kind::Cache => {
                let builder = Cache::<String>::builder().namespace(namespace).codec(Text);
                let builder = builder.coherence(Coherence::Broadcast).op_timeout(Duration::from_secs(10));
                Self::Cache(builder.build(RedisBackend::new(server.url())?).await?)
            }
            #[cfg(feature = "peers")]
            Kind::Fred => Self::Fred(peers::fred(server.url()).await?),
            #[cfg(feature = "peers")]
            Kind::Rustis => Self::Rustis(Box::new(peers::Rustis::connect(server.url()).await?)),
            #[cfg(not(feature = "peers"))]
            Kind::Fred | Kind::Rustis => return Err("needs the feature `peers`".into()),
        })
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::RedisRs(_) => Kind::RedisRs,
            Self::RedisRsAtOnce(_) => Kind::RedisRsAtOnce,
            Self::Backend(_) => Kind::Backend,
            Self::Cache(_) => Kind::Cache,
            #[cfg(feature = "peers")]
            Self::Fred(_) => Kind::Fred,
            #[cfg(feature = "peers")]
            Self::Rustis(_) => Kind::Rustis,
        }
    }

    pub(super) async fn load(&self, tasks: usize, seconds: f64, keys: &Arc<Keys>) -> Result<Sample> {
        let held = Arc::clone(keys);
        match self {
            Self::RedisRs(connection) | Self::RedisRsAtOnce(connection) => {
                let connection = connection.clone();
                let read = move |key: usize| {
                    let (mut connection, keys) = (connection.clone(), Arc::clone(&held));
                    async move {
                        let mut get = redis::cmd("GET");
                        let value: Option<Vec<u8>> = get.arg(&keys.qualified[key]).query_async(&mut connection).await?;
                        Ok(value.is_some())
                    }
                };
                load(tasks, seconds, keys, read).await
            }
            Self::Backend(backend) => {
                let backend = Arc::clone(backend);
                let read = move |key: usize| {
                    let (backend, keys) = (Arc::clone(&backend), Arc::clone(&held));
                    async move { Ok(backend.get(keys.qualified[key].as_bytes()).await?.is_some()) }
                };
                load(tasks, seconds, keys, read).await
            }
            Self::Cache(cache) => {
                let before = cache.stats().local;
                let reading = cache.clone();
                let read = move |key: usize| {
                    let (cache, keys) = (reading.clone(), Arc::clone(&held));
                    async move { Ok(cache.get(&keys.bare[key]).await?.is_some()) }
                };
                let sample = load(tasks, seconds, keys, read).await?;
                let after = cache.stats().local;
                let (hits, misses) = (after.hits - before.hits, after.misses - before.misses);
                #[allow(clippy::cast_precision_loss, reason = "counts of reads")]
                Ok(Sample { hit_ratio: hits as f64 / (hits + misses).max(1) as f64, ..sample })
            }
            #[cfg(feature = "peers")]
            Self::Fred(client) => {
                let client = client.clone();
                let read = move |key: usize| {
                    let (client, keys) = (client.clone(), Arc::clone(&held));
                    async move { peers::fred_get(&client, &keys.qualified[key]).await }
                };
                load(tasks, seconds, keys, read).await
            }
            #[cfg(feature = "peers")]
            Self::Rustis(client) => {
                let client = (**client).clone();
                let read = move |key: usize| {
                    let (client, keys) = (client.clone(), Arc::clone(&held));
                    async move { client.get(&keys.qualified[key]).await }
                };
                load(tasks, seconds, keys, read).await
            }
        }
    }
}

/// redis-rs' shared connection, with `TCP_NODELAY` or as the crate sets it up.
pub(super) async fn redis_rs(url: &str, at_once: bool) -> Result<redis::aio::MultiplexedConnection> {
    let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(at_once);
    let info = redis::IntoConnectionInfo::into_connection_info(url)?.set_tcp_settings(tcp);
    Ok(redis::Client::open(info)?.get_multiplexed_async_connection().await?)
}

/// Ignores every change: the backend by itself keeps nothing.
#[derive(Debug)]
struct Ignored;

impl ChangeListener for Ignored {
    fn mark(&self, link: LinkId) -> Mark {
        Mark::new(link, 1, Timestamp::ZERO)
    }
    fn proof_of_life(&self, _mark: Mark) {}
    fn changed(&self, _key: &[u8]) {}
    fn flushed(&self, _link: LinkId) {}
    fn link_up(&self, _link: LinkId, _lease: Lease) {}
    fn link_down(&self, _link: LinkId) {}
}

#[cfg(feature = "peers")]
mod peers {
    use fred::prelude::{Builder, ClientLike, Config, KeysInterface};
    use rustis::commands::StringCommands;

    use crate::Result;

    pub(super) async fn fred(url: &str) -> Result<fred::clients::Client> {
        let client = Builder::from_config(Config::from_url(url)?).build()?;
        client.init().await?;
        Ok(client)
    }

    pub(super) async fn fred_get(client: &fred::clients::Client, key: &str) -> Result<bool> {
        let value: Option<fred::bytes::Bytes> = client.get(key).await?;
        Ok(value.is_some())
    }

    /// `rustis::client::Client`, which has no `Debug`.
    #[derive(Clone)]
    pub(in crate::misses) struct Rustis(rustis::client::Client);

    impl Rustis {
        pub(super) async fn connect(url: &str) -> Result<Self> {
            Ok(Self(rustis::client::Client::connect(url).await?))
        }

        pub(super) async fn get(&self, key: &str) -> Result<bool> {
            let value: Option<String> = self.0.get(key).await?;
            Ok(value.is_some())
        }
    }

    impl std::fmt::Debug for Rustis {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Rustis").finish_non_exhaustive()
        }
    }
}
