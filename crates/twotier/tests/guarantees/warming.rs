//! F5: warming.

mod live {
    use std::time::Duration;

    use twotier_testkit::RedisServer;

    use crate::support::{READS, eventually, over_redis};

    #[tokio::test]
    async fn warming_500_keys_takes_a_handful_of_round_trips_and_then_500_local_hits_with_the_right_ttls() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        let keys: Vec<String> = (0..500).map(|key| key.to_string()).collect();
        for key in &keys {
            // Every second key lives for 3 s.
            let ttl = if key.ends_with(['1', '3', '5', '7', '9']) { "3000" } else { "60000" };
            server.command(&["SET", &format!("t:{key}"), key, "PX", ttl]);
        }
        eventually("the writes are reported", async || cache.stats().coherence.invalidations >= 500).await;
        let wanted: Vec<String> = keys.iter().cloned().chain(["missing".to_owned()]).collect();
        let wanted = &wanted[1..];
        server.reset_stats();
        assert_eq!(cache.warm(wanted).await.unwrap(), 499, "the missing one is not counted");
        assert_eq!(server.calls(&["mget"]), 1);
        assert_eq!(server.calls(&["get"]), 0);
        let stats = cache.stats().local;
        assert_eq!((stats.hits, stats.misses), (0, 0), "warming is no traffic");
        server.reset_stats();
        let mut hits = 0;
        for key in &keys[1..] {
            hits += usize::from(cache.get_if_local(key).is_some());
        }
        // The short-lived half may have begun to expire on a slow machine; the other half may not.
        assert!((249..=499).contains(&hits), "{hits}");
        assert_eq!(server.calls(&READS), 0);
        tokio::time::sleep(Duration::from_millis(3001)).await;
        assert!(cache.get_if_local("1").is_none(), "its 3 s are over");
        assert!(cache.get_if_local("2").is_some());
    }
}
