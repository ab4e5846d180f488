//! Redis and Valkey, each check on a private server.

mod live {
    use std::time::Duration;

    use bytes::Bytes;
    use twotier_backend::{Backend, RedisBackend, Write, async_trait, conformance, conformance::Fixture};
    use twotier_core::{BackendErrorKind, Coherence};
    use twotier_testkit::RedisServer;

    struct Redis {
        server: RedisServer,
        backend: RedisBackend,
    }

    impl Redis {
        fn start() -> Self {
            let server = RedisServer::start();
            Self { backend: RedisBackend::new(server.url()).expect("the URL is one"), server }
        }
    }

    #[async_trait]
    impl Fixture for Redis {
        async fn backend(&self) -> Box<dyn Backend> {
            Box::new(self.backend.another_link())
        }

        async fn pass_time(&self, by: Duration) {
            tokio::time::sleep(by).await;
        }

        fn coherence(&self) -> Coherence {
            Coherence::Broadcast
        }

        async fn write_outside(&self, key: &[u8], value: &[u8]) {
            assert!(self.server.command(&[b"SET".as_slice(), key, value]).is_ok());
        }
    }

    twotier_backend::conformance_tests!(Redis::start());

    #[tokio::test]
    async fn one_server_serves_all_checks() {
        conformance::run(&Redis::start()).await;
    }

    #[tokio::test]
    async fn a_unix_socket_serves_all_checks() {
        let server = RedisServer::builder().unix_only().start();
        conformance::run(&Redis { backend: RedisBackend::new(server.unix_url()).unwrap(), server }).await;
    }

    #[tokio::test]
    async fn a_key_of_another_type_is_an_error_of_its_own_and_costs_nobody_else() {
        let Redis { server, backend } = Redis::start();
        server.command(&["RPUSH", "n:list", "a", "b"]);
        server.command(&["SET", "n:1", "one"]);
        server.command(&["SET", "n:2", "two", "PX", "60000"]);
        let keys: Vec<Bytes> = vec!["n:1".into(), "n:list".into(), "n:absent".into(), "n:2".into(), "n:list".into()];

        assert_eq!(backend.get(b"n:list").await.unwrap_err().kind(), BackendErrorKind::WrongType);
        let found = backend.get_many(&keys).await;
        let shown: Vec<_> = found
            .iter()
            .map(|result| match result {
                Ok(found) => Ok(found.as_ref().map(|stored| stored.value.as_ref())),
                Err(error) => Err(error.kind()),
            })
            .collect();
        let wrong = Err(BackendErrorKind::WrongType);
        assert_eq!(shown, [Ok(Some(&b"one"[..])), wrong, Ok(None), Ok(Some(b"two")), wrong]);
        assert_eq!(server.command(&["LLEN", "n:list"]).as_int(), 2, "reading changes nothing");

        backend.set(b"n:list", "plain".into(), None).await.unwrap();
        assert_eq!(server.command(&["GET", "n:list"]).as_str(), "plain");
        server.command(&["DEL", "n:list"]);
        server.command(&["RPUSH", "n:list", "a"]);
        let writes = [Write::new("n:list", "batch", None)];
        assert!(backend.set_many(&writes).await[0].is_ok());
        assert_eq!(server.command(&["GET", "n:list"]).as_str(), "batch");

        server.command(&["DEL", "n:list"]);
        server.command(&["RPUSH", "n:list", "a"]);
        assert!(backend.delete(b"n:list").await.unwrap(), "a delete does not ask for the type");
        assert_eq!(server.command(&["EXISTS", "n:list", "n:1", "n:2"]).as_int(), 2);
    }
}
