//! A cluster of three primaries with a replica each, whose slots move and whose primaries are replaced, with caches at
//! work meanwhile.
//!
//! One round of every event is part of every run. `TWOTIER_TEST_CLUSTER_ROUNDS=13 cargo test -p twotier
//! --test cluster -- --nocapture` makes so many, and prints what was measured.
//!
//! A foreign writer writes versions that grow, key by key, and takes one for acknowledged when the replica has it too:
//! what the servers acknowledge and lose is not the cache's to keep. Readers look at the floor of a key before each
//! read:
//! the last version that was acknowledged longer ago than the bound.

#![allow(clippy::unwrap_used, reason = "a panic with a message is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "real servers run on real time")]
#![allow(clippy::print_stderr, reason = "a long run is for its figures too")]

mod live {
    use std::{
        sync::{
            Arc, Mutex,
            atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        },
        thread,
        time::{Duration, Instant},
    };

    use twotier::{Cache, RedisBackend, RedisConfig, Tier, codec::Text};
    use twotier_testkit::{ClusterClient, RedisCluster};

    const BOUND: Duration = Duration::from_millis(500);
    const NODE_TIMEOUT: Duration = Duration::from_millis(1000);
    const KEYS: usize = 48;
    /// What a machine that is busy may add to what is measured from outside.
    const SLACK: Duration = Duration::from_millis(100);
    /// Until a promotion is complete, and whatever follows of it.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Event {
        /// A slot moves with its keys to the next primary.
        Migrated,
        /// `CLUSTER FAILOVER`.
        Asked,
        /// `CLUSTER FAILOVER TAKEOVER`: nobody votes.
        TakenOver,
        /// `kill -9`; it is started again when another has taken over.
        Killed,
        /// `SIGSTOP`, and `SIGCONT` when another has taken over.
        Stopped,
    }

    /// What the foreign writer knows of one key.
    #[derive(Default)]
    struct Versions {
        /// When each version was acknowledged, the first one being 1.
        acknowledged: Mutex<Vec<(u64, Instant)>>,
        floor: AtomicU64,
    }

    struct Run {
        cluster: RedisCluster,
        keys: Vec<String>,
        versions: Vec<Versions>,
        ends: AtomicBool,
        reads: AtomicU64,
        hits: AtomicU64,
        /// By how much the most outdated value was, in microseconds.
        oldest: AtomicU64,
        violations: Mutex<Vec<String>>,
    }

    impl Run {
        /// The last version that had been acknowledged then.
        fn acknowledged_before(&self, key: usize, then: Instant) -> u64 {
            let acknowledged = self.versions[key].acknowledged.lock().unwrap();
            acknowledged.iter().rev().find(|(_, at)| *at <= then).map_or(0, |(version, _)| *version)
        }

        /// How long ago a later version than this was acknowledged.
        fn behind(&self, key: usize, version: u64, now: Instant) -> Duration {
            let acknowledged = self.versions[key].acknowledged.lock().unwrap();
            let next = acknowledged.iter().find(|(later, _)| *later > version);
            next.map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
        }

        fn write(&self) {
            let mut client = ClusterClient::new(&self.cluster);
            let mut next = vec![1_u64; self.keys.len()];
            for key in (0..self.keys.len()).cycle() {
                if self.ends.load(SeqCst) {
                    return;
                }
                let (name, version) = (&self.keys[key], next[key].to_string());
                next[key] += 1;
                if client.write_to_replica(&["SET", name, &version], 1, 200) {
                    self.versions[key].acknowledged.lock().unwrap().push((next[key] - 1, Instant::now()));
                }
                let floor = self.acknowledged_before(key, Instant::now() - BOUND - SLACK);
                self.versions[key].floor.fetch_max(floor, SeqCst);
                thread::sleep(Duration::from_micros(300));
            }
        }

        async fn read(self: Arc<Self>, cache: Cache<String>, first: usize) {
            let mut turn = 0_u64;
            for key in (0..self.keys.len()).cycle().skip(first) {
                if self.ends.load(SeqCst) {
                    return;
                }
                turn += 1;
                // In this order: it only rises.
                let floor = self.versions[key].floor.load(SeqCst);
                let asked = Instant::now();
                let Ok(found) = cache.lookup(self.keys[key].strip_prefix("t:").unwrap()).await else {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                };
                let version: u64 = found.value.as_ref().map_or(0, |value| value.parse().unwrap());
                self.reads.fetch_add(1, SeqCst);
                self.hits.fetch_add(u64::from(found.tier == Tier::Local), SeqCst);
                if version < floor {
                    let behind = self.behind(key, version, asked);
                    self.violations.lock().unwrap().push(format!(
                        "{}: {version} where {floor} was acknowledged, {behind:?} behind, from {:?}",
                        self.keys[key], found.tier
                    ));
                }
                if turn.is_multiple_of(16) {
                    let behind = u64::try_from(self.behind(key, version, asked).as_micros()).unwrap();
                    self.oldest.fetch_max(behind, SeqCst);
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    async fn cache(cluster: &RedisCluster) -> Cache<String> {
        let config = RedisConfig::new(cluster.url())
            .cluster_node_timeout(NODE_TIMEOUT)
            .dead_after(Duration::from_millis(500))
            .max_backoff(Duration::from_millis(100));
        let backend = RedisBackend::with_config(&config).unwrap();
        let builder = Cache::<String>::builder().namespace("t").codec(Text).max_staleness(BOUND);
        builder.build(backend).await.unwrap()
    }

    async fn eventually(what: &str, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < PATIENCE, "{what} did not happen");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Makes one event happen. Returns how long after it was complete a key of the node is written, and is a hit.
    async fn make(run: &Run, cache: &Cache<String>, event: Event, round: usize) -> Option<[Duration; 2]> {
        let cluster = &run.cluster;
        eventually("the cluster is whole", || cluster.is_settled() && cluster.replicas_follow()).await;
        let key = &run.keys[round % run.keys.len()];
        let slot = cluster.slot(key);
        let was = cluster.owner(slot).unwrap();
        if event == Event::Migrated {
            let primaries = (0..cluster.nodes().len()).filter(|node| cluster.replica_of(*node).is_some());
            let to = primaries.cycle().skip_while(|node| *node != was).nth(1 + round % 2).unwrap();
            tokio::task::block_in_place(|| match cluster.migrates_at_once() && round % 2 == 1 {
                true => cluster.migrate_at_once(slot, to),
                false => cluster.migrate(slot, to),
            });
            return None;
        }
        let replica = cluster.replica_of(was).unwrap();
        match event {
            Event::Asked => cluster.failover(replica, None),
            Event::TakenOver => cluster.failover(replica, Some("TAKEOVER")),
            Event::Killed => cluster.nodes()[was].kill(),
            Event::Stopped | Event::Migrated => cluster.nodes()[was].pause(),
        }
        eventually("a promotion", || cluster.is_promoted(replica)).await;
        let complete = Instant::now();
        let probe = key.strip_prefix("t:").unwrap();
        let written = loop {
            // A key of the same slot, which nobody else writes.
            if cache.set(&format!("{probe}own"), "x".to_owned()).await.is_ok() {
                break complete.elapsed();
            }
            assert!(complete.elapsed() < PATIENCE, "{event:?}: no write");
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let hit = loop {
            if cache.lookup(&format!("{probe}own")).await.is_ok_and(|found| found.tier == Tier::Local) {
                break complete.elapsed();
            }
            assert!(complete.elapsed() < PATIENCE, "{event:?}: no hit");
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        if event == Event::Stopped {
            cluster.nodes()[was].resume();
        }
        if event == Event::Killed {
            cluster.nodes()[was].restart();
        }
        Some([written, hit])
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whatever_moves_and_whoever_is_promoted_no_copy_outlives_the_bound() {
        let rounds = std::env::var("TWOTIER_TEST_CLUSTER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
        let cluster = RedisCluster::start(3, 1, NODE_TIMEOUT);
        let keys: Vec<String> = (0..KEYS).map(|key| format!("t:{{k{key}}}")).collect();
        let (first, second) = (cache(&cluster).await, cache(&cluster).await);
        let run = Arc::new(Run {
            cluster,
            versions: keys.iter().map(|_| Versions::default()).collect(),
            keys,
            ends: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            oldest: AtomicU64::new(0),
            violations: Mutex::default(),
        });
        let writer = thread::spawn({
            let run = Arc::clone(&run);
            move || run.write()
        });
        let readers: Vec<_> = (0..4)
            .map(|reader| {
                let cache = if reader % 2 == 0 { first.clone() } else { second.clone() };
                tokio::spawn(Arc::clone(&run).read(cache, reader * 7))
            })
            .collect();
        let mut recoveries = Vec::new();
        let mut events = 0;
        for round in 0..rounds.unwrap_or(1) {
            for event in [
                Event::Migrated,
                Event::Asked,
                Event::Migrated,
                Event::Killed,
                Event::Migrated,
                Event::TakenOver,
                Event::Migrated,
                Event::Stopped,
            ] {
                events += 1;
                let recovered = make(&run, &first, event, 8 * round + events % 5).await;
                if let Some([written, hit]) = recovered {
                    eprintln!("{event:?}: the first write {written:?} after the promotion, the first hit {hit:?}");
                    recoveries.push(written);
                }
                tokio::time::sleep(BOUND).await;
                let violations = run.violations.lock().unwrap();
                assert!(violations.is_empty(), "{event:?}: {} times, first {}", violations.len(), violations[0]);
            }
        }
        run.ends.store(true, SeqCst);
        for reader in readers {
            reader.await.unwrap();
        }
        writer.join().unwrap();
        recoveries.sort_unstable();
        let written: u64 = run.versions.iter().map(|key| key.acknowledged.lock().unwrap().len() as u64).sum();
        let (reads, hits) = (run.reads.load(SeqCst), run.hits.load(SeqCst));
        eprintln!(
            "{events} events, {reads} reads of which {hits} were hits, {written} foreign writes acknowledged; the most \
             outdated value {:.1} ms behind (the bound is {} ms); writes went on {:?} after a promotion at the latest",
            Duration::from_micros(run.oldest.load(SeqCst)).as_secs_f64() * 1e3,
            BOUND.as_millis(),
            recoveries.last().unwrap(),
        );
        assert!(
            hits > reads / 4 && written > 100,
            "{hits} hits of {reads} reads, {written} writes: nothing was tested"
        );
    }

    /// The primary of some keys is cut off from the others, and our client is beside it or reaches everybody; its
    /// replica is promoted, and somebody else writes there. Returns how old the last hit was.
    async fn oldest_hit_beside_an_isolated_primary(with_clients: bool) -> Duration {
        let cluster = RedisCluster::that_can_be_parted(3, 1, NODE_TIMEOUT);
        let cache = cache(&cluster).await;
        let names = (0..).map(|key| format!("{{k{key}}}"));
        let keys: Vec<String> =
            names.filter(|key| cluster.owner(cluster.slot(&format!("t:{key}"))) == Some(0)).take(8).collect();
        for key in &keys {
            cache.set(key, "before".to_owned()).await.unwrap();
        }
        let replica = cluster.replica_of(0).unwrap();
        eventually("the replica has them", || cluster.nodes()[replica].command(&["DBSIZE"]).as_int() == 8).await;
        cluster.isolate(&[0], with_clients);
        let (ends, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None::<Instant>)));
        let reader = tokio::spawn({
            let (ends, ended, cache, keys) = (Arc::clone(&ends), Arc::clone(&ended), cache.clone(), keys.clone());
            async move {
                while !ends.load(SeqCst) {
                    for key in &keys {
                        let asked = Instant::now();
                        let found = cache.lookup(key).await;
                        // What a primary that is cut off answers to a read is its own word: it is a hit that is ours.
                        let is_old_hit = found.is_ok_and(|found| {
                            found.tier == Tier::Local && found.value.as_deref().is_some_and(|value| value == "before")
                        });
                        if is_old_hit {
                            *ended.lock().unwrap() = Some(asked);
                        }
                    }
                    tokio::time::sleep(Duration::from_micros(200)).await;
                }
            }
        });
        eventually("a promotion", || cluster.is_promoted(replica)).await;
        let mut other = ClusterClient::new(&cluster);
        for key in &keys {
            let written = other.try_command(replica, &["SET", &format!("t:{key}"), "after"]);
            assert!(written.is_some_and(|written| written.is_ok()), "the new primary takes writes");
        }
        let changed = Instant::now();
        tokio::time::sleep(4 * BOUND).await;
        if !with_clients {
            let seen = cache.get(&keys[0]).await.unwrap();
            assert_eq!(seen.as_deref().map(String::as_str), Some("after"), "who reaches everybody reads the new value");
        }
        cluster.isolate(&[], false);
        eventually("the cluster is whole", || cluster.is_settled()).await;
        let deadline = Instant::now() + PATIENCE;
        while cache.get(&keys[0]).await.ok().flatten().is_none_or(|value| *value != "after") {
            assert!(Instant::now() < deadline, "it never comes back");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        ends.store(true, SeqCst);
        reader.await.unwrap();
        let last = ended.lock().unwrap().expect("there were hits before");
        last.saturating_duration_since(changed)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn beside_an_isolated_primary_no_copy_outlives_the_bound() {
        if twotier_testkit::RedisServer::start().version() < (7, 0, 0) {
            println!("a node before 7.0 does not take the address to connect from, so none can be cut off");
            return;
        }
        for with_clients in [true, false] {
            let oldest = oldest_hit_beside_an_isolated_primary(with_clients).await;
            eprintln!("clients beside it: {with_clients}; the last hit on an old value {oldest:?} after the change");
            assert!(oldest < BOUND + SLACK, "{oldest:?} with a bound of {BOUND:?}");
        }
    }
}
