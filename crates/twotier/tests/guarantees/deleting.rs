//! D4: a deleted key is gone from both tiers, and no read under way brings it back.

use std::time::Duration;

use twotier::{FaultPoint, FaultyBackend, MemoryBackend};

use crate::support::{ends, over_memory, read, text};

#[tokio::test]
async fn delete_says_whether_the_key_was_there() {
    let cache = over_memory(&MemoryBackend::new()).await;
    cache.set("k", "v".to_owned()).await.unwrap();
    assert!(cache.delete("k").await.unwrap());
    assert!(!cache.delete("k").await.unwrap());
    assert_eq!(read(&cache, "k").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_read_in_flight_cannot_bring_a_deleted_value_back() {
    let store = MemoryBackend::new();
    over_memory(&store).await.set("k", "old".to_owned()).await.unwrap();
    let slow = FaultyBackend::new(store.clone());
    let faults = slow.faults();
    let cache = text().build(slow).await.unwrap();

    // The read has its answer from the store, and is still on its way back while the delete runs from start to end.
    faults.strike(FaultPoint::After);
    faults.latency(Duration::from_millis(100));
    let reader = cache.clone();
    let reading = tokio::spawn(async move { read(&reader, "k").await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    faults.heal();
    assert!(ends(cache.delete("k")).await.unwrap());
    assert_eq!(ends(reading).await.unwrap().as_deref(), Some("old"), "the read began before the delete");

    assert_eq!(cache.get_if_local("k"), None);
    assert_eq!(read(&cache, "k").await, None, "and is not kept after it");
}

mod live {
    use std::time::Duration;

    use twotier::RedisBackend;
    use twotier_testkit::{Proxy, RedisServer};

    use crate::support::{over_redis, read, text};

    #[tokio::test]
    async fn after_delete_neither_tier_has_the_key() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        cache.set("k", "v".to_owned()).await.unwrap();
        assert!(cache.delete("k").await.unwrap());
        assert_eq!(server.command(&["EXISTS", "t:k"]).as_int(), 0);
        assert_eq!(cache.get_if_local("k"), None);
        assert_eq!(read(&cache, "k").await, None);
    }

    #[tokio::test]
    async fn reads_in_flight_over_a_slow_network_cannot_bring_a_deleted_value_back() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let cache = text().build(RedisBackend::new(proxy.url()).unwrap()).await.unwrap();
        proxy.set_round_trip(Duration::from_millis(20));
        for round in 0..20 {
            server.command(&["SET", "t:k", "old"]);
            cache.clear_local();
            let reader = cache.clone();
            let reading = tokio::spawn(async move { reader.get("k").await.unwrap() });
            tokio::time::sleep(Duration::from_millis(round)).await;
            assert!(cache.delete("k").await.unwrap());
            reading.await.unwrap();
            assert_eq!(read(&cache, "k").await, None);
        }
    }
}
