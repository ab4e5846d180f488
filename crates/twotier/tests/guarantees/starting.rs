//! A service starts, serves and stops without its backend, as well as its source allows.

use std::{io, time::Duration};

use twotier::{
    BackendError, BackendErrorKind, Cache, Coherence, ErrorKind, FaultyBackend, MemoryBackend, Reason, RedisBackend,
    Status,
};
use twotier_testkit::RedisServer;

use crate::support::{ends, eventually, over_redis, read, redis, text};

#[tokio::test]
async fn over_a_backend_in_the_process_a_lazy_cache_is_ready_at_once() {
    let cache = text().build_lazy(MemoryBackend::new()).unwrap();
    assert_eq!((cache.health().status, cache.health().coherence), (Status::Ready, Coherence::Broadcast));
    cache.set("k", "v").await.unwrap();
    assert_eq!(cache.get_if_local("k").as_deref(), Some(&"v".to_owned()));
}

#[tokio::test]
async fn a_lazy_cache_refuses_a_wrong_configuration_at_once() {
    let error = text().max_entries(0).build_lazy(MemoryBackend::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let outside = std::thread::spawn(|| text().build_lazy(MemoryBackend::new()).unwrap_err().kind());
    assert_eq!(outside.join().unwrap(), ErrorKind::Invalid);
}

/// Why a backend was not attached to stays its own business: it is asked again.
#[tokio::test(start_paused = true)]
async fn a_lazy_cache_asks_a_backend_again_that_could_not_be_attached_to() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    faults.fail_next(3, BackendError::new(BackendErrorKind::Denied, "not yet"));
    let cache = text().build_lazy(backend).unwrap();
    assert_eq!(cache.health().status, Status::Down);
    eventually("the fourth attempt", async || cache.health().status == Status::Ready).await;
    assert_eq!((faults.calls(), faults.failures()), (4, 3));
    cache.set("k", "v").await.unwrap();
    assert!(cache.get_if_local("k").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_closed_lazy_cache_asks_its_backend_no_more() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    faults.fail_all(Some(BackendError::new(BackendErrorKind::Denied, "not yet")));
    let cache = text().build_lazy(backend).unwrap();
    eventually("another attempt", async || faults.calls() > 1).await;
    cache.close().await;
    faults.heal();
    let calls = faults.calls();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((faults.calls(), cache.health().status), (calls, Status::Down));
}

mod live {
    use super::*;

    #[tokio::test]
    async fn a_lazy_cache_loads_while_its_server_is_away_and_is_coherent_once_it_is_there() {
        let server = RedisServer::start();
        server.kill();
        let cache = text().build_lazy(redis(&server)).unwrap();
        let row = async |id: u64| Ok::<_, io::Error>(format!("row {id}"));
        assert_eq!(*ends(cache.get_or_load(1, row)).await.unwrap(), "row 1");
        let refused = ends(cache.set("k", "v")).await.unwrap_err();
        assert_eq!((refused.kind(), refused.may_have_executed()), (ErrorKind::Unavailable, false));
        assert!(ends(cache.get("k")).await.is_err());
        let health = cache.health();
        assert_eq!((health.status, health.max_staleness), (Status::Down, None));
        assert!(matches!(health.reasons[..], [Reason::Connecting | Reason::LinkDown(_)]), "{health}");

        server.restart();
        eventually("the link", async || cache.health().status == Status::Ready).await;
        let health = cache.health();
        assert_eq!((health.coherence, health.max_staleness), (Coherence::Broadcast, Some(Duration::from_secs(2))));
        ends(cache.set("k", "v")).await.unwrap();
        assert!(cache.get_if_local("k").is_some());
        over_redis(&server).await.set("k", "newer").await.unwrap();
        eventually("the report of it", async || cache.get_if_local("k").is_none()).await;
        assert_eq!(read(&cache, "k").await.as_deref(), Some("newer"));
    }

    #[tokio::test]
    async fn the_last_clone_of_a_lazy_cache_ends_its_attempts() {
        let server = RedisServer::start();
        let proxy = twotier_testkit::Proxy::start(server.addr());
        proxy.refuse(true);
        let cache = text().build_lazy(RedisBackend::new(proxy.url()).unwrap()).unwrap();
        let attempts = proxy.connections();
        eventually("an attempt", async || proxy.connections() > attempts).await;
        drop(cache);
        proxy.refuse(false);
        let after = Cache::<String>::builder().build(RedisBackend::new(proxy.url()).unwrap()).await.unwrap();
        assert_eq!(proxy.open_connections(), 2, "the first cache has connected after all");
        drop(after);
    }
}
