//! A server that refuses one command has not gone away: reads and hits go on, loads run, and each error says what it
//! means.

mod live {
    use std::{
        error::Error as _,
        io,
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use twotier::{Cache, Coherence, Error, ErrorKind, Freshness, RedisBackend, Status};
    use twotier_testkit::RedisServer;

    use crate::support::{ends, eventually, foreign, over_redis, read, redis, text};

    /// The cause of an error, with its own causes.
    fn causes(error: &Error) -> String {
        let mut text = String::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            text += &format!("{error}; ");
            cause = error.source();
        }
        text
    }

    async fn load(cache: &Cache<String>, key: &str) -> String {
        let loaded = ends(cache.get_or_load(key, async |_| Ok::<_, io::Error>("loaded".to_owned()))).await;
        (*loaded.unwrap()).clone()
    }

    /// Makes the server refuse every write, and `PING`, as it does when its disk is full.
    async fn fill_the_disk(server: &RedisServer) {
        server.command(&["CONFIG", "SET", "dir", "/proc"]);
        server.command(&["CONFIG", "SET", "save", "3600 1"]);
        server.command(&["BGSAVE"]);
        eventually("the disk is full", async || {
            server.command(&["INFO", "persistence"]).as_str().contains("rdb_last_bgsave_status:err")
        })
        .await;
    }

    #[tokio::test]
    async fn with_a_full_disk_on_the_server_reads_hits_and_loads_go_on_and_writes_say_why() {
        let server = RedisServer::builder().arg("enable-protected-configs", "yes").start();
        let cache = text().op_timeout(Duration::from_secs(5)).build(redis(&server)).await.unwrap();
        cache.set("k", "v".to_owned()).await.unwrap();
        cache.set("other", "w".to_owned()).await.unwrap();
        let links = cache.stats().coherence.links;
        fill_the_disk(&server).await;
        // Several heartbeats are refused meanwhile.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(cache.get_if_local("k").is_some(), "hits go on");
        let _ = cache.invalidate_local("other");
        assert_eq!(read(&cache, "other").await.as_deref(), Some("w"), "reads go on");
        assert_eq!(load(&cache, "l").await, "loaded");
        let error = cache.set("k", "new".to_owned()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert!(causes(&error).contains("SET was refused") && causes(&error).contains("MISCONF"), "{}", causes(&error));
        assert!(!error.may_have_executed());
        assert_eq!((cache.stats().coherence.links, cache.health().status), (links, Status::Ready));
        // Who starts now is served too.
        let late = over_redis(&server).await;
        assert_eq!(late.health().coherence, Coherence::Broadcast);
        assert_eq!(read(&late, "k").await.as_deref(), Some("v"));
        assert_eq!(load(&late, "l").await, "loaded");
    }

    #[tokio::test]
    async fn a_slow_script_of_somebody_else_costs_no_link_no_copy_and_no_mode() {
        let server = RedisServer::builder().arg("busy-reply-threshold", "100").start();
        let cache = text().op_timeout(Duration::from_millis(300)).build(redis(&server)).await.unwrap();
        cache.set("k", "v".to_owned()).await.unwrap();
        let links = cache.stats().coherence.links;
        let addr = server.addr();
        let script = "local t = redis.call('TIME')[1] + 3 while tonumber(redis.call('TIME')[1]) < t do end";
        let slow = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let mut socket = std::net::TcpStream::connect(addr).unwrap();
            write!(socket, "*3\r\n$4\r\nEVAL\r\n${}\r\n{script}\r\n$1\r\n0\r\n", script.len()).unwrap();
            let _ = socket.read(&mut [0; 16]);
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut refused = 0;
        while !slow.is_finished() {
            assert_eq!(load(&cache, "l").await, "loaded");
            match cache.get("other").await {
                Ok(_) => {}
                Err(error) => {
                    refused += usize::from(causes(&error).contains("BUSY"));
                    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error:?}");
                }
            }
            // Who is built now is built in the mode that the server has, or not at all.
            if let Ok(built) = text().build(redis(&server)).await {
                assert_eq!(built.health().coherence, Coherence::Broadcast);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(refused > 0, "the server refused");
        eventually("it serves again", async || cache.get("other").await.is_ok()).await;
        assert!(cache.get_if_local("k").is_some(), "the copy is still one");
        assert_eq!(cache.stats().coherence.links, links);
    }

    #[tokio::test]
    async fn a_rotated_password_is_a_link_that_is_down_for_that_cause_and_loads_go_on() {
        let server = RedisServer::builder().acl_user("app on >old ~t:* +@all").start();
        let url = server.url_as("app", "old");
        let cache = text().build(RedisBackend::new(url).unwrap()).await.unwrap();
        server.command(&["ACL", "SETUSER", "app", "resetpass", ">new"]);
        server.command(&["CLIENT", "KILL", "USER", "app"]);
        eventually("the link is down", async || cache.health().status == Status::Down).await;
        eventually("the cause is known", async || cache.health().to_string().contains("credentials")).await;
        assert_eq!(load(&cache, "k").await, "loaded");
        let error = cache.get("another").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(causes(&error).contains("the link is down") && causes(&error).contains("credentials"), "{error:?}");
        let error = cache.set("k", "v".to_owned()).await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::Unavailable, false));
        server.command(&["ACL", "SETUSER", "app", ">old"]);
        eventually("the link comes back", async || cache.health().status == Status::Ready).await;
        cache.set("k", "v".to_owned()).await.unwrap();
    }

