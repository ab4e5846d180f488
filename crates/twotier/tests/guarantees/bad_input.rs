//! Bad input gets a clear error that names operation and field; nothing is lost, nothing poisoned, nothing panics.

use std::error::Error as _;

use twotier::{Cache, CacheConfig, ErrorKind, MAX_KEY_BYTES, MemoryBackend, RedisBackend, codec::Text};

use crate::support::{over_memory, read, text};

#[tokio::test]
async fn every_operation_refuses_an_empty_and_an_over_long_key_by_name() {
    let store = MemoryBackend::new();
    let cache = over_memory(&store).await;
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    for key in ["", &long] {
        let errors = [
            ("get", cache.get(key).await.unwrap_err()),
            ("get", cache.lookup(key).await.unwrap_err()),
            ("get_many", cache.get_many(&[key]).await.unwrap_err()),
            ("set", cache.set(key, String::new()).await.unwrap_err()),
            ("set_many", cache.set_many([(key, String::new())]).await.unwrap_err()),
            ("delete", cache.delete(key).await.unwrap_err()),
            ("delete_many", cache.delete_many(&[key]).await.unwrap_err()),
            ("get_many", cache.get_each(&[key]).await.remove(0).unwrap_err()),
            ("set_many", cache.set_each([(key, String::new())]).await.remove(0).unwrap_err()),
            ("delete_many", cache.delete_each(&[key]).await.remove(0).unwrap_err()),
            ("warm", cache.warm(&[key]).await.unwrap_err()),
            ("warm", cache.warm_paced(&[key], std::num::NonZeroU32::MIN).await.unwrap_err()),
            (
                "get_or_load",
                cache.get_or_load(key, async |_| Ok::<String, std::io::Error>(String::new())).await.unwrap_err(),
            ),
        ];
        for (operation, error) in errors {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert_eq!(error.to_string(), format!("{operation} in namespace `t`: invalid key"));
            let cause = error.source().unwrap().to_string();
            assert!(cause.starts_with("the key is ") && !cause.contains("kkk"), "{cause}");
        }
        assert_eq!(cache.get_if_local(key), None);
        assert!(!cache.invalidate_local(key));
    }
    assert!(store.is_empty());
    assert_eq!(cache.stats().local.total_requests(), 0, "a refused key is no request");
    let longest = "k".repeat(MAX_KEY_BYTES);
    cache.set(&longest, "v".to_owned()).await.unwrap();
    assert_eq!(read(&cache, &longest).await.as_deref(), Some("v"));
}

#[tokio::test]
async fn a_wrong_configuration_names_its_field_and_connects_nothing() {
    let config = CacheConfig::new("a::b");
    // Nothing listens on this port: the configuration is refused before anybody would notice.
    let backend = RedisBackend::new("redis://127.0.0.1:1").unwrap();
    let error = Cache::<String>::builder().defaults(&config).build(backend).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("`namespace`"), "{error}");
}

