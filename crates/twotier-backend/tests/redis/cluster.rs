//! A cluster: every command reaches the node that owns its slot, whatever moves.

mod live {
    use std::{
        sync::{
            Arc, Mutex,
            atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        },
        time::Duration,
    };

    use bytes::Bytes;
    use twotier_backend::{Backend, RedisBackend, Watch, Write};
    use twotier_core::{
        BackendError, BackendErrorKind, ChangeListener, Coherence, Lease, LinkId, LinkState, Mark, Namespace,
        RedisConfig, Timestamp,
    };
    use twotier_testkit::{ClusterClient, RedisCluster, RedisServer};

    use crate::support::eventually;

    const NODE_TIMEOUT: Duration = Duration::from_secs(1);

    /// Notes what each link says.
    #[derive(Default)]
    struct Notes {
        ups: Mutex<Vec<u16>>,
        flushed: Mutex<Vec<u16>>,
        lost: Mutex<Vec<u16>>,
        changed: Mutex<Vec<String>>,
        proofs: AtomicU64,
    }

    impl ChangeListener for Notes {
        fn mark(&self, link: LinkId) -> Mark {
            Mark::new(link, 1, Timestamp::ZERO)
        }
        fn proof_of_life(&self, _mark: Mark) {
            self.proofs.fetch_add(1, SeqCst);
        }
        fn changed(&self, key: &[u8]) {
            self.changed.lock().unwrap().push(String::from_utf8_lossy(key).into_owned());
        }
        fn flushed(&self, link: LinkId) {
            self.flushed.lock().unwrap().push(link.number());
        }
        fn link_up(&self, link: LinkId, _lease: Lease) {
            self.ups.lock().unwrap().push(link.number());
        }
        fn link_down(&self, link: LinkId) {
            self.lost.lock().unwrap().push(link.number());
        }
        fn link_lost(&self, link: LinkId, _cause: &BackendError) {
            self.link_down(link);
        }
    }

    async fn attached(cluster: &RedisCluster, namespace: &str) -> (RedisBackend, Arc<Notes>) {
        let backend = RedisBackend::new(cluster.url()).unwrap();
        let notes = Arc::new(Notes::default());
        let watch = Watch::new(Namespace::new(namespace).unwrap(), Arc::clone(&notes) as _);
        let attachment = backend.attach(watch.max_staleness(Duration::from_secs(1))).await.unwrap();
        assert_eq!(attachment.coherence, Coherence::Broadcast);
        (backend, notes)
    }

    fn keys(count: usize) -> Vec<Bytes> {
        (0..count).map(|number| format!("n:{number}").into()).collect()
    }

    fn each(cluster: &RedisCluster, count: impl Fn(&RedisServer) -> u64) -> Vec<u64> {
        cluster.nodes().iter().map(count).collect()
    }

    fn redirected(node: &RedisServer) -> u64 {
        let stats = node.info("errorstats");
        let count = |code: &str| {
            stats
                .get(&format!("errorstat_{code}"))
                .map_or(0, |said| said.trim_start_matches("count=").parse::<u64>().unwrap())
        };
        count("MOVED") + count("ASK")
    }

    #[tokio::test]
    async fn every_command_goes_straight_to_the_node_that_owns_its_slot() {
        let cluster = RedisCluster::start(3, 0, NODE_TIMEOUT);
        let (backend, notes) = attached(&cluster, "n").await;
        assert_eq!(notes.ups.lock().unwrap().len(), 3, "a link to each primary");
        let keys = keys(300);
        for key in &keys[..20] {
            backend.set(key, "single".into(), None).await.unwrap();
            assert_eq!(backend.get(key).await.unwrap().unwrap().value, "single");
        }
        let writes: Vec<Write> = keys.iter().map(|key| Write::new(key.clone(), key.clone(), None)).collect();
        assert!(backend.set_many(&writes).await.into_iter().all(|written| written.unwrap()));
        for (key, found) in keys.iter().zip(backend.get_many(&keys).await) {
            assert_eq!(found.unwrap().unwrap().value, key, "in the order of the keys");
        }
        let read_together: Vec<_> = keys
            .iter()
            .map(|key| {
                let (backend, key) = (backend.clone(), key.clone());
                tokio::spawn(async move { backend.get(&key).await })
            })
            .collect();
        for (key, read) in keys.iter().zip(read_together) {
            assert_eq!(read.await.unwrap().unwrap().unwrap().value, key);
        }
        assert!(backend.compare_and_set(&keys[0], Some(keys[0].clone()), Some("swapped".into()), None).await.unwrap());
        assert!(backend.delete(&keys[1]).await.unwrap());
        assert_eq!(each(&cluster, redirected), [0, 0, 0]);
        assert!(each(&cluster, |node| node.calls(&["get"])).iter().all(|gets| *gets > 50), "the keys lie everywhere");
        assert_eq!(each(&cluster, |node| node.calls(&["mget"])), [1, 1, 1], "but for the test of permissions none");
        assert_eq!(backend.clear(b"n:").await.unwrap(), 299);
        assert!(
            each(&cluster, |node| u64::try_from(node.command(&["DBSIZE"]).as_int()).unwrap()).iter().all(|n| *n == 0)
        );
        eventually("leases are renewed on every link", || notes.proofs.load(SeqCst) > 6).await;
        assert_eq!(backend.links().len(), 3);
        assert!(matches!(Backend::link(&backend), LinkState::Up(_)));
    }

