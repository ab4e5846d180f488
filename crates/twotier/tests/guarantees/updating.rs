//! `update` is a compare-and-set against the backend, never against a local copy.

use std::{future::Future, pin::pin, task::Context, time::Duration};

use twotier::{Backend as _, Cache, Change, FaultyBackend, ManualClock, MemoryBackend, RemainingTtl, SetOptions};

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

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing_and_returns_what_is_there() {
    let store = MemoryBackend::new();
    let (cache, other) = (over_memory(&store).await, over_memory(&store).await);
    cache.set("k", "v").await.unwrap();
    let before = store.operations();
    let unchanged = cache.update("k", |_| Change::none()).await.unwrap();
    assert_eq!(unchanged.as_deref().map(String::as_str), Some("v"));
    assert_eq!(cache.update("absent", |_| Change::none()).await.unwrap(), None);
    let after = store.operations();
    assert_eq!((after.total() - before.total(), after.reads() - before.reads()), (2, 2));
    assert_eq!(other.stats().coherence.invalidations, 1, "nobody was notified but of the set");
}

#[tokio::test]
async fn an_update_can_keep_the_life_of_what_it_replaces_or_give_it_one_of_its_own() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let cache = crate::support::text().clock(clock.clone()).time_to_live(Duration::from_secs(60));
    let cache = cache.build(store.clone()).await.unwrap();
    let ttl = async || store.get(b"t:k").await.unwrap().unwrap().ttl;
    let keep = |held: Option<&String>| Change::set(format!("{}x", held.map_or("", |held| held))).keep_time_to_live();
    assert_eq!(cache.update("k", keep).await.unwrap().as_deref(), Some(&"x".to_owned()));
    assert_eq!(ttl().await, RemainingTtl::Expires(Duration::from_secs(60)), "a new value has the cache's");
    cache.set_with("k", "v", SetOptions::new().time_to_live(Duration::from_secs(10))).await.unwrap();
    clock.advance(Duration::from_secs(4));
    assert_eq!(cache.update("k", keep).await.unwrap().as_deref(), Some(&"vx".to_owned()));
    assert_eq!(ttl().await, RemainingTtl::Expires(Duration::from_secs(6)));
    cache.update("k", |_| Change::set("own").time_to_live(Duration::from_secs(7))).await.unwrap();
    assert_eq!(ttl().await, RemainingTtl::Expires(Duration::from_secs(7)));
    cache.update("k", |_| Some("v")).await.unwrap();
    assert_eq!(ttl().await, RemainingTtl::Expires(Duration::from_secs(60)));
    assert_eq!(cache.update("k", |_| Change::remove()).await.unwrap(), None);
    assert_eq!(read(&cache, "k").await, None);
}

/// A backend of 10 ms, so that all of many updates have begun before the first ends.
async fn slow(store: &MemoryBackend) -> Cache<u64> {
    let backend = FaultyBackend::new(store.clone());
    backend.faults().latency(Duration::from_millis(10));
    Cache::<u64>::builder().namespace("u").op_timeout(Duration::from_secs(60)).build(backend).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn updates_of_one_key_by_one_cache_take_turns_and_call_the_function_once_each() {
    let store = MemoryBackend::new();
    let cache = slow(&store).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let cache = cache.clone();
        tasks.spawn(async move {
            let mut calls = 0;
            for _ in 0..10 {
                let count = |held: Option<&u64>| {
                    calls += 1;
                    Some(held.copied().unwrap_or(0) + 1)
                };
                cache.update("count", count).await.unwrap();
            }
            calls
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<i32>(), 640);
    assert_eq!(cache.get("count").await.unwrap().as_deref(), Some(&640));
    assert_eq!(store.operations().compare_and_set, 640, "nothing was written in vain");
}

#[tokio::test(start_paused = true)]
async fn an_update_that_is_never_polled_again_holds_the_others_up_for_a_moment_only() {
    let cache = slow(&MemoryBackend::new()).await;
    let count = |held: Option<&u64>| Some(held.copied().unwrap_or(0) + 1);
    let (mut stuck, mut waiting) = (pin!(cache.update("count", count)), pin!(cache.update("count", count)));
    // One has the turn, one stands in line, and neither is ever polled again.
    let mut context = Context::from_waker(std::task::Waker::noop());
    assert!(stuck.as_mut().poll(&mut context).is_pending());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    let began = tokio::time::Instant::now();
    for number in 1..=10 {
        assert_eq!(cache.update("count", count).await.unwrap().as_deref(), Some(&number));
    }
    // A quarter of the deadline for each of the two.
    assert!(began.elapsed() < Duration::from_secs(31), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_update_that_is_dropped_passes_its_turn_on_at_once() {
    let cache = slow(&MemoryBackend::new()).await;
    for step in 0..40 {
        let dropped = cache.update("count", |held: Option<&u64>| Some(held.copied().unwrap_or(0) + 1));
        let _ = tokio::time::timeout(Duration::from_millis(step), dropped).await;
        let began = tokio::time::Instant::now();
        cache.update("count", |held: Option<&u64>| Some(held.copied().unwrap_or(0) + 1)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "after {step} ms");
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

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_many_updates_of_one_key_by_two_processes_at_once_half_call_the_function_twice_at_most() {
        let server = RedisServer::start();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let builder = Cache::<u64>::builder().namespace("u").op_timeout(std::time::Duration::from_secs(30));
            let cache = builder.build(redis(&server)).await.unwrap();
            for _ in 0..32 {
                let cache = cache.clone();
                tasks.spawn(async move {
                    let mut calls = Vec::new();
                    for _ in 0..10 {
                        let mut called = 0;
                        let count = |held: Option<&u64>| {
                            called += 1;
                            Some(held.copied().unwrap_or(0) + 1)
                        };
                        cache.update("count", count).await.unwrap();
                        calls.push(called);
                    }
                    calls
                });
            }
        }
        let mut calls = tasks.join_all().await.concat();
        calls.sort_unstable();
        let (median, total): (i32, i32) = (calls[calls.len() / 2], calls.iter().sum());
        eprintln!("640 updates called the function {total} times; median {median}, most {:?}", calls.last());
        assert_eq!(server.command(&["GET", "u:count"]).as_str(), "640");
        assert!(median <= 2, "{calls:?}");
    }

    #[tokio::test]
    async fn an_update_that_keeps_the_life_is_two_round_trips() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        server.command(&["SET", "t:k", "v", "PX", "60000"]);
        server.reset_stats();
        let keep = |held: Option<&String>| twotier::Change::set(format!("{}x", held.unwrap())).keep_time_to_live();
        assert_eq!(cache.update("k", keep).await.unwrap().as_deref(), Some(&"vx".to_owned()));
        assert_eq!((server.calls(&["eval"]), server.calls(&["get"]), server.calls(&["set"])), (1, 2, 1));
        assert!((1..=60_000).contains(&server.command(&["PTTL", "t:k"]).as_int()));
        server.command(&["PERSIST", "t:k"]);
        cache.update("k", keep).await.unwrap();
        assert_eq!(server.command(&["PTTL", "t:k"]).as_int(), -1);
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
