//! What one cache sees of the writes of others.

use twotier::{Coherence, Freshness, Lease, MemoryBackend};

use crate::support::{over_memory, read, text};

#[tokio::test]
async fn a_write_by_one_cache_removes_the_copy_of_another() {
    let store = MemoryBackend::new();
    let (one, two) = (over_memory(&store).await, over_memory(&store).await);
    one.set("k", "1".to_owned()).await.unwrap();
    assert_eq!(read(&two, "k").await.as_deref(), Some("1"));
    one.set("k", "2".to_owned()).await.unwrap();
    assert_eq!(two.get_if_local("k"), None);
    assert_eq!(read(&two, "k").await.as_deref(), Some("2"));
    two.delete("k").await.unwrap();
    assert_eq!(read(&one, "k").await, None);
    one.set_many([("k", "3".to_owned())]).await.unwrap();
    assert_eq!(read(&two, "k").await.as_deref(), Some("3"));
    store.flush_all();
    assert_eq!(read(&one, "k").await, None);
    assert_eq!(read(&two, "k").await, None);
}

#[tokio::test]
async fn a_lookup_says_what_is_promised_about_freshness() {
    let store = MemoryBackend::new();
    let reported = over_memory(&store).await;
    reported.set("k", "v".to_owned()).await.unwrap();
    let bound = reported.health().max_staleness.unwrap();
    assert_eq!(reported.lookup("k").await.unwrap().freshness, Freshness::Within(bound));

    let unreported = text().coherence(Coherence::None).build(store.clone()).await.unwrap();
    assert_eq!(unreported.lookup("k").await.unwrap().freshness, Freshness::Current);
    assert_eq!(unreported.lookup("k").await.unwrap().freshness, Freshness::UntilExpiry);
    assert_eq!(unreported.health().max_staleness, None);
    assert_eq!(unreported.health().coherence, Coherence::None);
    let _ = Lease::Unlimited;
}

mod live {
    use std::time::{Duration, Instant};

    use twotier::{Coherence, RedisBackend};
    use twotier_testkit::{Proxy, RedisServer};

    use crate::support::{eventually, over_redis, read, redis, text};

    #[tokio::test]
    async fn writes_by_any_client_are_seen_within_the_bound() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        server.command(&["SET", "t:k", "0"]);
        assert_eq!(read(&cache, "k").await.as_deref(), Some("0"));
        let writes: [&[&str]; 6] = [
            &["SET", "t:k", "1"],
            &["APPEND", "t:k", "2"],
            &["EVAL", "return redis.call('SET', KEYS[1], 'lua')", "1", "t:k"],
            &["RENAME", "t:k", "t:elsewhere"],
            &["COPY", "t:elsewhere", "t:k"],
            &["GETDEL", "t:k"],
        ];
        for write in writes {
            read(&cache, "k").await;
            server.command(write);
            let truth = server.command(&["GET", "t:k"]);
            let truth = (!truth.is_nil()).then(|| truth.as_str().to_owned());
            eventually("the write is seen", async || read(&cache, "k").await == truth).await;
        }
        server.command(&["SET", "t:k", "again"]);
        eventually("the write is seen", async || read(&cache, "k").await.is_some()).await;
        server.command(&["FLUSHALL"]);
        eventually("the flush is seen", async || read(&cache, "k").await.is_none()).await;
        assert!(cache.stats().coherence.invalidations >= 7);
        assert!(cache.stats().coherence.flushes >= 1);
    }

    #[tokio::test]
    async fn a_cut_link_is_restored_and_nothing_from_before_is_served() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        for round in 0..5 {
            cache.set("k", format!("own {round}")).await.unwrap();
            assert!(cache.get_if_local("k").is_some());
            let links = cache.stats().coherence.links;
            server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            server.command(&["SET", "t:k", &format!("foreign {round}")]);
            let cut = Instant::now();
            eventually("the link is back", async || cache.stats().coherence.links > links).await;
            assert!(cut.elapsed() < Duration::from_secs(2), "{:?}", cut.elapsed());
            assert_eq!(read(&cache, "k").await, Some(format!("foreign {round}")));
            assert!(cache.get_if_local("k").is_some(), "and copies are kept again");
        }
        assert!(cache.health().is_healthy());
    }

    #[tokio::test]
    async fn when_the_link_hangs_copies_are_served_for_at_most_the_bound_and_then_not_at_all() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let bound = Duration::from_millis(400);
        let backend = RedisBackend::new(proxy.url()).unwrap();
        let cache = text().max_staleness(bound).build(backend).await.unwrap();
        cache.set("k", "old".to_owned()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(cache.get_if_local("k").is_some(), "heartbeats renew the lease");
        proxy.pause();
        let hung = Instant::now();
        server.command(&["SET", "t:k", "new"]);
        while cache.get_if_local("k").is_some() {
            assert!(hung.elapsed() <= bound + Duration::from_millis(10), "served {:?} after", hung.elapsed());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(cache.get("k").await.is_err(), "the backend's error, not the old copy");
        proxy.resume();
        eventually(
            "the new value is seen",
            async || matches!(cache.get("k").await, Ok(Some(value)) if *value == "new"),
        )
        .await;
    }

    #[tokio::test]
    async fn without_coherence_only_the_time_to_live_bounds_a_copy() {
        let server = RedisServer::start();
        let cache = text().coherence(Coherence::None).build(redis(&server)).await.unwrap();
        server.command(&["SET", "t:k", "old"]);
        assert_eq!(read(&cache, "k").await.as_deref(), Some("old"));
        server.command(&["SET", "t:k", "new"]);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(read(&cache, "k").await.as_deref(), Some("old"));
        assert_eq!(cache.stats().coherence.max_staleness, None);
    }
}

