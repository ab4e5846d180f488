//! D9: clearing the local tier touches nothing else; clearing the namespace touches nothing of others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    thread::{self, ThreadId},
};

use bytes::Bytes;
use twotier::{Cache, Codec, CodecError, MemoryBackend};

use crate::support::{eventually, over_memory, read};

#[tokio::test]
async fn invalidating_one_local_copy_leaves_the_backend_and_the_others() {
    let cache = over_memory(&MemoryBackend::new()).await;
    cache.set("a", "1".to_owned()).await.unwrap();
    cache.set("b", "2".to_owned()).await.unwrap();
    assert!(cache.invalidate_local("a"));
    assert!(!cache.invalidate_local("a"));
    assert!(cache.get_if_local("a").is_none() && cache.get_if_local("b").is_some());
    assert_eq!(read(&cache, "a").await.as_deref(), Some("1"));
}

/// A value that says on which thread it was dropped.
struct Witness(Arc<Mutex<HashMap<ThreadId, usize>>>);

impl Drop for Witness {
    fn drop(&mut self) {
        *self.0.lock().unwrap().entry(thread::current().id()).or_default() += 1;
    }
}

impl Codec<Self> for Witness {
    fn encode(&self, _: &Self) -> Result<Bytes, CodecError> {
        Ok(Bytes::from_static(b"x"))
    }

    fn decode(&self, _: &Bytes) -> Result<Self, CodecError> {
        Ok(Self(Arc::clone(&self.0)))
    }
}

#[tokio::test]
async fn many_copies_are_not_dropped_in_the_task_that_clears_them() {
    let dropped = Arc::new(Mutex::default());
    let store = MemoryBackend::new();
    let builder = Cache::builder().codec(Witness(Arc::clone(&dropped))).max_entries(100_000).max_bytes(1 << 30);
    // Verification drops what it decoded, in place.
    let cache: Cache<Witness> = builder.verify_writes(false).build(store).await.unwrap();
    let count = |here: bool| {
        let here = |id: &ThreadId| (*id == thread::current().id()) == here;
        dropped.lock().unwrap().iter().filter(|(id, _)| here(id)).map(|(_, count)| count).sum::<usize>()
    };
    let fill = async |entries: usize| {
        let items: Vec<_> = (0..entries).map(|key| (key.to_string(), Witness(Arc::clone(&dropped)))).collect();
        cache.set_many(items).await.unwrap();
    };
    fill(100).await;
    assert_eq!(cache.clear_local(), 100);
    let before = count(true);
    assert!(before >= 100, "few are dropped in place");
    fill(20_000).await;
    assert_eq!(cache.clear_local(), 20_000);
    eventually("all are dropped", async || count(false) >= 20_000).await;
    assert_eq!(count(true), before);
}

mod live {
    use twotier_testkit::RedisServer;

    use crate::support::{eventually, over_redis, read};

    #[tokio::test]
    async fn clear_local_returns_the_count_leaves_redis_as_it_was_and_the_next_get_refills() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        for key in 0..10 {
            cache.set(&key.to_string(), "v".to_owned()).await.unwrap();
        }
        let hits = cache.stats().local.hits;
        assert_eq!(cache.clear_local(), 10);
        assert_eq!(cache.clear_local(), 0);
        assert_eq!(server.command(&["DBSIZE"]).as_int(), 10);
        assert_eq!((cache.stats().local.size, cache.stats().local.hits), (0, hits), "counters survive");
        server.reset_stats();
        assert_eq!(read(&cache, "3").await.as_deref(), Some("v"));
        assert_eq!(read(&cache, "3").await.as_deref(), Some("v"));
        assert_eq!(server.calls(&["get"]), 1);
    }

    #[tokio::test]
    async fn clear_removes_the_namespace_on_every_instance_and_nothing_else() {
        let server = RedisServer::start();
        let (one, two) = (over_redis(&server).await, over_redis(&server).await);
        // Names that a careless pattern would catch.
        for other in ["tt:k", "T:k", "t", "xt:k", "u:t:k"] {
            server.command(&["SET", other, "other"]);
        }
        for key in 0..1500 {
            one.set(&key.to_string(), "v".to_owned()).await.unwrap();
        }
        assert!(read(&two, "1499").await.is_some());
        server.reset_stats();
        assert_eq!(one.clear().await.unwrap(), 1500);
        assert_eq!(server.calls(&["keys", "flushdb", "flushall"]), 0);
        assert_eq!(server.command(&["DBSIZE"]).as_int(), 5);
        assert_eq!(read(&one, "1499").await, None);
        eventually("the other instance sees it", async || read(&two, "1499").await.is_none()).await;
    }
}
