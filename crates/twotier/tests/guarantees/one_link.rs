//! Many caches on one link: each as correct as with a link of its own.

mod live {
    use std::{thread, time::Duration};

    use twotier::{Cache, Coherence, ErrorKind, RedisBackend, RedisConfig, Status, blocking, codec::Text};
    use twotier_testkit::RedisServer;

    use crate::support::{READS, WRITES, eventually, foreign, read, redis};

    fn builder(namespace: &str) -> twotier::CacheBuilder<String, Text> {
        Cache::<String>::builder().namespace(namespace).codec(Text)
    }

    fn connections(server: &RedisServer) -> usize {
        server.command(&["CLIENT", "LIST"]).as_str().lines().filter(|line| line.contains("resp=3")).count()
    }

    #[tokio::test]
    async fn caches_on_one_link_have_the_same_keys_and_no_value_in_common() {
        let server = RedisServer::start();
        let backend = redis(&server);
        let mut caches = Vec::new();
        for namespace in ["users", "pages", "app:users"] {
            let cache = builder(namespace).build(backend.clone()).await.unwrap();
            cache.set("k", namespace.to_owned()).await.unwrap();
            caches.push((namespace, cache));
        }
        assert_eq!(connections(&server), 2);
        server.reset_stats();
        for (namespace, cache) in &caches {
            assert_eq!(read(cache, "k").await.as_deref(), Some(*namespace), "a local hit");
        }
        assert_eq!(server.calls(&READS), 0);
        foreign(&server, &caches[1].1, &["SET", "pages:k", "foreign"]).await;
        assert_eq!(read(&caches[1].1, "k").await.as_deref(), Some("foreign"));
        for (namespace, cache) in [&caches[0], &caches[2]] {
            assert_eq!(cache.get_if_local("k").as_deref(), Some(&(*namespace).to_owned()), "untouched");
            assert_eq!(cache.stats().coherence.invalidations, 0);
        }
        assert_eq!(caches[0].1.clear().await.unwrap(), 1);
        assert_eq!(server.command(&["GET", "app:users:k"]).as_str(), "app:users");
    }

    #[tokio::test]
    async fn own_writes_of_every_cache_on_a_link_are_local_hits_at_once() {
        let server = RedisServer::start();
        let backend = redis(&server);
        let (users, pages) =
            (builder("users").build(backend.clone()).await.unwrap(), builder("pages").build(backend).await.unwrap());
        for round in 0..200 {
            let (user, page) = (format!("u{round}"), format!("p{round}"));
            let (one, other) = tokio::join!(users.set("k", user.clone()), pages.set("k", page.clone()));
            one.and(other).unwrap();
            assert_eq!(users.get_if_local("k").as_deref(), Some(&user));
            assert_eq!(pages.get_if_local("k").as_deref(), Some(&page));
        }
        assert_eq!(server.calls(&["get", "mget"]), 4, "those with which the caches were tested");
    }

    #[tokio::test]
    async fn two_caches_of_one_namespace_need_two_links() {
        let server = RedisServer::start();
        let backend = redis(&server);
        let ours = builder("users").build(backend.clone()).await.unwrap();
        let error = builder("users").build(backend.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected);
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("`users`") && cause.contains("another_link"), "{cause}");
        let theirs = builder("users").build(backend.another_link()).await.unwrap();
        theirs.set("k", "theirs".to_owned()).await.unwrap();
        eventually("the write is seen", async || read(&ours, "k").await.as_deref() == Some("theirs")).await;
    }

    #[tokio::test]
    async fn closing_one_cache_leaves_the_others_their_copies() {
        let server = RedisServer::start();
        let backend = redis(&server);
        let (users, pages) = (
            builder("users").build(backend.clone()).await.unwrap(),
            builder("pages").build(backend.clone()).await.unwrap(),
        );
        pages.set("k", "v".to_owned()).await.unwrap();
        users.close().await;
        assert_eq!(users.get("k").await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(pages.get_if_local("k").as_deref().map(String::as_str), Some("v"));
        assert_eq!(pages.health().status, Status::Ready, "{}", pages.health());
        assert_eq!(pages.stats().coherence.links, 1);
        drop(backend);
        pages.close().await;
        eventually("the last one takes the link with it", async || connections(&server) == 0).await;
    }

    #[tokio::test]
    async fn a_cache_without_local_copies_shares_the_link() {
        let server = RedisServer::start();
        let backend = redis(&server);
        let with = builder("with").build(backend.clone()).await.unwrap();
        let without = builder("without").without_local().build(backend.clone()).await.unwrap();
        let quiet = builder("quiet").coherence(Coherence::None).build(backend).await.unwrap();
        for cache in [&with, &without, &quiet] {
            cache.set("k", "v".to_owned()).await.unwrap();
            assert_eq!(read(cache, "k").await.as_deref(), Some("v"));
            assert_eq!(cache.health().status, Status::Ready, "{}", cache.health());
        }
        assert_eq!(connections(&server), 2);
        foreign(&server, &with, &["SET", "with:k", "foreign"]).await;
        assert_eq!(with.stats().coherence.invalidations, 1);
    }

    #[test]
    fn the_link_of_blocking_caches_outlives_the_one_that_made_it() {
        let server = RedisServer::start();
        let backend = redis(&server);
        let cache = |namespace: &str| blocking::Cache::build(builder(namespace), backend.clone()).unwrap();
        let (first, second) = (cache("first"), cache("second"));
        second.set("k", "v".to_owned()).unwrap();
        first.close().unwrap();
        drop(first);
        // Its thread kept the link for both. Whoever asks next keeps it from then on.
        let is_remade = || second.get("k").is_ok() && second.stats().coherence.links == 2;
        assert!((0..2000).any(|_| is_remade() || {
            thread::sleep(Duration::from_millis(5));
            false
        }));
        assert_eq!(second.get("k").unwrap().as_deref().map(String::as_str), Some("v"));
        assert!(second.health().is_healthy(), "{}", second.health());
        assert_eq!(connections(&server), 2);
    }

    #[tokio::test]
    async fn many_caches_under_one_key_prefix_are_one_prefix_to_the_server() {
        let server = RedisServer::start();
        let config = RedisConfig::new(server.url()).key_prefix("shop");
        let backend = RedisBackend::with_config(&config).unwrap();
        let mut caches = Vec::new();
        for number in 0..30 {
            caches.push(builder(&format!("cache{number}")).build(backend.clone()).await.unwrap());
        }
        assert_eq!(server.info("stats")["tracking_total_prefixes"], "1");
        assert_eq!(connections(&server), 2);
        server.reset_stats();
        for cache in &caches {
            cache.set("k", "v".to_owned()).await.unwrap();
        }
        assert_eq!(server.calls(&WRITES), 30);
        foreign(&server, &caches[7], &["SET", "shop:cache7:k", "foreign"]).await;
        let invalidations: u64 = caches.iter().map(|cache| cache.stats().coherence.invalidations).sum();
        assert_eq!(invalidations, 1);
    }
}