mod canary {
    mod live {
        use std::time::Duration;

        use twotier::{LinkState, LinkUp, RedisBackend};
        use twotier_testkit::RedisServer;

        use crate::support::{foreign, over_redis, read, text};

        #[tokio::test]
        async fn a_link_tests_the_invalidation_path_as_it_comes_up_and_leaves_nothing_behind() {
            let server = RedisServer::start();
            let cache = over_redis(&server).await;
            let LinkState::Up(LinkUp { invalidation_lag: Some(lag), .. }) = cache.health().link else {
                panic!("{:?}", cache.health());
            };
            assert!(lag < Duration::from_secs(1), "{lag:?}");
            assert_eq!(server.command(&["DBSIZE"]).as_int(), 0);
            let measured = cache.stats().coherence;
            assert_eq!(measured.invalidations, 0, "its own report is not counted");
            assert_eq!((measured.invalidation_lag.count, measured.invalidation_lag.max), (1, lag));
            assert!(
                measured.lease_remaining.is_some_and(|left| left > Duration::ZERO && left < Duration::from_secs(2))
            );
        }

        #[tokio::test]
        async fn where_scripts_are_not_allowed_the_link_tests_itself_all_the_same() {
            let rules = "+get +pttl +set +unlink +hello +ping +client|tracking +client|trackinginfo";
            let server =
                RedisServer::builder().acl_user(&format!("app on >p ~t:* resetchannels -@all {rules}")).start();
            let backend = RedisBackend::new(server.url_as("app", "p")).unwrap();
            let cache = text().build(backend).await.unwrap();
            assert!(matches!(cache.health().link, LinkState::Up(LinkUp { invalidation_lag: Some(_), .. })));
            cache.set("k", "v".to_owned()).await.unwrap();
            foreign(&server, &cache, &["SET", "t:k", "foreign"]).await;
            assert_eq!(read(&cache, "k").await.as_deref(), Some("foreign"));
        }
    }
}

mod pub_sub {
    mod live {
        use std::time::Duration;

        use twotier::{Cache, Coherence, Freshness, RedisBackend};
        use twotier_testkit::RedisServer;

        use crate::support::{eventually, read, text};

        /// A server whose user may not use tracking.
        fn server() -> RedisServer {
            let rules = "+@all -client|tracking";
            RedisServer::builder().acl_user(&format!("app on >p ~* &* {rules}")).start()
        }

        async fn cache(server: &RedisServer) -> Cache<String> {
            text().build(RedisBackend::new(server.url_as("app", "p")).unwrap()).await.unwrap()
        }

