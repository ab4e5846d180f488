//! One link for many caches: what it costs the server, and that nobody on it is disturbed by another.

mod live {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use bytes::Bytes;
    use twotier_backend::{Backend, RedisBackend, Watch};
    use twotier_core::{BackendErrorKind, Coherence, Namespace, RedisConfig};
    use twotier_testkit::{Proxy, RedisServer};

    use crate::support::{Counter, Relay, eventually};

    fn watch(namespace: &str, counter: &Arc<Counter>) -> Watch {
        Watch::new(Namespace::new(namespace).unwrap(), Arc::clone(counter) as _)
    }

    /// Attaches caches of these namespaces, each with a clone.
    async fn attach_all(backend: &RedisBackend, namespaces: &[String]) -> Vec<(RedisBackend, Arc<Counter>)> {
        let mut attached = Vec::new();
        for namespace in namespaces {
            let (clone, counter) = (backend.clone(), Arc::new(Counter::default()));
            clone.attach(watch(namespace, &counter)).await.unwrap();
            attached.push((clone, counter));
        }
        attached
    }

    fn connections(server: &RedisServer) -> usize {
        let list = server.command(&["CLIENT", "LIST"]);
        list.as_str().lines().filter(|line| line.contains("resp=3")).count()
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("ns{number}")).collect()
    }

    #[tokio::test]
    async fn thirty_caches_cost_two_connections_and_at_most_four_idle_commands_a_second() {
        let server = RedisServer::start();
        let backend = RedisBackend::new(server.url()).unwrap();
        let caches = attach_all(&backend, &names(30)).await;
        assert_eq!(connections(&server), 2);
        let processed = || server.info("stats")["total_commands_processed"].parse::<u64>().unwrap();
        let (before, started) = (processed(), Instant::now());
        tokio::time::sleep(Duration::from_secs(5)).await;
        // The question itself is one of them.
        let idle = processed() - before - 1;
        let allowed = 4.0 * started.elapsed().as_secs_f64();
        assert!(idle > 0 && idle as f64 <= allowed, "{idle} of {allowed}");
        for (_, counter) in &caches {
            assert!(Counter::of(&counter.proofs) > 5, "each one's life is proved by the one heartbeat");
            assert_eq!((Counter::of(&counter.ups), Counter::of(&counter.downs)), (1, 0));
        }
    }

    #[tokio::test]
    async fn under_a_key_prefix_the_server_tracks_one_prefix_however_many_caches_there_are() {
        let server = RedisServer::start();
        let config = RedisConfig::new(server.url()).key_prefix("shop");
        let backend = RedisBackend::with_config(&config).unwrap();
        let caches =
            attach_all(&backend, &names(30).iter().map(|name| format!("shop:{name}")).collect::<Vec<_>>()).await;
        assert_eq!(server.info("stats")["tracking_total_prefixes"], "1");
        server.command(&["SET", "shop:ns7:k", "v"]);
        server.command(&["SET", "shop:of another process:k", "v"]);
        server.command(&["SET", "shop:ns8:k", "v"]);
        eventually("the report", || Counter::of(&caches[8].1.changed) == 1).await;
        let reported: u64 = caches.iter().map(|(_, counter)| Counter::of(&counter.changed)).sum();
        assert_eq!((reported, Counter::of(&caches[7].1.changed)), (2, 1), "each change to the one cache it concerns");
    }

    #[tokio::test]
    async fn operators_find_the_connections_by_the_name_of_the_service() {
        let server = RedisServer::start();
        let named = RedisBackend::with_config(&RedisConfig::new(server.url()).client_name("shop")).unwrap();
        named.attach(watch("n", &Arc::default())).await.unwrap();
        let nameless = RedisBackend::new(server.url()).unwrap();
        nameless.get(b"k").await.unwrap();
        let list = server.command(&["CLIENT", "LIST"]);
        let of = |name: &str| list.as_str().split(' ').filter(|field| *field == format!("name={name}")).count();
        assert_eq!((of("twotier:shop"), of("twotier")), (2, 1));
        for refused in ["", "of two words", "ümlaut"] {
            let config = RedisConfig::new(server.url()).client_name(refused);
            assert_eq!(RedisBackend::with_config(&config).unwrap_err().field(), "client_name", "{refused}");
        }
    }

    #[tokio::test]
    async fn a_lost_link_is_lost_to_all_its_caches_and_restored_for_all() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let backend = RedisBackend::new(proxy.url()).unwrap();
        let caches = attach_all(&backend, &names(5)).await;
        let all = |ups, downs| {
            caches.iter().all(|(_, counter)| (Counter::of(&counter.ups), Counter::of(&counter.downs)) == (ups, downs))
        };
        assert!(all(1, 0));
        proxy.cut();
        eventually("all are up again", || all(2, 1)).await;
        server.command(&["SET", "ns4:k", "v"]);
        eventually("the report", || Counter::of(&caches[4].1.changed) == 1).await;
        server.command(&["FLUSHDB"]);
        eventually("the flush", || caches.iter().all(|(_, counter)| Counter::of(&counter.flushed) == 1)).await;
    }

    #[tokio::test]
    async fn a_cache_that_leaves_takes_nobody_with_it_and_its_namespace_can_be_had_again() {
        let server = RedisServer::start();
        let backend = RedisBackend::new(server.url()).unwrap();
        let mut caches = attach_all(&backend, &names(2)).await;
        let (other, refused) = (backend.clone(), Arc::new(Counter::default()));
        for taken in ["ns0", "ns0:inner"] {
            let error = other.attach(watch(taken, &refused)).await.unwrap_err();
            assert_eq!((error.kind(), error.may_have_executed()), (BackendErrorKind::Rejected, false), "{error}");
        }
        let (leaver, left) = caches.remove(0);
        leaver.close().await;
        assert_eq!(Counter::of(&left.downs), 1);
        assert_eq!(leaver.get(b"ns0:k").await.unwrap_err().kind(), BackendErrorKind::Closed);
        other.attach(watch("ns0", &refused)).await.unwrap();
        server.command(&["SET", "ns0:k", "v"]);
        server.command(&["SET", "ns1:k", "v"]);
        eventually("the reports", || Counter::of(&refused.changed) == 1 && Counter::of(&caches[0].1.changed) == 1)
            .await;
        assert_eq!(Counter::of(&left.changed), 0, "nothing is reported to who has left");
        assert_eq!((Counter::of(&caches[0].1.ups), Counter::of(&caches[0].1.downs)), (1, 0));
    }

    #[tokio::test]
    async fn a_cache_that_leaves_while_it_is_tested_costs_nobody_the_link() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let backend = RedisBackend::new(proxy.url()).unwrap();
        let mut caches = attach_all(&backend, &names(2)).await;
        let counter = Arc::clone(&caches[0].1);
        let canaries = server.calls(&["unlink"]);
        proxy.set_round_trip(Duration::from_millis(600));
        // The second one is tested first. The server has seen its canary, and the report is on its way.
        eventually("the canary", || server.calls(&["unlink"]) > canaries).await;
        drop(caches.remove(1));
        let proofs = Counter::of(&counter.proofs);
        eventually("heartbeats go on", || Counter::of(&counter.proofs) > proofs + 2).await;
        assert_eq!((Counter::of(&counter.ups), Counter::of(&counter.downs)), (1, 0));
    }

    #[tokio::test]
    async fn an_attachment_that_is_given_up_leaves_the_link() {
        let server = RedisServer::start();
        let backend = RedisBackend::new(server.url()).unwrap();
        server.pause();
        let (counter, other) = (Arc::new(Counter::default()), backend.clone());
        let given_up = tokio::time::timeout(Duration::from_millis(50), other.attach(watch("n", &counter))).await;
        assert!(given_up.is_err());
        server.resume();
        backend.attach(watch("n", &counter)).await.unwrap();
        other.attach(watch("m", &counter)).await.unwrap();
    }

    #[tokio::test]
    async fn a_cache_whose_user_lacks_something_is_refused_and_the_others_stay_up() {
        let rules = "+get +mget +pttl +set +unlink +hello +ping +info +client";
        let server = RedisServer::builder().acl_user(&format!("app on >p ~a:* resetchannels -@all {rules}")).start();
        let backend = RedisBackend::new(server.url_as("app", "p")).unwrap();
        let caches = attach_all(&backend, &["a".to_owned()]).await;
        let (denied, counter) = (backend.clone(), Arc::new(Counter::default()));
        let error = denied.attach(watch("b", &counter)).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Denied);
        assert!(error.to_string().contains("namespace `b`") && error.to_string().contains("~b:*"), "{error}");
        server.command(&["SET", "a:k", "v"]);
        eventually("the report", || Counter::of(&caches[0].1.changed) == 1).await;
        assert_eq!((Counter::of(&caches[0].1.ups), Counter::of(&caches[0].1.downs)), (1, 0));

        // One that waits is admitted once it may, without a new link.
        let waiting = tokio::spawn(async move { denied.attach(watch("b", &counter).patient()).await.map(|_| counter) });
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.command(&["ACL", "SETUSER", "app", "~b:*"]);
        let admitted = waiting.await.unwrap().unwrap();
        assert_eq!(Counter::of(&admitted.ups), 1);
        assert_eq!(Counter::of(&caches[0].1.downs), 0);
    }

    #[tokio::test]
    async fn caches_without_reports_share_the_link_and_are_read_in_one_step() {
        let server = RedisServer::start();
        let backend = RedisBackend::new(server.url()).unwrap();
        let (quiet, nothing) = (backend.clone(), Arc::new(Counter::default()));
        let attached = quiet.attach(watch("quiet", &nothing).coherence(Coherence::None)).await.unwrap();
        assert_eq!((attached.coherence, connections(&server)), (Coherence::None, 1));
        let caches = attach_all(&backend, &["loud".to_owned()]).await;
        assert_eq!(connections(&server), 2);
        server.reset_stats();
        caches[0].0.get(b"loud:k").await.unwrap();
        assert_eq!(server.calls(&["multi"]), 0);
        quiet.get(b"quiet:k").await.unwrap();
        let many = quiet.get_many(&[Bytes::from("quiet:k"), Bytes::from("quiet:l")]).await;
        assert!(many.iter().all(|result| matches!(result, Ok(None))), "{many:?}");
        assert_eq!(server.calls(&["multi"]), 2, "nobody says when one crosses a write");
        server.command(&["SET", "quiet:k", "v"]);
        server.command(&["SET", "loud:k", "v"]);
        server.command(&["FLUSHDB"]);
        eventually("the flush", || Counter::of(&caches[0].1.flushed) == 1).await;
        let none = [&nothing.changed, &nothing.flushed, &nothing.ups, &nothing.downs].map(Counter::of);
        assert_eq!(none, [0; 4], "it asked to be notified of nothing");
    }

    #[tokio::test]
    async fn in_pub_sub_mode_each_write_is_announced_to_its_own_namespace() {
        let server = RedisServer::start();
        let backend = RedisBackend::new(server.url()).unwrap();
        let others = backend.another_link();
        let mut all = Vec::new();
        for backend in [&backend, &others] {
            for namespace in ["a", "b"] {
                let (clone, counter) = (backend.clone(), Arc::new(Counter::default()));
                clone.attach(watch(namespace, &counter).coherence(Coherence::PubSub)).await.unwrap();
                all.push((clone, counter));
            }
        }
        all[0].0.set(b"a:k", Bytes::new(), None).await.unwrap();
        eventually("the message", || Counter::of(&all[2].1.changed) == 1).await;
        all[1].0.set(b"b:k", Bytes::new(), None).await.unwrap();
        eventually("the message", || Counter::of(&all[3].1.changed) == 1).await;
        let changed: Vec<_> = all.iter().map(|(_, counter)| Counter::of(&counter.changed)).collect();
        assert_eq!(changed, [0, 0, 1, 1]);
        let (clone, counter) = (backend.clone(), Arc::new(Counter::default()));
        let error = clone.attach(watch("c", &counter).coherence(Coherence::Broadcast)).await.unwrap_err();
        assert!(error.to_string().contains("another_link"), "{error}");
    }

    #[tokio::test]
    async fn a_link_on_which_reports_cease_to_come_is_given_up_though_it_answers() {
        let server = RedisServer::start();
        let relay = Relay::start(server.addr()).await;
        let backend = RedisBackend::new(relay.url()).unwrap();
        let caches = attach_all(&backend, &names(1)).await;
        relay.mute(true);
        let proofs = Counter::of(&caches[0].1.proofs);
        eventually("it answers", || Counter::of(&caches[0].1.proofs) > proofs).await;
        eventually("the canary is missed", || Counter::of(&caches[0].1.downs) == 1).await;
        relay.mute(false);
        eventually("the link is back", || Counter::of(&caches[0].1.ups) == 2).await;
    }

    #[tokio::test]
    async fn a_server_without_room_for_the_canary_keeps_its_link() {
        let server = RedisServer::start();
        let backend = RedisBackend::new(server.url()).unwrap();
        let caches = attach_all(&backend, &names(1)).await;
        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        server.reset_stats();
        eventually("two canaries are refused", || {
            server.info("stats")["total_error_replies"].parse::<u64>().unwrap() > 1
        })
        .await;
        assert_eq!((Counter::of(&caches[0].1.ups), Counter::of(&caches[0].1.downs)), (1, 0));
    }

    #[tokio::test]
    async fn a_user_that_may_no_longer_write_is_served_no_copies_until_it_may_again() {
        let rules = "+get +mget +pttl +set +unlink +hello +ping +info +client";
        let server = RedisServer::builder().acl_user(&format!("app on >p ~ns0:* -@all {rules}")).start();
        let backend = RedisBackend::new(server.url_as("app", "p")).unwrap();
        let caches = attach_all(&backend, &names(1)).await;
        let narrowed = format!("reset on >p ~ns1:* -@all {rules}");
        let words: Vec<&str> = ["ACL", "SETUSER", "app"].into_iter().chain(narrowed.split(' ')).collect();
        server.command(&words);
        eventually("the canary is denied", || Counter::of(&caches[0].1.downs) > 0).await;
        server.command(&["ACL", "SETUSER", "app", "~ns0:*"]);
        eventually("it is up again", || Counter::of(&caches[0].1.ups) > Counter::of(&caches[0].1.downs)).await;
    }
}
