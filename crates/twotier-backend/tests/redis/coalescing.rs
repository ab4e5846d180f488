//! Single reads that come at the same time share round trips, and nothing else.

mod live {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;
    use tokio::task::JoinHandle;
    use twotier_backend::{Backend, BackendResult, RedisBackend, Stored};
    use twotier_core::{BackendErrorKind, RemainingTtl};
    use twotier_testkit::{Proxy, RedisServer};

    type Read = JoinHandle<BackendResult<Option<Stored>>>;

    /// Starts reads of `n:0` to `n:<count - 1>`, in tasks of their own.
    fn reads(backend: &Arc<RedisBackend>, count: usize) -> Vec<Read> {
        let read = |key: usize| {
            let backend = Arc::clone(backend);
            tokio::spawn(async move { backend.get(format!("n:{key}").as_bytes()).await })
        };
        (0..count).map(read).collect()
    }

    fn write(server: &RedisServer, keys: usize) {
        let mut words = vec!["MSET".to_owned()];
        words.extend((0..keys).flat_map(|key| [format!("n:{key}"), format!("v{key}")]));
        server.command(&words);
    }

    async fn ends<T>(task: JoinHandle<T>) -> T {
        tokio::time::timeout(Duration::from_secs(20), task).await.expect("the read ends").unwrap()
    }

    #[tokio::test]
    async fn concurrent_reads_of_different_keys_are_a_handful_of_commands() {
        let server = RedisServer::start();
        let backend = Arc::new(RedisBackend::new(server.url()).unwrap());
        backend.get(b"n:0").await.unwrap();
        write(&server, 512);
        server.reset_stats();
        for (key, read) in reads(&backend, 512).into_iter().enumerate() {
            let stored = ends(read).await.unwrap().unwrap();
            assert_eq!((stored.value, stored.ttl), (Bytes::from(format!("v{key}")), RemainingTtl::Persistent));
        }
        assert_eq!(server.calls(&["pttl"]), 512, "each key is read once");
        assert!(server.calls(&["mget"]) <= 8, "{} MGET", server.calls(&["mget"]));
        assert!(server.calls(&["get"]) <= 8, "{} GET", server.calls(&["get"]));
    }

    #[tokio::test]
    async fn the_server_works_on_one_half_of_the_reads_while_the_other_is_put_together() {
        let server = RedisServer::start();
        let backend = Arc::new(RedisBackend::new(server.url()).unwrap());
        backend.get(b"n:0").await.unwrap();
        server.reset_stats();
        let readers: Vec<_> = (0..64)
            .map(|reader| {
                let backend = Arc::clone(&backend);
                tokio::spawn(async move {
                    for key in 0..200 {
                        backend.get(format!("n:{reader}:{key}").as_bytes()).await.unwrap();
                    }
                })
            })
            .collect();
        for reader in readers {
            ends(reader).await;
        }
        let (keys, batches) = (server.calls(&["pttl"]), server.calls(&["mget"]));
        assert_eq!(keys, 64 * 200);
        assert!(keys <= 40 * batches, "{keys} keys in {batches} batches: client and server take turns");
        assert!(keys >= 6 * batches, "{keys} keys in {batches} batches: they hardly share round trips");
    }

    #[tokio::test]
    async fn a_few_concurrent_reads_do_not_wait_for_company() {
        let server = RedisServer::start();
        let backend = Arc::new(RedisBackend::new(server.url()).unwrap());
        backend.get(b"n:0").await.unwrap();
        server.reset_stats();
        for read in reads(&backend, 3) {
            assert_eq!(ends(read).await.unwrap(), None);
        }
        assert_eq!((server.calls(&["get"]), server.calls(&["mget"])), (3, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn readers_that_go_away_at_any_point_leave_nobody_behind() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let backend = Arc::new(RedisBackend::new(proxy.url()).unwrap());
        backend.get(b"n:0").await.unwrap();
        write(&server, 300);
        for round in 0..40_u64 {
            // Without, within and after the round trip, and the first of each batch among them.
            proxy.set_round_trip(Duration::from_micros(300 * (round % 3)));
            let mut kept = Vec::new();
            for (key, read) in reads(&backend, 300).into_iter().enumerate() {
                if fastrand::bool() || key % 100 == 8 {
                    read.abort();
                } else {
                    kept.push((key, read));
                }
                if key % 64 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            for (key, read) in kept {
                assert_eq!(ends(read).await.unwrap().unwrap().value, format!("v{key}"));
            }
        }
        // None of those that went away is still counted: a lone read goes by itself.
        tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                server.reset_stats();
                backend.get(b"n:1").await.unwrap();
                if server.calls(&["get"]) == 1 {
                    break;
                }
            }
        })
        .await
        .expect("no read that ended is counted as in flight");
    }

