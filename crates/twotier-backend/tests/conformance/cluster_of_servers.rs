//! A cluster of Redis or Valkey: three primaries.

mod live {
    use std::time::Duration;

    use bytes::Bytes;
    use twotier_backend::{Backend, RedisBackend, async_trait, conformance, conformance::Fixture};
    use twotier_core::Coherence;
    use twotier_testkit::RedisCluster;

    struct Clustered(RedisBackend, #[expect(dead_code, reason = "it lives as long as this")] RedisCluster);

    #[async_trait]
    impl Fixture for Clustered {
        async fn backend(&self) -> Box<dyn Backend> {
            Box::new(self.0.another_link())
        }

        async fn pass_time(&self, by: Duration) {
            tokio::time::sleep(by).await;
        }

        fn coherence(&self) -> Coherence {
            Coherence::Broadcast
        }

        async fn write_outside(&self, key: &[u8], value: &[u8]) {
            let outsider = self.0.another_link();
            outsider.ready().await.unwrap();
            outsider.set(key, Bytes::copy_from_slice(value), None).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_cluster_serves_all_checks() {
        let cluster = RedisCluster::start(3, 0, Duration::from_secs(5));
        conformance::run(&Clustered(RedisBackend::new(cluster.url()).unwrap(), cluster)).await;
    }
}
