//! A namespace holds its own keys and nobody else's, with `:` inside too.

use twotier::{Cache, ErrorKind, MemoryBackend, codec::Text};

use crate::support::read;

async fn over(store: &MemoryBackend, namespace: &str) -> twotier::Result<Cache<String>> {
    Cache::<String>::builder().namespace(namespace).codec(Text).build(store.clone()).await
}

#[tokio::test]
async fn a_cache_whose_namespace_overlaps_another_of_its_store_is_not_built() {
    let store = MemoryBackend::new();
    let app = over(&store, "app").await.unwrap();
    app.set("users:42", "Ada".to_owned()).await.unwrap();
    let error = over(&store, "app:users").await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::Rejected, false));
    assert_eq!(error.to_string(), "build in namespace `app:users`: the backend refused");
    assert_eq!(read(&app, "users:42").await.as_deref(), Some("Ada"));
    over(&store, "app").await.expect("another instance of the same cache");
    over(&store, "apps:users").await.expect("a namespace that lies beside it");
    app.close().await;
    drop(app);
    over(&store, "app:users").await.expect("nobody has the other any more");
}

#[tokio::test]
async fn clearing_a_namespace_with_segments_touches_none_beside_it() {
    let store = MemoryBackend::new();
    let (users, pages) = (over(&store, "app:users").await.unwrap(), over(&store, "app:users2").await.unwrap());
    users.set("k", "1".to_owned()).await.unwrap();
    pages.set("k", "2".to_owned()).await.unwrap();
    assert_eq!(users.clear().await.unwrap(), 1);
    assert_eq!((read(&users, "k").await, read(&pages, "k").await.as_deref()), (None, Some("2")));
}

mod live {
    use twotier::{Cache, Coherence, RedisBackend, RedisConfig, codec::Text};
    use twotier_testkit::RedisServer;

    use crate::support::{eventually, foreign, read, redis};

    async fn over(server: &RedisServer, namespace: &str, coherence: Coherence) -> Cache<String> {
        let builder = Cache::<String>::builder().namespace(namespace).codec(Text).coherence(coherence);
        builder.build(redis(server)).await.unwrap()
    }

    #[tokio::test]
    async fn a_namespace_with_segments_is_kept_coherent_and_cleared_in_every_mode() {
        let server = RedisServer::start();
        for mode in [Coherence::Broadcast, Coherence::PubSub] {
            let (one, two) = (over(&server, "app:us*rs", mode).await, over(&server, "app:us*rs", mode).await);
            one.set("42", "Ada".to_owned()).await.unwrap();
            assert_eq!(server.command(&["GET", "app:us*rs:42"]).as_str(), "Ada");
            assert_eq!(read(&two, "42").await.as_deref(), Some("Ada"));
            one.set("42", "Bob".to_owned()).await.unwrap();
            eventually("the change is reported", async || read(&two, "42").await.as_deref() == Some("Bob")).await;
            server.reset_stats();
            assert_eq!(read(&two, "42").await.as_deref(), Some("Bob"));
            assert_eq!(server.calls(&["get", "mget"]), 0, "and the copy is kept");
            server.command(&["SET", "app:us_rs:42", "beside"]);
            assert_eq!(one.clear().await.unwrap(), 1);
            assert_eq!(server.command(&["GET", "app:us_rs:42"]).as_str(), "beside");
        }
    }

    #[tokio::test]
    async fn a_change_in_a_namespace_of_another_process_that_overlaps_is_reported() {
        let server = RedisServer::start();
        let outer = over(&server, "app", Coherence::Broadcast).await;
        outer.set("users:42", "Ada".to_owned()).await.unwrap();
        foreign(&server, &outer, &["SET", "app:users:42", "Bob"]).await;
        assert_eq!(read(&outer, "users:42").await.as_deref(), Some("Bob"));
        let inner = over(&server, "app:users", Coherence::Broadcast).await;
        assert_eq!(read(&inner, "42").await.as_deref(), Some("Bob"));
        outer.set("users:42", "Cid".to_owned()).await.unwrap();
        eventually("the change is reported", async || read(&inner, "42").await.as_deref() == Some("Cid")).await;
    }

    #[tokio::test]
    async fn a_key_prefix_stands_before_every_key_of_every_cache() {
        let server = RedisServer::start();
        let config = RedisConfig::new(server.url()).key_prefix("shop");
        let backend = RedisBackend::with_config(&config).unwrap();
        let builder = || Cache::<String>::builder().namespace("users").codec(Text);
        let users = builder().build(backend.clone()).await.unwrap();
        users.set("42", "Ada".to_owned()).await.unwrap();
        assert_eq!(server.command(&["KEYS", "*"]).as_array()[0].as_str(), "shop:users:42");
        foreign(&server, &users, &["SET", "shop:users:42", "Bob"]).await;
        assert_eq!(read(&users, "42").await.as_deref(), Some("Bob"));
        server.command(&["SET", "users:42", "another service's"]);
        assert_eq!(users.clear().await.unwrap(), 1);
        assert_eq!(server.command(&["GET", "users:42"]).as_str(), "another service's");
        let boxed: Box<dyn twotier::Backend> = Box::new(backend.another_link());
        let boxed = builder().build(boxed).await.unwrap();
        boxed.set("42", "Cid".to_owned()).await.unwrap();
        assert_eq!(server.command(&["GET", "shop:users:42"]).as_str(), "Cid");
    }
}