#[tokio::test]
async fn a_wrong_url_is_an_error_that_names_the_field_and_no_part_of_the_url() {
    for url in ["sekret", "http://sekret", "redis://sekret:sekret@", "redis://sekret/sekret"] {
        let error = Cache::<String>::connect(url).await.unwrap_err();
        assert!(error.to_string().contains("`url`"), "{error}");
        assert!(!format!("{error:?}").contains("sekret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_clear_error_at_build() {
    let error = Cache::<String>::connect("redis://127.0.0.1:1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), "build in namespace `twotier`: the backend is unavailable");
    assert!(error.source().unwrap().to_string().contains("refused"), "{error:?}");
}

#[tokio::test]
async fn an_undecodable_value_is_an_error_that_poisons_nothing() {
    let store = MemoryBackend::new();
    let numbers: Cache<u32> = Cache::builder().namespace("t").build(store.clone()).await.unwrap();
    let texts = over_memory(&store).await;
    texts.set("k", "sekret, not a number".to_owned()).await.unwrap();
    for _ in 0..2 {
        let error = numbers.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Codec);
        assert_eq!(error.to_string(), "get in namespace `t`: the codec failed");
        let printed = format!("{error:?} {}", error.source().unwrap());
        assert!(printed.contains("json") && !printed.contains("sekret"), "{printed}");
    }
    assert_eq!(numbers.stats().backend.undecodable, 2);
    texts.set("good", "7".to_owned()).await.unwrap();
    assert!(numbers.get_many(&["good", "k"]).await.is_err());
    assert_eq!(numbers.get_if_local("good").as_deref(), Some(&7), "the other key is not affected");
    assert_eq!(read(&texts, "k").await.as_deref(), Some("sekret, not a number"), "nothing is lost");
    numbers.set("k", 8).await.unwrap();
    assert_eq!(numbers.get("k").await.unwrap().as_deref(), Some(&8));
}

#[tokio::test]
async fn a_value_in_the_backend_over_the_limit_is_an_error_and_not_kept() {
    let store = MemoryBackend::new();
    over_memory(&store).await.set("k", "x".repeat(100)).await.unwrap();
    let cache = text().max_value_bytes(99).build(store).await.unwrap();
    let error = cache.get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValueTooLarge);
    assert_eq!(cache.stats().local.size, 0);
}

#[tokio::test]
async fn a_value_over_the_limit_is_refused_by_every_write_and_by_every_read_and_changes_nothing() {
    let store = MemoryBackend::new();
    let cache = text().max_value_bytes(9).build(store.clone()).await.unwrap();
    let long = || "x".repeat(10);
    cache.set("k", "old".to_owned()).await.unwrap();
    let before = store.operations();
    let errors = [
        cache.set("k", long()).await.unwrap_err(),
        cache.set_with("k", long(), twotier::SetOptions::new()).await.unwrap_err(),
        cache.set_many([("other", "short".to_owned()), ("k", long())]).await.unwrap_err(),
    ];
    assert_eq!(store.operations(), before, "not one command");
    assert!(cache.get_if_local("k").is_some(), "not even the local copy");
    assert_eq!(cache.update("k", |_| Some(long())).await.unwrap_err().kind(), ErrorKind::ValueTooLarge);
    assert_eq!(*cache.get_or_load("l", async |_| Ok::<_, std::io::Error>(long())).await.unwrap(), long());
    assert_eq!((read(&cache, "k").await.as_deref(), read(&cache, "l").await, store.len()), (Some("old"), None, 1));
    over_memory(&store).await.set("k", long()).await.unwrap();
    let reads = [
        cache.get("k").await.unwrap_err(),
        cache.get_many(&["k"]).await.unwrap_err(),
        cache.warm(&["k"]).await.unwrap_err(),
        cache.update("k", |_| Some(String::new())).await.unwrap_err(),
        cache.get_or_load("k", async |_| Err::<String, _>("never called")).await.unwrap_err(),
    ];
    for error in errors.iter().chain(&reads) {
        assert_eq!(error.kind(), ErrorKind::ValueTooLarge, "{error}");
        assert!(error.to_string().contains("has 10 bytes, at most 9"), "{error}");
    }
    assert_eq!(cache.stats().local.size, 1, "the absent one");
}

#[test]
fn building_outside_of_a_runtime_says_what_to_do() {
    let build = Cache::<String>::builder().codec(Text).build(MemoryBackend::new());
    let mut build = std::pin::pin!(build);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = build.as_mut().poll(&mut context) else { panic!("refused at once") };
    assert_eq!(error.to_string(), "build: call it within a tokio runtime, or use twotier::blocking");
}

mod live {
    use std::error::Error as _;

    use twotier::{Cache, ErrorKind, RedisBackend};
    use twotier_testkit::RedisServer;

    use crate::support::{over_redis, read, text};

    #[tokio::test]
    async fn a_key_of_another_type_is_an_error_that_loses_nothing_and_set_replaces_it() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        server.command(&["LPUSH", "t:k", "a", "b"]);
        for _ in 0..2 {
            let error = cache.get("k").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Rejected);
            assert_eq!(error.to_string(), "get in namespace `t`: the key holds another type of value");
            assert!(error.source().unwrap().to_string().contains("WRONGTYPE"), "{error:?}");
        }
        assert_eq!(server.command(&["LLEN", "t:k"]).as_int(), 2);
        cache.set("k", "v".to_owned()).await.unwrap();
        assert_eq!(read(&cache, "k").await.as_deref(), Some("v"));
    }

    #[tokio::test]
    async fn a_wrong_password_is_a_clear_error_without_the_password() {
        let server = RedisServer::builder().password("right/p@ss").start();
        let port = server.port();
        for url in [
            format!("redis://:sekret@127.0.0.1:{port}"),
            format!("redis://nobody:sekret@127.0.0.1:{port}"),
            format!("redis://127.0.0.1:{port}"),
        ] {
            let error = Cache::<String>::connect(&url).await.unwrap_err();
            assert_eq!(error.to_string(), "build in namespace `twotier`: access denied", "{error:?}");
            let printed = format!("{error:?} {}", error.source().unwrap());
            assert!(!printed.contains("sekret") && !printed.contains("nobody"), "{printed}");
        }
        let cache = Cache::<String>::connect(&format!("redis://:right%2Fp%40ss@127.0.0.1:{port}")).await.unwrap();
        cache.set("k", "v".to_owned()).await.unwrap();
    }

    #[tokio::test]
    async fn an_acl_user_with_the_documented_permissions_can_do_everything_and_others_are_denied() {
        let rules = "+get +mget +pttl +set +unlink +scan +eval +incrby +pexpire +multi +exec +hello +ping +info \
                     +client|kill +client|tracking +client|trackinginfo";
        let server = RedisServer::builder()
            .acl_user(&format!("app on >p%ss ~t:* resetchannels -@all {rules}"))
            .acl_user("blind on >p ~t:* resetchannels -@all +hello +ping +get +pttl")
            .start();
        let port = server.port();
        let backend = RedisBackend::new(format!("redis://app:p%25ss@127.0.0.1:{port}")).unwrap();
        let cache = text().build(backend.clone()).await.unwrap();
        cache.set("k", "v".to_owned()).await.unwrap();
        cache.clear_local();
        assert_eq!(read(&cache, "k").await.as_deref(), Some("v"));
        cache.get_many(&["k", "other"]).await.unwrap();
        assert!(cache.delete("k").await.unwrap());
        cache.update("k", |_| Some("w".to_owned())).await.unwrap();
        cache.get_or_load("l", async |_| Ok::<_, std::io::Error>("loaded".to_owned())).await.unwrap();
        let expiring = text().namespace("t:n").time_to_live(std::time::Duration::from_secs(60));
        assert!(cache.touch("l", std::time::Duration::from_secs(60)).await.unwrap());
        assert_eq!(cache.increment("n", 1).await.unwrap(), 1);
        let expiring = expiring.build(backend.another_link()).await.unwrap();
        assert_eq!(expiring.increment("n", 1).await.unwrap(), 1);
        expiring.close().await;
        cache.clear().await.unwrap();
        assert_eq!(cache.health().status, twotier::Status::Ready, "{}", cache.health());
        let without_local = text().without_local().build(backend.another_link()).await.unwrap();
        assert_eq!(read(&without_local, "k").await, None);
        assert_eq!(server.command(&["ACL", "LOG"]), twotier_testkit::Reply::Array(Vec::new()), "nothing was denied");

        let error = Cache::<String>::builder().namespace("other").build(backend).await.unwrap_err();
        assert_eq!(error.to_string(), "build in namespace `other`: access denied");
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains("may not run GET") && cause.contains("+get ~other:*"), "{cause}");

        let blind = RedisBackend::new(format!("redis://blind:p@127.0.0.1:{port}")).unwrap();
        let error = text().build(blind).await.unwrap_err();
        assert_eq!(error.to_string(), "build in namespace `t`: access denied", "{error:?}");
    }

    #[tokio::test]
    async fn a_unix_socket_works_like_a_port() {
        let server = RedisServer::start();
        let cache = text().build(RedisBackend::new(server.unix_url()).unwrap()).await.unwrap();
        cache.set("k", "v".to_owned()).await.unwrap();
        assert_eq!(server.command(&["GET", "t:k"]).as_str(), "v");
    }

    #[tokio::test]
    async fn a_database_is_chosen_by_the_url_and_one_that_does_not_exist_is_an_error() {
        let server = RedisServer::start();
        let backend = RedisBackend::new(format!("{}/3", server.url())).unwrap();
        let cache = text().build(backend).await.unwrap();
        cache.set("k", "v".to_owned()).await.unwrap();
        assert!(server.command(&["GET", "t:k"]).is_nil());
        assert!(server.command(&["INFO", "keyspace"]).as_str().contains("db3:keys=1"));
        assert!(text().build(RedisBackend::new(format!("{}/99", server.url())).unwrap()).await.is_err());
    }

    #[tokio::test]
    async fn a_server_that_refuses_a_write_says_why_and_the_local_copy_is_gone() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        cache.set("k", "old".to_owned()).await.unwrap();
        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        let error = cache.set("k", "new".to_owned()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert!(error.source().unwrap().to_string().contains("OOM"), "{error:?}");
        assert_eq!(cache.get_if_local("k"), None);
        server.command(&["CONFIG", "SET", "maxmemory", "0"]);
        assert_eq!(read(&cache, "k").await.as_deref(), Some("old"), "the refused write changed nothing");
    }
}
