//! Large values do not stand in the way of reports, heartbeats and hits.

mod live {
    use std::{sync::Arc, time::Duration};

    use tokio::time::{Instant, sleep};
    use twotier::{Cache, Error, RedisBackend};
    use twotier_testkit::{Proxy, RedisServer};

    use crate::support::{ends, eventually, read, text};

    const MEGABYTE: usize = 1 << 20;

    async fn over(proxy: &Proxy) -> Cache<String> {
        let builder = text().max_bytes(200 * MEGABYTE).op_timeout(Duration::from_secs(30));
        builder.max_staleness(Duration::from_secs(2)).build(RedisBackend::new(proxy.url()).unwrap()).await.unwrap()
    }

    fn write(server: &RedisServer, key: &str, bytes: usize) {
        server.command(&["SET", &format!("t:{key}"), &"x".repeat(bytes)]);
    }

    #[tokio::test]
    async fn a_value_in_redis_over_the_limit_is_an_error_of_its_own_key_and_costs_no_copy() {
        let server = RedisServer::start();
        let cache = text().max_value_bytes(MEGABYTE).build(RedisBackend::new(server.url()).unwrap()).await.unwrap();
        write(&server, "large", MEGABYTE + 1);
        write(&server, "whole", MEGABYTE);
        cache.set("hot", "v".to_owned()).await.unwrap();
        let too_large = |found: &Error| {
            let Error::ValueTooLarge { size, limit, .. } = found else { panic!("{found}") };
            assert_eq!((*size, *limit), (MEGABYTE + 1, MEGABYTE));
        };
        too_large(&cache.get("large").await.unwrap_err());
        let mut each = cache.get_each(&["large", "whole", "hot"]).await;
        too_large(&each.remove(0).unwrap_err());
        assert_eq!(each.remove(0).unwrap().unwrap().len(), MEGABYTE);
        assert!(cache.get_if_local("hot").is_some());
        let seen = cache.get_or_load("large", async |_| Ok::<_, std::io::Error>("v".to_owned())).await.unwrap_err();
        too_large(&seen);
        assert_eq!(cache.stats().coherence.links, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn while_64_megabytes_are_read_over_a_narrow_link_hits_go_on_and_changes_are_seen() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let cache = over(&proxy).await;
        for key in 0..64 {
            write(&server, &format!("large:{key}"), MEGABYTE);
        }
        cache.set("hot", "v".to_owned()).await.unwrap();
        cache.set("changed", "old".to_owned()).await.unwrap();
        let before = cache.stats().coherence;
        proxy.set_bandwidth(20_000_000);
        let started = Instant::now();
        let reads: Vec<_> = (0..64)
            .map(|key| {
                let cache = cache.clone();
                tokio::spawn(async move { read(&cache, &format!("large:{key}")).await.unwrap().len() })
            })
            .collect();
        let (mut looks, mut slowest) = (0, Duration::ZERO);
        while !reads.iter().all(tokio::task::JoinHandle::is_finished) {
            assert!(cache.get_if_local("hot").is_some(), "a hit after {:?}", started.elapsed());
            if looks % 50 == 10 {
                server.command(&["SET", "t:changed", &looks.to_string()]);
                let changed = Instant::now();
                while cache.get_if_local("changed").is_some() {
                    sleep(Duration::from_millis(1)).await;
                }
                slowest = slowest.max(changed.elapsed());
                cache.set("changed", "old".to_owned()).await.unwrap();
            }
            looks += 1;
            sleep(Duration::from_millis(10)).await;
        }
        for read in reads {
            assert_eq!(ends(read).await.unwrap(), MEGABYTE);
        }
        assert!(started.elapsed() > Duration::from_millis(2500), "longer than the bound: {:?}", started.elapsed());
        assert!(slowest < Duration::from_millis(500), "a change was seen after {slowest:?}");
        let after = cache.stats().coherence;
        assert_eq!(after.links, before.links, "the link lived all along");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn own_writes_are_seen_at_once_and_nothing_goes_back_with_reads_on_another_connection() {
        let server = Arc::new(RedisServer::start());
        let proxy = Proxy::start(server.addr());
        let cache = over(&proxy).await;
        proxy.split(4000);
        const SIZE: usize = 20_000;
        let value = |version: usize| format!("{version:08}{}", "x".repeat(SIZE));
        let version = |value: &str| value[..8].parse::<usize>().unwrap();
        let tasks: Vec<_> = (0..16)
            .map(|key| {
                let cache = cache.clone();
                let key = key.to_string();
                tokio::spawn(async move {
                    let mut seen = 0;
                    for round in 1..60 {
                        cache.set(&key, value(round)).await.unwrap();
                        for _ in 0..3 {
                            let found = version(&read(&cache, &key).await.unwrap());
                            assert!(found >= round, "{found} after {round} was written");
                            assert!(found >= seen, "{found} after {seen} was read");
                            seen = found;
                            let _held = cache.invalidate_local(&key);
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            ends(task).await.unwrap();
        }
        assert_eq!(proxy.connections(), 2, "and no link was lost");
    }

    #[tokio::test]
    async fn both_connections_end_together_and_come_back() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        // What is read again as the link comes up would be served.
        let cache = text().revalidate(0).build(RedisBackend::new(proxy.url()).unwrap()).await.unwrap();
        for which in 0..2 {
            cache.set("k", "v".to_owned()).await.unwrap();
            let list = server.command(&["CLIENT", "LIST"]).as_str().to_owned();
            let mut ours = list.lines().filter(|line| line.contains("resp=3"));
            let line = ours.nth(which).unwrap();
            let id = line.split([' ', '=']).nth(1).unwrap();
            let before = proxy.connections();
            server.command(&["CLIENT", "KILL", "ID", id]);
            eventually("the link is made anew", async || proxy.connections() > before && cache.health().is_healthy())
                .await;
            eventually("nothing from before is served", async || cache.get_if_local("k").is_none()).await;
            assert_eq!(read(&cache, "k").await.as_deref(), Some("v"));
        }
        cache.close().await;
        eventually("closing ends both", async || proxy.open_connections() == 0).await;
    }

    #[tokio::test]
    async fn a_read_on_its_own_connection_ends_when_the_link_does() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let cache = over(&proxy).await;
        write(&server, "slow", 8 * MEGABYTE);
        // A read that is overtaken by a report begins anew when it fails.
        eventually("the change is reported", async || cache.stats().coherence.invalidations > 0).await;
        let list = server.command(&["CLIENT", "LIST"]).as_str().to_owned();
        let link = list.lines().find(|line| line.contains("resp=3")).unwrap();
        let id = link.split([' ', '=']).nth(1).unwrap();
        // It would take eight seconds.
        proxy.set_bandwidth(1_000_000);
        let reading = cache.clone();
        let read = tokio::spawn(async move { reading.get("slow").await });
        sleep(Duration::from_millis(300)).await;
        let killed = Instant::now();
        server.command(&["CLIENT", "KILL", "ID", id]);
        // Not printed: it is large.
        let answer = ends(read).await.unwrap();
        assert!(matches!(answer, Err(Error::Backend { .. })), "the read outlived the link that reports on it");
        assert!(killed.elapsed() < Duration::from_secs(3), "after {:?}", killed.elapsed());
    }
}
