//! D3: writes go through both tiers.

use std::time::Duration;

use twotier::{Cache, MemoryBackend, SetOptions};

use crate::support::{over_memory, read};

#[tokio::test]
async fn a_value_larger_than_allowed_is_refused_before_anything_is_changed() {
    let store = MemoryBackend::new();
    let cache = crate::support::text().max_value_bytes(3).build(store.clone()).await.unwrap();
    cache.set("k", "old".to_owned()).await.unwrap();
    let error = cache.set("k", "long".to_owned()).await.unwrap_err();
    assert_eq!(error.to_string(), "set in namespace `t`: the value has 4 bytes, at most 3 are allowed");
    assert_eq!(read(&cache, "k").await.as_deref(), Some("old"));
    let error = cache.set_many([("a", "ok".to_owned()), ("b", "long".to_owned())]).await.unwrap_err();
    assert_eq!(error.kind(), twotier::ErrorKind::ValueTooLarge);
    assert_eq!(read(&cache, "a").await, None, "every item is checked before the first is written");
}

#[tokio::test]
async fn overlapping_own_writes_of_one_key_leave_no_local_copy_and_the_backend_decides() {
    let store = MemoryBackend::new();
    let cache = over_memory(&store).await;
    for round in 0..100 {
        let (a, b) = (format!("a{round}"), format!("b{round}"));
        let (first, second) = tokio::join!(cache.set("k", a), cache.set("k", b));
        first.unwrap();
        second.unwrap();
        let local = read(&cache, "k").await;
        cache.clear_local();
        assert_eq!(local, read(&cache, "k").await, "the local tier agreed with the backend");
    }
}

#[tokio::test]
async fn an_arc_is_stored_without_a_copy() {
    let cache: Cache<String> = over_memory(&MemoryBackend::new()).await;
    let value = std::sync::Arc::new("v".to_owned());
    cache.set("k", std::sync::Arc::clone(&value)).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&value, &cache.get("k").await.unwrap().unwrap()));
}

#[tokio::test]
async fn a_time_to_live_that_is_no_time_is_refused_before_anything_is_written() {
    let cache = over_memory(&MemoryBackend::new()).await;
    cache.set("k", "old".to_owned()).await.unwrap();
    for ttl in [Duration::ZERO, Duration::from_micros(999), Duration::MAX] {
        let error = cache.set_with("k", "new".to_owned(), SetOptions::new().time_to_live(ttl)).await.unwrap_err();
        assert_eq!(error.kind(), twotier::ErrorKind::Invalid);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("`time_to_live`"), "{source}");
    }
    assert_eq!(read(&cache, "k").await.as_deref(), Some("old"));
}

mod live {
    use std::time::Duration;

    use twotier::SetOptions;
    use twotier_testkit::RedisServer;

    use crate::support::{READS, WRITES, over_redis, read, redis, text};

    #[tokio::test]
    async fn after_set_both_tiers_hold_the_value_and_the_key_has_the_time_to_live_asked_for() {
        let server = RedisServer::start();
        let cache = text().time_to_live(Duration::from_secs(300)).build(redis(&server)).await.unwrap();
        cache.set("k", "v".to_owned()).await.unwrap();
        assert_eq!(server.command(&["GET", "t:k"]).as_str(), "v");
        assert_eq!(cache.get_if_local("k").as_deref().map(String::as_str), Some("v"));
        let left = server.command(&["PTTL", "t:k"]).as_int();
        assert!((290_000..=300_000).contains(&left), "{left}");

        cache.set_with("k", "w".to_owned(), SetOptions::new().time_to_live(Duration::from_millis(7500))).await.unwrap();
        let left = server.command(&["PTTL", "t:k"]).as_int();
        assert!((6500..=7500).contains(&left), "{left}");

        cache.set_with("k", "x".to_owned(), SetOptions::new().time_to_live(None)).await.unwrap();
        assert_eq!(server.command(&["PTTL", "t:k"]).as_int(), -1);
    }

    #[tokio::test]
    async fn own_writes_are_local_hits_at_once_and_cost_one_command_each() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        server.reset_stats();
        for round in 0..200 {
            let (key, value) = (format!("k{}", round % 20), format!("v{round}"));
            cache.set(&key, value.clone()).await.unwrap();
            assert_eq!(read(&cache, &key).await, Some(value));
        }
        assert_eq!(server.calls(&["set"]), 200);
        assert_eq!(server.calls(&WRITES), 200);
        assert_eq!(server.calls(&READS), 0);
        assert_eq!(cache.stats().local.hits, 200);
        assert_eq!(cache.stats().coherence.refused_writes, 0);
    }

    #[tokio::test]
    async fn json_in_redis_is_plain_json() {
        let server = RedisServer::start();
        let cache: twotier::Cache<Vec<Option<u32>>> =
            twotier::Cache::builder().namespace("j").build(redis(&server)).await.unwrap();
        cache.set("k", vec![Some(1), None]).await.unwrap();
        assert_eq!(server.command(&["GET", "j:k"]).as_str(), "[1,null]");
    }

    #[tokio::test]
    async fn jitter_shortens_the_default_time_to_live_and_never_a_given_one() {
        let server = RedisServer::start();
        let builder = text().time_to_live(Duration::from_secs(1000)).ttl_jitter(0.5);
        let cache = builder.build(redis(&server)).await.unwrap();
        let mut seconds = Vec::new();
        for key in 0..50 {
            cache.set(&key.to_string(), String::new()).await.unwrap();
            seconds.push(server.command(&["TTL", &format!("t:{key}")]).as_int());
        }
        assert!(seconds.iter().all(|left| (499..=1000).contains(left)), "{seconds:?}");
        seconds.sort_unstable();
        seconds.dedup();
        assert!(seconds.len() > 10, "the times differ: {seconds:?}");
        let given = SetOptions::new().time_to_live(Duration::from_secs(2000));
        cache.set_with("k", String::new(), given).await.unwrap();
        assert!(server.command(&["TTL", "t:k"]).as_int() >= 1999);
    }
}
