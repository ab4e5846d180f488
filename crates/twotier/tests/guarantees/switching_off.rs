//! D6: without a local tier every read goes to the backend, and nothing local is counted.

mod live {
    use twotier_testkit::RedisServer;

    use crate::support::{read, redis, text};

    #[tokio::test]
    async fn without_a_local_tier_every_get_is_one_backend_read_and_nothing_local_is_counted() {
        let server = RedisServer::start();
        let cache = text().without_local().build(redis(&server)).await.unwrap();
        cache.set("k", "v".to_owned()).await.unwrap();
        server.reset_stats();
        for _ in 0..50 {
            assert_eq!(read(&cache, "k").await.as_deref(), Some("v"));
        }
        assert_eq!(server.calls(&["get"]), 50);
        assert_eq!(cache.get_if_local("k"), None);
        assert_eq!(cache.clear_local(), 0);
        let stats = cache.stats();
        assert_eq!(stats.local, twotier::LocalStats::default());
        assert!(!stats.local.enabled);
        assert_eq!(stats.backend.reads, 50);
    }
}
