//! D5, D7 and D12: the local tier is bounded by entries and bytes, and the least recently used entry goes.

use twotier::{Cache, CacheConfig, Eviction, MemoryBackend};

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

/// F2: one word switches the policy, and by any of them the bounds hold and a hit is the value last written.
#[tokio::test]
async fn one_word_of_the_configuration_switches_the_policy() {
    for (word, left) in [("lru", ["a", "c"]), ("fifo", ["b", "c"]), ("lfu", ["a", "c"])] {
        let config = CacheConfig::from_json(&format!(r#"{{ "max_entries": 2, "eviction": "{word}" }}"#)).unwrap();
        let cache = text().eviction(config.eviction).max_entries(2).build(MemoryBackend::new()).await.unwrap();
        for key in ["a", "b"] {
            cache.set(key, key.to_owned()).await.unwrap();
        }
        assert!(cache.get_if_local("a").is_some());
        cache.set("c", "c".to_owned()).await.unwrap();
        assert_eq!(local(&cache, &left).await, [true, true], "{word}");
        assert_eq!(cache.stats().local.evictions(), 1);
    }
    for word in ["random:7", "s3-fifo", "w-tinylfu"] {
        let eviction: Eviction = word.parse().unwrap();
        let cache = text().eviction(eviction).max_entries(20).build(MemoryBackend::new()).await.unwrap();
        for (version, key) in (0..200).map(|step| (step, (step * step % 37).to_string())) {
            cache.set(&key, version.to_string()).await.unwrap();
            assert_eq!(cache.get_if_local(&key).unwrap().as_str(), version.to_string(), "{word}");
            assert!(cache.stats().local.size <= 20);
        }
    }
}
