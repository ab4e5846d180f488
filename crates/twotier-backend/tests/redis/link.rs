//! The standing link.

mod live {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use bytes::Bytes;
    use twotier_backend::{Backend, RedisBackend};
    use twotier_core::{BackendErrorKind, Coherence, LinkState, RedisConfig};
    use twotier_testkit::{Proxy, RedisServer};

    use crate::support::{Counter, eventually};

    fn watch(counter: &Arc<Counter>, max_staleness: Duration) -> twotier_backend::Watch {
        crate::support::watch(counter, max_staleness, None)
    }

    #[tokio::test]
    async fn changes_by_others_are_reported_and_own_writes_and_other_namespaces_are_not() {
        let server = RedisServer::start();
        let backend = RedisBackend::new(server.url()).unwrap();
        let counter = Arc::new(Counter::default());
        let attachment = backend.attach(watch(&counter, Duration::from_secs(2))).await.unwrap();
        assert_eq!(attachment.coherence, Coherence::Broadcast);
        backend.set(b"n:own", Bytes::new(), None).await.unwrap();
        server.command(&["SET", "other:k", "v"]);
        server.command(&["SET", "n:foreign", "v"]);
        eventually("the report", || Counter::of(&counter.changed) > 0).await;
        assert_eq!(Counter::of(&counter.changed), 1);
        server.command(&["FLUSHDB"]);
        eventually("the flush", || Counter::of(&counter.flushed) > 0).await;
        let error = backend.attach(watch(&counter, Duration::from_secs(2))).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Unsupported, "one handle, one cache");
    }

    #[tokio::test]
    async fn heartbeats_prove_life_again_and_again_within_the_bound() {
        let server = RedisServer::start();
        let backend = RedisBackend::new(server.url()).unwrap();
        let counter = Arc::new(Counter::default());
        backend.attach(watch(&counter, Duration::from_millis(200))).await.unwrap();
        assert_eq!(Counter::of(&counter.proofs), 1, "the link comes up with its first proof");
        let started = Instant::now();
        eventually("eight more proofs", || Counter::of(&counter.proofs) >= 9).await;
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        server.pause();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let silent = Counter::of(&counter.proofs);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(Counter::of(&counter.proofs), silent, "no proof without an answer");
        server.resume();
        eventually("a proof", || Counter::of(&counter.proofs) > silent).await;
        assert_eq!(Counter::of(&counter.downs), 0, "the stream is the same");
    }

    #[tokio::test]
    async fn a_link_on_which_nothing_arrives_is_given_up_and_made_anew() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let mut config = RedisConfig::new(proxy.url());
        config.dead_after = Duration::from_millis(300);
        let backend = RedisBackend::with_config(&config).unwrap();
        let counter = Arc::new(Counter::default());
        backend.attach(watch(&counter, Duration::from_millis(400))).await.unwrap();
        proxy.pause();
        let started = Instant::now();
        let error = backend.get(b"n:k").await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Unavailable);
        assert!(started.elapsed() < Duration::from_secs(2), "an operation ends with its connection");
        assert_eq!(Counter::of(&counter.downs), 1);
        proxy.resume();
        eventually("the link is back", || Counter::of(&counter.ups) == 2).await;
        backend.get(b"n:k").await.unwrap();
    }

    #[tokio::test]
    async fn operations_fail_at_once_while_the_server_is_away_and_wait_for_a_link_that_is_being_made() {
        let server = RedisServer::start();
        let backend = RedisBackend::new(server.url()).unwrap();
        let counter = Arc::new(Counter::default());
        backend.attach(watch(&counter, Duration::from_secs(2))).await.unwrap();
        for _ in 0..5 {
            // Killed connections come back within one attempt, so that a call that starts afterwards only waits.
            server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            let downs = Counter::of(&counter.downs);
            eventually("the loss is noticed", || {
                Counter::of(&counter.downs) > downs || Counter::of(&counter.ups) > downs + 1
            })
            .await;
            backend.get(b"n:k").await.unwrap();
        }
        server.kill();
        eventually("down", || matches!(backend.link(), LinkState::Down { .. })).await;
        let started = Instant::now();
        for _ in 0..100 {
            let error = backend.get(b"n:k").await.unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Unavailable);
        }
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        server.restart();
        eventually("up", || backend.link().is_up()).await;
        backend.get(b"n:k").await.unwrap();
    }

    #[tokio::test]
    async fn a_replica_is_refused_and_a_primary_that_is_demoted_is_left() {
        let primary = RedisServer::start();
        let other = RedisServer::start();
        let port = primary.port().to_string();
        other.command(&["REPLICAOF", "127.0.0.1", &port]);
        let counter = Arc::new(Counter::default());
        let error =
            RedisBackend::new(other.url()).unwrap().attach(watch(&counter, Duration::from_secs(2))).await.unwrap_err();
        assert!(error.to_string().contains("replica"), "{error}");
        other.command(&["REPLICAOF", "NO", "ONE"]);

        let backend = RedisBackend::new(primary.url()).unwrap();
        backend.attach(watch(&counter, Duration::from_millis(400))).await.unwrap();
        let downs = Counter::of(&counter.downs);
        let port = other.port().to_string();
        primary.command(&["REPLICAOF", "127.0.0.1", &port]);
        eventually("the heartbeat sees the role", || Counter::of(&counter.downs) > downs).await;
        primary.command(&["REPLICAOF", "NO", "ONE"]);
        eventually("it is a primary again", || backend.link().is_up()).await;
    }

    #[tokio::test]
    async fn clones_share_a_connection_that_ends_with_the_last_and_a_closed_one_refuses_everything() {
        let server = RedisServer::start();
        let connections = || {
            let list = server.command(&["CLIENT", "LIST"]);
            list.as_str().lines().filter(|line| !line.contains("cmd=client")).count()
        };
        let backend = RedisBackend::new(server.url()).unwrap();
        backend.get(b"n:k").await.unwrap();
        let clone = backend.clone();
        clone.get(b"n:k").await.unwrap();
        assert_eq!(connections(), 1);
        let other = backend.another_link();
        other.get(b"n:k").await.unwrap();
        assert_eq!(connections(), 2, "one more link");
        drop(other);
        eventually("its connection ends", || connections() == 1).await;
        backend.close().await;
        assert_eq!(backend.get(b"n:k").await.unwrap_err().kind(), BackendErrorKind::Closed);
        clone.get(b"n:k").await.unwrap();
        assert_eq!(connections(), 1);
        clone.close().await;
        clone.close().await;
        eventually("its connection ends", || connections() == 0).await;
        assert_eq!(clone.get(b"n:k").await.unwrap_err().kind(), BackendErrorKind::Closed);
        assert!(matches!(clone.link(), LinkState::Closed));
    }

    #[tokio::test]
    async fn a_server_that_sends_rubbish_is_a_lost_link_and_never_a_wrong_value() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let backend = RedisBackend::new(proxy.url()).unwrap();
        let counter = Arc::new(Counter::default());
        backend.attach(watch(&counter, Duration::from_secs(2))).await.unwrap();
        server.command(&["SET", "n:k", "v"]);
        for _ in 0..5 {
            proxy.corrupt_next();
            if let Ok(stored) = backend.get(b"n:k").await {
                assert!(stored.is_none_or(|stored| stored.value.len() <= 1), "no value of another key");
            }
            eventually("up", || backend.link().is_up()).await;
        }
        eventually("it works again", || backend.link().is_up()).await;
    }

    #[tokio::test]
    async fn replies_cut_into_small_pieces_are_read_all_the_same() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let backend = RedisBackend::new(proxy.url()).unwrap();
        let counter = Arc::new(Counter::default());
        backend.attach(watch(&counter, Duration::from_secs(2))).await.unwrap();
        proxy.split(3);
        for key in 0..20 {
            let name = format!("n:{key}");
            server.command(&["SET", &name, &"x".repeat(key * 10)]);
            assert_eq!(backend.get(name.as_bytes()).await.unwrap().unwrap().value.len(), key * 10);
        }
        eventually("every change is reported", || Counter::of(&counter.changed) == 20).await;
    }

    #[tokio::test]
    async fn a_heartbeat_behind_many_large_replies_is_no_sign_of_death_while_they_arrive() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let mut config = RedisConfig::new(proxy.url());
        config.dead_after = Duration::from_millis(600);
        let backend = Arc::new(RedisBackend::with_config(&config).unwrap());
        for key in 0..40 {
            server.command(&["SET", &format!("n:{key}"), &"x".repeat(250_000)]);
        }
        // After the first it is known how large they are.
        backend.get(b"n:0").await.unwrap();
        proxy.set_bandwidth(5_000_000);
        let started = Instant::now();
        let reads: Vec<_> = (0..40)
            .map(|key| {
                let backend = Arc::clone(&backend);
                tokio::spawn(async move { backend.get(format!("n:{key}").as_bytes()).await })
            })
            .collect();
        for read in reads {
            assert_eq!(read.await.unwrap().unwrap().unwrap().value.len(), 250_000);
        }
        assert!(started.elapsed() > 2 * config.dead_after, "{:?}", started.elapsed());
        assert_eq!(proxy.connections(), 1, "and the connection lived");
    }
}
