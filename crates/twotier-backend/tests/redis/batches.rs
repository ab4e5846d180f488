//! Batches make progress, and reads are answered whoever polls.

mod live {
    use std::{
        sync::{Arc, Mutex, mpsc},
        time::Duration,
    };

    use bytes::Bytes;
    use tokio::time::Instant;
    use twotier_backend::{Backend, BackendResult, GetReply, RedisBackend, Stored};
    use twotier_core::{BackendErrorKind, Coherence, LinkState};
    use twotier_testkit::{Proxy, RedisServer};

    use crate::support::{Counter, watch};

    async fn attached(url: String) -> Arc<RedisBackend> {
        let (backend, counter) = (Arc::new(RedisBackend::new(url).unwrap()), Arc::new(Counter::default()));
        backend.attach(watch(&counter, Duration::from_secs(2), Some(Coherence::Broadcast))).await.unwrap();
        backend
    }

    fn write(server: &RedisServer, name: &str, count: usize, size: usize) -> Vec<Bytes> {
        let value = "x".repeat(size);
        let key = |number| format!("n:{name}:{number}");
        let mut words = vec!["MSET".to_owned()];
        words.extend((0..count).flat_map(|number| [key(number), value.clone()]));
        server.command(&words);
        (0..count).map(|number| key(number).into()).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_batch_of_32_megabytes_far_away_takes_four_round_trips_and_the_time_of_its_bytes() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let backend = attached(proxy.url()).await;
        let keys = write(&server, "large", 512, 65_536);
        let near = Instant::now();
        assert!(backend.get_many(&keys).await.iter().all(|found| matches!(found, Ok(Some(_)))));
        let near = near.elapsed();
        let round_trip = Duration::from_millis(200);
        proxy.set_round_trip(round_trip);
        let backend = attached(proxy.url()).await;
        let far = Instant::now();
        let found = backend.get_many(&keys).await;
        let far = far.elapsed();
        assert!(found.iter().all(|found| matches!(found, Ok(Some(stored)) if stored.value.len() == 65_536)));
        // Beside the time that it takes without a distance, doubled for a busy machine.
        assert!(far <= 4 * round_trip + 2 * near, "{far:?} far away, {near:?} near");
    }

    #[tokio::test]
    async fn a_value_that_is_too_large_is_an_error_of_its_own_key_and_costs_no_link() {
        let server = RedisServer::start();
        for mode in [Coherence::Broadcast, Coherence::PubSub, Coherence::None] {
            let (backend, counter) = (Arc::new(RedisBackend::new(server.url()).unwrap()), Arc::new(Counter::default()));
            let limit = 100_000;
            let watched = watch(&counter, Duration::from_secs(2), Some(mode));
            backend.attach(watched.max_value_bytes(limit)).await.unwrap();
            let mut keys = write(&server, "limit", 1, limit);
            let small = write(&server, "small", 20, 100);
            for (name, size) in [("over", limit + 1), ("large", 1 << 20), ("huge", 20 << 20)] {
                keys.splice(0..0, write(&server, name, 1, size));
            }
            keys.extend(small.clone());
            let outcome = |found: &BackendResult<Option<Stored>>| match found {
                Ok(stored) => stored.as_ref().unwrap().value.len(),
                Err(error) => match error.kind() {
                    BackendErrorKind::ValueTooLarge { size } => {
                        assert!(!error.may_have_executed(), "{error}");
                        size * 1_000
                    }
                    _ => panic!("{error}"),
                },
            };
            let mut expected = vec![(20 << 20) * 1_000, (1 << 20) * 1_000, (limit + 1) * 1_000, limit];
            expected.extend([100; 20]);
            for (key, expected) in keys.iter().zip(&expected) {
                assert_eq!(outcome(&backend.get(key).await), *expected, "{mode}, alone");
            }
            let batch: Vec<_> = backend.get_many(&keys).await.iter().map(outcome).collect();
            assert_eq!(batch, expected, "{mode}, in a batch");
            let reads: Vec<_> = (keys.iter().cloned())
                .map(|key| {
                    let backend = Arc::clone(&backend);
                    tokio::spawn(async move { backend.get(&key).await })
                })
                .collect();
            let mut together = Vec::new();
            for read in reads {
                together.push(outcome(&read.await.unwrap()));
            }
            assert_eq!(together, expected, "{mode}, together");
            assert!(matches!(backend.link(), LinkState::Up(_)));
            assert_eq!((Counter::of(&counter.downs), Counter::of(&counter.flushed)), (0, 0), "{mode}");
        }
    }

