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
    backend.expect_attach().returning(|_| Ok(twotier::Attachment::new(Coherence::None)));
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

mod live {
    use twotier::{Cache, Health, Reason, RedisBackend, Status};
    use twotier_testkit::RedisServer;

    use crate::support::{eventually, read, text};

    /// A cache of the user `app`, who may do everything but what is named here.
    async fn with_user(lacks: &str) -> (RedisServer, Cache<String>) {
        let server = RedisServer::builder().acl_user(&format!("app on >p ~t:* &* +@all {lacks}")).start();
        let cache = text().build(RedisBackend::new(server.url_as("app", "p")).unwrap()).await.unwrap();
        (server, cache)
    }

    /// Takes the link away, and returns what health is when it is back.
    async fn after_a_lost_link(server: &RedisServer, cache: &Cache<String>) -> Health {
        let links = cache.stats().coherence.links;
        server.command(&["CLIENT", "KILL", "USER", "app"]);
        eventually("the link comes back", async || {
            cache.stats().coherence.links > links && cache.health().is_healthy()
        })
        .await;
        cache.health()
    }

    #[tokio::test]
    async fn a_user_who_may_not_end_its_former_connections_is_degraded_once_there_are_some() {
        for lacks in ["-client +client|tracking +client|trackinginfo", "-info"] {
            let (server, cache) = with_user(lacks).await;
            assert_eq!(cache.health().to_string(), "ready", "{lacks}: there is nothing to end yet");
            let health = after_a_lost_link(&server, &cache).await;
            assert!(matches!(health.reasons[..], [Reason::Unfenced]), "{lacks}: {health}");
            assert_eq!(health.status, Status::Degraded, "{lacks}");
            // Operations work.
            cache.set("k", lacks.to_owned()).await.unwrap();
            assert!(cache.get_if_local("k").is_some(), "{lacks}");
            assert_eq!(read(&cache, "k").await.as_deref(), Some(lacks));
        }
    }

    #[tokio::test]
    async fn a_user_who_may_end_its_former_connections_is_ready_after_each_lost_link() {
        let (server, cache) = with_user("").await;
        assert_eq!(cache.health().to_string(), "ready");
        for _ in 0..2 {
            assert_eq!(after_a_lost_link(&server, &cache).await.to_string(), "ready");
        }
    }

    #[tokio::test]
    async fn a_user_who_is_allowed_to_end_its_former_connections_is_ready_after_the_next_lost_link() {
        let (server, cache) = with_user("-client +client|tracking +client|trackinginfo").await;
        assert_eq!(after_a_lost_link(&server, &cache).await.status, Status::Degraded);
        server.command(&["ACL", "SETUSER", "app", "+client"]);
        assert_eq!(after_a_lost_link(&server, &cache).await.to_string(), "ready");
    }
}
