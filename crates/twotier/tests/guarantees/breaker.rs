//! A backend that does not answer is not waited for by every call.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use twotier::{
    BackendError, BackendErrorKind, BreakerState, Cache, ErrorKind, Event, FaultyBackend, MemoryBackend, Reason, Status,
};

use crate::support::{ends, text};

const DEADLINE: Duration = Duration::from_millis(500);

type Faulty = Arc<FaultyBackend<MemoryBackend>>;

async fn over_faults() -> (Cache<String>, Faulty) {
    let backend = Arc::new(FaultyBackend::new(MemoryBackend::new()));
    (text().build(Arc::clone(&backend)).await.unwrap(), backend)
}

fn refused() -> BackendError {
    BackendError::new(BackendErrorKind::Rejected, "OOM command not allowed")
}

fn unreachable() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "connection refused")
}

/// Fails three calls, so that the breaker opens.
async fn open(cache: &Cache<String>, backend: &Faulty) {
    backend.faults().fail_all(Some(unreachable()));
    for _ in 0..3 {
        let error = cache.get("any").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert_eq!(cache.stats().backend.breaker.state, BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_hung_backend_costs_a_caller_two_deadlines_and_the_next_calls_nothing() {
    let (cache, backend) = over_faults().await;
    backend.faults().hang(true);
    let started = Instant::now();
    for _ in 0..2 {
        assert_eq!(cache.get("k").await.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert!(started.elapsed() < 2 * DEADLINE + Duration::from_millis(10));
    // What was asked again in the same moment goes its way.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (asked, now) = (backend.faults().calls(), Instant::now());
    let read = cache.get("k").await.unwrap_err();
    let written = cache.set("k", "v").await.unwrap_err();
    let deleted = cache.delete("k").await.unwrap_err();
    let changed = cache.update("k", |_| Some("v".to_owned())).await.unwrap_err();
    let many = cache.get_many(&["a", "b"]).await.unwrap_err();
    let stored = cache.set_many([("a", "v"), ("b", "v")]).await.unwrap_err();
    for error in [read, written, deleted, changed, many, stored] {
        assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::Unavailable, false), "{error:?}");
    }
    assert!(cache.get_each(&["a", "b"]).await.iter().all(Result::is_err));
    assert!(cache.delete_each(&["a", "b"]).await.iter().all(Result::is_err));
    let loaded = cache.get_or_load("k", async |_| Ok::<_, std::io::Error>("loaded".to_owned())).await.unwrap();
    assert_eq!(*loaded, "loaded");
    assert_eq!((backend.faults().calls(), now.elapsed()), (asked, Duration::ZERO), "nothing was asked, nobody waited");
    assert_eq!(cache.stats().backend.breaker.opened, 1);
}

#[tokio::test(start_paused = true)]
async fn many_callers_of_a_hung_backend_pay_one_deadline_together() {
    let (cache, backend) = over_faults().await;
    backend.faults().hang(true);
    let started = Instant::now();
    let callers: Vec<_> = (0..32)
        .map(|key| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get(key).await.unwrap_err().kind() })
        })
        .collect();
    for caller in callers {
        // Whose read was given up asks again, and is not let through any more.
        assert!(matches!(caller.await.unwrap(), ErrorKind::Timeout | ErrorKind::Unavailable));
    }
    assert_eq!(cache.get("k").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(started.elapsed() < DEADLINE + Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn answers_that_come_too_late_for_their_callers_do_not_close_it() {
    let (cache, backend) = over_faults().await;
    backend.faults().latency(DEADLINE * 6 / 5);
    let started = Instant::now();
    for call in 0..20 {
        let failed = cache.set(call, "v").await.unwrap_err().kind();
        assert!(matches!(failed, ErrorKind::Timeout | ErrorKind::Unavailable));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(cache.stats().backend.breaker.opened, 1);
    assert!(started.elapsed() < 5 * DEADLINE, "20 calls waited for {:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn refusals_are_answers_and_do_not_open_it() {
    let (cache, backend) = over_faults().await;
    for kind in [BackendErrorKind::Rejected, BackendErrorKind::Denied, BackendErrorKind::Busy] {
        backend.faults().fail_all(Some(BackendError::new(kind, "no")));
        for _ in 0..20 {
            assert!(cache.set("k", "v").await.is_err());
            assert!(cache.get_many(&["a", "b"]).await.is_err());
        }
    }
    let breaker = cache.stats().backend.breaker;
    assert_eq!((breaker.opened, breaker.refused), (0, 0));
    assert_eq!(cache.health().status, Status::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_closes_it_too() {
    let (cache, backend) = over_faults().await;
    open(&cache, &backend).await;
    backend.faults().fail_all(Some(refused()));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(cache.get("k").await.unwrap_err().kind(), ErrorKind::Rejected);
    assert_eq!(cache.stats().backend.breaker.state, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn one_call_at_a_time_is_tried_and_the_first_answer_closes_it() {
    let (cache, backend) = over_faults().await;
    open(&cache, &backend).await;
    backend.faults().heal();
    backend.faults().hang(true);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(cache.stats().backend.breaker.state, BreakerState::HalfOpen);
    let asked = backend.faults().calls();
    let callers: Vec<_> = (0..32)
        .map(|key| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get(key).await })
        })
        .collect();
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_eq!(backend.faults().calls(), asked + 1);
    backend.faults().hang(false);
    let mut answered = 0;
    for caller in callers {
        answered += usize::from(caller.await.unwrap().is_ok());
    }
    assert_eq!(answered, 1);
    assert_eq!(cache.stats().backend.breaker.state, BreakerState::Closed);
    cache.set("k", "v").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_try_whose_caller_goes_away_or_is_never_polled_again_holds_nobody_up() {
    let (cache, backend) = over_faults().await;
    open(&cache, &backend).await;
    backend.faults().heal();
    backend.faults().hang(true);
    tokio::time::advance(Duration::from_secs(2)).await;
    let mut unpolled = Box::pin(cache.get("k"));
    assert!(futures_util::poll!(&mut unpolled).is_pending());
    backend.faults().hang(false);
    // The request was another's to finish: its answer closes the breaker, whoever polls.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(cache.stats().backend.breaker.state, BreakerState::Closed);

    open(&cache, &backend).await;
    backend.faults().heal();
    backend.faults().hang(true);
    tokio::time::advance(Duration::from_secs(2)).await;
    let mut dropped = Box::pin(cache.set("k", "v"));
    assert!(futures_util::poll!(&mut dropped).is_pending());
    drop(dropped);
    backend.faults().heal();
    // It goes on without its caller, and is answered at once.
    tokio::time::sleep(Duration::from_millis(1)).await;
    ends(cache.set("other", "v")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn health_events_and_figures_say_that_it_is_open_and_why() {
    let (cache, backend) = over_faults().await;
    let mut events = cache.events();
    assert_eq!(cache.health().status, Status::Ready);
    open(&cache, &backend).await;
    let health = cache.health();
    assert_eq!(health.status, Status::Down);
    assert!(matches!(&health.reasons[..], [Reason::BreakerOpen(_)]), "{health}");
    assert_eq!(health.to_string(), "down: the breaker is open: connection refused");
    let error = cache.get("k").await.unwrap_err();
    let cause = std::error::Error::source(&error).and_then(std::error::Error::source).unwrap();
    assert_eq!(cause.to_string(), "connection refused");
    assert_eq!(cache.stats().backend.breaker.refused, 1);
    backend.faults().heal();
    tokio::time::advance(Duration::from_secs(2)).await;
    cache.get("k").await.unwrap();
    let mut states = Vec::new();
    while let Some(event) = events.try_next() {
        if let Event::Breaker { state, cause, .. } = event {
            states.push((state, cause.is_some()));
        }
    }
    assert_eq!(states, [(BreakerState::Open, true), (BreakerState::Closed, false)]);
    assert_eq!(cache.health().status, Status::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_batch_counts_as_one_call_however_many_keys_it_has() {
    let (cache, backend) = over_faults().await;
    backend.faults().fail_all(Some(unreachable()));
    for opened in [0, 0, 1] {
        assert!(cache.get_many(&["a", "b", "c", "d"]).await.is_err());
        assert_eq!(cache.stats().backend.breaker.opened, opened);
    }
}

#[tokio::test(start_paused = true)]
async fn it_can_be_left_out() {
    let backend = Arc::new(FaultyBackend::new(MemoryBackend::new()));
    let cache = text().breaker_failures(0).build(Arc::clone(&backend)).await.unwrap();
    backend.faults().fail_all(Some(unreachable()));
    for _ in 0..20 {
        assert!(cache.get("k").await.is_err());
    }
    assert_eq!(backend.faults().failures(), 20);
    backend.faults().heal();
    cache.get("k").await.unwrap();
}

mod live {
    use std::time::{Duration, Instant};

    use twotier::BreakerState;
    use twotier_testkit::RedisServer;

    use crate::support::{eventually, over_redis};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stopped_server_costs_few_calls_their_deadline_and_health_is_not_green() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        cache.set("k", "v").await.unwrap();
        server.pause();
        cache.clear_local();
        for _ in 0..3 {
            let _failed = cache.get("k").await;
        }
        assert_eq!(cache.stats().backend.breaker.opened, 1);
        assert!(!cache.health().is_healthy(), "{}", cache.health());
        let mut slow = 0;
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            let started = Instant::now();
            assert!(cache.get("k").await.is_err());
            slow += usize::from(started.elapsed() > Duration::from_millis(250));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(slow <= 4, "{slow} calls waited for a server that does not answer");
        server.resume();
        eventually("it answers again", async || cache.get("k").await.is_ok()).await;
        assert_eq!(cache.stats().backend.breaker.state, BreakerState::Closed);
        assert!(cache.health().is_healthy(), "{}", cache.health());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_new_link_closes_it_at_once() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        server.kill();
        eventually("it opens", async || {
            let _failed = cache.set("k", "v").await;
            cache.stats().backend.breaker.state == BreakerState::Open
        })
        .await;
        server.restart();
        eventually("the link is up", async || cache.health().link.is_up()).await;
        cache.set("k", "v").await.unwrap();
    }
}
