//! A local copy takes its remaining life from the backend, from the same round trip as the value.

mod live {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use futures_util::future::join_all;
    use tokio::time::sleep;
    use twotier::{Backend, Cache, Write};
    use twotier_testkit::RedisServer;

    use crate::support::{eventually, foreign, over_redis, read, redis, text};

    const TASKS: usize = 20;
    const ROUNDS: usize = 10;
    const KEYS: usize = 500;

    /// Writes keys with lives of 1 ms to so many past the cache; returns each with when it is gone at the latest.
    async fn write(backend: &impl Backend, task: usize, round: usize, longest: u64) -> Vec<(String, Instant)> {
        let lives: Vec<u64> = (0..KEYS).map(|_| fastrand::u64(1..=longest)).collect();
        let write = |(index, life): (usize, &u64)| {
            Write::new(format!("t:{task}:{round}:{index}"), "v", Some(Duration::from_millis(*life)))
        };
        backend.ready().await.unwrap();
        let writes: Vec<Write> = lives.iter().enumerate().map(write).collect();
        for result in backend.set_many(&writes).await {
            result.unwrap();
        }
        // The server began to count before it answered; it counts whole milliseconds.
        let answered = Instant::now() + Duration::from_millis(1);
        let gone =
            |(index, life): (usize, &u64)| (format!("{task}:{round}:{index}"), answered + Duration::from_millis(*life));
        lives.iter().enumerate().map(gone).collect()
    }

    /// Reads each key, by one batch or by many single reads at once.
    async fn read_all(cache: &Cache<String>, keys: &[(String, Instant)], batch: bool) {
        if batch {
            let names: Vec<&str> = keys.iter().map(|(name, _)| name.as_str()).collect();
            cache.get_many(&names).await.unwrap();
        } else {
            for found in join_all(keys.iter().map(|(name, _)| cache.get(name))).await {
                found.unwrap();
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_100_000_copies_none_outlives_the_value_in_the_backend() {
        let server = RedisServer::start();
        let builder = text().max_entries(4 * TASKS * KEYS).op_timeout(Duration::from_secs(10));
        let cache = builder.build(redis(&server)).await.unwrap();
        let backend = Arc::new(redis(&server));
        backend.ready().await.unwrap();
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (cache, backend) = (cache.clone(), Arc::clone(&backend));
                tokio::spawn(async move {
                    let (mut longest, mut copies, mut round) = (500, 0, 0);
                    // There must be copies to outlive anything: where the machine is slow their lives are longer.
                    while round < ROUNDS || copies < KEYS {
                        let held_before = copies;
                        let mut keys = write(&backend, task, round, longest).await;
                        read_all(&cache, &keys, round % 2 == 0).await;
                        keys.sort_unstable_by_key(|(_, gone)| *gone);
                        let mut left = &keys[..];
                        while let Some((_, next)) = left.first() {
                            sleep(next.saturating_duration_since(Instant::now())).await;
                            copies += left.iter().filter(|(name, _)| cache.get_if_local(name).is_some()).count();
                            let now = Instant::now();
                            let (over, rest) = left.split_at(left.partition_point(|(_, gone)| *gone <= now));
                            for (name, gone) in over {
                                assert!(
                                    cache.get_if_local(name).is_none(),
                                    "{name} is served {:?} too long",
                                    gone.elapsed()
                                );
                            }
                            left = rest;
                            // The rest is read anew, so that lives that are nearly over are returned too.
                            if fastrand::usize(0..20) == 0 {
                                for (name, _) in left {
                                    let _held = cache.invalidate_local(name);
                                }
                                read_all(&cache, left, round % 2 == 1).await;
                            }
                        }
                        if copies < held_before + KEYS {
                            longest *= 2;
                        }
                        round += 1;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_key_that_is_written_anew_takes_its_new_life() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        foreign(&server, &cache, &["SET", "t:longer", "1", "PX", "150"]).await;
        foreign(&server, &cache, &["SET", "t:shorter", "1", "PX", "60000"]).await;
        foreign(&server, &cache, &["SET", "t:ever", "1"]).await;
        cache.get_many(&["longer", "shorter", "ever"]).await.unwrap();
        foreign(&server, &cache, &["SET", "t:longer", "2", "PX", "60000"]).await;
        foreign(&server, &cache, &["SET", "t:shorter", "2", "PX", "150"]).await;
        foreign(&server, &cache, &["PEXPIRE", "t:ever", "150"]).await;
        for key in ["longer", "shorter"] {
            assert_eq!(read(&cache, key).await.as_deref(), Some("2"));
        }
        assert_eq!(read(&cache, "ever").await.as_deref(), Some("1"));
        let started = Instant::now();
        for key in ["shorter", "ever"] {
            eventually("the short life ends", async || {
                server.command(&["EXISTS", &format!("t:{key}")]) == twotier_testkit::Reply::Int(0)
            })
            .await;
            assert!(cache.get_if_local(key).is_none(), "{key} outlived the value in the backend");
        }
        assert!(cache.get_if_local("longer").is_some());
        sleep(Duration::from_millis(200).saturating_sub(started.elapsed())).await;
        assert_eq!(read(&cache, "shorter").await, None);
        assert_eq!(
            cache.get_if_local("longer").as_deref().map(String::as_str),
            Some("2"),
            "it outlived its first life"
        );
    }
}
