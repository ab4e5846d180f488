//! I6: any future may be dropped at any await point.

use std::time::Duration;

use twotier::{FaultyBackend, MemoryBackend};

use crate::support::{ends, eventually, over_memory, read, text};

#[tokio::test(start_paused = true)]
async fn a_dropped_write_is_finished_and_its_key_can_be_kept_again() {
    let store = MemoryBackend::new();
    let backend = FaultyBackend::new(store.clone());
    let faults = backend.faults();
    let cache = text().build(backend).await.unwrap();
    cache.set("k", "old".to_owned()).await.unwrap();
    faults.latency(Duration::from_millis(100));
    let dropped = tokio::time::timeout(Duration::from_millis(10), cache.set("k", "new".to_owned())).await;
    assert!(dropped.is_err());
    assert_eq!(cache.get_if_local("k"), None, "the old copy went when the write began");
    faults.latency(Duration::ZERO);
    let other = over_memory(&store).await;
    eventually("the write ends", async || {
        other.clear_local();
        read(&other, "k").await.as_deref() == Some("new")
    })
    .await;
    assert_eq!(ends(read(&cache, "k")).await.as_deref(), Some("new"));
    assert!(cache.get_if_local("k").is_some(), "no ticket was left behind");
}

#[tokio::test(start_paused = true)]
async fn reads_dropped_at_any_moment_leave_the_key_readable() {
    let store = MemoryBackend::new();
    over_memory(&store).await.set("k", "v".to_owned()).await.unwrap();
    let backend = FaultyBackend::new(store);
    let faults = backend.faults();
    let cache = text().build(backend).await.unwrap();
    for step in 0..30 {
        faults.latency(Duration::from_millis(20));
        let patience = Duration::from_millis(step);
        let _ = tokio::time::timeout(patience, cache.get("k")).await;
        let _ = tokio::time::timeout(patience, cache.get_many(&["k", "l"])).await;
        let _ = tokio::time::timeout(patience, cache.get_or_load("m", async |_| Err::<String, _>("no"))).await;
        faults.latency(Duration::ZERO);
        cache.clear_local();
        assert_eq!(ends(read(&cache, "k")).await.as_deref(), Some("v"));
        assert!(cache.get_if_local("k").is_some(), "and it is kept again, after {step} ms");
        cache.clear_local();
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_misses_its_deadline_is_a_timeout_and_the_local_copy_is_gone() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    let cache = text().op_timeout(Duration::from_millis(50)).build(backend).await.unwrap();
    cache.set("k", "old".to_owned()).await.unwrap();
    faults.latency(Duration::from_secs(1));
    let error = cache.set("k", "late".to_owned()).await.unwrap_err();
    assert_eq!(error.to_string(), "set in namespace `t`: no answer within 50 ms");
    assert_eq!(cache.get_if_local("k"), None);
    let error = cache.get("k").await.unwrap_err();
    assert_eq!(error.kind(), twotier::ErrorKind::Timeout);
    assert_eq!(cache.stats().backend.timeouts, 2);
    faults.latency(Duration::ZERO);
    assert_eq!(read(&cache, "k").await.as_deref(), Some("old"), "it has not landed yet");
    assert_eq!(cache.get_if_local("k"), None, "and while it may still land nothing is kept");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(read(&cache, "k").await.as_deref(), Some("late"), "it landed");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_never_answers_hangs_nobody() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    let cache = text().breaker_failures(0).build(backend).await.unwrap();
    faults.hang(true);
    assert!(ends(cache.get("k")).await.is_err());
    assert!(ends(cache.get_many(&["k", "l"])).await.is_err());
    assert!(ends(cache.set("k", String::new())).await.is_err());
    assert!(ends(cache.set_many([("k", String::new())])).await.is_err());
    assert!(ends(cache.delete("k")).await.is_err());
    assert!(ends(cache.delete_many(&["k"])).await.is_err());
    assert!(ends(cache.warm(&["k"])).await.is_err());
    let loaded = ends(cache.get_or_load("k", async |_| Ok::<_, std::io::Error>("v".to_owned()))).await.unwrap();
    assert_eq!(*loaded, "v");
    faults.hang(false);
    ends(cache.get("k")).await.unwrap();
}
