//! After `close`, every call is an error, reads of local copies too.

use twotier::{Error, ErrorKind, MemoryBackend};

use crate::support::over_memory;

#[tokio::test]
async fn after_close_every_call_is_an_error_and_no_local_copy_is_served() {
    let store = MemoryBackend::new();
    let cache = over_memory(&store).await;
    cache.set("k", "v".to_owned()).await.unwrap();
    let clone = cache.clone();
    cache.close().await;
    cache.close().await;
    let errors: Vec<Error> = vec![
        clone.get("k").await.unwrap_err(),
        clone.lookup("k").await.unwrap_err(),
        clone.get_many(&["k"]).await.unwrap_err(),
        clone.set("k", String::new()).await.unwrap_err(),
        clone.set_many([("k", String::new())]).await.unwrap_err(),
        clone.delete("k").await.unwrap_err(),
        clone.delete_many(&["k"]).await.unwrap_err(),
        clone.get_or_load("k", async |_| Ok::<_, std::io::Error>(String::new())).await.unwrap_err(),
        clone.warm(&["k"]).await.unwrap_err(),
        clone.clear().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
        assert!(error.to_string().ends_with("the cache is closed"), "{error}");
    }
    assert_eq!(clone.get_if_local("k"), None);
    assert_eq!(clone.stats().local.size, 0, "the memory is free");
    assert!(!clone.health().is_healthy() && clone.health().closed);
    assert_eq!(store.len(), 1, "the backend keeps what it has");
}

mod live {
    use twotier_testkit::RedisServer;

    use crate::support::{eventually, over_redis};

    fn connections(server: &RedisServer) -> usize {
        // The test's own connection is one of them.
        server.command(&["CLIENT", "LIST"]).as_str().lines().filter(|line| line.contains("resp=3")).count()
    }

    #[tokio::test]
    async fn the_connections_end_with_close_and_with_the_last_clone() {
        let server = RedisServer::start();
        let closed = over_redis(&server).await;
        let dropped = over_redis(&server).await;
        assert_eq!(connections(&server), 4, "each has one that reports and one for data");
        closed.close().await;
        eventually("close ends the connections", async || connections(&server) == 2).await;
        dropped.set("k", "v".to_owned()).await.unwrap();
        drop(dropped);
        eventually("drop ends the connections", async || connections(&server) == 0).await;
    }
}
