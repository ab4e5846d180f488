//! A server that refuses a command is no lost link, and nothing lasting is decided on a refusal that passes.

mod live {
    use std::{sync::Arc, thread, time::Duration};

    use bytes::Bytes;
    use twotier_backend::{Backend, RedisBackend};
    use twotier_core::{BackendErrorKind, Coherence};
    use twotier_testkit::{Client, RedisServer, Reply};

    use crate::support::{Counter, Fault, Relay, eventually, watch};

    const STALENESS: Duration = Duration::from_millis(400);

    async fn attached(server: &RedisServer) -> (Arc<RedisBackend>, Arc<Counter>) {
        let (backend, counter) = (Arc::new(RedisBackend::new(server.url()).unwrap()), Arc::new(Counter::default()));
        backend.attach(watch(&counter, STALENESS, None)).await.unwrap();
        (backend, counter)
    }

    async fn five_proofs(counter: &Counter) {
        let proofs = Counter::of(&counter.proofs);
        eventually("five proofs of life", || Counter::of(&counter.proofs) >= proofs + 5).await;
        assert_eq!(Counter::of(&counter.downs), 0, "the link lived");
    }

    /// Makes the server refuse writes, and `PING`, as with a full disk.
    async fn fill_the_disk(server: &RedisServer) {
        let directory = server.command(&["CONFIG", "GET", "dir"]);
        let directory = std::path::PathBuf::from(directory.as_array()[1].as_str());
        std::fs::create_dir_all(directory.join("dump.rdb/in-the-way")).unwrap();
        server.command(&["CONFIG", "SET", "save", "3600 1000000"]);
        server.command(&["BGSAVE"]);
        eventually("the server refuses writes", || {
            !server.command(&["SET", "other", "v"]).is_ok() && server.command(&["PING"]).is_error()
        })
        .await;
    }

    #[tokio::test]
    async fn a_server_with_a_full_disk_is_read_and_its_refusals_name_the_command_and_the_code() {
        let server = RedisServer::start();
        let (backend, counter) = attached(&server).await;
        backend.set(b"n:k", Bytes::from_static(b"v"), None).await.unwrap();
        fill_the_disk(&server).await;
        five_proofs(&counter).await;
        assert_eq!(backend.get(b"n:k").await.unwrap().unwrap().value, "v");
        let error = backend.set(b"n:k", Bytes::from_static(b"w"), None).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (BackendErrorKind::Rejected, Some("MISCONF")));
        assert!(error.to_string().starts_with("SET was refused: MISCONF"), "{error}");
        assert!(!error.may_have_executed());
        // It cannot be tested by a write now, and is the same server all the same.
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        eventually("the link is back", || Counter::of(&counter.ups) == 2).await;
        let (late, _counter) = attached(&server).await;
        assert_eq!(late.get(b"n:k").await.unwrap().unwrap().value, "v");
        let channel = RedisBackend::new(server.url()).unwrap();
        let watch = watch(&Arc::default(), STALENESS, Some(Coherence::PubSub));
        assert_eq!(channel.attach(watch).await.unwrap().coherence, Coherence::PubSub);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_script_that_takes_long_costs_no_link_and_puts_nobody_into_a_weaker_mode() {
        let server = Arc::new(RedisServer::builder().arg("lua-time-limit", "50").start());
        let (backend, counter) = attached(&server).await;
        backend.set(b"n:k", Bytes::from_static(b"v"), None).await.unwrap();
        let busy = Arc::clone(&server);
        let script = thread::spawn(move || {
            // Ended by the test.
            busy.client().try_command(&["EVAL", "while true do end", "0"])
        });
        let mut witness = server.client();
        eventually_busy(&mut witness);
        let error = backend.get(b"n:k").await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (BackendErrorKind::Busy, Some("BUSY")));
        let keys: Vec<_> = (0..4).map(|key| Bytes::from(format!("n:{key}"))).collect();
        for found in backend.get_many(&keys).await {
            assert_eq!(found.unwrap_err().kind(), BackendErrorKind::Busy);
        }
        let error = backend.set(b"n:k", Bytes::from_static(b"w"), None).await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_executed()), (BackendErrorKind::Busy, false));
        let late = RedisBackend::new(server.url()).unwrap();
        let late_counter = Arc::new(Counter::default());
        let error = late.attach(watch(&late_counter, STALENESS, None)).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Busy, "{error}");
        five_proofs(&counter).await;
        assert!(witness.command(&["SCRIPT", "KILL"]).is_ok());
        drop(script.join());
        assert_eq!(backend.get(b"n:k").await.unwrap().unwrap().value, "v");
        let attached = late.attach(watch(&late_counter, STALENESS, None)).await.unwrap();
        assert_eq!(attached.coherence, Coherence::Broadcast);
        assert_eq!(Counter::of(&counter.ups), 1);
        // Nor was it a denial of `MGET`.
        server.reset_stats();
        assert!(backend.get_many(&keys).await.iter().all(Result::is_ok));
        assert_eq!(server.calls(&["mget"]), 1);
    }

    #[tokio::test]
    async fn no_refusal_that_passes_is_a_reason_for_a_weaker_mode() {
        let server = RedisServer::start();
        let mut refused = 0;
        // Every reply of the opening, one after the other.
        for after in 0..24 {
            for refusal in [&b"-BUSY a script runs\r\n"[..], b"-LOADING data\r\n", b"-MISCONF disk\r\n"] {
                let relay = Relay::start(server.addr()).await;
                relay.strike(after, Fault::Replace(refusal));
                let backend = RedisBackend::new(relay.url()).unwrap();
                match backend.attach(watch(&Arc::default(), STALENESS, None)).await {
                    Ok(attached) => assert_eq!(attached.coherence, Coherence::Broadcast, "after {after} replies"),
                    Err(_refusal) => refused += 1,
                }
            }
        }
        assert!(refused > 10, "{refused} were refused");
    }

    fn eventually_busy(witness: &mut Client) {
        for _ in 0..20_000 {
            if matches!(witness.command(&["GET", "x"]), Reply::Error(error) if error.starts_with("BUSY")) {
                return;
            }
        }
        panic!("the server never became busy");
    }
}
