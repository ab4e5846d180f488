//! A write that was under way when its link was given up takes effect before the next link is up, or never.

mod live {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;
    use twotier_backend::{Backend, RedisBackend};
    use twotier_core::{LinkState, RedisConfig};
    use twotier_testkit::RedisServer;

    use crate::support::{Counter, Relay, Requests, eventually, watch};

    fn is_fenced(backend: &RedisBackend) -> Option<bool> {
        match backend.link() {
            LinkState::Up(up) => Some(up.fenced),
            _ => None,
        }
    }

    /// Writes `old`, which the network keeps until the link is given up and the next has written `new`. Returns what is
    /// there once `old` was delivered, and whether the link was fenced.
    async fn undone(server: &RedisServer, url: impl Fn(&Relay) -> String) -> (String, bool) {
        let relay = Relay::start(server.addr()).await;
        let mut config = RedisConfig::new(url(&relay));
        config.dead_after = Duration::from_millis(300);
        let backend = RedisBackend::with_config(&config).unwrap();
        let counter = Arc::new(Counter::default());
        backend.attach(watch(&counter, Duration::from_millis(400), None)).await.unwrap();
        assert_eq!(is_fenced(&backend), Some(true), "there was nothing to fence off");

        relay.set_requests(Requests::Keep);
        let failed = backend.set(b"n:k", Bytes::from_static(b"old"), None).await.unwrap_err();
        assert!(failed.may_have_executed(), "{failed:?}");
        relay.set_requests(Requests::Forward);
        eventually("the next link", || is_fenced(&backend).is_some()).await;
        let fenced = is_fenced(&backend).unwrap();
        backend.ready().await.unwrap();
        backend.set(b"n:k", Bytes::from_static(b"new"), None).await.unwrap();

        let before = server.info("stats")["total_net_input_bytes"].parse::<u64>().unwrap();
        relay.set_requests(Requests::Deliver);
        // It is there when something else, sent later, is: or it is a write to a socket that was closed.
        eventually("the delivery", || {
            let delivered = server.command(&["GET", "n:k"]).as_str() == "old";
            let read = server.info("stats")["total_net_input_bytes"].parse::<u64>().unwrap();
            delivered || fenced && read > before + 2000
        })
        .await;
        (server.command(&["GET", "n:k"]).as_str().to_owned(), fenced)
    }

    #[tokio::test]
    async fn an_older_write_that_arrives_late_does_not_undo_a_newer_one() {
        let server = RedisServer::start();
        assert_eq!(undone(&server, Relay::url).await, ("new".to_owned(), true));
    }

    #[tokio::test]
    async fn without_the_right_to_end_connections_a_link_reports_itself_unfenced() {
        for lacks in ["-client +client|tracking +client|trackinginfo", "-info"] {
            let server = RedisServer::builder().acl_user(&format!("app on >p ~n:* +@all {lacks}")).start();
            let (held, fenced) = undone(&server, |relay| relay.url_as("app", "p")).await;
            assert_eq!((held.as_str(), fenced), ("old", false), "and the late write is what was warned of");
        }
    }

    #[tokio::test]
    async fn a_server_that_was_restarted_has_nobody_s_connections_ended() {
        let server = RedisServer::start();
        let backend = RedisBackend::new(server.url()).unwrap();
        let counter = Arc::new(Counter::default());
        backend.attach(watch(&counter, Duration::from_millis(400), None)).await.unwrap();
        server.restart();
        eventually("the next link", || Counter::of(&counter.ups) == 2 && backend.link().is_up()).await;
        assert_eq!(server.calls(&["client|kill"]), 0, "the numbers of its connections began anew");
        assert_eq!(is_fenced(&backend), Some(true));
    }
}
