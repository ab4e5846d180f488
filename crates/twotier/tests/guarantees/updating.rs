//! `update` is a compare-and-set against the backend, never against a local copy.

use std::time::Duration;

use twotier::{Cache, FaultyBackend, MemoryBackend};

use crate::support::{over_memory, read};

#[tokio::test]
async fn an_update_sees_what_the_backend_holds_and_not_a_local_copy() {
    let store = MemoryBackend::new();
    let unreported = crate::support::text().coherence(twotier::Coherence::None);
    let (cache, other) = (unreported.build(store.clone()).await.unwrap(), over_memory(&store).await);
    cache.set("k", "old".to_owned()).await.unwrap();
    other.set("k", "new".to_owned()).await.unwrap();
    assert_eq!(read(&cache, "k").await.as_deref(), Some("old"), "nobody reports changes to this one");
    let updated = cache.update("k", |held| held.map(|held| format!("{held}er"))).await.unwrap();
    assert_eq!(updated.as_deref().map(String::as_str), Some("newer"));
    assert_eq!(read(&cache, "k").await.as_deref(), Some("newer"));
}

#[tokio::test]
async fn an_update_can_create_and_remove_and_leave_absent() {
    let cache = over_memory(&MemoryBackend::new()).await;
    assert_eq!(cache.update("k", |held| held.cloned()).await.unwrap(), None);
    assert_eq!(cache.stats().backend.writes, 0, "nothing to do is no write");
    cache.update("k", |held| held.is_none().then(|| "made".to_owned())).await.unwrap();
    assert_eq!(read(&cache, "k").await.as_deref(), Some("made"));
    assert_eq!(cache.update("k", |_| None::<String>).await.unwrap(), None);
    assert_eq!(read(&cache, "k").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_update_leaves_the_key_usable() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    let cache = crate::support::text().build(backend).await.unwrap();
    cache.set("k", "0".to_owned()).await.unwrap();
    for step in 0..40 {
        faults.latency(Duration::from_millis(20));
        let update = cache.update("k", |held| held.map(|held| format!("{held}x")));
        let _ = tokio::time::timeout(Duration::from_millis(step), update).await;
        faults.heal();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let truth = read(&cache, "k").await;
        assert_eq!(cache.get_if_local("k").as_deref().cloned(), truth, "kept again after {step} ms");
    }
}

async fn count_up(cache: Cache<u64>, times: u64) {
    for _ in 0..times {
        cache.update("count", |held| Some(held.copied().unwrap_or(0) + 1)).await.unwrap();
    }
}

mod live {
    use twotier::Cache;
    use twotier_testkit::RedisServer;

    use super::count_up;
    use crate::support::{over_redis, read, redis};

    #[tokio::test]
    async fn concurrent_updates_by_several_caches_lose_nothing() {
        let server = RedisServer::start();
        let mut tasks = Vec::new();
        let mut caches = Vec::new();
        for _ in 0..3 {
            let builder = Cache::<u64>::builder().namespace("u").op_timeout(std::time::Duration::from_secs(10));
            let cache = builder.build(redis(&server)).await.unwrap();
            for _ in 0..2 {
                tasks.push(tokio::spawn(count_up(cache.clone(), 50)));
            }
            caches.push(cache);
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(server.command(&["GET", "u:count"]).as_str(), "300");
        for cache in caches {
            assert_eq!(cache.get("count").await.unwrap().as_deref(), Some(&300), "each reads its own last update");
        }
    }

    #[tokio::test]
    async fn an_update_is_two_round_trips_and_is_never_followed_by_an_older_read() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        cache.set("k", "0".to_owned()).await.unwrap();
        for round in 1..=100 {
            server.reset_stats();
            cache.update("k", |_| Some(round.to_string())).await.unwrap();
            assert_eq!(server.calls(&["eval"]), 1);
            // The script's own SET and GET are counted too.
            assert_eq!(server.calls(&["get"]), 2);
            assert_eq!(read(&cache, "k").await, Some(round.to_string()));
        }
    }
}
