//! The second connection must end at the same server as the first.

#[cfg(feature = "simulation")]
mod live {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        time::Duration,
    };

    use tokio::net::TcpStream;
    use twotier_backend::{Backend, RedisBackend, Watch};
    use twotier_core::{Coherence, IgnoreChanges, Namespace};
    use twotier_testkit::RedisServer;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_second_connection_that_ends_at_another_server_is_not_used() {
        let (here, there) = (RedisServer::start(), RedisServer::start());
        let dials = Arc::new(AtomicUsize::new(0));
        let (counting, addresses) = (Arc::clone(&dials), [here.addr(), there.addr()]);
        // As behind a name that is moved to another server meanwhile.
        let dial = move || {
            let nth = counting.fetch_add(1, SeqCst);
            TcpStream::connect(addresses[nth.min(1)])
        };
        let backend = RedisBackend::over_streams(dial, SECOND, 5 * SECOND, SECOND);
        let watch = Watch {
            namespace: Namespace::new("n").unwrap(),
            listener: Arc::new(IgnoreChanges),
            max_staleness: 2 * SECOND,
            coherence: Some(Coherence::Broadcast),
        };
        backend.attach(watch).await.unwrap();
        here.command(&["SET", "n:k", &"here".repeat(50_000)]);
        there.command(&["SET", "n:k", &"away".repeat(50_000)]);
        while dials.load(SeqCst) < 3 {
            let stored = backend.get(b"n:k").await.unwrap().unwrap();
            assert!(stored.value.starts_with(b"here"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(there.calls(&["eval"]) >= 1, "it was tested");
        assert_eq!(there.calls(&["get", "mget"]), 0, "and nothing was read from it");
        assert!(backend.link().is_up());
    }
}