    #[tokio::test]
    async fn a_lost_connection_is_an_error_for_everyone_who_waits() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let backend = Arc::new(RedisBackend::new(proxy.url()).unwrap());
        backend.get(b"n:0").await.unwrap();
        proxy.pause();
        let reads = reads(&backend, 300);
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.cut();
        for read in reads {
            assert_eq!(ends(read).await.unwrap_err().kind(), BackendErrorKind::Unavailable);
        }
    }

    #[tokio::test]
    async fn a_key_of_another_type_among_many_is_its_own_error() {
        let server = RedisServer::start();
        let backend = Arc::new(RedisBackend::new(server.url()).unwrap());
        backend.get(b"n:0").await.unwrap();
        write(&server, 100);
        for key in [20, 50, 51] {
            server.command(&["DEL", &format!("n:{key}")]);
            server.command(&["LPUSH", &format!("n:{key}"), "x"]);
        }
        server.reset_stats();
        for (key, read) in reads(&backend, 120).into_iter().enumerate() {
            match (key, ends(read).await) {
                (20 | 50 | 51, result) => assert_eq!(result.unwrap_err().kind(), BackendErrorKind::WrongType),
                (100.., result) => assert_eq!(result.unwrap(), None),
                (_, result) => assert_eq!(result.unwrap().unwrap().value, format!("v{key}")),
            }
        }
        assert!(server.calls(&["mget"]) >= 1, "they were read together");
    }

    #[tokio::test]
    async fn a_user_who_may_not_run_mget_reads_all_the_same() {
        let server = RedisServer::builder().acl_user("r on >p ~n:* -@all +hello +ping +get +pttl +multi +exec").start();
        let backend = Arc::new(RedisBackend::new(server.url_as("r", "p")).unwrap());
        backend.get(b"n:0").await.unwrap();
        write(&server, 200);
        for _twice in 0..2 {
            for (key, read) in reads(&backend, 200).into_iter().enumerate() {
                assert_eq!(ends(read).await.unwrap().unwrap().value, format!("v{key}"));
            }
        }
    }

    #[tokio::test]
    async fn a_read_that_starts_after_a_write_returned_sees_it_whatever_else_is_read() {
        let server = RedisServer::start();
        let backend = Arc::new(RedisBackend::new(server.url()).unwrap());
        backend.get(b"n:0").await.unwrap();
        let tasks: Vec<_> = (0..64)
            .map(|key| {
                let backend = Arc::clone(&backend);
                tokio::spawn(async move {
                    let name = format!("own:{key}");
                    for round in 0..50 {
                        let value = Bytes::from(round.to_string());
                        backend.set(name.as_bytes(), value.clone(), None).await.unwrap();
                        assert_eq!(backend.get(name.as_bytes()).await.unwrap().unwrap().value, value);
                    }
                })
            })
            .collect();
        for task in tasks {
            ends(task).await;
        }
    }

    #[test]
    fn the_end_of_the_readers_runtime_holds_up_no_reader_of_another() {
        let server = RedisServer::start();
        let home = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let backend = Arc::new(RedisBackend::new(server.url()).unwrap());
        home.block_on(async { backend.get(b"n:0").await.unwrap() });
        write(&server, 64);
        // Its tasks open the batch and are never polled again.
        let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        other.block_on(async {
            let _started = reads(&backend, 64);
            tokio::task::yield_now().await;
        });
        home.block_on(async {
            for (key, read) in reads(&backend, 64).into_iter().enumerate() {
                assert_eq!(ends(read).await.unwrap().unwrap().value, format!("v{key}"));
            }
        });
        drop(other);
    }

    #[test]
    fn the_end_of_the_runtime_that_sends_a_batch_is_an_error_for_readers_on_another() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let home = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let backend = Arc::new(RedisBackend::new(proxy.url()).unwrap());
        home.block_on(async { backend.get(b"n:0").await.unwrap() });
        proxy.pause();
        let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let reads = other.block_on(async { reads(&backend, 64) });
        other.block_on(async { tokio::time::sleep(Duration::from_millis(100)).await });
        home.shutdown_timeout(Duration::from_secs(5));
        other.block_on(async {
            for read in reads {
                assert_eq!(ends(read).await.unwrap_err().kind(), BackendErrorKind::Unavailable);
            }
        });
    }
}
