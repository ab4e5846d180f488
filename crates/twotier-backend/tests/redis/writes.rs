//! Writes are sent at once or never, in the order in which they were accepted.

mod live {
    use std::{
        future::{Future, poll_fn},
        sync::Arc,
        task::Poll,
        time::{Duration, Instant},
    };

    use bytes::Bytes;
    use tokio::task::coop;
    use twotier_backend::{Backend, RedisBackend, Write, WriteCondition};
    use twotier_core::{BackendErrorKind, Coherence, RedisConfig};
    use twotier_testkit::{Proxy, RedisServer};

    use crate::support::{Counter, Relay, eventually, watch};

    const LARGE: usize = 300_000;

    async fn attached(url: String, coherence: Coherence) -> (Arc<RedisBackend>, Arc<Counter>) {
        let (backend, counter) = (Arc::new(RedisBackend::new(url).unwrap()), Arc::new(Counter::default()));
        backend.attach(watch(&counter, Duration::from_secs(2), Some(coherence))).await.unwrap();
        (backend, counter)
    }

    /// Polls once, and expects that it takes a round trip.
    async fn start(write: std::pin::Pin<&mut (impl Future + ?Sized)>) {
        let mut write = write;
        poll_fn(|context| {
            assert!(write.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_write_is_queued_at_its_first_poll_even_without_budget() {
        let server = RedisServer::start();
        let (backend, _counter) = attached(server.url(), Coherence::Broadcast).await;
        let (first, second) = (Arc::clone(&backend), Arc::clone(&backend));
        tokio::spawn(async move {
            while coop::has_budget_remaining() {
                coop::consume_budget().await;
            }
            let mut earlier = Box::pin(first.set(b"n:k", Bytes::from_static(b"earlier"), None));
            start(earlier.as_mut()).await;
            // In a task that has a budget.
            tokio::spawn(async move { second.set(b"n:k", Bytes::from_static(b"later"), None).await.unwrap() })
                .await
                .unwrap();
            earlier.await.unwrap();
        })
        .await
        .unwrap();
        assert_eq!(server.command(&["GET", "n:k"]).as_str(), "later");
    }

    #[tokio::test]
    async fn a_large_write_does_not_overtake_a_small_one_before_it() {
        let server = RedisServer::start();
        let relay = Relay::start(server.addr()).await;
        let (backend, _counter) = attached(relay.url(), Coherence::Broadcast).await;
        relay.set_request_bandwidth(1_000_000);
        let before = Bytes::from(vec![b'x'; 100_000]);
        let mut queue: Vec<_> = (0..8).map(|_| Box::pin(backend.set(b"n:other", before.clone(), None))).collect();
        for write in &mut queue {
            start(write.as_mut()).await;
        }
        let mut small = Box::pin(backend.set(b"n:k", Bytes::from_static(b"small"), None));
        let mut large = Box::pin(backend.set(b"n:k", Bytes::from(vec![b'x'; LARGE]), None));
        start(small.as_mut()).await;
        start(large.as_mut()).await;
        large.await.unwrap();
        small.await.unwrap();
        for write in queue {
            write.await.unwrap();
        }
        assert_eq!(server.command(&["STRLEN", "n:k"]).as_int(), LARGE as i64);
    }

    #[tokio::test]
    async fn writes_reach_the_server_in_the_order_of_their_first_polls() {
        let server = RedisServer::start();
        for mode in [Coherence::Broadcast, Coherence::PubSub] {
            let (backend, _counter) = attached(server.url(), mode).await;
            for round in 0..20 {
                let sizes = [3, LARGE, 5, 7, LARGE, LARGE, 9];
                let values: Vec<_> = sizes.iter().map(|size| Bytes::from(vec![b'x'; size + round])).collect();
                let mut writes: Vec<_> =
                    values.iter().map(|value| Box::pin(backend.set(b"n:k", value.clone(), None))).collect();
                // Created in one order, polled in another: the polls count.
                writes.rotate_left(round % sizes.len());
                let last = (round % sizes.len() + sizes.len() - 1) % sizes.len();
                for write in &mut writes {
                    start(write.as_mut()).await;
                }
                for write in writes.into_iter().rev() {
                    write.await.unwrap();
                }
                assert_eq!(server.command(&["STRLEN", "n:k"]).as_int(), values[last].len() as i64, "{mode}");
            }
        }
    }

    #[tokio::test]
    async fn a_batch_keeps_the_order_of_its_keys_with_the_writes_before_and_after_it() {
        let server = RedisServer::start();
        let (backend, _counter) = attached(server.url(), Coherence::Broadcast).await;
        // Several parts, large values among them, and one key in each.
        let batch: Vec<_> = (0..2000)
            .map(|number| {
                let size = if number % 400 == 9 { LARGE } else { 100 };
                let key = if number % 100 == 9 { "n:often".to_owned() } else { format!("n:{number}") };
                Write::new(key, vec![b'x'; size + number], None)
            })
            .collect();
        for _ in 0..5 {
            let mut before = Box::pin(backend.set(b"n:1999", Bytes::from_static(b"before"), None));
            let mut many = Box::pin(backend.set_many(&batch));
            let mut after = Box::pin(backend.set(b"n:1998", Bytes::from_static(b"after"), None));
            let mut removed = Box::pin(backend.delete(b"n:1997"));
            start(before.as_mut()).await;
            start(many.as_mut()).await;
            start(after.as_mut()).await;
            start(removed.as_mut()).await;
            assert!(removed.await.unwrap());
            after.await.unwrap();
            assert!(many.await.iter().all(|result| *result.as_ref().unwrap()));
            before.await.unwrap();
            assert_eq!(server.command(&["STRLEN", "n:1999"]).as_int(), 100 + 1999);
            assert_eq!(server.command(&["GET", "n:1998"]).as_str(), "after");
            assert_eq!(server.command(&["EXISTS", "n:1997"]).as_int(), 0);
            assert_eq!(server.command(&["STRLEN", "n:often"]).as_int(), 100 + 1909);
        }
    }

    #[tokio::test]
    async fn a_write_without_a_link_fails_at_once_and_was_never_sent() {
        let server = RedisServer::start();
        let fresh = RedisBackend::new(server.url()).unwrap();
        let error = fresh.set(b"n:k", Bytes::from_static(b"early"), None).await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_executed()), (BackendErrorKind::Unavailable, false));
        fresh.ready().await.unwrap();

        let proxy = Proxy::start(server.addr());
        let (backend, counter) = attached(proxy.url(), Coherence::Broadcast).await;
        proxy.refuse(true);
        proxy.cut();
        eventually("the loss", || Counter::of(&counter.downs) > 0 && !backend.link().is_up()).await;
        let writes = [Write::new("n:k", "many", None)];
        let errors = [
            backend.set(b"n:k", Bytes::from_static(b"late"), None).await.unwrap_err(),
            backend.delete(b"n:k").await.unwrap_err(),
            backend.compare_and_set(b"n:k", None, Some("late".into()), None).await.unwrap_err(),
            backend.set_many(&writes).await.pop().unwrap().unwrap_err(),
            backend.delete_many(&["n:k".into()]).await.pop().unwrap().unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.kind(), error.may_have_executed()), (BackendErrorKind::Unavailable, false), "{error:?}");
        }
        proxy.refuse(false);
        backend.ready().await.or(backend.ready().await).ok();
        eventually("the link is back", || backend.link().is_up()).await;
        assert_eq!(server.command(&["EXISTS", "n:k"]).as_int(), 0, "nothing was sent later");
    }

