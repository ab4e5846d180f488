//! Batches over both tiers.

use std::time::Duration;

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

/// Returns of each result what it is, in one word.
fn outcomes<T: std::fmt::Debug>(results: &[twotier::Result<T>]) -> Vec<String> {
    let word = |result: &twotier::Result<T>| match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}", error.kind()),
    };
    results.iter().map(word).collect()
}

#[tokio::test]
async fn of_a_batch_read_each_by_itself_only_the_keys_at_fault_are_errors_and_order_and_duplicates_are_kept() {
    let store = MemoryBackend::new();
    let cache: twotier::Cache<u32> = twotier::Cache::builder().namespace("t").build(store.clone()).await.unwrap();
    over_memory(&store).await.set("broken", "not a number".to_owned()).await.unwrap();
    cache.set_many([("a", 1), ("b", 2)]).await.unwrap();
    assert!(cache.invalidate_local("b"));
    let found = cache.get_each(&["b", "broken", "", "a", "absent", "broken", "b"]).await;
    let expected = ["Some(2)", "Codec", "Invalid", "Some(1)", "None", "Codec", "Some(2)"];
    assert_eq!(outcomes(&found), expected);
    assert_eq!((cache.stats().backend.reads, cache.stats().backend.undecodable), (1, 1), "one round trip");
    assert_eq!((cache.stats().local.hits, cache.stats().local.misses), (1, 5));
    assert!(cache.get_each::<&str>(&[]).await.is_empty());
    cache.close().await;
    assert_eq!(outcomes(&cache.get_each(&["a", "b"]).await), ["Closed", "Closed"]);
    assert_eq!(outcomes(&cache.set_each([("a", 1)]).await), ["Closed"]);
    assert_eq!(outcomes(&cache.delete_each(&["a"]).await), ["Closed"]);
}

#[tokio::test]
async fn a_broken_key_among_1200_is_one_error_and_the_others_of_every_chunk_are_there() {
    let store = MemoryBackend::new();
    let cache: twotier::Cache<u32> =
        twotier::Cache::builder().namespace("t").max_entries(2000).build(store.clone()).await.unwrap();
    let keys: Vec<String> = (0..1200).map(|key| key.to_string()).collect();
    let written = cache.set_each(keys.iter().cloned().zip(0_u32..)).await;
    assert!(written.len() == 1200 && written.iter().all(Result::is_ok));
    over_memory(&store).await.set("100", "not a number".to_owned()).await.unwrap();
    cache.clear_local();
    let found = cache.get_each(&keys).await;
    for (key, found) in (0_u32..).zip(&found) {
        match found {
            Ok(value) => assert_eq!(value.as_deref(), Some(&key)),
            Err(error) => assert_eq!((key, error.kind()), (100, twotier::ErrorKind::Codec)),
        }
    }
    assert!(found[100].is_err());
    assert_eq!((cache.stats().backend.reads, cache.stats().backend.writes), (3, 3));
    let deleted = cache.delete_each(&keys).await;
    assert!(deleted.len() == 1200 && deleted.iter().all(|deleted| matches!(deleted, Ok(true))));
    assert_eq!(cache.stats().backend.deletes, 3);
    assert!(store.is_empty());
}

#[tokio::test]
async fn of_items_written_each_by_itself_what_is_refused_changes_nothing_and_the_others_are_written() {
    let cache = text().max_value_bytes(5).build(MemoryBackend::new()).await.unwrap();
    cache.set("long", "old".to_owned()).await.unwrap();
    let items = [("a", "1"), ("long", "too long"), ("", "3"), ("a", "4"), ("b", "5")];
    let written = cache.set_each(items.map(|(key, value)| (key, value.to_owned()))).await;
    assert_eq!(outcomes(&written), ["()", "ValueTooLarge", "Invalid", "()", "()"]);
    assert_eq!(cache.stats().backend.writes, 2, "one for all of them");
    assert!(cache.get_if_local("a").is_some(), "one write for the key, so none overlaps with another");
    for clear in [false, true] {
        assert_eq!(read(&cache, "a").await.as_deref(), Some("4"), "of two values for one key the later one wins");
        assert_eq!(read(&cache, "b").await.as_deref(), Some("5"));
        assert_eq!(read(&cache, "long").await.as_deref(), Some("old"));
        if !clear {
            cache.clear_local();
        }
    }
    let deleted = cache.delete_each(&["b", "absent", "", "b"]).await;
    assert_eq!(outcomes(&deleted), ["true", "false", "Invalid", "true"]);
    assert_eq!(cache.stats().backend.deletes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_hangs_is_waited_for_once_and_not_for_each_chunk() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    let cache = text().build(backend).await.unwrap();
    faults.hang(true);
    let keys: Vec<String> = (0..1200).map(|key| key.to_string()).collect();
    let start = tokio::time::Instant::now();
    let found = cache.get_each(&keys).await;
    assert_eq!(start.elapsed().as_millis(), 500);
    assert!(found.len() == 1200 && outcomes(&found).iter().all(|outcome| outcome == "Timeout"));
    assert_eq!(cache.stats().backend.reads, 3, "its chunks go together, and none is tried again");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_somebody_else_reads_too_slowly_does_not_take_the_others_down_with_it() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    let cache = text().build(backend).await.unwrap();
    cache.set_many([("slow", "1".to_owned()), ("a", "2".to_owned())]).await.unwrap();
    cache.clear_local();
    let slow = Duration::from_secs(10);
    faults.latency(slow);
    let leader = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get("slow").await }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    faults.latency(Duration::ZERO);
    let batch = cache.get_each(&["slow", "a"]);
    // Once `a` was asked for, the backend is slow for whoever asks for `slow` again.
    let then = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        faults.latency(slow);
    };
    let (found, ()) = tokio::join!(batch, then);
    assert_eq!(outcomes(&found), ["Timeout", "Some(\"2\")"]);
    assert!(leader.await.unwrap().is_err());
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
    async fn of_a_batch_read_each_by_itself_a_key_of_another_type_is_the_only_error() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        server.command(&["MSET", "t:a", "1", "t:b", "2"]);
        foreign(&server, &cache, &["LPUSH", "t:list", "x"]).await;
        let found = cache.get_each(&["a", "list", "b"]).await;
        assert_eq!(super::outcomes(&found), ["Some(\"1\")", "Rejected", "Some(\"2\")"]);
        server.reset_stats();
        assert_eq!(super::outcomes(&cache.set_each([("list", "v".to_owned())]).await), ["()"]);
        assert_eq!(super::outcomes(&cache.delete_each(&["a", "list", "absent"]).await), ["true", "true", "false"]);
        assert_eq!(server.calls(&READS), 0);
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
