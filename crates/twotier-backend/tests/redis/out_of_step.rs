//! A reply too many, or too few: the link ends, and nobody gets what was meant for another.

mod live {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;
    use proptest::{prelude::*, test_runner::Config};
    use twotier_backend::{Backend, RedisBackend, Write};
    use twotier_core::{Coherence, LinkState, LinkUp, RedisConfig};
    use twotier_testkit::RedisServer;

    use crate::support::{Counter, Fault, Relay, eventually, watch};

    const KEYS: usize = 24;
    const STALENESS: Duration = Duration::from_millis(200);

    fn fault() -> impl Strategy<Value = Fault> {
        prop_oneof![
            3 => Just(Fault::Drop),
            3 => Just(Fault::Double),
            4 => prop::sample::select(vec![
                &b"+OK\r\n"[..],
                b"+QUEUED\r\n",
                b"-ERR no\r\n",
                b"-\xff\xfe\r\n",
                b":7\r\n",
                b":-2\r\n",
                b"$5\r\nother\r\n",
                b"_\r\n",
                b"$-1\r\n",
                b"*0\r\n",
                b"*2\r\n$5\r\nother\r\n:7\r\n",
                b"*1\r\n$5\r\nother\r\n",
                b"%1\r\n+role\r\n+master\r\n",
                b">3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n",
                b"#t\r\n",
            ])
            .prop_map(Fault::Insert),
        ]
    }

    type Single = tokio::task::JoinHandle<twotier_backend::BackendResult<Option<twotier_backend::Stored>>>;

    /// Reads singly, together and in batches, and writes, while one reply goes wrong; returns what was wrong.
    async fn run(server: &RedisServer, mode: Coherence, after: usize, fault: Fault) -> Result<(), String> {
        let relay = Relay::start(server.addr()).await;
        let mut config = RedisConfig::new(relay.url());
        config.dead_after = Duration::from_millis(600);
        let backend = Arc::new(RedisBackend::with_config(&config).unwrap());
        let counter = Arc::new(Counter::default());
        backend.attach(watch(&counter, STALENESS, Some(mode))).await.unwrap();
        let born = tokio::time::Instant::now();
        let keys: Vec<Bytes> = (0..KEYS).map(|key| format!("n:{key}").into()).collect();
        for (key, name) in keys.iter().enumerate() {
            backend.set(name, format!("v{key}").into(), Some(Duration::from_secs(100))).await.unwrap();
        }
        relay.strike(after, fault);
        let check = |key: usize, value: Option<&Bytes>| match value {
            // A key of no value is one whose fault was to be refused, or that is absent: no value of another.
            None => Ok(()),
            Some(value) if *value == format!("v{key}") => Ok(()),
            Some(other) => Err(format!("key {key} is {other:?}")),
        };
        for round in 0..2 {
            let started = (0..KEYS)
                .map(|key| {
                    let (backend, name) = (Arc::clone(&backend), keys[key].clone());
                    tokio::spawn(async move { backend.get(&name).await })
                })
                .collect::<Vec<Single>>();
            let mut singles = started;
            let writes = [Write::new(keys[round].clone(), format!("v{round}"), Some(Duration::from_secs(100)))];
            let (batch, lone, _written) =
                tokio::join!(backend.get_many(&keys), backend.get(&keys[3]), backend.set_many(&writes));
            for (key, found) in batch.iter().enumerate() {
                check(key, found.as_ref().ok().and_then(|found| found.as_ref()).map(|stored| &stored.value))?;
            }
            check(3, lone.ok().flatten().as_ref().map(|stored| &stored.value))?;
            for (key, single) in singles.iter_mut().enumerate() {
                check(key, single.await.unwrap().ok().flatten().as_ref().map(|stored| &stored.value))?;
            }
        }
        eventually("the reply", || relay.has_struck()).await;
        eventually(&format!("the end of the link by {fault:?} after {after} in mode {mode}"), || {
            match backend.link() {
                LinkState::Up(LinkUp { age, .. }) => {
                    age + Duration::from_millis(1) < born.elapsed() && Counter::of(&counter.ups) != 1
                }
                _ => true,
            }
        })
        .await;
        Ok(())
    }

    fn cases() -> Config {
        match std::env::var("PROPTEST_CASES") {
            Ok(_) => Config::default(),
            Err(_) => Config { failure_persistence: None, ..Config::with_cases(24) },
        }
    }

    #[test]
    fn a_reply_dropped_doubled_or_inserted_ends_the_link_and_crosses_no_value() {
        let server = RedisServer::start();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let modes = prop::sample::select(vec![Coherence::Broadcast, Coherence::PubSub, Coherence::None]);
        proptest!(cases(), |(mode in modes, after in 0..40_usize, fault in fault())| {
            let done = runtime.block_on(run(&server, mode, after, fault));
            prop_assert_eq!(done, Ok(()));
        });
    }

    /// Sends every client a reply that nobody asked for, after these calls: the link must end, in every mode.
    async fn ends_by_one_more_reply(calls: impl AsyncFn(&RedisBackend)) {
        let server = RedisServer::start();
        for mode in [Coherence::Broadcast, Coherence::PubSub, Coherence::None] {
            let relay = Relay::start(server.addr()).await;
            let (backend, counter) = (RedisBackend::new(relay.url()).unwrap(), Arc::new(Counter::default()));
            backend.attach(watch(&counter, Duration::from_secs(2), Some(mode))).await.unwrap();
            calls(&backend).await;
            backend.get(b"n:k").await.unwrap();
            let asked = tokio::time::Instant::now();
            relay.inject(b":7\r\n");
            eventually("the end of the link", || match backend.link() {
                LinkState::Up(LinkUp { age, .. }) => age < asked.elapsed(),
                _ => true,
            })
            .await;
        }
    }

    #[tokio::test]
    async fn a_reply_that_nobody_asked_for_ends_the_link_though_nobody_waits() {
        ends_by_one_more_reply(async |_| ()).await;
    }

    #[tokio::test]
    async fn a_request_that_was_given_up_before_it_was_sent_makes_no_room_for_a_reply_that_nobody_asked_for() {
        ends_by_one_more_reply(async |backend| {
            // The task that writes runs on this thread too: not between the two.
            tokio::select! {
                biased;
                answer = backend.get(b"n:k") => panic!("{answer:?}"),
                () = std::future::ready(()) => {}
            }
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn in_pub_sub_mode_no_read_returns_the_value_of_another_key() {
        let server = RedisServer::start();
        let mut tasks = Vec::new();
        let mut links = Vec::new();
        for _ in 0..2 {
            let counter = Arc::new(Counter::default());
            let backend = Arc::new(RedisBackend::new(server.url()).unwrap());
            backend.attach(watch(&counter, Duration::from_secs(2), Some(Coherence::PubSub))).await.unwrap();
            links.push((Arc::clone(&backend), counter));
            for key in 0..32_u64 {
                let backend = Arc::clone(&backend);
                tasks.push(tokio::spawn(async move {
                    let name = format!("n:{key}");
                    for round in 0..150 {
                        if round % 4 == 0 {
                            backend.set(name.as_bytes(), format!("{key}").into(), None).await.unwrap();
                        }
                        if let Some(stored) = backend.get(name.as_bytes()).await.unwrap() {
                            assert_eq!(stored.value, format!("{key}"));
                        }
                    }
                }));
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
        for (backend, counter) in links {
            assert!(backend.link().is_up());
            assert_eq!(Counter::of(&counter.ups), 1, "and no link was lost");
        }
    }
}