        #[tokio::test]
        async fn where_tracking_is_refused_caches_tell_each_other_and_health_says_that_others_are_not_seen() {
            let server = server();
            let (one, two) = (cache(&server).await, cache(&server).await);
            assert_eq!(one.health().coherence, Coherence::PubSub);
            assert_eq!(one.health().max_staleness, None, "no bound is promised for writes by others");
            one.set("k", "1".to_owned()).await.unwrap();
            assert!(one.get_if_local("k").is_some(), "own writes are local hits");
            assert_eq!(two.lookup("k").await.unwrap().freshness, Freshness::Current);
            assert_eq!(two.lookup("k").await.unwrap().freshness, Freshness::UntilExpiry);

            one.set("k", "2".to_owned()).await.unwrap();
            eventually("a write is seen", async || read(&two, "k").await.as_deref() == Some("2")).await;
            two.update("k", |_| Some("3".to_owned())).await.unwrap();
            eventually("an update is seen", async || read(&one, "k").await.as_deref() == Some("3")).await;
            one.set_many([("k", "4".to_owned()), ("l", "4".to_owned())]).await.unwrap();
            eventually("a batch is seen", async || read(&two, "k").await.as_deref() == Some("4")).await;
            assert!(one.delete("k").await.unwrap());
            eventually("a deletion is seen", async || read(&two, "k").await.is_none()).await;
            assert_eq!(one.delete_many(&["k", "l"]).await.unwrap(), 1);
            one.set("k", "5".to_owned()).await.unwrap();
            eventually("it is there again", async || read(&two, "k").await.is_some()).await;
            assert_eq!(one.clear().await.unwrap(), 1);
            eventually("a clearing is seen", async || read(&two, "k").await.is_none()).await;
        }

        #[tokio::test]
        async fn writes_by_others_are_bounded_by_the_time_to_live_only() {
            let server = server();
            let cache = cache(&server).await;
            cache.set("k", "own".to_owned()).await.unwrap();
            server.command(&["SET", "t:k", "foreign"]);
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(read(&cache, "k").await.as_deref(), Some("own"));
            cache.clear_local();
            assert_eq!(read(&cache, "k").await.as_deref(), Some("foreign"));
        }

        #[tokio::test]
        async fn a_lost_link_outdates_every_copy_and_comes_back_in_the_same_mode() {
            let server = server();
            let one = cache(&server).await;
            // What is read again as the link comes up would be there.
            let backend = RedisBackend::new(server.url_as("app", "p")).unwrap();
            let two = text().revalidate(0).build(backend).await.unwrap();
            one.set("k", "1".to_owned()).await.unwrap();
            read(&two, "k").await;
            let links = two.stats().coherence.links;
            server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            eventually("the link is back", async || two.stats().coherence.links > links).await;
            assert!(two.get_if_local("k").is_none());
            eventually("both are", async || one.set("k", "2".to_owned()).await.is_ok()).await;
            eventually("and tells", async || read(&two, "k").await.as_deref() == Some("2")).await;
            assert_eq!(two.health().coherence, Coherence::PubSub);
        }

        #[tokio::test]
        async fn a_mode_that_was_asked_for_is_never_replaced_by_a_weaker_one() {
            let server = server();
            let backend = RedisBackend::new(server.url_as("app", "p")).unwrap();
            let error = text().coherence(Coherence::Broadcast).build(backend.clone()).await.unwrap_err();
            assert_eq!(error.kind(), twotier::ErrorKind::Rejected);

            let server = RedisServer::start();
            let asked = text().coherence(Coherence::PubSub);
            let cache = asked.build(RedisBackend::new(server.url()).unwrap()).await.unwrap();
            assert_eq!(cache.health().coherence, Coherence::PubSub);
            let best = text().build(RedisBackend::new(server.url()).unwrap()).await.unwrap();
            assert_eq!(best.health().coherence, Coherence::Broadcast);
            server.command(&["ACL", "SETUSER", "default", "-client|tracking"]);
            let links = best.stats().coherence.links;
            server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            eventually("it does not come back weaker", async || !best.health().is_healthy()).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(best.stats().coherence.links, links);
            server.command(&["ACL", "SETUSER", "default", "+@all"]);
            eventually("but as it was", async || best.health().is_healthy()).await;
        }
    }
}
