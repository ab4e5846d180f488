//! Other ways to put a cache in front of a server: redis-rs' own, and the few lines that are often written by hand.

use std::{hint::black_box, sync::Arc};

use redis::{
    AsyncCommands, AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, aio::MultiplexedConnection,
    caching::CacheConfig,
};

use super::{ENTRIES, HOUR, NAMESPACE, Reads, Timed, time};
use crate::{Result, cpu::Attention, stopwatch::Stopwatch};

/// Three caches in front of one server, each filled.
pub(super) struct Others {
    redis_rs: MultiplexedConnection,
    moka: ByHand<moka::future::Cache<String, Arc<String>>>,
    quick_cache: ByHand<quick_cache::sync::Cache<String, Arc<String>>>,
}

/// A cache in the process, and the connection that a miss takes.
struct ByHand<C> {
    cache: C,
    connection: MultiplexedConnection,
}

impl ByHand<moka::future::Cache<String, Arc<String>>> {
    async fn get(&self, key: &str) -> Result<Option<Arc<String>>> {
        if let Some(value) = self.cache.get(key).await {
            return Ok(Some(value));
        }
        let value = fetch(&self.connection, key).await?;
        if let Some(value) = &value {
            self.cache.insert(key.to_owned(), Arc::clone(value)).await;
        }
        Ok(value)
    }
}

impl ByHand<quick_cache::sync::Cache<String, Arc<String>>> {
    async fn get(&self, key: &str) -> Result<Option<Arc<String>>> {
        if let Some(value) = self.cache.get(key) {
            return Ok(Some(value));
        }
        let value = fetch(&self.connection, key).await?;
        if let Some(value) = &value {
            self.cache.insert(key.to_owned(), Arc::clone(value));
        }
        Ok(value)
    }
}

async fn fetch(connection: &MultiplexedConnection, key: &str) -> Result<Option<Arc<String>>> {
    let value: Option<String> = connection.clone().get(name(key)).await?;
    Ok(value.map(Arc::new))
}

/// The key by which the whole cache wrote it.
fn name(key: &str) -> String {
    format!("{NAMESPACE}:{key}")
}

impl Others {
    /// Connects, and reads every key once. The keys are on the server already.
    pub(super) async fn new(url: &str, reads: &Reads) -> Result<Self> {
        let info = url.into_connection_info()?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings))?;
        let size = std::num::NonZeroUsize::new(4 * ENTRIES).ok_or("there are entries")?;
        let cached = CacheConfig::new().set_size(size).set_default_client_ttl(HOUR);
        let cached = AsyncConnectionConfig::new().set_cache_config(cached);
        let plain = client.get_multiplexed_async_connection().await?;
        let others = Self {
            redis_rs: client.get_multiplexed_async_connection_with_config(&cached).await?,
            moka: ByHand { cache: moka::future::Cache::new(4 * ENTRIES as u64), connection: plain.clone() },
            quick_cache: ByHand { cache: quick_cache::sync::Cache::new(4 * ENTRIES), connection: plain },
        };
        let mut connection = others.redis_rs.clone();
        for key in &reads.keys {
            let value: Option<String> = connection.get(name(key)).await?;
            if value.is_none() || others.moka.get(key).await?.is_none() || others.quick_cache.get(key).await?.is_none()
            {
                return Err("a key that was written is not on the server".into());
            }
        }
        Ok(others)
    }

    /// Times one repetition of each.
    pub(super) async fn time(&self, reads: &Reads, timed: &mut [Timed; 3]) -> Result<()> {
        // Names are made beforehand: a user of redis-rs has them as the server knows them.
        let names = Reads { keys: reads.keys.iter().map(|key| name(key)).collect(), order: reads.order.clone() };
        let mut connection = self.redis_rs.clone();
        let before = self.redis_rs.get_cache_statistics().map(|statistics| statistics.miss);
        time!(timed[0], names, key => black_box(connection.get::<_, Option<String>>(key).await?).is_some());
        let after = self.redis_rs.get_cache_statistics().map(|statistics| statistics.miss);
        if before != after {
            return Err("redis-rs asked the server for a key that it had cached".into());
        }
        time!(timed[1], reads, key => black_box(self.moka.get(key).await?).is_some());
        time!(timed[2], reads, key => black_box(self.quick_cache.get(key).await?).is_some());
        Ok(())
    }
}
