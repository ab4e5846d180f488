//! D8: the counters are exact.

use twotier::{Cache, MemoryBackend};

use crate::support::{over_memory, read};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn known_hits_and_misses_from_many_threads_give_exactly_those_numbers() {
    const TASKS: u64 = 8;
    const ROUNDS: u64 = 500;
    let cache = over_memory(&MemoryBackend::new()).await;
    cache.set("present", "v".to_owned()).await.unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let cache = cache.clone();
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    assert!(read(&cache, "present").await.is_some());
                    // A key of its own each time: always a miss.
                    assert!(read(&cache, &format!("absent-{task}-{round}")).await.is_none());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let stats = cache.stats();
    assert_eq!(stats.local.hits, TASKS * ROUNDS);
    assert_eq!(stats.local.misses, TASKS * ROUNDS);
    assert_eq!(stats.local.total_requests(), 2 * TASKS * ROUNDS);
    assert!((stats.local.hit_rate() - 50.0).abs() < 1e-9);
    assert_eq!(stats.backend.reads, TASKS * ROUNDS);
    assert_eq!(stats.backend.writes, 1);
    assert_eq!(stats.backend.operations(), stats.backend.latency.count);
}

#[tokio::test]
async fn the_printed_statistics_name_every_part() {
    let cache = over_memory(&MemoryBackend::new()).await;
    cache.set("k", "v".to_owned()).await.unwrap();
    read(&cache, "k").await;
    let printed = cache.stats().to_string();
    for part in ["local ", "1 of 500 entries", "1 hits, 0 misses (100.0 %)", "backend ", "1 writes", "coherence"] {
        assert!(printed.contains(part), "{part:?} is missing in:\n{printed}");
    }
}

#[tokio::test]
async fn advice_is_given_where_it_was_asked_for_and_says_what_to_do() {
    let without = over_memory(&MemoryBackend::new()).await;
    assert!(without.stats().advice().is_none());
    let cache: Cache<u64> =
        Cache::builder().max_entries(100).size_advice(true).build(MemoryBackend::new()).await.unwrap();
    assert_eq!(cache.stats().advice().unwrap().sizes, []);
    for key in 0..300_u64 {
        cache.set(key, key).await.unwrap();
    }
    for round in 0..8 {
        for key in 0..300_u64 {
            assert!(cache.get(key).await.unwrap().is_some(), "{round}");
        }
    }
    let stats = cache.stats();
    let advice = stats.advice().unwrap();
    assert_eq!(advice.requests, stats.local.total_requests());
    assert_eq!(advice.latency, stats.backend.latency.mean());
    // A loop over 300 keys: 400 entries hold them all, and 200 none for long enough.
    let rates: Vec<f64> = advice.sizes.iter().map(|size| size.hit_rate).collect();
    assert!(rates[3] < 5.0 && rates[4] > 95.0, "{advice:?}");
    assert!(advice.sizes[4].round_trips_gained > 0.0 && advice.sizes[4].milliseconds_saved > 0.0, "{advice:?}");
    assert!(advice.to_string().starts_with("400 entries instead of 100 would raise the hit rate from 0.0"), "{advice}");
}
