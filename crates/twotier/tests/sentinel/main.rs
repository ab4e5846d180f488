//! Failovers: a primary, two replicas and three sentinels, with caches at work meanwhile.
//!
//! One failover on request is part of every run. `TWOTIER_TEST_FAILOVERS=3 cargo test -p twotier --test sentinel --
//! --nocapture` also kills the primary, and stops it past a failover and lets it go on, so many times each.

#![allow(clippy::unwrap_used, reason = "a panic with a message is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "real servers run on real time")]
#![allow(clippy::print_stderr, reason = "a long run is for its figures too")]

mod live {
    use std::{
        collections::BTreeMap,
        sync::{
            Arc, Mutex,
            atomic::{AtomicBool, Ordering::SeqCst},
        },
        time::Duration,
    };

    use tokio::{task::JoinHandle, time::Instant};
    use twotier::{Cache, RedisBackend, RedisConfig, codec::Text};
    use twotier_testkit::{RedisServer, Reply, SentinelGroup};

    const BOUND: Duration = Duration::from_millis(500);
    const KEYS: usize = 50;
    /// Until a promotion is complete, and whatever follows of it.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// How the primary goes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fault {
        /// `SENTINEL FAILOVER`.
        Asked,
        /// `kill -9`; it is started again when another has taken over.
        Killed,
        /// `SIGSTOP`, and `SIGCONT` when another has taken over.
        Stopped,
    }

    async fn eventually(what: &str, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < PATIENCE, "{what} did not happen");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn cache(group: &SentinelGroup) -> Cache<String> {
        let config = RedisConfig::new(group.url()).max_backoff(Duration::from_millis(200));
        let backend = RedisBackend::with_config(&config).unwrap();
        let builder = Cache::<String>::builder().namespace("t").codec(Text).max_staleness(BOUND);
        builder.build(backend).await.unwrap()
    }

    /// Writes one key after another, and keeps which were acknowledged and when.
    struct Writer {
        acknowledged: Arc<Mutex<BTreeMap<String, Instant>>>,
        ends: Arc<AtomicBool>,
        task: JoinHandle<()>,
    }

    impl Writer {
        fn start(cache: Cache<String>, name: String) -> Self {
            let (acknowledged, ends) = (Arc::<Mutex<BTreeMap<_, _>>>::default(), Arc::new(AtomicBool::new(false)));
            let (written, end) = (Arc::clone(&acknowledged), Arc::clone(&ends));
            let task = tokio::spawn(async move {
                for number in 0_u64.. {
                    if end.load(SeqCst) {
                        return;
                    }
                    let key = format!("{name}-{number}");
                    match cache.set(&key, key.clone()).await {
                        Ok(()) => drop(written.lock().unwrap().insert(key, Instant::now())),
                        Err(_down) => tokio::time::sleep(Duration::from_millis(1)).await,
                    }
                }
            });
            Self { acknowledged, ends, task }
        }

        async fn end(self) -> BTreeMap<String, Instant> {
            self.ends.store(true, SeqCst);
            self.task.await.unwrap();
            std::mem::take(&mut *self.acknowledged.lock().unwrap())
        }
    }

    /// Sentinels end the connections of a server whose rank they change, also that of the witness: a command that says
    /// the same twice is sent again.
    fn witness(server: &RedisServer, words: &[&str]) -> Reply {
        server.try_command(words).unwrap_or_else(|_ended| server.command(words))
    }

    fn held(server: &RedisServer, key: &str) -> Option<String> {
        let reply = witness(server, &["GET", &format!("t:{key}")]);
        (!reply.is_nil()).then(|| reply.as_str().to_owned())
    }

    async fn read(cache: &Cache<String>, key: &str) -> Option<String> {
        let began = Instant::now();
        loop {
            match cache.get(key).await {
                Ok(value) => return value.map(|value| (*value).clone()),
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Takes the primary away under load, and checks what the caches say then. Returns whether that shows anything.
    async fn fail_over(
        group: &SentinelGroup,
        reader: &Cache<String>,
        writer: &Cache<String>,
        fault: Fault,
        round: usize,
    ) -> bool {
        eventually("the last failover is over", || group.is_whole() && group.primary().is_some()).await;
        let was = group.primary().unwrap();
        let keys: Vec<String> = (0..KEYS).map(|key| format!("{round}-kept-{key}")).collect();
        for key in &keys {
            writer.set(key, "before".to_owned()).await.unwrap();
        }
        let replicated = || {
            let caught_up = |server: &RedisServer| held(server, &keys[KEYS - 1]).is_some();
            group.servers().iter().filter(|server| caught_up(server)).count() == group.servers().len()
        };
        eventually("the replicas have it", replicated).await;
        for key in &keys {
            assert_eq!(read(reader, key).await.as_deref(), Some("before"));
        }
        let hits = reader.stats().local.hits;
        read(reader, &keys[0]).await;
        assert!(reader.stats().local.hits > hits, "there are copies, which could be stale");

        let load = Writer::start(writer.clone(), format!("{round}-load"));
        eventually("the load", || load.acknowledged.lock().unwrap().len() > 20).await;
        let began = Instant::now();
        match fault {
            Fault::Asked => group.failover(),
            Fault::Killed => group.servers()[was].kill(),
            Fault::Stopped => group.servers()[was].pause(),
        }
        eventually("another primary", || group.primary().is_some_and(|now| now != was)).await;
        let (completed, now) = (Instant::now(), group.primary().unwrap());
        let (primary, epoch) = (&group.servers()[now], group.config_epoch());
        // By another client, of whom a cache that looks at the old primary knows nothing.
        for key in &keys {
            assert_eq!(held(primary, key).as_deref(), Some("before"), "what was replicated is kept");
            assert!(witness(primary, &["SET", &format!("t:{key}"), "after"]).is_ok());
        }
        let changed = Instant::now();
        if fault == Fault::Stopped {
            group.servers()[was].resume();
        }
        // However it goes on meanwhile: from the bound on nothing older is returned.
        let (mut oldest, mut reads) = (Duration::ZERO, 0_u64);
        while changed.elapsed() < 4 * BOUND {
            for key in &keys {
                let asked = Instant::now();
                let value = read(reader, key).await;
                reads += 1;
                if value.as_deref() != Some("after") {
                    oldest = oldest.max(asked - changed);
                    assert!(asked - changed < 2 * BOUND, "{fault:?}: {value:?} {:?} after the change", asked - changed);
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if fault == Fault::Killed {
            group.servers()[was].restart();
        }
        let at_once = || load.acknowledged.lock().unwrap().values().any(|at| *at > changed);
        eventually("writes go on", at_once).await;
        let acknowledged = load.end().await;
        if group.primary() != Some(now) || group.config_epoch() != epoch {
            // On a machine that is too busy sentinels find a server dead that is not: what it kept is lost then, too.
            eprintln!("{fault:?}: the sentinels have changed the primary once more; the round shows nothing");
            return false;
        }
        let first = acknowledged.values().filter(|at| **at > completed).min().unwrap();
        let mut lost = 0;
        for (key, at) in &acknowledged {
            let held = held(primary, key);
            // The old one may have acknowledged what it never handed on: that is the servers' promise, not ours. What
            // was acknowledged since the change was seen to be on the new one is there.
            if held.is_none() {
                lost += 1;
                assert!(*at < changed + BOUND, "{fault:?}: the new primary lost a write of {:?} later", *at - changed);
            }
            assert!(held.as_ref().is_none_or(|held| held == key), "{held:?} {key}");
            assert_eq!(read(reader, key).await, held, "{fault:?}: the cache says what the server says");
        }
        eprintln!(
            "{fault:?}: another primary after {:?}, the first write {:?} later; {} writes acknowledged, {lost} of them \
             not kept by the servers; of {reads} reads the oldest was {oldest:?} behind",
            completed - began,
            *first - completed,
            acknowledged.len(),
        );
        true
    }

    #[tokio::test]
    async fn a_failover_costs_no_restart_no_write_that_the_servers_kept_and_no_copy_outlives_the_bound() {
        let group = SentinelGroup::start(2, Duration::from_millis(1000));
        let (reader, writer) = (cache(&group).await, cache(&group).await);
        fail_over(&group, &reader, &writer, Fault::Asked, 0).await;
    }

    #[tokio::test]
    async fn a_primary_that_is_killed_or_stopped_past_a_failover_costs_no_more_than_one_that_is_asked_to_go() {
        let rounds = std::env::var("TWOTIER_TEST_FAILOVERS").ok().and_then(|rounds| rounds.parse().ok());
        let Some(rounds) = rounds else {
            println!("set TWOTIER_TEST_FAILOVERS=3 to kill and stop primaries so many times");
            return;
        };
        let group = SentinelGroup::start(2, Duration::from_millis(1000));
        let (reader, writer) = (cache(&group).await, cache(&group).await);
        let mut round = 0;
        for fault in [Fault::Killed, Fault::Stopped, Fault::Asked].repeat(rounds) {
            loop {
                round += 1;
                if fail_over(&group, &reader, &writer, fault, round).await {
                    break;
                }
            }
        }
    }
}
