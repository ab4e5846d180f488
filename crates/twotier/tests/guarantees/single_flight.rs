//! Concurrent misses of one key are one read.

use std::time::Duration;

use twotier::{BackendError, BackendErrorKind, FaultyBackend, MemoryBackend};

use crate::support::{ends, over_memory, read, text};

#[tokio::test(start_paused = true)]
async fn a_failed_read_is_one_error_for_everyone_who_waited_and_the_next_read_tries_again() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    let cache = text().build(backend).await.unwrap();
    faults.latency(Duration::from_millis(50));
    faults.fail_next(1, BackendError::new(BackendErrorKind::Unavailable, "unplugged"));
    let reads: Vec<_> = (0..20)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get("k").await })
        })
        .collect();
    for read in reads {
        let error = ends(read).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), twotier::ErrorKind::Unavailable);
    }
    assert_eq!(cache.stats().backend.reads, 1);
    assert_eq!(read(&cache, "k").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_written_all_the_time_serves_everyone_who_waits_within_two_round_trips() {
    let store = MemoryBackend::new();
    let writer = over_memory(&store).await;
    let backend = FaultyBackend::new(store);
    backend.faults().latency(Duration::from_millis(40));
    let cache = text().build(backend).await.unwrap();
    // Every read is overtaken by several writes of somebody else.
    let writing = tokio::spawn(async move {
        for version in 0_u32.. {
            writer.set("k", version.to_string()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let start = tokio::time::Instant::now();
    let reads: Vec<_> = (0..100)
        .map(|number| {
            let cache = cache.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(number % 30)).await;
                let began = tokio::time::Instant::now();
                (read(&cache, "k").await, began.elapsed())
            })
        })
        .collect();
    for read in reads {
        let (value, took) = ends(read).await.unwrap();
        assert!(value.is_some());
        assert!(took <= Duration::from_millis(81), "waited for {took:?}");
    }
    let took = start.elapsed();
    assert!(cache.stats().backend.reads <= 5, "{} round trips for 100 readers", cache.stats().backend.reads);
    assert!(took < Duration::from_millis(200), "{took:?}");
    writing.abort();
}

#[tokio::test(start_paused = true)]
async fn when_the_reader_that_began_a_read_is_dropped_the_others_get_its_answer() {
    let store = MemoryBackend::new();
    over_memory(&store).await.set("k", "v".to_owned()).await.unwrap();
    let backend = FaultyBackend::new(store);
    let faults = backend.faults();
    let cache = text().build(backend).await.unwrap();
    faults.latency(Duration::from_millis(50));
    let leader = tokio::spawn({
        let cache = cache.clone();
        async move { read(&cache, "k").await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let waiter = tokio::spawn({
        let cache = cache.clone();
        async move { read(&cache, "k").await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    leader.abort();
    assert_eq!(ends(waiter).await.unwrap().as_deref(), Some("v"));
    assert_eq!(cache.stats().backend.reads, 1);
    assert!(cache.get_if_local("k").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_kept_but_not_polled_holds_nobody_up() {
    let store = MemoryBackend::new();
    over_memory(&store).await.set("k", "v".to_owned()).await.unwrap();
    let backend = FaultyBackend::new(store);
    backend.faults().latency(Duration::from_millis(10));
    let cache = text().build(backend).await.unwrap();
    // Polled once, so that it leads the read of this key, and then left alone.
    let mut idle = std::pin::pin!(cache.get("k"));
    assert!(futures_util::poll!(idle.as_mut()).is_pending());
    assert_eq!(ends(cache.get("k")).await.unwrap().as_deref().map(String::as_str), Some("v"));
    assert_eq!(ends(idle).await.unwrap().as_deref().map(String::as_str), Some("v"));
}

#[tokio::test]
async fn a_future_that_was_never_polled_holds_nobody_up() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let never = cache.get("k");
    assert_eq!(ends(cache.get("k")).await.unwrap(), None);
    drop(never);
}

#[tokio::test(start_paused = true)]
async fn readers_behind_a_slow_backend_wait_and_do_not_all_ask_it() {
    let store = MemoryBackend::new();
    over_memory(&store).await.set("k", "v".to_owned()).await.unwrap();
    let backend = FaultyBackend::new(store);
    let faults = backend.faults();
    let cache = text().op_timeout(Duration::from_millis(500)).build(backend).await.unwrap();
    faults.latency(Duration::from_millis(400));
    let reads: Vec<_> = (0..100)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get("k").await.unwrap().unwrap() })
        })
        .collect();
    for read in reads {
        assert_eq!(*ends(read).await.unwrap(), "v");
    }
    assert_eq!(cache.stats().backend.reads, 1);
    assert!(cache.get_if_local("k").is_some());
}

mod live {
    use std::time::Duration;

    use twotier::RedisBackend;
    use twotier_testkit::{Proxy, RedisServer};

    use crate::support::{READS, foreign, text};

    #[tokio::test]
    async fn concurrent_misses_of_one_key_are_one_read() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        proxy.set_round_trip(Duration::from_millis(30));
        let cache = text().build(RedisBackend::new(proxy.url()).unwrap()).await.unwrap();
        foreign(&server, &cache, &["SET", "t:k", "v"]).await;
        server.reset_stats();
        let reads: Vec<_> = (0..512)
            .map(|_| {
                let cache = cache.clone();
                tokio::spawn(async move { cache.get("k").await.unwrap().unwrap() })
            })
            .collect();
        for read in reads {
            assert_eq!(*read.await.unwrap(), "v");
        }
        assert_eq!(server.calls(&["get"]), 1);
        assert_eq!(server.calls(&READS), 2, "one GET and its PTTL");
    }

    #[tokio::test]
    async fn concurrent_misses_of_different_keys_are_a_handful_of_round_trips() {
        let server = RedisServer::start();
        let cache = text().max_entries(2000).build(RedisBackend::new(server.url()).unwrap()).await.unwrap();
        server.reset_stats();
        let reads: Vec<_> = (0..512)
            .map(|key: usize| {
                let cache = cache.clone();
                tokio::spawn(async move { cache.get(key.to_string()).await.unwrap() })
            })
            .collect();
        for read in reads {
            assert_eq!(read.await.unwrap(), None);
        }
        assert_eq!(server.calls(&["pttl"]), 512, "each key is read once");
        assert!(server.calls(&["get"]) <= 2, "{} reads went alone", server.calls(&["get"]));
        assert!(server.calls(&["mget"]) <= 12, "{} batches", server.calls(&["mget"]));
    }

    #[tokio::test]
    async fn ten_thousand_keys_are_a_round_trip_for_each_512() {
        let server = RedisServer::start();
        let cache = text().max_entries(20_000).build(RedisBackend::new(server.url()).unwrap()).await.unwrap();
        let keys: Vec<String> = (0..10_000).map(|key| key.to_string()).collect();
        server.reset_stats();
        assert_eq!(cache.get_many(&keys).await.unwrap().len(), 10_000);
        assert!(server.calls(&["mget"]) <= 10_000 / 128 + 1, "{} commands", server.calls(&["mget"]));
        assert_eq!((server.calls(&["pttl"]), server.calls(&["get"])), (10_000, 0));
    }

    #[tokio::test]
    async fn a_batch_and_single_reads_share_one_read_of_a_key() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        proxy.set_round_trip(Duration::from_millis(30));
        let cache = text().build(RedisBackend::new(proxy.url()).unwrap()).await.unwrap();
        server.reset_stats();
        let (single, batch, other) =
            tokio::join!(cache.get("a"), cache.get_many(&["a", "b"]), cache.get_many(&["b", "a"]));
        single.unwrap();
        batch.unwrap();
        other.unwrap();
        assert_eq!(server.calls(&["pttl"]), 2, "one for each key");
    }
}
