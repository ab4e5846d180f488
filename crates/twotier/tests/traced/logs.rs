//! What is logged of an outage: a few lines that name a cache and the cause, however many caches there are, and one
//! when it is over.

mod live {
    use std::{io, time::Duration};

    use twotier_testkit::RedisServer;

    use crate::{
        ALONE,
        lines::Lines,
        support::{eventually, redis, text},
    };

    /// `TWOTIER_TEST_OUTAGE=60` makes the outage a minute long.
    fn outage() -> Duration {
        let seconds = std::env::var("TWOTIER_TEST_OUTAGE").ok().and_then(|seconds| seconds.parse().ok());
        Duration::from_secs(seconds.unwrap_or(3))
    }

    #[tokio::test]
    async fn whoever_makes_a_server_track_more_than_fifty_prefixes_is_warned_once() {
        let _alone = ALONE.lock().await;
        let lines = Lines::default();
        let _logged = lines.take(tracing::Level::WARN);
        let server = RedisServer::start();
        let backend = redis(&server);
        let mut caches = Vec::new();
        for number in 0..53 {
            assert_eq!(lines.at("WARN").len(), usize::from(number > 50), "{number} prefixes");
            caches.push(text().namespace(format!("n{number}")).build(backend.clone()).await.unwrap());
        }
        assert!(lines.text().contains("key_prefix") && lines.text().contains("tracked=51"), "{}", lines.text());
    }

    #[tokio::test]
    async fn an_outage_with_fifty_caches_is_at_most_twenty_lines_each_with_namespace_and_cause() {
        const CACHES: usize = 50;
        let _alone = ALONE.lock().await;
        let lines = Lines::default();
        // Everything runs on this thread.
        let _logged = lines.take(tracing::Level::INFO);
        let server = RedisServer::start();
        let backend = redis(&server);
        let mut caches = Vec::new();
        for number in 0..CACHES {
            caches.push(text().namespace(format!("n{number}")).build(backend.clone()).await.unwrap());
        }
        assert_eq!(lines.at("WARN"), Vec::<String>::new());
        server.kill();
        let began = tokio::time::Instant::now();
        while began.elapsed() < outage() {
            for cache in &caches {
                let loaded = cache.get_or_load("k", async |_key: &str| Ok::<_, io::Error>("v".to_owned())).await;
                assert_eq!(*loaded.unwrap(), "v");
                assert!(cache.set("k", "v".to_owned()).await.is_err());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server.restart();
        eventually("every link is up again", async || {
            caches.iter().all(|cache| cache.health().status == twotier::Status::Ready)
        })
        .await;
        let (bad, again) = (lines.at("WARN"), lines.at("link up again"));
        assert!(lines.at("ERROR").is_empty() && !bad.is_empty() && bad.len() <= 20, "{} lines: {bad:#?}", bad.len());
        assert!(bad.iter().all(|line| line.contains("namespace=n") && line.contains("cause=")), "{bad:#?}");
        assert!(bad.iter().any(|line| line.contains("link lost")), "{bad:#?}");
        assert!(!again.is_empty() && again.iter().all(|line| line.contains("INFO") && line.contains("namespace=n")));
        eprintln!("{} lines at WARN, {} links up again, of {CACHES} caches in {:?}", bad.len(), again.len(), outage());
    }
}
