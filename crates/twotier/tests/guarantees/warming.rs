//! F5: warming.

use std::{num::NonZeroU32, time::Duration};

use twotier::{Eviction, FaultyBackend, MemoryBackend};

use crate::support::{over_memory, read, text};

fn keys(n: usize) -> Vec<String> {
    (0..n).map(|key| key.to_string()).collect()
}

#[tokio::test]
async fn the_hottest_keys_are_those_used_last_and_looking_at_them_changes_nothing() {
    let cache = over_memory(&MemoryBackend::new()).await;
    assert!(cache.hot_keys(3).is_empty());
    for key in ["a", "b", "c", "d"] {
        cache.set(key, String::new()).await.unwrap();
    }
    read(&cache, "b").await.unwrap();
    let before = cache.stats().local;
    assert_eq!(cache.hot_keys(3), ["b", "d", "c"]);
    assert_eq!(cache.hot_keys(usize::MAX), ["b", "d", "c", "a"]);
    assert!(cache.hot_keys(0).is_empty());
    assert_eq!(cache.stats().local, before);
    let without = text().without_local().build(MemoryBackend::new()).await.unwrap();
    assert!(without.hot_keys(3).is_empty());
}

#[tokio::test]
async fn by_lfu_the_hottest_keys_are_those_hit_most_often() {
    let cache = text().eviction(Eviction::Lfu).build(MemoryBackend::new()).await.unwrap();
    for (key, hits) in [("a", 3), ("b", 1), ("c", 2), ("d", 0)] {
        cache.set(key, String::new()).await.unwrap();
        for _ in 0..hits {
            read(&cache, key).await.unwrap();
        }
    }
    assert_eq!(cache.hot_keys(3), ["a", "c", "b"]);
}

#[tokio::test]
async fn of_a_tier_in_shards_the_hottest_keys_come_from_every_shard() {
    let cache = text().max_entries(4096).build(MemoryBackend::new()).await.unwrap();
    cache.set_many(keys(2000).into_iter().map(|key| (key, String::new()))).await.unwrap();
    let hot: Vec<String> = keys(2000).split_off(1968);
    for key in &hot {
        read(&cache, key).await.unwrap();
    }
    let exported = cache.hot_keys(400);
    assert_eq!(exported.len(), 400);
    assert!(
        hot.iter().all(|key| exported.contains(key)),
        "no shard holds so many of the 32 that its turns do not reach them"
    );
    assert_eq!(cache.hot_keys(5000).len(), 2000);
}

#[tokio::test]
async fn after_a_lost_link_the_exported_keys_are_warmed_and_hit_again() {
    let store = MemoryBackend::new();
    let cache = over_memory(&store).await;
    let handle = store.clone();
    let link = handle.scripted_link();
    let linked = text().revalidate(0).build(handle).await.unwrap();
    cache.set_many(keys(100).into_iter().map(|key| (key, "v".to_owned()))).await.unwrap();
    linked.warm(&keys(100)).await.unwrap();
    let exported = linked.hot_keys(40);
    assert_eq!(exported[0], "99");
    link.cut();
    link.restore();
    assert_eq!(linked.hot_keys(40), exported, "outdated, and still known");
    let before = linked.stats();
    assert_eq!(linked.warm(&exported).await.unwrap(), 40);
    let after = linked.stats();
    assert_eq!(after.backend.reads - before.backend.reads, 1);
    assert!(exported.iter().all(|key| linked.get_if_local(key).is_some()));
    assert!(linked.get_if_local("0").is_none(), "what was not exported is outdated");
}

#[tokio::test]
async fn a_key_is_counted_once_and_what_is_held_is_not_read_again() {
    let store = MemoryBackend::new();
    let cache = over_memory(&store).await;
    over_memory(&store).await.set_many([("a", String::new()), ("b", String::new())]).await.unwrap();
    assert_eq!(cache.warm(&["a", "absent", "a", "b"]).await.unwrap(), 2);
    assert_eq!(cache.warm(&["b", "a", "absent"]).await.unwrap(), 2);
    assert_eq!(cache.stats().backend.reads, 1);
    assert_eq!(cache.warm::<&str>(&[]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_paced_warm_up_reads_small_batches_no_faster_than_its_pace() {
    let store = MemoryBackend::new();
    over_memory(&store).await.set_many(keys(500).into_iter().map(|key| (key, String::new()))).await.unwrap();
    let cache = over_memory(&store).await;
    let start = tokio::time::Instant::now();
    assert_eq!(cache.warm_paced(&keys(500), NonZeroU32::new(500).unwrap()).await.unwrap(), 500);
    assert_eq!(cache.stats().backend.reads, 10);
    let took = start.elapsed();
    assert!((900..1000).contains(&took.as_millis()), "nine pauses between ten batches: {took:?}");
    assert_eq!(cache.stats().local.size, 500);
}

#[tokio::test(start_paused = true)]
async fn a_live_read_during_a_warm_up_waits_behind_no_more_than_one_batch() {
    let store = MemoryBackend::new();
    over_memory(&store).await.set_many(keys(5000).into_iter().map(|key| (key, String::new()))).await.unwrap();
    let backend = FaultyBackend::new(store);
    let faults = backend.faults();
    let cache = text().max_entries(5000).build(backend).await.unwrap();
    faults.latency(Duration::from_millis(10));
    let warming = tokio::spawn({
        let cache = cache.clone();
        async move { cache.warm(&keys(5000)).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(25)).await;
    let reads = cache.stats().backend.reads;
    assert!(reads <= 3, "one batch at a time: {reads}");
    read(&cache, "4999").await.unwrap();
    assert!(cache.stats().backend.reads - reads <= 2, "itself, and at most the next batch");
    assert_eq!(warming.await.unwrap(), 5000);
    assert_eq!(cache.stats().backend.reads, 11);
}

mod live {
    use std::time::Duration;

    use twotier_testkit::RedisServer;

    use crate::support::{READS, eventually, over_redis};

    #[tokio::test]
    async fn after_a_flush_the_exported_keys_are_warmed_by_one_round_trip_and_then_cost_none() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        let items = super::keys(200).into_iter().map(|key| (key, "v".to_owned()));
        cache.set_many(items).await.unwrap();
        let exported = cache.hot_keys(150);
        // Everybody is notified, and nothing of this database is lost.
        let flushes = cache.stats().coherence.flushes;
        server.command(&["SWAPDB", "0", "1"]);
        server.command(&["FLUSHDB"]);
        server.command(&["SWAPDB", "0", "1"]);
        eventually("the flush is reported", async || cache.stats().coherence.flushes > flushes).await;
        assert!(cache.get_if_local(&exported[0]).is_none());
        server.reset_stats();
        assert_eq!(cache.warm(&exported).await.unwrap(), 150);
        assert_eq!((server.calls(&["mget"]), server.calls(&["get"])), (2, 0), "two commands, sent together");
        server.reset_stats();
        assert!(exported.iter().all(|key| cache.get_if_local(key).is_some()));
        assert_eq!(server.calls(&READS), 0);
    }

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
        assert_eq!((server.calls(&["mget"]), server.calls(&["get"])), (4, 0), "four commands, sent together");
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
