//! D9: clearing the local tier touches nothing else; clearing the namespace touches nothing of others.

use twotier::MemoryBackend;

use crate::support::{over_memory, read};

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