    #[tokio::test]
    async fn conditional_writes_say_whether_they_were_made() {
        let server = RedisServer::start();
        for mode in [Coherence::Broadcast, Coherence::PubSub, Coherence::None] {
            server.command(&["FLUSHALL"]);
            let (backend, _counter) = attached(server.url(), mode).await;
            server.command(&["SET", "n:held", "old"]);
            let absent = |key: &'static str| Write::new(key, "new", None).only_if(WriteCondition::Absent);
            let holds =
                |held: &'static str| Write::new("n:held", "newer", None).only_if(WriteCondition::Holds(held.into()));
            server.reset_stats();
            let written = backend.set_many(&[absent("n:held"), absent("n:free"), holds("other"), holds("old")]).await;
            let written: Vec<_> = written.into_iter().map(Result::unwrap).collect();
            assert_eq!(written, [false, true, false, true], "{mode}");
            assert_eq!(server.calls(&["eval"]), 2, "a write where nothing is needs no script");
            let ttl = Some(Duration::from_secs(100));
            assert!(backend.compare_and_set(b"n:new", None, Some("v".into()), ttl).await.unwrap());
            assert!(!backend.compare_and_set(b"n:new", None, Some("w".into()), ttl).await.unwrap());
            assert!(server.command(&["PTTL", "n:new"]).as_int() > 90_000);
        }
    }

    #[tokio::test]
    async fn while_a_large_write_passes_a_narrow_link_it_lives_and_everything_else_goes_on() {
        let server = RedisServer::start();
        let relay = Relay::start(server.addr()).await;
        let mut config = RedisConfig::new(relay.url());
        config.dead_after = Duration::from_millis(900);
        let backend = Arc::new(RedisBackend::with_config(&config).unwrap());
        let counter = Arc::new(Counter::default());
        backend.attach(watch(&counter, Duration::from_secs(1), Some(Coherence::Broadcast))).await.unwrap();
        relay.set_request_bandwidth(1_000_000);
        let (started, before) = (Instant::now(), backend.progress());
        let writer = Arc::clone(&backend);
        let write = tokio::spawn(async move { writer.set(b"n:large", Bytes::from(vec![b'x'; 4_000_000]), None).await });
        let (mut slowest, mut rounds) = (Duration::ZERO, 0);
        tokio::task::yield_now().await;
        while !write.is_finished() {
            let (asked, proofs) = (Instant::now(), Counter::of(&counter.proofs));
            backend.set(b"n:small", Bytes::from_static(b"v"), None).await.unwrap();
            backend.get(b"n:small").await.unwrap().unwrap();
            slowest = slowest.max(asked.elapsed());
            rounds += 1;
            eventually("a proof of life", || Counter::of(&counter.proofs) > proofs || write.is_finished()).await;
        }
        write.await.unwrap().unwrap();
        assert!(started.elapsed() > 2 * config.dead_after, "{:?}", started.elapsed());
        assert!(rounds >= 5, "{rounds} proofs of life meanwhile");
        assert!(slowest < Duration::from_secs(1), "a small write and a read took {slowest:?}");
        assert_eq!(Counter::of(&counter.downs), 0, "the link lived");
        assert!(backend.progress() > before);
        assert_eq!(server.command(&["STRLEN", "n:large"]).as_int(), 4_000_000);
    }
}
