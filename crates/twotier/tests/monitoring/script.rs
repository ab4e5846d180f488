//! A run in which everything happens that is counted.

use std::{io, time::Duration};

use twotier::{
    BackendError, BackendErrorKind, Cache, FaultyBackend, ManualClock, MemoryBackend, MemoryLink, codec::Text,
};

/// A cache after the run, and what it stands on.
pub(crate) struct Run {
    pub(crate) cache: Cache<String>,
    pub(crate) link: MemoryLink,
}

/// Runs hits, misses of every cause, writes, deletions, loads, evictions, an invalidation by another client, and
/// failures of several kinds.
pub(crate) async fn run(namespace: &str) -> Run {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let builder = || Cache::<String>::builder().namespace(namespace).codec(Text).clock(clock.clone());
    let other = builder().build(store.clone()).await.unwrap();
    let link = store.scripted_link();
    let backend = FaultyBackend::new(store);
    let faults = backend.faults();
    let cache = builder()
        .max_entries(3)
        .max_bytes(6000)
        .negative_time_to_live(None)
        .local_time_to_live(Duration::from_secs(10))
        .max_staleness(Duration::from_secs(2))
        .build(backend)
        .await
        .unwrap();
    let (get, set) =
        (async |key: &str| cache.get(key).await.unwrap(), async |key: &str| cache.set(key, "1").await.unwrap());

    assert_eq!(get("cold").await, None);
    set("a").await;
    assert!(get("a").await.is_some() && get("a").await.is_some(), "hits");
    clock.advance(Duration::from_secs(10));
    assert!(link.heartbeat());
    assert!(get("a").await.is_some(), "expired");
    clock.advance(Duration::from_secs(3));
    assert!(get("a").await.is_some(), "no lease");
    assert!(link.heartbeat());
    other.set("a", "2").await.unwrap();
    assert_eq!(get("a").await.as_deref().map(String::as_str), Some("2"), "invalidated by another client");
    link.cut();
    link.restore();
    assert!(get("a").await.is_some(), "outdated");
    other.set("large", "x".repeat(10_000)).await.unwrap();
    assert!(get("large").await.is_some() && get("large").await.is_some(), "cold, then oversized");
    for key in ["b", "c", "d", "e"] {
        set(key).await;
    }
    assert!(get("a").await.is_some(), "evicted");
    assert!(cache.delete("b").await.unwrap());
    let load = async |key: &'static str| Ok::<_, io::Error>(format!("loaded {key}"));
    assert_eq!(*cache.get_or_load("l", load).await.unwrap(), "loaded l");
    let fail = async |_: &'static str| Err::<String, _>(io::Error::other("no such row"));
    cache.get_or_load("f", fail).await.unwrap_err();
    let down = || BackendError::new(BackendErrorKind::Unavailable, "connection refused");
    faults.fail_next(1, down());
    cache.get("x").await.unwrap_err();
    faults.fail_next(1, down());
    cache.set("x", "1").await.unwrap_err();
    faults.fail_next(1, BackendError::new(BackendErrorKind::Denied, "no permission"));
    cache.delete("x").await.unwrap_err();
    assert!(link.heartbeat());
    Run { cache, link }
}

#[tokio::test]
async fn the_run_has_hits_and_misses_of_every_cause_and_failures_of_every_call() {
    let stats = run("n").await.cache.stats();
    let local = stats.local;
    assert!(local.miss_causes.iter().all(|(cause, misses)| misses > 0 || panic!("no miss is {cause}")));
    assert_eq!((local.hits, local.miss_causes.total()), (2, local.misses));
    let causes: Vec<_> =
        local.miss_causes.iter().filter(|(cause, _)| *cause != "cold").map(|(_, misses)| misses).collect();
    assert_eq!(causes, [1; 6], "but for cold ones, one each");
    let failures = stats.backend.failures;
    let one_each = [failures.reads, failures.writes, failures.deletes, failures.loads].map(|counts| counts.total());
    assert_eq!((one_each, failures.total()), ([1; 4], 4));
    assert_eq!(stats.backend.errors, 3, "a loader that fails is no call of the backend");
    assert_eq!(stats.backend.loads, 2);
    assert_eq!((stats.backend.load_latency.count, stats.backend.latency.count), (2, stats.backend.operations()));
    assert_eq!(
        (stats.backend.read_latency.count, stats.backend.write_latency.count),
        (stats.backend.reads, stats.backend.writes)
    );
}
