//! A server at the other end of the world: links are made, batches make progress, and a bound that is too small is
//! reported.

mod live {
    use std::time::Duration;

    use tokio::time::Instant;
    use twotier::{Cache, Reason, RedisBackend, RedisConfig, Status};
    use twotier_testkit::{Proxy, RedisServer};

    use crate::support::{ends, eventually, foreign, read, text};

    const KIB: usize = 1024;

    async fn over(proxy: &Proxy) -> Cache<String> {
        let builder = text().max_entries(4096).max_bytes(400 * KIB * KIB);
        builder.build(RedisBackend::new(proxy.url()).unwrap()).await.unwrap()
    }

    /// Fills the server without the cache; returns the keys.
    fn fill(server: &RedisServer, count: usize, bytes: usize) -> Vec<String> {
        let keys: Vec<String> = (0..count).map(|key| format!("{bytes}:{key}")).collect();
        let value = "x".repeat(bytes);
        for key in &keys {
            server.command(&["SET", &format!("t:{key}"), &value]);
        }
        keys
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_link_over_300_ms_is_made_with_every_default_and_comes_back_after_a_cut() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        proxy.set_round_trip(Duration::from_millis(300));
        let cache = ends(over(&proxy)).await;
        cache.set("k", "v".to_owned()).await.unwrap();
        assert!(cache.get_if_local("k").is_some());
        foreign(&server, &cache, &["SET", "t:k", "w"]).await;
        assert_eq!(read(&cache, "k").await.as_deref(), Some("w"));
        let links = cache.stats().coherence.links;
        proxy.cut();
        eventually("the link comes back", async || {
            cache.stats().coherence.links > links && cache.health().status == Status::Ready
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_link_that_takes_longer_to_make_than_one_silence_may_last_is_made_as_long_as_it_gives_signs() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let round_trip = Duration::from_millis(400);
        proxy.set_round_trip(round_trip);
        let began = Instant::now();
        let cache = ends(over(&proxy)).await;
        let (took, silence) = (began.elapsed(), RedisConfig::new(proxy.url()).connect_timeout);
        assert!(round_trip < silence && silence < took, "{took:?} in all, {silence:?} without a sign at most");
        let links = cache.stats().coherence.links;
        proxy.cut();
        eventually("the link comes back", async || {
            cache.stats().coherence.links > links && cache.health().status == Status::Ready
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_staleness_bound_that_two_round_trips_use_up_is_said() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        proxy.set_round_trip(Duration::from_millis(150));
        let builder = text().max_staleness(Duration::from_millis(200));
        let cache = ends(builder.build(RedisBackend::new(proxy.url()).unwrap())).await.unwrap();
        let health = cache.health();
        assert!(health.reasons.iter().any(|reason| matches!(reason, Reason::BoundTooSmall { .. })), "{health}");
        assert_eq!(health.status, Status::Degraded);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_batch_of_512_large_values_takes_a_handful_of_round_trips() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let keys = fill(&server, 512, 64 * KIB);
        let round_trip = Duration::from_millis(500);
        proxy.set_round_trip(round_trip);
        // The batches are those of the defaults. A machine that is busy for a moment is no backend that does not
        // answer.
        let builder = text().max_entries(4096).max_bytes(400 * KIB * KIB).op_timeout(Duration::from_secs(10));
        let cache = ends(builder.build(RedisBackend::new(proxy.url()).unwrap())).await.unwrap();
        let began = Instant::now();
        let found = ends(cache.get_many(&keys)).await.unwrap();
        assert!(found.iter().all(|value| value.as_deref().is_some_and(|value| value.len() == 64 * KIB)));
        // 32 MiB need some time of their own on a busy machine; one part after the other would need 32 round trips.
        assert!(began.elapsed() < 16 * round_trip, "{:?}", began.elapsed());
        assert!(keys.iter().all(|key| cache.get_if_local(key).is_some()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn after_a_large_value_a_batch_of_small_ones_is_one_round_trip_again() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let keys = fill(&server, 512, 100);
        fill(&server, 1, KIB * KIB);
        let cache = ends(over(&proxy)).await;
        for _ in 0..3 {
            assert_eq!(read(&cache, &format!("{}:0", KIB * KIB)).await.unwrap().len(), KIB * KIB);
            cache.clear_local();
            // Everything that is sent before the first answer is here goes together.
            let sent = proxy.request_bytes();
            proxy.pause_replies();
            let mut batch = Box::pin(cache.get_many(&keys));
            let _ = tokio::time::timeout(Duration::from_millis(200), batch.as_mut()).await;
            let together = proxy.request_bytes() - sent;
            proxy.resume();
            assert_eq!(ends(batch).await.unwrap().len(), 512);
            // A name takes some twenty bytes, in `MGET` and in `PTTL`.
            assert!(together > 512 * 2 * 20, "{together} bytes went before the first answer");
            cache.clear_local();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_large_value_over_a_narrow_link_is_written_and_read_while_hits_go_on() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let builder = text().max_bytes(100 * KIB * KIB).op_timeout(Duration::from_secs(60));
        let cache = ends(builder.build(RedisBackend::new(proxy.url()).unwrap())).await.unwrap();
        cache.set("hot", "v".to_owned()).await.unwrap();
        proxy.set_request_bandwidth(2_000_000);
        proxy.set_bandwidth(2_000_000);
        let links = cache.stats().coherence.links;
        let began = Instant::now();
        let job = cache.clone();
        let large = tokio::spawn(async move {
            job.set("large", "x".repeat(8_000_000)).await.unwrap();
            let _copy = job.invalidate_local("large");
            job.get("large").await.unwrap().unwrap().len()
        });
        while !large.is_finished() {
            assert!(cache.get_if_local("hot").is_some(), "hits go on, after {:?}", began.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(large.await.unwrap(), 8_000_000);
        assert!(began.elapsed() > Duration::from_secs(7), "it went over the narrow link, both ways");
        assert_eq!(cache.stats().coherence.links, links, "the link stays");
    }
}
