//! Invalidations that the backend could not be given are made before it is believed again.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use twotier::{
    BackendError, BackendErrorKind, Cache, ErrorKind, FaultPoint, FaultyBackend, Invalidated, MemoryBackend,
};

use crate::support::text;

type Faulty = Arc<FaultyBackend<MemoryBackend>>;

/// Two caches on one store: that of ours, whose way to it can be blocked, and another instance's.
struct Two {
    ours: Cache<String>,
    backend: Faulty,
    theirs: Cache<String>,
    store: MemoryBackend,
}

async fn two(room: usize) -> Two {
    let store = MemoryBackend::new();
    let backend = Arc::new(FaultyBackend::new(store.clone()));
    let ours = text().queue_invalidations(room).build(Arc::clone(&backend)).await.unwrap();
    let theirs = text().build(store.clone()).await.unwrap();
    Two { ours, backend, theirs, store }
}

fn away() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "connection refused")
}

impl Two {
    async fn put(&self, keys: &[&str]) {
        for key in keys {
            self.ours.set(*key, "old").await.unwrap();
            assert!(self.theirs.get(*key).await.unwrap().is_some());
        }
    }

    fn waiting(&self) -> usize {
        self.ours.stats().backend.queued_invalidations
    }

    /// Has the backend back, and waits until nothing waits any more.
    async fn heal(&self) {
        self.backend.faults().heal();
        for _ in 0..100 {
            if self.waiting() == 0 {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("{} invalidations wait", self.waiting());
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_while_the_backend_is_away_is_made_when_it_is_back_and_nobody_serves_the_old_value() {
    let two = two(100).await;
    two.put(&["k"]).await;
    two.backend.faults().fail_all(Some(away()));
    assert_eq!(two.ours.invalidate("k").await.unwrap(), Invalidated::Queued);
    assert_eq!(two.ours.get_if_local("k"), None, "the local copy went at once");
    assert_eq!(two.waiting(), 1);
    assert_eq!(two.ours.invalidate("k").await.unwrap(), Invalidated::Queued);
    assert_eq!(two.waiting(), 1, "merged");
    two.heal().await;
    assert_eq!(two.ours.get("k").await.unwrap(), None);
    assert_eq!(two.theirs.get("k").await.unwrap(), None);
    two.put(&["k"]).await;
    assert_eq!(two.ours.invalidate("k").await.unwrap(), Invalidated::Removed);
    assert_eq!(two.ours.invalidate("k").await.unwrap(), Invalidated::Absent);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_waits_is_deleted_before_it_is_read_whoever_reads_it() {
    for read in 0..5 {
        let two = two(100).await;
        two.put(&["k", "other"]).await;
        two.backend.faults().fail_next(1, away());
        assert_eq!(two.ours.invalidate("k").await.unwrap(), Invalidated::Queued);
        // The task that drains has not run yet: this call is the first to meet the backend again.
        let found = match read {
            0 => two.ours.get("k").await.unwrap(),
            1 => two.ours.get_many(&["other", "k"]).await.unwrap().pop().unwrap(),
            2 => {
                let load = async |_: &str| Ok::<_, std::io::Error>(None::<String>);
                two.ours.get_or_load("k", load).await.unwrap()
            }
            3 => {
                let mut seen = None;
                let change = |held: Option<&String>| {
                    seen = held.cloned();
                    None::<String>
                };
                two.ours.update("k", change).await.unwrap();
                seen.map(Arc::new)
            }
            _ => {
                assert_eq!(two.ours.warm(&["k"]).await.unwrap(), 0);
                None
            }
        };
        assert_eq!((found, two.waiting()), (None, 0), "way of reading {read}");
        assert_eq!(two.theirs.get("k").await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn while_it_waits_its_key_is_unavailable_and_loaded_from_the_origin() {
    let two = two(100).await;
    two.put(&["k", "other"]).await;
    two.backend.faults().fail_all(Some(away()));
    assert_eq!(two.ours.invalidate("k").await.unwrap(), Invalidated::Queued);
    assert_eq!(two.ours.get("k").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(two.ours.get_each(&["k"]).await[0].is_err());
    let loaded = two.ours.get_or_load("k", async |_| Ok::<_, std::io::Error>("new".to_owned())).await.unwrap();
    assert_eq!(*loaded, "new");
    assert!(two.ours.get("other").await.unwrap().is_some(), "a local copy");
}

#[tokio::test(start_paused = true)]
async fn what_fails_of_a_deletion_waits_too_though_it_is_an_error() {
    let two = two(100).await;
    two.put(&["a", "b", "c"]).await;
    two.backend.faults().fail_all(Some(away()));
    assert!(two.ours.delete("a").await.is_err());
    assert!(two.ours.delete_each(&["b", "c"]).await.iter().all(Result::is_err));
    assert_eq!(two.waiting(), 3);
    two.heal().await;
    assert!(two.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_that_may_have_been_made_is_made_again() {
    let two = two(100).await;
    two.put(&["k"]).await;
    two.backend.faults().strike(FaultPoint::After);
    two.backend.faults().fail_all(Some(away()));
    assert_eq!(two.ours.invalidate("k").await.unwrap(), Invalidated::Queued);
    assert_eq!(two.waiting(), 1);
    two.heal().await;
}

#[tokio::test(start_paused = true)]
async fn more_keys_than_may_wait_become_one_clearing_of_the_namespace() {
    let two = two(2).await;
    two.put(&["a", "b", "c", "d"]).await;
    two.backend.faults().fail_all(Some(away()));
    for key in ["a", "b", "c"] {
        assert_eq!(two.ours.invalidate(key).await.unwrap(), Invalidated::Queued);
    }
    assert_eq!(two.waiting(), 1);
    two.heal().await;
    assert!(two.store.is_empty());
    for key in ["a", "b", "c", "d"] {
        assert_eq!((two.ours.get(key).await.unwrap(), two.theirs.get(key).await.unwrap()), (None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_write_is_not_undone_by_an_invalidation_that_waited() {
    let two = two(100).await;
    two.put(&["a", "b"]).await;
    two.backend.faults().fail_next(2, away());
    assert_eq!(two.ours.invalidate("a").await.unwrap(), Invalidated::Queued);
    assert_eq!(two.ours.invalidate("b").await.unwrap(), Invalidated::Queued);
    two.ours.set("a", "new").await.unwrap();
    two.ours.set_many([("b", "new")]).await.unwrap();
    assert_eq!(two.waiting(), 0, "what was to be deleted is gone");
    sleep(Duration::from_secs(10)).await;
    for key in ["a", "b"] {
        assert_eq!(two.ours.get(key).await.unwrap().as_deref().map(String::as_str), Some("new"));
        assert_eq!(two.theirs.get(key).await.unwrap().as_deref().map(String::as_str), Some("new"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_leaves_the_invalidation_waiting() {
    let two = two(100).await;
    two.put(&["k"]).await;
    two.backend.faults().fail_next(2, away());
    assert_eq!(two.ours.invalidate("k").await.unwrap(), Invalidated::Queued);
    assert!(two.ours.set("k", "new").await.is_err());
    assert_eq!(two.waiting(), 1);
    two.heal().await;
    assert!(two.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_clearing_makes_up_for_all_that_waited_before_it() {
    let two = two(100).await;
    two.put(&["k"]).await;
    two.backend.faults().fail_next(1, away());
    assert_eq!(two.ours.invalidate("k").await.unwrap(), Invalidated::Queued);
    two.ours.clear().await.unwrap();
    assert_eq!(two.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_and_a_cache_without_room_are_errors() {
    let two = two(0).await;
    two.backend.faults().fail_next(1, away());
    assert_eq!(two.ours.invalidate("k").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(two.waiting(), 0);
    let two = self::two(100).await;
    two.backend.faults().fail_next(1, BackendError::new(BackendErrorKind::Denied, "NOPERM"));
    assert_eq!(two.ours.invalidate("k").await.unwrap_err().kind(), ErrorKind::Rejected);
    assert_eq!(two.waiting(), 0, "it would never be made");
}

mod live {
    use std::time::{Duration, Instant};

    use twotier::Invalidated;
    use twotier_testkit::RedisServer;

    use crate::support::{eventually, over_redis, redis, text};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn after_a_server_was_away_no_instance_serves_what_was_invalidated_meanwhile() {
        let server = RedisServer::start();
        let writer = text().queue_invalidations(100).build(redis(&server)).await.unwrap();
        let reader = over_redis(&server).await;
        writer.set("row", "old").await.unwrap();
        assert!(reader.get("row").await.unwrap().is_some());
        server.pause();
        // The row was changed, and committed.
        assert_eq!(writer.invalidate("row").await.unwrap(), Invalidated::Queued);
        server.resume();
        let back = Instant::now();
        let new = async |_: &str| Ok::<_, std::io::Error>("new".to_owned());
        assert_eq!(*writer.get_or_load("row", new).await.unwrap(), "new");
        eventually("nothing waits", async || writer.stats().backend.queued_invalidations == 0).await;
        tokio::time::sleep(Duration::from_secs(4).saturating_sub(back.elapsed())).await;
        for cache in [&writer, &reader] {
            assert_eq!(*cache.get_or_load("row", new).await.unwrap(), "new");
        }
    }
}
