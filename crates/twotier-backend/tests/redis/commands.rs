//! How the operations are sent to a server.

mod live {
    use std::time::Duration;

    use bytes::Bytes;
    use twotier_backend::{Backend, RedisBackend, Write};
    use twotier_core::{BackendErrorKind, RemainingTtl};
    use twotier_testkit::RedisServer;

    fn keys(names: &[&str]) -> Vec<Bytes> {
        names.iter().map(|name| Bytes::copy_from_slice(name.as_bytes())).collect()
    }

    #[tokio::test]
    async fn a_key_of_another_type_is_its_own_error_and_the_others_are_fine() {
        let server = RedisServer::start();
        let backend = RedisBackend::new(server.url()).unwrap();
        backend.ready().await.unwrap();
        server.command(&["SET", "n:a", "1"]);
        server.command(&["LPUSH", "n:list", "x"]);
        assert_eq!(backend.get(b"n:list").await.unwrap_err().kind(), BackendErrorKind::WrongType);
        let found = backend.get_many(&keys(&["n:a", "n:list", "n:none"])).await;
        assert_eq!(found[0].as_ref().unwrap().as_ref().unwrap().value, "1");
        assert_eq!(found[1].as_ref().unwrap_err().kind(), BackendErrorKind::WrongType);
        assert!(matches!(found[2], Ok(None)));
        assert_eq!(server.command(&["LLEN", "n:list"]).as_int(), 1);
        backend.set(b"n:list", Bytes::from_static(b"v"), None).await.unwrap();
        assert_eq!(server.command(&["GET", "n:list"]).as_str(), "v");
    }

    #[tokio::test]
    async fn value_and_remaining_time_to_live_come_from_one_round_trip() {
        let server = RedisServer::start();
        let backend = RedisBackend::new(server.url()).unwrap();
        backend.ready().await.unwrap();
        server.command(&["SET", "n:a", "1", "PX", "60000"]);
        server.command(&["SET", "n:b", "2"]);
        let stored = backend.get(b"n:a").await.unwrap().unwrap();
        let RemainingTtl::Expires(left) = stored.ttl else { panic!("{stored:?}") };
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60), "{left:?}");
        assert_eq!(backend.get(b"n:b").await.unwrap().unwrap().ttl, RemainingTtl::Persistent);
        server.reset_stats();
        backend.get_many(&keys(&["n:a", "n:b", "n:c"])).await;
        assert_eq!((server.calls(&["mget"]), server.calls(&["pttl"]), server.calls(&["get"])), (1, 3, 0));
    }

    #[tokio::test]
    async fn a_batch_of_any_size_is_split_into_bounded_ones() {
        let server = RedisServer::start();
        let backend = RedisBackend::new(server.url()).unwrap();
        backend.ready().await.unwrap();
        let writes: Vec<_> = (0..1200).map(|key| Write::new(format!("n:{key}"), key.to_string(), None)).collect();
        assert!(backend.set_many(&writes).await.iter().all(Result::is_ok));
        let keys: Vec<_> = writes.iter().map(|write| write.key.clone()).collect();
        server.reset_stats();
        let found = backend.get_many(&keys).await;
        for (write, found) in writes.iter().zip(found) {
            assert_eq!(found.unwrap().unwrap().value, write.value);
        }
        assert_eq!(server.calls(&["mget"]), 1200_u64.div_ceil(128));
        assert!(backend.delete_many(&keys).await.into_iter().all(|removed| removed.unwrap()));
        assert_eq!(server.command(&["DBSIZE"]).as_int(), 0);
    }
}
