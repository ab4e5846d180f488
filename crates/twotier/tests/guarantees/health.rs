//! Health is true: each thing that is wrong is a reason, and goes away with it.

use std::time::Duration;

use twotier::{Coherence, FaultyBackend, ManualClock, MemoryBackend, Reason, Status};

use crate::support::{over_memory, read, text};

#[tokio::test]
async fn a_link_that_is_cut_is_down_and_ready_again_when_it_is_restored() {
    let store = MemoryBackend::new();
    let link = store.scripted_link();
    let cache = text().build(store).await.unwrap();
    assert!(link.heartbeat());
    assert_eq!((cache.health().status, cache.health().to_string()), (Status::Ready, "ready".to_owned()));
    link.cut();
    let health = cache.health();
    assert_eq!(health.status, Status::Down);
    assert!(matches!(health.reasons[..], [Reason::LinkDown(_) | Reason::Connecting]), "{health}");
    assert!(!health.is_healthy());
    link.restore();
    assert!(link.heartbeat());
    assert_eq!(cache.health().status, Status::Ready);
}

#[tokio::test]
async fn a_lease_that_lapsed_is_degraded_and_its_copies_are_not_served() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let link = store.scripted_link();
    let cache = text().clock(clock.clone()).build(store).await.unwrap();
    assert!(link.heartbeat());
    cache.set("k", "v".to_owned()).await.unwrap();
    assert_eq!(cache.health().status, Status::Ready);
    clock.advance(Duration::from_secs(3));
    assert_eq!(cache.get_if_local("k"), None);
    let health = cache.health();
    assert!(matches!(health.reasons[..], [Reason::LeaseLapsed]), "{health}");
    assert_eq!(health.status, Status::Degraded);
    assert!(health.is_healthy(), "operations work");
    assert_eq!(read(&cache, "k").await.as_deref(), Some("v"));
    assert!(link.heartbeat());
    assert_eq!(cache.health().status, Status::Ready);
    assert!(cache.get_if_local("k").is_some());
}

#[tokio::test]
async fn a_weaker_mode_is_degraded_unless_it_was_asked_for() {
    // A backend that reports nothing, and nobody asked for that.
    let mut backend = twotier::MockBackend::new();
    backend.expect_attach().returning(|_| Ok(twotier::Attachment { coherence: Coherence::None }));
    backend.expect_link().return_const(twotier::LinkState::Unlinked);
    backend.expect_close().returning(|| ());
    let cache = text().build(backend).await.unwrap();
    assert!(matches!(cache.health().reasons[..], [Reason::WeakerCoherence(Coherence::None)]));
    assert_eq!(cache.health().status, Status::Degraded);
    let asked = text().coherence(Coherence::None).build(MemoryBackend::new()).await.unwrap();
    assert_eq!(asked.health().status, Status::Ready);
}

#[tokio::test]
async fn a_closed_cache_is_down() {
    let cache = over_memory(&MemoryBackend::new()).await;
    cache.close().await;
    assert!(matches!(cache.health().reasons[..], [Reason::Closed]));
    assert_eq!(cache.health().status, Status::Down);
    let faulty = text().build(FaultyBackend::new(MemoryBackend::new())).await.unwrap();
    assert_eq!(faulty.health().status, Status::Ready, "a wrapper says what is inside");
}
