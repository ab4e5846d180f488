use std::sync::Arc;

use tokio::time::{Instant, timeout};
use twotier_core::BackendErrorKind;

use super::*;
use crate::MemoryBackend;

const KEY: &[u8] = b"n:1";

fn faulty() -> (FaultyBackend<MemoryBackend>, Faults) {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    (backend, faults)
}

fn broken() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "broken on purpose")
}

fn value() -> Bytes {
    Bytes::from_static(b"v")
}

#[tokio::test]
async fn a_number_of_calls_fails_and_the_next_does_not() {
    let (backend, faults) = faulty();
    faults.fail_next(2, broken());
    assert!(backend.set(KEY, value(), None).await.is_err());
    assert!(backend.get(KEY).await.is_err());
    assert_eq!(backend.get(KEY).await.unwrap(), None);
    assert_eq!((faults.calls(), faults.failures()), (3, 2));
}

#[tokio::test]
async fn every_call_fails_until_it_is_taken_back() {
    let (backend, faults) = faulty();
    faults.fail_all(Some(broken()));
    let keys: Vec<Bytes> = vec!["n:1".into(), "n:2".into()];
    let writes = [Write::new("n:1", value(), None)];
    assert!(backend.get(KEY).await.is_err());
    assert!(backend.delete(KEY).await.is_err());
    assert!(backend.clear(b"n:").await.is_err());
    assert_eq!(backend.get_many(&keys).await.iter().filter(|result| result.is_err()).count(), 2);
    assert_eq!(backend.delete_many(&keys).await.iter().filter(|result| result.is_err()).count(), 2);
    assert_eq!(backend.set_many(&writes).await.iter().filter(|result| result.is_err()).count(), 1);
    assert!(backend.inner().is_empty());
    faults.fail_all(None);
    assert!(backend.get(KEY).await.is_ok());
    assert_eq!(backend.inner().operations().total(), 1, "a call that fails on the way there never arrives");
}

#[tokio::test]
async fn a_write_can_fail_after_it_has_landed() {
    let (backend, faults) = faulty();
    faults.strike(FaultPoint::After);
    faults.fail_next(1, broken());
    assert!(backend.set(KEY, value(), None).await.is_err());
    assert_eq!(backend.get(KEY).await.unwrap().map(|stored| stored.value), Some(value()));
}

#[tokio::test(start_paused = true)]
async fn latency_is_added_once_for_each_call_and_a_batch_is_one() {
    let (backend, faults) = faulty();
    let latency = Duration::from_millis(37);
    faults.latency(latency);
    let keys: Vec<Bytes> = vec!["n:1".into(); 100];
    for point in [FaultPoint::Before, FaultPoint::After] {
        faults.strike(point);
        let start = Instant::now();
        backend.get(KEY).await.unwrap();
        backend.get_many(&keys).await;
        assert_eq!(start.elapsed(), latency * 2, "{point:?}");
    }
    faults.latency(Duration::ZERO);
    let start = Instant::now();
    backend.get(KEY).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_call_goes_on_when_it_is_released() {
    let (backend, faults) = faulty();
    let backend = Arc::new(backend);
    faults.hang(true);
    let call = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { backend.set(KEY, value(), None).await }
    });
    assert!(timeout(Duration::from_secs(3600), backend.get(KEY)).await.is_err());
    assert!(!call.is_finished() && backend.inner().is_empty());
    faults.hang(false);
    call.await.unwrap().unwrap();
    assert_eq!(backend.inner().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_can_land_without_a_reply() {
    let (backend, faults) = faulty();
    faults.strike(FaultPoint::After);
    faults.hang(true);
    assert!(timeout(Duration::from_secs(3600), backend.set(KEY, value(), None)).await.is_err());
    assert_eq!(backend.inner().len(), 1);
}

#[tokio::test]
async fn random_errors_are_the_same_for_the_same_seed() {
    let run = async |seed| {
        let (backend, faults) = faulty();
        faults.fail_randomly(0.3, seed, broken());
        let mut failed = Vec::new();
        for _ in 0..1000 {
            failed.push(backend.get(KEY).await.is_err());
        }
        failed
    };
    let first = run(1).await;
    assert_eq!(first, run(1).await);
    assert_ne!(first, run(2).await);
    let rate = first.iter().filter(|failed| **failed).count();
    assert!((250..350).contains(&rate), "{rate} of 1000");
}

#[tokio::test]
async fn healing_takes_every_fault_back() {
    let (backend, faults) = faulty();
    faults.latency(Duration::from_secs(3600));
    faults.fail_next(10, broken());
    faults.fail_all(Some(broken()));
    faults.fail_randomly(1.0, 0, broken());
    faults.hang(true);
    faults.heal();
    assert!(backend.get(KEY).await.is_ok());
}

#[tokio::test]
async fn two_backends_can_share_their_faults() {
    let (first, faults) = faulty();
    let second = FaultyBackend::with_faults(first.inner().clone(), faults.clone());
    faults.fail_next(1, broken());
    assert!(second.get(KEY).await.is_err());
    assert!(first.get(KEY).await.is_ok());
    assert_eq!(faults.calls(), 2);
}