    #[tokio::test]
    async fn whatever_the_server_refuses_a_load_runs_its_loader() {
        type Break = fn(&RedisServer);
        let cases: [(&str, Break); 4] = [
            ("no command is allowed", |server| {
                server.command(&["ACL", "SETUSER", "app", "-@all"]);
            }),
            ("reads are not allowed", |server| {
                server.command(&["ACL", "SETUSER", "app", "-get", "-mget"]);
            }),
            ("a key of another type", |server| {
                server.command(&["LPUSH", "t:k", "a"]);
                server.command(&["LPUSH", "t:l", "a"]);
            }),
            ("no memory", |server| {
                server.command(&["CONFIG", "SET", "maxmemory", "1"]);
            }),
        ];
        for (case, break_it) in cases {
            let server = RedisServer::builder().acl_user("app on >p ~* &* +@all").start();
            let url = server.url_as("app", "p");
            let cache = text().build(RedisBackend::new(url).unwrap()).await.unwrap();
            break_it(&server);
            for _ in 0..20 {
                assert_eq!(load(&cache, "k").await, "loaded", "{case}");
            }
            let many = async |missing: Vec<&'static str>| {
                Ok::<_, io::Error>(missing.into_iter().map(|key| (key, "loaded".to_owned())))
            };
            let found = ends(cache.get_many_or_load(&["k", "l"], many)).await.unwrap();
            assert!(found.iter().all(|value| value.as_deref().is_some_and(|value| value == "loaded")), "{case}");
        }
    }

    #[tokio::test]
    async fn what_a_server_does_not_take_is_loaded_once_in_a_bound() {
        type Change = &'static [&'static str];
        let cases: [(Change, Change); 2] = [
            (&["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"]),
            (&["ACL", "SETUSER", "app", "-set"], &["ACL", "SETUSER", "app", "+set"]),
        ];
        for (refuse, allow) in cases {
            let server = RedisServer::builder().acl_user("app on >p ~* &* +@all").start();
            let cache = text().build(RedisBackend::new(server.url_as("app", "p")).unwrap()).await.unwrap();
            server.command(refuse);
            let calls = AtomicUsize::new(0);
            let many = async |missing: Vec<&'static str>| {
                calls.fetch_add(1, Ordering::SeqCst);
                Ok::<_, io::Error>(missing.into_iter().map(|key| (key, "loaded".to_owned())))
            };
            for _ in 0..20 {
                assert_eq!(load(&cache, "k").await, "loaded");
                assert!(cache.get_many_or_load(&["l", "m"], many).await.unwrap().iter().all(Option::is_some));
            }
            let stats = cache.stats().backend;
            assert_eq!((calls.load(Ordering::SeqCst), stats.loads, stats.unstored), (1, 2, 3), "{refuse:?}");
            assert_eq!(server.command(&["EXISTS", "t:k", "t:l", "t:m"]).as_int(), 0);
            let found = cache.lookup("k").await.unwrap();
            assert!(matches!(found.freshness, Freshness::Outage { .. }), "{found:?}");
            server.command(allow);
            foreign(&server, &cache, &["SET", "t:k", "newer"]).await;
            assert_eq!(read(&cache, "k").await.as_deref(), Some("newer"), "a report ends it");
        }
    }

    #[tokio::test]
    async fn a_refusal_names_our_command_and_quotes_no_argument() {
        // Servers quote the arguments of a command that they do not know, and newer ones the name of a user who may not
        // run it.
        let builder = RedisServer::builder().arg("rename-command", "EVAL elsewhere");
        let server = builder.acl_user("sekret on >p ~t:* &* +@all").start();
        let url = server.url_as("sekret", "p");
        let cache = text().build(RedisBackend::new(url).unwrap()).await.unwrap();
        let secret = || "sekret".to_owned();
        let shown = |error: &Error| format!("{error:?} {error} {}", causes(error));
        cache.set("sekret", secret()).await.unwrap();
        let error = cache.update("sekret", |_| Some(secret())).await.unwrap_err();
        assert!(causes(&error).contains("EVAL was refused: ERR"), "{}", causes(&error));
        assert!(!shown(&error).contains("sekret") && !shown(&error).contains("redis.call"), "{}", shown(&error));
        server.command(&["ACL", "SETUSER", "sekret", "-set", "-unlink", "-mget", "-get"]);
        let error = cache.set("sekret", secret()).await.unwrap_err();
        assert!(causes(&error).contains("SET") && causes(&error).contains("NOPERM"), "{}", causes(&error));
        assert!(!shown(&error).contains("sekret"), "{}", shown(&error));
        let error = cache.delete("sekret").await.unwrap_err();
        assert!(causes(&error).contains("UNLINK"), "{}", causes(&error));
        assert!(!shown(&error).contains("sekret"), "{}", shown(&error));
        let _copy = cache.invalidate_local("sekret");
        let error = cache.get("sekret").await.unwrap_err();
        assert!(causes(&error).contains("GET"), "{}", causes(&error));
        assert!(!shown(&error).contains("sekret"), "{}", shown(&error));
    }

    #[tokio::test]
    async fn a_cache_whose_runtime_has_ended_says_so() {
        let server = RedisServer::start();
        let (sender, receiver) = std::sync::mpsc::channel();
        let backend = redis(&server);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            sender.send(runtime.block_on(text().build(backend)).unwrap()).unwrap();
        })
        .join()
        .unwrap();
        let cache = receiver.recv().unwrap();
        let health = cache.health();
        assert_eq!(health.status, Status::Down);
        assert!(health.to_string().contains("runtime"), "{health}");
        let error = ends(cache.get("k")).await.unwrap_err();
        assert!(causes(&error).contains("runtime"), "{}", causes(&error));
        let error = ends(cache.set("k", "v".to_owned())).await.unwrap_err();
        assert!(causes(&error).contains("runtime") && !error.may_have_executed(), "{}", causes(&error));
        assert_eq!(load(&cache, "k").await, "loaded");
    }

    #[test]
    fn a_runtime_without_timers_or_io_is_an_error_at_once() {
        let server = RedisServer::start();
        for (io, time) in [(false, true), (true, false)] {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            if io {
                builder.enable_io();
            }
            if time {
                builder.enable_time();
            }
            let backend = redis(&server);
            let (sender, receiver) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let built = builder.build().unwrap().block_on(text().build(backend));
                sender.send(built.map(drop)).unwrap();
            });
            let built = receiver.recv_timeout(Duration::from_secs(20)).expect("build ends");
            assert!(built.is_err(), "I/O {io}, time {time}");
        }
    }
}
