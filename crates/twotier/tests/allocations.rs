//! A hit through the whole cache allocates nothing, whatever the policy of coherence.
#![allow(clippy::unwrap_used, reason = "a panic with a message is how a test fails")]

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use twotier::{
    Cache, CacheConfig, Coherence, MemoryBackend,
    short_term::{AccessTier, Credentials, ShortTermMemory},
};

/// Polls a future that must be ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a hit reaches no await point"),
    }
}

async fn cache(coherence: Option<Coherence>) -> Cache<String> {
    let mut builder = Cache::<String>::builder().namespace("a");
    if let Some(coherence) = coherence {
        builder = builder.coherence(coherence);
    }
    builder.build(MemoryBackend::new()).await.unwrap()
}

#[tokio::test]
async fn a_hit_allocates_nothing_and_reaches_no_await_point() {
    for coherence in [None, Some(Coherence::None)] {
        let cache = cache(coherence).await;
        cache.set("k", "v".to_owned()).await.unwrap();
        assert_eq!(cache.get("absent").await.unwrap(), None);
        let counted = allocation_counter::measure(|| {
            for _ in 0..1000 {
                assert!(black_box(now(cache.get("k"))).unwrap().is_some());
                assert!(black_box(now(cache.get("absent"))).unwrap().is_none());
                assert!(black_box(now(cache.lookup("k"))).unwrap().value.is_some());
                assert!(black_box(cache.get_if_local("k")).is_some());
            }
        });
        assert_eq!((counted.count_total, counted.bytes_total), (0, 0), "{coherence:?}");
    }
}

#[tokio::test]
async fn a_repeated_retrieve_allocates_nothing_and_reaches_no_await_point() {
    let memory = ShortTermMemory::build(CacheConfig::new("a"), MemoryBackend::new()).await.unwrap();
    let planner = Credentials::new("team:planner", AccessTier::Contributor).unwrap();
    memory.stash("plan", &vec!["read", "write"], &planner).await.unwrap();
    assert!(memory.retrieve::<Vec<String>>("plan", &planner).await.unwrap().is_some());
    let counted = allocation_counter::measure(|| {
        for _ in 0..1000 {
            assert!(black_box(now(memory.retrieve::<Vec<String>>("plan", &planner))).unwrap().is_some());
        }
    });
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
}

#[cfg(feature = "uuid")]
#[tokio::test]
async fn a_hit_with_an_integer_a_tuple_or_a_long_key_allocates_nothing() {
    let cache = cache(None).await;
    let long = "k".repeat(128);
    cache.set(u64::MAX, "v").await.unwrap();
    cache.set((7, "a:b", i64::MIN), "v").await.unwrap();
    cache.set(&long, "v").await.unwrap();
    cache.set(uuid::Uuid::max(), "v").await.unwrap();
    let counted = allocation_counter::measure(|| {
        for _ in 0..1000 {
            assert!(black_box(now(cache.get(u64::MAX))).unwrap().is_some());
            assert!(black_box(now(cache.get((7, "a:b", i64::MIN)))).unwrap().is_some());
            assert!(black_box(now(cache.get(&long))).unwrap().is_some());
            assert!(black_box(now(cache.get(&*long))).unwrap().is_some());
            assert!(black_box(now(cache.get(uuid::Uuid::max()))).unwrap().is_some());
            assert!(black_box(now(cache.lookup((7, "a:b", i64::MIN)))).unwrap().value.is_some());
            assert!(black_box(cache.get_if_local(uuid::Uuid::max())).is_some());
        }
    });
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
}

#[tokio::test]
async fn a_hit_of_get_or_load_allocates_nothing() {
    let cache = cache(None).await;
    cache.set("k", "v".to_owned()).await.unwrap();
    let counted = allocation_counter::measure(|| {
        let load = cache.get_or_load("k", |_| async { Err::<String, _>("never called") });
        assert!(black_box(now(load)).is_ok());
    });
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
}
