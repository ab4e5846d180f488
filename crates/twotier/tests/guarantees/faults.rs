//! What happens while the server is away, and when it comes back.

mod live {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
        time::{Duration, Instant},
    };

    use twotier::{Cache, ErrorKind};
    use twotier_testkit::RedisServer;

    use crate::support::{ends, eventually, over_redis, read};

    /// Reads and writes until it is stopped; returns the longest any call took.
    async fn load(cache: Cache<String>, stop: Arc<AtomicBool>, errors: Arc<AtomicUsize>) -> Duration {
        let mut longest = Duration::ZERO;
        for round in 0_u64.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let key = (round % 50).to_string();
            let started = Instant::now();
            let failed = match round % 3 {
                0 => cache.set(&key, round.to_string()).await.err(),
                1 => cache.get(&key).await.err(),
                _ => {
                    cache.clear_local();
                    cache.get_many(&[&key, "other"]).await.err()
                }
            };
            longest = longest.max(started.elapsed());
            if let Some(error) = failed {
                assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error:?}");
                errors.fetch_add(1, Ordering::SeqCst);
            }
            tokio::task::yield_now().await;
        }
        longest
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_killed_and_restarted_under_load_gives_errors_then_recovers_and_hangs_nobody() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        let stop = Arc::new(AtomicBool::new(false));
        let errors = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> =
            (0..8).map(|_| tokio::spawn(load(cache.clone(), Arc::clone(&stop), Arc::clone(&errors)))).collect();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.kill();
            let before = errors.load(Ordering::SeqCst);
            eventually("errors while it is down", async || errors.load(Ordering::SeqCst) > before).await;
            assert_eq!(cache.get_if_local("anything"), None);
            assert!(!cache.health().is_healthy());
            server.restart();
            let back = Instant::now();
            eventually("it recovers", async || cache.set("k", "back".to_owned()).await.is_ok()).await;
            assert!(back.elapsed() < Duration::from_secs(8), "recovered after {:?}", back.elapsed());
        }
        stop.store(true, Ordering::SeqCst);
        for task in tasks {
            let longest = ends(task).await.unwrap();
            assert!(longest < Duration::from_secs(8), "a call took {longest:?}");
        }
        assert_eq!(read(&cache, "k").await.as_deref(), Some("back"));
        assert!(cache.health().is_healthy());
    }

    #[tokio::test]
    async fn a_server_that_stops_answering_is_a_timeout_and_everything_works_again_after() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        cache.set("k", "v".to_owned()).await.unwrap();
        server.pause();
        cache.clear_local();
        let started = Instant::now();
        let error = ends(cache.get("k")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(started.elapsed() < Duration::from_secs(2));
        server.resume();
        eventually("it answers again", async || cache.get("k").await.is_ok()).await;
        assert_eq!(read(&cache, "k").await.as_deref(), Some("v"));
    }
}
