//! Batches over both tiers.

use twotier::{BackendError, BackendErrorKind, FaultyBackend, MemoryBackend};

use crate::support::{over_memory, read, text};

#[tokio::test]
async fn a_batch_keeps_length_and_order_and_allows_duplicates() {
    let cache = over_memory(&MemoryBackend::new()).await;
    cache.set_many([("a", "1".to_owned()), ("b", "2".to_owned()), ("a", "3".to_owned())]).await.unwrap();
    let found = cache.get_many(&["b", "absent", "a", "b"]).await.unwrap();
    let found: Vec<_> = found.iter().map(|value| value.as_deref().map(String::as_str)).collect();
    assert_eq!(found, [Some("2"), None, Some("3"), Some("2")], "of two values for one key the later one wins");
    assert_eq!(cache.stats().local.hits, 3);
    assert!(cache.get_many::<&str>(&[]).await.unwrap().is_empty());
    cache.set_many(Vec::<(String, String)>::new()).await.unwrap();
    assert_eq!(cache.delete_many(&["a", "a", "absent", "b"]).await.unwrap(), 2);
    assert_eq!(cache.get_many(&["a", "b"]).await.unwrap(), [None, None]);
}

#[tokio::test]
async fn an_invalid_key_in_a_batch_is_refused_before_anything_is_changed() {
    let cache = over_memory(&MemoryBackend::new()).await;
    assert!(cache.set_many([("a", "1".to_owned()), ("", "2".to_owned())]).await.is_err());
    assert_eq!(read(&cache, "a").await, None);
    cache.set("a", "1".to_owned()).await.unwrap();
    assert!(cache.delete_many(&["a", ""]).await.is_err());
    assert_eq!(read(&cache, "a").await.as_deref(), Some("1"));
    assert!(cache.get_many(&["a", ""]).await.is_err());
    assert!(cache.warm(&["a", ""]).await.is_err());
}

#[tokio::test]
async fn a_failed_batch_leaves_no_local_copy_and_no_one_waiting() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    let cache = text().build(backend).await.unwrap();
    cache.set_many([("a", "1".to_owned()), ("b", "2".to_owned())]).await.unwrap();
    faults.fail_all(Some(BackendError::new(BackendErrorKind::Unavailable, "unplugged")));
    assert!(cache.set_many([("a", "3".to_owned()), ("b", "4".to_owned())]).await.is_err());
    assert!(cache.get_if_local("a").is_none() && cache.get_if_local("b").is_none());
    assert!(cache.get_many(&["a", "b"]).await.is_err());
    faults.fail_all(None);
    let found = cache.get_many(&["a", "b"]).await.unwrap();
    assert_eq!(found.iter().flatten().map(|value| value.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(cache.stats().local.size, 2, "and they are kept again");
}

mod live {
    use twotier_testkit::RedisServer;

    use crate::support::{READS, eventually, foreign, over_redis, read};

    #[tokio::test]
    async fn the_misses_of_a_batch_are_one_round_trip_and_the_hits_none() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        let keys: Vec<String> = (0..100).map(|key| key.to_string()).collect();
        for key in &keys[..50] {
            cache.set(key, "own".to_owned()).await.unwrap();
        }
        for key in &keys[50..90] {
            server.command(&["SET", &format!("t:{key}"), "foreign"]);
        }
        eventually("the writes are reported", async || cache.stats().coherence.invalidations >= 40).await;
        server.reset_stats();
        let found = cache.get_many(&keys).await.unwrap();
        assert_eq!(found.iter().flatten().count(), 90);
        assert_eq!(server.calls(&["mget"]), 1);
        assert_eq!(server.calls(&["get"]), 0);
        assert_eq!(server.calls(&["pttl"]), 50);
        server.reset_stats();
        cache.get_many(&keys).await.unwrap();
        assert_eq!(server.calls(&READS), 0, "absent keys are remembered too");
    }

    #[tokio::test]
    async fn a_written_batch_is_local_at_once() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        let items: Vec<_> = (0..300).map(|key| (key.to_string(), format!("v{key}"))).collect();
        cache.set_many(items).await.unwrap();
        server.reset_stats();
        for key in 0..300 {
            assert_eq!(read(&cache, &key.to_string()).await, Some(format!("v{key}")));
        }
        assert_eq!(server.calls(&READS), 0);
        assert_eq!(server.command(&["DBSIZE"]).as_int(), 300);
    }

    #[tokio::test]
    async fn one_key_of_another_type_fails_the_batch_and_the_others_are_kept() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        foreign(&server, &cache, &["SET", "t:a", "1"]).await;
        foreign(&server, &cache, &["LPUSH", "t:list", "x"]).await;
        let error = cache.get_many(&["a", "list"]).await.unwrap_err();
        assert_eq!(error.kind(), twotier::ErrorKind::Rejected);
        assert!(cache.get_if_local("a").is_some());
        assert_eq!(server.command(&["LLEN", "t:list"]).as_int(), 1, "nothing is lost");
    }
}