    #[tokio::test]
    async fn after_one_large_value_a_batch_of_small_ones_is_one_round_trip() {
        let server = RedisServer::start();
        let backend = attached(server.url()).await;
        let keys = write(&server, "small", 512, 100);
        write(&server, "large", 1, 1 << 20);
        backend.get(b"n:large:0").await.unwrap().unwrap();
        server.reset_stats();
        assert!(backend.get_many(&keys).await.iter().all(|found| matches!(found, Ok(Some(_)))));
        assert_eq!(server.calls(&["mget"]), 4, "four commands, sent together");
    }

    #[tokio::test]
    async fn answers_are_handed_over_part_by_part_once_each() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let backend = attached(proxy.url()).await;
        let keys = write(&server, "k", 600, 40_000);
        // It is known by then how large they are.
        for _ in 0..8 {
            backend.get_many(&keys[..8]).await;
        }
        proxy.set_bandwidth(12_000_000);
        let started = Instant::now();
        let times = Mutex::new(vec![None; keys.len()]);
        backend
            .get_each(&keys, &|index, answer| {
                assert_eq!(answer.unwrap().unwrap().value.len(), 40_000);
                assert!(times.lock().unwrap()[index].replace(started.elapsed()).is_none(), "answered twice");
            })
            .await;
        let mut times: Vec<Duration> = times.into_inner().unwrap().into_iter().map(Option::unwrap).collect();
        times.sort_unstable();
        let (first, last) = (times[0], times[times.len() - 1]);
        assert!(first < last / 3, "the first answer after {first:?}, the last after {last:?}");
    }

    #[tokio::test]
    async fn a_read_is_answered_though_nobody_polls_and_a_panic_concerns_nobody_else() {
        let server = RedisServer::start();
        let backend = attached(server.url()).await;
        write(&server, "k", 200, 10);
        let (sender, answers) = mpsc::channel();
        for number in 0..200 {
            let sender = sender.clone();
            let reply = GetReply::new(move |answer| {
                assert!(number % 50 != 7, "whoever takes this answer has a defect");
                sender.send(answer.unwrap().unwrap().value.len()).unwrap();
            });
            assert!(backend.start_get(format!("n:k:{number}").as_bytes(), reply).is_none());
        }
        drop(sender);
        let answers = tokio::task::spawn_blocking(move || answers.iter().collect::<Vec<_>>()).await.unwrap();
        assert_eq!(answers, vec![10; 196]);
    }

    #[tokio::test]
    async fn reads_under_way_when_the_link_is_lost_are_answered_with_its_end() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let backend = attached(proxy.url()).await;
        proxy.pause();
        let (sender, mut answers) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..100 {
            let sender = sender.clone();
            let reply = GetReply::new(move |answer| sender.send(answer).unwrap());
            assert!(backend.start_get(format!("n:{number}").as_bytes(), reply).is_none());
        }
        drop(sender);
        tokio::task::yield_now().await;
        proxy.cut();
        let mut count = 0;
        while let Some(answer) = answers.recv().await {
            assert_eq!(answer.unwrap_err().kind(), BackendErrorKind::Unavailable);
            count += 1;
        }
        assert_eq!(count, 100);
        let fresh = RedisBackend::new(server.url()).unwrap();
        assert!(fresh.start_get(b"n:k", GetReply::new(drop)).is_some(), "without a link it is given back");
    }
}
