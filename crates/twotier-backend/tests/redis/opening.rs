//! Making a link: few round trips, and errors that name what is wrong and what to do.

mod live {
    use std::{sync::Arc, time::Duration};

    use tokio::time::Instant;
    use twotier_backend::{Backend, BackendResult, RedisBackend};
    use twotier_core::{BackendError, BackendErrorKind, Coherence, LinkState, RedisConfig};
    use twotier_testkit::{Proxy, RedisServer};

    use crate::support::{Counter, eventually, watch};

    async fn attach(url: impl Into<String>, coherence: Option<Coherence>) -> BackendResult<Coherence> {
        let (backend, counter) = (RedisBackend::new(url).unwrap(), Arc::new(Counter::default()));
        let attached = backend.attach(watch(&counter, Duration::from_secs(2), coherence)).await?;
        Ok(attached.coherence)
    }

    fn refused(attached: &BackendResult<Coherence>, kind: BackendErrorKind, words: &[&str]) {
        let error = attached.as_ref().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{word} is not in: {error}");
        }
    }

    #[tokio::test]
    async fn a_server_300_ms_away_is_reached_with_the_defaults_and_comes_back() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        proxy.set_round_trip(Duration::from_millis(300));
        for mode in [Coherence::Broadcast, Coherence::PubSub, Coherence::None] {
            let (backend, counter) = (RedisBackend::new(proxy.url()).unwrap(), Arc::new(Counter::default()));
            let started = Instant::now();
            backend.attach(watch(&counter, Duration::from_secs(2), Some(mode))).await.unwrap();
            // Connecting takes no time here: what is left are three round trips, and half of one on a slow machine.
            assert!(started.elapsed() < Duration::from_millis(1050), "{mode}: {:?}", started.elapsed());
            let LinkState::Up(up) = backend.link() else { panic!() };
            let round_trip = up.round_trip.unwrap();
            assert!(round_trip >= Duration::from_millis(300), "{round_trip:?}");
            if mode == Coherence::Broadcast {
                proxy.cut();
                eventually("the link is back", || Counter::of(&counter.ups) == 2).await;
            }
        }
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up_after_the_timeout_and_a_slow_one_is_not() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        proxy.pause();
        let mut config = RedisConfig::new(proxy.url());
        config.connect_timeout = Duration::from_millis(200);
        let backend = RedisBackend::with_config(&config).unwrap();
        let counter = Arc::new(Counter::default());
        let error = backend.attach(watch(&counter, Duration::from_secs(2), None)).await.unwrap_err();
        assert!(error.to_string().contains("HELLO was not answered for 200 ms"), "{error}");
        proxy.resume();
        proxy.set_round_trip(Duration::from_millis(150));
        let started = Instant::now();
        backend.attach(watch(&counter, Duration::from_secs(2), None)).await.unwrap();
        assert!(started.elapsed() > config.connect_timeout, "longer than any silence in it");
    }

    #[tokio::test]
    async fn what_a_user_lacks_is_named_with_its_cure() {
        let all = "+get +mget +pttl +set +unlink +hello +ping +info +client|kill +client|tracking +client|trackinginfo";
        let channel = "+subscribe +publish +multi +exec";
        let without = |rules: &str, command: &str| rules.replace(&format!("+{command}"), "");
        for command in ["get", "pttl", "set", "unlink"] {
            let rules = without(all, command);
            let server =
                RedisServer::builder().acl_user(&format!("app on >p ~n:* resetchannels &n:* -@all {rules}")).start();
            let attached = attach(server.url_as("app", "p"), None).await;
            let cure = format!("+{command} ~n:*");
            refused(&attached, BackendErrorKind::Denied, &[&command.to_uppercase(), &cure]);
        }
        for command in ["subscribe", "publish", "multi"] {
            let rules = format!("{} {}", without(all, "client|tracking "), without(channel, command));
            let server =
                RedisServer::builder().acl_user(&format!("app on >p ~n:* resetchannels &n:* -@all {rules}")).start();
            let attached = attach(server.url_as("app", "p"), None).await;
            refused(&attached, BackendErrorKind::Denied, &[&command.to_uppercase(), &format!("+{command}")]);
        }
        for rules in [all.to_owned(), without(all, "mget")] {
            let server = RedisServer::builder().acl_user(&format!("app on >p ~n:* -@all {rules}")).start();
            assert_eq!(attach(server.url_as("app", "p"), None).await.unwrap(), Coherence::Broadcast, "{rules}");
            let keys = RedisServer::builder().acl_user(&format!("app on >p ~other:* -@all {rules}")).start();
            refused(&attach(keys.url_as("app", "p"), None).await, BackendErrorKind::Denied, &["GET", "~n:*"]);
            let nowhere = attach(format!("{}/3", server.url_as("app", "p")), None).await;
            refused(&nowhere, BackendErrorKind::Denied, &["SELECT", "+select"]);
        }
        let rules = format!("{} {channel}", without(all, "client|tracking "));
        let server =
            RedisServer::builder().acl_user(&format!("app on >p ~n:* resetchannels &n:* -@all {rules}")).start();
        assert_eq!(attach(server.url_as("app", "p"), None).await.unwrap(), Coherence::PubSub);
        let asked = attach(server.url_as("app", "p"), Some(Coherence::Broadcast)).await;
        refused(&asked, BackendErrorKind::Denied, &["CLIENT TRACKING", "+client|tracking"]);
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_used_is_named_with_what_to_do() {
        let server = RedisServer::start();
        let unavailable = BackendErrorKind::Unavailable;
        refused(&attach("redis://no-such-host.invalid", None).await, unavailable, &["host name", "resolved"]);
        refused(&attach(format!("{}/99", server.url()), None).await, BackendErrorKind::Rejected, &["database"]);
        refused(&attach(server.url_as("nobody", "sekret"), None).await, BackendErrorKind::Denied, &["credentials"]);
        server.command(&["CONFIG", "SET", "maxclients", "1"]);
        refused(&attach(server.url(), None).await, unavailable, &["maxclients"]);
        let locked = RedisServer::builder().password("sekret").start();
        let attached = attach(format!("redis://{}", locked.addr()), None).await;
        refused(&attached, BackendErrorKind::Denied, &["password"]);
        let cluster = RedisServer::builder().arg("cluster-enabled", "yes").start();
        refused(&attach(cluster.url(), None).await, BackendErrorKind::Unsupported, &["redis-cluster://"]);
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let attached: BackendResult<_> = attach(format!("redis://{nobody}"), None).await;
        refused(&attached, unavailable, &["refused"]);
    }

    #[cfg(feature = "tls")]
    #[tokio::test]
    async fn tls_to_a_plain_port_is_named() {
        let server = RedisServer::start();
        let attached = attach(format!("rediss://{}", server.addr()), None).await;
        refused(&attached, BackendErrorKind::Unavailable, &["TLS", "port"]);
    }

    #[cfg(feature = "simulation")]
    #[tokio::test]
    async fn two_connections_that_end_at_different_servers_are_no_link() {
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

        let (here, there) = (RedisServer::start(), RedisServer::start());
        let dials = Arc::new(AtomicUsize::new(0));
        let addresses = [here.addr(), there.addr()];
        // As behind a name that has two addresses.
        let dial = move |_host, _port| tokio::net::TcpStream::connect(addresses[dials.fetch_add(1, SeqCst) % 2]);
        let second = Duration::from_secs(1);
        let backend = RedisBackend::over_streams(&RedisConfig::new("redis://two"), dial).unwrap();
        let counter = Arc::new(Counter::default());
        let error: BackendError = backend.attach(watch(&counter, 2 * second, None)).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Unavailable);
        assert!(error.to_string().contains("different servers"), "{error}");
        assert_eq!(Counter::of(&counter.ups), 0);
    }

    #[tokio::test]
    async fn links_that_come_up_are_not_reported_to_the_others_of_the_namespace() {
        let server = RedisServer::start();
        for mode in [Coherence::Broadcast, Coherence::PubSub] {
            let (first, counter) = (RedisBackend::new(server.url()).unwrap(), Arc::new(Counter::default()));
            first.attach(watch(&counter, Duration::from_secs(2), Some(mode))).await.unwrap();
            for _ in 0..10 {
                attach(server.url(), Some(mode)).await.unwrap();
            }
            let writer = RedisBackend::new(server.url()).unwrap();
            writer.attach(watch(&Arc::default(), Duration::from_secs(2), Some(mode))).await.unwrap();
            writer.set(b"n:k", "v".into(), None).await.unwrap();
            eventually("the report", || Counter::of(&counter.changed) > 0).await;
            assert_eq!(Counter::of(&counter.changed), 1, "{mode}: the canaries of the others are passed over");
        }
    }
}
