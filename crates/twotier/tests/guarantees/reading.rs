//! D1 and D2: reads are local first, and a miss falls through and fills.

use twotier::{MemoryBackend, Tier};

use crate::support::{over_memory, read};

#[tokio::test]
async fn a_miss_fills_the_local_tier_and_the_next_read_is_a_hit() {
    let store = MemoryBackend::new();
    let (writer, reader) = (over_memory(&store).await, over_memory(&store).await);
    writer.set("k", "v".to_owned()).await.unwrap();
    assert_eq!(reader.lookup("k").await.unwrap().tier, Tier::Remote);
    let hit = reader.lookup("k").await.unwrap();
    assert_eq!((hit.tier, hit.value.as_deref().map(String::as_str)), (Tier::Local, Some("v")));
    let stats = reader.stats();
    assert_eq!((stats.local.hits, stats.local.misses, stats.backend.reads), (1, 1, 1));
}

#[tokio::test]
async fn an_absent_key_is_remembered_and_is_not_an_empty_value() {
    let cache = over_memory(&MemoryBackend::new()).await;
    assert_eq!(read(&cache, "absent").await, None);
    assert_eq!(read(&cache, "absent").await, None);
    assert_eq!(cache.stats().backend.reads, 1);
    assert_eq!(cache.get_if_local("absent"), None);
    cache.set("empty", String::new()).await.unwrap();
    cache.clear_local();
    assert_eq!(read(&cache, "empty").await.as_deref(), Some(""));
}

mod live {
    use twotier_testkit::RedisServer;

    use crate::support::{READS, foreign, over_redis, read};

    #[tokio::test]
    async fn a_second_read_returns_the_same_value_with_zero_backend_commands() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        foreign(&server, &cache, &["SET", "t:k", "v"]).await;
        let first = cache.get("k").await.unwrap().unwrap();
        server.reset_stats();
        for _ in 0..1000 {
            let again = cache.get("k").await.unwrap().unwrap();
            assert!(std::sync::Arc::ptr_eq(&first, &again), "a hit decodes and copies nothing");
        }
        assert_eq!(server.calls(&READS), 0);
        assert_eq!(cache.stats().local.hits, 1000);
    }

    #[tokio::test]
    async fn a_key_written_by_another_client_is_returned_on_first_get_and_then_served_locally() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        foreign(&server, &cache, &["SET", "t:k", "by another"]).await;
        server.reset_stats();
        assert_eq!(read(&cache, "k").await.as_deref(), Some("by another"));
        assert_eq!(server.calls(&["get"]), 1);
        assert_eq!(server.calls(&["pttl"]), 1);
        assert_eq!(read(&cache, "k").await.as_deref(), Some("by another"));
        assert_eq!(server.calls(&["get"]), 1);
    }

    #[tokio::test]
    async fn an_absent_key_is_asked_for_once_and_seen_as_soon_as_another_client_writes_it() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        server.reset_stats();
        assert_eq!(read(&cache, "k").await, None);
        assert_eq!(read(&cache, "k").await, None);
        assert_eq!(server.calls(&["get"]), 1);
        server.command(&["SET", "t:k", "now"]);
        crate::support::eventually("the write is seen", async || read(&cache, "k").await.is_some()).await;
    }
}