    #[tokio::test]
    async fn a_change_by_anybody_is_reported_by_the_node_that_executes_it() {
        let cluster = RedisCluster::start(3, 0, NODE_TIMEOUT);
        let (backend, notes) = attached(&cluster, "n").await;
        let mut other = ClusterClient::new(&cluster);
        for number in 0..20 {
            assert!(other.try_command(0, &["SET", &format!("n:{number}"), "x"]).unwrap().is_ok());
            backend.set(format!("n:own-{number}").as_bytes(), "x".into(), None).await.unwrap();
        }
        eventually("every report", || notes.changed.lock().unwrap().len() == 20).await;
        assert!(notes.changed.lock().unwrap().iter().all(|key| !key.contains("own")), "our own are left out");
        cluster.nodes()[1].command(&["FLUSHALL"]);
        eventually("a flush of one node", || notes.flushed.lock().unwrap().len() == 1).await;
    }

    #[tokio::test]
    async fn a_slot_that_moves_is_followed_and_both_links_begin_anew_also_when_no_epoch_rises() {
        let cluster = RedisCluster::start(3, 0, NODE_TIMEOUT);
        let (backend, notes) = attached(&cluster, "n").await;
        let epoch = || {
            cluster.nodes()[1]
                .command(&["CLUSTER", "INFO"])
                .as_str()
                .lines()
                .find_map(|line| line.strip_prefix("cluster_current_epoch:"))
                .unwrap()
                .trim()
                .to_owned()
        };
        // The second and third move to one node raise no epoch: it has made the latest claim already.
        for (round, number) in
            (0..200).filter(|number| cluster.owner(cluster.slot(&format!("n:{number}"))) == Some(0)).take(3).enumerate()
        {
            let key = format!("n:{number}");
            backend.set(key.as_bytes(), "before".into(), None).await.unwrap();
            let (from, slot, before) = (backend.route(key.as_bytes()), cluster.slot(&key), epoch());
            notes.flushed.lock().unwrap().clear();
            cluster.migrate(slot, 1);
            assert_eq!(before != epoch(), round == 0, "that is what servers do");
            // Redirected at first, it is returned all the same, and the cache keeps nothing of it.
            assert_eq!(backend.get(key.as_bytes()).await.unwrap().unwrap().value, "before");
            eventually("the new map", || backend.route(key.as_bytes()) != from).await;
            let both = [from.number(), backend.route(key.as_bytes()).number()];
            eventually("both links are outdated", || {
                let flushed = notes.flushed.lock().unwrap();
                both.iter().all(|link| flushed.contains(link))
            })
            .await;
            assert_eq!(notes.flushed.lock().unwrap().len(), 2, "and not the third");
            let before: u64 = each(&cluster, redirected).iter().sum();
            backend.set(key.as_bytes(), "after".into(), None).await.unwrap();
            assert_eq!(backend.get(key.as_bytes()).await.unwrap().unwrap().value, "after");
            assert_eq!(each(&cluster, redirected).iter().sum::<u64>(), before, "by the new map nothing is redirected");
        }
        let proofs = notes.proofs.load(SeqCst);
        eventually("leases are renewed by the new map", || notes.proofs.load(SeqCst) > proofs + 6).await;
    }

