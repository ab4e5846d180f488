//! D5, D7 and D12: the local tier is bounded by entries and bytes, and the least recently used entry goes.

use twotier::{Cache, CacheConfig, MemoryBackend};

use crate::support::{over_memory, read, text};

async fn local(cache: &Cache<String>, keys: &[&str]) -> Vec<bool> {
    keys.iter().map(|key| cache.get_if_local(key).is_some()).collect()
}

#[tokio::test]
async fn the_least_recently_used_entry_goes() {
    let cache = text().max_entries(3).build(MemoryBackend::new()).await.unwrap();
    for key in ["a", "b", "c"] {
        cache.set(key, key.to_owned()).await.unwrap();
    }
    assert!(cache.get_if_local("a").is_some());
    cache.set("d", "d".to_owned()).await.unwrap();
    assert_eq!(local(&cache, &["a", "b", "c", "d"]).await, [true, false, true, true]);
    assert_eq!(read(&cache, "b").await.as_deref(), Some("b"), "evicted is not lost");
}

#[tokio::test]
async fn overwriting_a_present_key_evicts_nothing() {
    let cache = text().max_entries(3).build(MemoryBackend::new()).await.unwrap();
    for key in ["a", "b", "c", "a", "b", "c", "a"] {
        cache.set(key, key.to_owned()).await.unwrap();
    }
    assert_eq!(local(&cache, &["a", "b", "c"]).await, [true, true, true]);
    assert_eq!(cache.stats().local.evictions(), 0);
}

#[tokio::test]
async fn five_hundred_and_one_keys_leave_five_hundred() {
    let cache = over_memory(&MemoryBackend::new()).await;
    for key in 0..501 {
        cache.set(&key.to_string(), String::new()).await.unwrap();
    }
    let stats = cache.stats().local;
    assert_eq!((stats.size, stats.max_size, stats.evicted_for_entries), (500, 500, 1));
    assert_eq!(cache.get_if_local("0"), None, "the oldest went");
}

#[tokio::test]
async fn a_capacity_of_zero_is_an_error_that_names_the_field() {
    let error = text().max_entries(0).build(MemoryBackend::new()).await.unwrap_err();
    assert!(error.to_string().contains("`max_entries`"), "{error}");
    let error = text().max_bytes(0).build(MemoryBackend::new()).await.unwrap_err();
    assert!(error.to_string().contains("`max_bytes`"), "{error}");
}

#[tokio::test]
async fn tracked_bytes_never_pass_the_budget() {
    let budget = CacheConfig::default().local_bytes();
    assert!(budget < 1024 * 1024, "less than a megabyte by default");
    let cache = over_memory(&MemoryBackend::new()).await;
    for key in 0..300 {
        cache.set(&key.to_string(), "x".repeat(10_000)).await.unwrap();
        let stats = cache.stats().local;
        assert!(stats.bytes <= budget, "{} of {budget}", stats.bytes);
    }
    let stats = cache.stats().local;
    assert!(stats.evicted_for_bytes > 0 && stats.size >= 90, "{stats:?}");
}

#[tokio::test]
async fn a_value_heavier_than_the_tier_is_served_and_counted_but_not_kept() {
    let cache = text().max_bytes(10_000).build(MemoryBackend::new()).await.unwrap();
    cache.set("small", "s".to_owned()).await.unwrap();
    cache.set("huge", "x".repeat(20_000)).await.unwrap();
    assert_eq!(read(&cache, "huge").await.unwrap().len(), 20_000);
    let stats = cache.stats().local;
    assert_eq!((stats.oversized, stats.size), (2, 1), "once by the write, once by the read");
    assert!(cache.get_if_local("small").is_some(), "nothing else went for it");
}

#[tokio::test]
async fn a_weigher_of_the_user_s_decides_what_a_value_weighs() {
    let cache = text().max_bytes(10_000).weigher(|_key, _value| 4_000).build(MemoryBackend::new()).await.unwrap();
    for key in ["a", "b", "c"] {
        cache.set(key, String::new()).await.unwrap();
    }
    assert_eq!(local(&cache, &["a", "b", "c"]).await, [false, true, true]);
}