    #[tokio::test]
    async fn a_slot_that_is_given_away_without_its_keys_outdates_what_was_read_of_them() {
        let cluster = RedisCluster::start(3, 0, NODE_TIMEOUT);
        let (backend, notes) = attached(&cluster, "n").await;
        let key =
            (0..).map(|number| format!("n:{number}")).find(|key| cluster.owner(cluster.slot(key)) == Some(1)).unwrap();
        backend.set(key.as_bytes(), "it vanishes".into(), None).await.unwrap();
        let (from, slot) = (backend.route(key.as_bytes()), cluster.slot(&key));
        // Only the new owner is notified, and nobody is reported anything before Redis 7.2.
        cluster.begin_migration(slot, 1, 2);
        cluster.nodes()[2].command(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &cluster.id(2)]);
        eventually("the link of the old owner", || notes.flushed.lock().unwrap().contains(&from.number())).await;
        assert_eq!(backend.get(key.as_bytes()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn while_a_slot_migrates_commands_are_asked_at_the_other_end_and_nothing_of_them_is_kept() {
        let cluster = RedisCluster::start(3, 0, NODE_TIMEOUT);
        let (backend, notes) = attached(&cluster, "n").await;
        let key =
            (0..).map(|number| format!("n:{number}")).find(|key| cluster.owner(cluster.slot(key)) == Some(0)).unwrap();
        let (slot, key_bytes) = (cluster.slot(&key), Bytes::from(key.clone()));
        backend.set(&key_bytes, "one".into(), None).await.unwrap();
        cluster.begin_migration(slot, 0, 1);
        assert_eq!(backend.get(&key_bytes).await.unwrap().unwrap().value, "one", "it is there as before");
        cluster.migrate_keys(slot, 0, 1);
        eventually("both ends report it", || notes.changed.lock().unwrap().len() == 2).await;
        notes.changed.lock().unwrap().clear();
        assert_eq!(backend.get(&key_bytes).await.unwrap().unwrap().value, "one", "asked at the other end");
        let unkept = || notes.changed.lock().unwrap().iter().filter(|changed| **changed == key).count();
        assert_eq!(unkept(), 1);
        backend.set(&key_bytes, "two".into(), Some(Duration::from_secs(60))).await.unwrap();
        assert!(unkept() >= 2, "nor is an own write that went a detour");
        assert!(backend.compare_and_set(&key_bytes, Some("two".into()), Some("three".into()), None).await.unwrap());
        let keys = [key_bytes.clone(), "n:other".into()];
        let found = backend.get_many(&keys).await;
        assert_eq!(found[0].as_ref().unwrap().as_ref().unwrap().value, "three");
        let written =
            backend.set_many(&[Write::new(key_bytes.clone(), "four", None), Write::new("n:other", "x", None)]).await;
        assert!(written.into_iter().all(|written| written.unwrap()));
        assert!(backend.delete(&key_bytes).await.unwrap());
        assert_eq!(backend.get(&key_bytes).await.unwrap(), None);
        cluster.set_owner(slot, 0, 1);
        eventually("the new map", || backend.route(&key_bytes) != LinkId::new(0)).await;
    }

    #[tokio::test]
    async fn a_promotion_is_followed_and_costs_only_the_copies_of_its_primary() {
        let cluster = RedisCluster::start(3, 1, NODE_TIMEOUT);
        let (backend, notes) = attached(&cluster, "n").await;
        let key_of = |node| {
            let own = |key: &String| cluster.owner(cluster.slot(key)) == Some(node);
            (0..).map(|number| format!("n:{number}")).find(own).unwrap()
        };
        let [first, second] = [0, 1].map(key_of);
        for key in [&first, &second] {
            backend.set(key.as_bytes(), "kept".into(), None).await.unwrap();
        }
        let (old, other) = (backend.route(first.as_bytes()), backend.route(second.as_bytes()));
        let replica = cluster.replica_of(0).unwrap();
        eventually("the replica has it", || cluster.nodes()[replica].command(&["DBSIZE"]).as_int() == 1).await;
        cluster.failover(replica, None);
        eventually("another link", || backend.route(first.as_bytes()) != old).await;
        eventually("the old one is lost", || notes.lost.lock().unwrap().contains(&old.number())).await;
        assert_eq!(backend.get(first.as_bytes()).await.unwrap().unwrap().value, "kept");
        backend.set(first.as_bytes(), "after".into(), None).await.unwrap();
        assert_eq!(cluster.nodes()[replica].command(&["GET", &first]).as_str(), "after");
        let touched = |notes: &Notes| {
            notes.lost.lock().unwrap().iter().chain(&*notes.flushed.lock().unwrap()).any(|l| *l == other.number())
        };
        assert!(!touched(&notes), "nothing happened to the others");
        let proofs = notes.proofs.load(SeqCst);
        eventually("leases are renewed again", || notes.proofs.load(SeqCst) > proofs + 6).await;
    }

    #[tokio::test]
    async fn later_caches_are_on_every_link_and_caches_that_go_leave_every_link() {
        let cluster = RedisCluster::start(3, 0, NODE_TIMEOUT);
        let (backend, _notes) = attached(&cluster, "n").await;
        let (second, tagged) = (backend.clone(), backend.clone());
        let notes: [Arc<Notes>; 2] = Default::default();
        for (handle, namespace, notes) in [(&second, "m", &notes[0]), (&tagged, "{tag}", &notes[1])] {
            let watch = Watch::new(Namespace::new(namespace).unwrap(), Arc::clone(notes) as _);
            handle.attach(watch).await.unwrap();
        }
        assert_eq!(notes[0].ups.lock().unwrap().len(), 3);
        assert_eq!(notes[1].ups.lock().unwrap().len(), 1, "its keys lie in one slot");
        let clients = |node: &RedisServer| {
            u64::try_from(
                node.command(&["CLIENT", "LIST"]).as_str().lines().filter(|l| l.contains("name=twotier")).count(),
            )
            .unwrap()
        };
        assert_eq!(each(&cluster, clients), [2, 2, 2], "all of them share the links");
        let overlapping = backend.clone();
        let watch = Watch::new(Namespace::new("m:x").unwrap(), Arc::clone(&notes[0]) as _);
        let refused = overlapping.attach(watch).await.unwrap_err();
        assert_eq!(refused.kind(), BackendErrorKind::Rejected);
        second.close().await;
        assert_eq!(notes[0].lost.lock().unwrap().len(), 3);
        assert_eq!(second.get(b"m:k").await.unwrap_err().kind(), BackendErrorKind::Closed);
        backend.set(b"n:k", "v".into(), None).await.unwrap();
        drop((backend, tagged, second, overlapping));
        eventually("the links end with the last handle", || each(&cluster, clients) == [0, 0, 0]).await;
    }

    #[tokio::test]
    async fn a_url_of_another_kind_is_named_and_nodes_that_are_down_are_an_error_with_the_cause() {
        let cluster = RedisCluster::start(3, 0, NODE_TIMEOUT);
        let node = &cluster.nodes()[0];
        let refused = RedisBackend::new(node.url()).unwrap().get(b"k").await.unwrap_err();
        assert!(format!("{:?}", refused).contains("redis-cluster://"), "{refused:?}");
        let single = RedisServer::start();
        let url = format!("redis-cluster://{}", single.addr());
        let refused = RedisBackend::new(url).unwrap().get(b"k").await.unwrap_err();
        assert!(format!("{:?}", refused).contains("no node of a cluster"), "{refused:?}");
        let url = format!("redis-cluster://{}", single.addr());
        drop(single);
        let backend = RedisBackend::new(url).unwrap();
        let down = backend.get(b"k").await.unwrap_err();
        assert_eq!((down.kind(), down.may_have_executed()), (BackendErrorKind::Unavailable, false));
        assert!(matches!(Backend::link(&backend), LinkState::Down { .. }));
        let mixed = format!("redis-cluster://127.0.0.1:1,{}", node.addr());
        let found = RedisBackend::new(mixed).unwrap();
        assert_eq!(found.get(b"k").await.unwrap(), None, "one node that answers is enough");
        let config = RedisConfig::new(cluster.url()).dead_after(Duration::from_secs(15));
        assert_eq!(RedisBackend::with_config(&config).unwrap_err().field(), "dead_after");
    }

    #[tokio::test]
    async fn the_documented_permissions_are_enough_and_nothing_is_denied() {
        let user = "app on >password ~shop:* resetchannels -@all +get +mget +pttl +set +unlink +scan +eval +hello +ping \
                    +info +client|kill +client|tracking +client|trackinginfo +cluster|info +cluster|nodes +ASKING";
        let cluster = RedisCluster::with(3, 0, NODE_TIMEOUT, &[("user", user)]);
        let url = cluster.url().replace("redis-cluster://", "redis-cluster://app:password@");
        let backend = RedisBackend::new(url).unwrap();
        let notes = Arc::new(Notes::default());
        let watch = Watch::new(Namespace::new("shop").unwrap(), Arc::clone(&notes) as _);
        backend.attach(watch).await.unwrap();
        let key = (0..)
            .map(|number| format!("shop:{number}"))
            .find(|key| cluster.owner(cluster.slot(key)) == Some(0))
            .unwrap();
        backend.set(key.as_bytes(), "one".into(), None).await.unwrap();
        let slot = cluster.slot(&key);
        cluster.begin_migration(slot, 0, 1);
        cluster.migrate_keys(slot, 0, 1);
        assert_eq!(backend.get(key.as_bytes()).await.unwrap().unwrap().value, "one");
        assert!(backend.compare_and_set(key.as_bytes(), Some("one".into()), Some("two".into()), None).await.unwrap());
        cluster.set_owner(slot, 0, 1);
        assert_eq!(backend.clear(b"shop:").await.unwrap(), 1);
        eventually("leases are renewed", || notes.proofs.load(SeqCst) > 6).await;
        for node in cluster.nodes() {
            assert!(node.command(&["ACL", "LOG"]).as_array().is_empty(), "{:?}", node.command(&["ACL", "LOG"]));
        }
    }

    #[tokio::test]
    async fn where_tracking_is_refused_caches_of_a_cluster_notify_each_other_over_channels() {
        let user = "app on >password ~n:* &n:* -@all +get +mget +pttl +set +unlink +eval +hello +ping +info \
                    +client|kill +cluster|info +cluster|nodes +ASKING +subscribe +publish +multi +exec";
        let cluster = RedisCluster::with(3, 0, NODE_TIMEOUT, &[("user", user)]);
        let url = cluster.url().replace("redis-cluster://", "redis-cluster://app:password@");
        let (backend, other) = (RedisBackend::new(url.clone()).unwrap(), RedisBackend::new(url).unwrap());
        let notes = Arc::new(Notes::default());
        let watch = |listener| Watch::new(Namespace::new("n").unwrap(), listener);
        let attachment = backend.attach(watch(Arc::clone(&notes) as _)).await.unwrap();
        assert_eq!(attachment.coherence, Coherence::PubSub);
        other.attach(watch(Arc::new(Notes::default()) as _)).await.unwrap();
        let keys = keys(60);
        let writes: Vec<Write> = keys.iter().map(|key| Write::new(key.clone(), key.clone(), None)).collect();
        assert!(other.set_many(&writes).await.into_iter().all(|written| written.unwrap()));
        eventually("every notice", || notes.changed.lock().unwrap().len() >= 60).await;
        for (key, found) in keys.iter().zip(backend.get_many(&keys).await) {
            assert_eq!(found.unwrap().unwrap().value, key);
        }
        assert!(other.delete_many(&keys).await.into_iter().all(|deleted| deleted.unwrap()));
        eventually("leases are renewed", || notes.proofs.load(SeqCst) > 6).await;
    }

    #[tokio::test]
    async fn while_primaries_are_replaced_what_fails_is_unavailable_and_reads_hardly_fail() {
        let cluster = RedisCluster::start(3, 1, NODE_TIMEOUT);
        let (backend, _notes) = attached(&cluster, "n").await;
        let keys = keys(30);
        for key in &keys {
            backend.set(key, "v".into(), None).await.unwrap();
        }
        let ends = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..4)
            .map(|task| {
                let (backend, keys, ends) = (backend.clone(), keys.clone(), Arc::clone(&ends));
                tokio::spawn(async move {
                    let (mut done, mut failed) = (0_u32, Vec::new());
                    for key in keys.iter().cycle() {
                        if ends.load(SeqCst) {
                            return (done, failed);
                        }
                        done += 1;
                        let outcome = match task {
                            0 => backend.get(key).await.map(drop),
                            1 => backend.get_many(&keys).await.into_iter().find_map(Result::err).map_or(Ok(()), Err),
                            2 => backend.set(key, "v".into(), None).await,
                            _ => {
                                let writes: Vec<Write> =
                                    keys.iter().map(|key| Write::new(key.clone(), "v", None)).collect();
                                backend.set_many(&writes).await.into_iter().find_map(Result::err).map_or(Ok(()), Err)
                            }
                        };
                        if let Err(error) = outcome {
                            failed.push(error);
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    }
                    (done, failed)
                })
            })
            .collect();
        for primary in 0..3 {
            let replica = cluster.replica_of(primary).unwrap();
            cluster.failover(replica, None);
            eventually("a promotion", || cluster.is_promoted(replica)).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        ends.store(true, SeqCst);
        for task in tasks {
            let (done, failed) = task.await.unwrap();
            assert!(done > 10, "{done}");
            let other: Vec<_> = failed
                .iter()
                .filter(|error| !matches!(error.kind(), BackendErrorKind::Unavailable | BackendErrorKind::Busy))
                .collect();
            assert!(other.is_empty(), "{other:?}");
            assert!(failed.len() < 1 + done as usize / 4, "{} of {done}: {:?}", failed.len(), failed[0]);
        }
    }
}
