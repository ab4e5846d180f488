//! `get_many_or_load`: one call of the loader for what neither tier has and nobody else is loading.

use std::{
    collections::HashMap,
    error::Error as _,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use twotier::{BackendError, BackendErrorKind, Cache, ErrorKind, FaultyBackend, MemoryBackend, Result};

use crate::support::{ends, over_memory, read, text};

type Loaded = io::Result<HashMap<String, String>>;

/// A loader's source: it takes 20 ms, has a value for every key but those that begin with `no`, and notes what it was
/// asked for.
#[derive(Clone, Default)]
struct Source(Arc<Mutex<Vec<Vec<String>>>>);

impl Source {
    async fn load(&self, keys: Vec<String>) -> Loaded {
        self.0.lock().unwrap().push(keys.clone());
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(keys.into_iter().filter(|key| !key.starts_with("no")).map(|key| (key.clone(), loaded(&key))).collect())
    }

    fn asked(&self) -> Vec<Vec<String>> {
        self.0.lock().unwrap().clone()
    }

    async fn get(&self, cache: &Cache<String>, keys: &[&str]) -> Result<Vec<Option<String>>> {
        let found =
            cache.get_many_or_load(keys, |keys| self.load(keys.into_iter().map(str::to_owned).collect())).await?;
        Ok(found.iter().map(|value| value.as_deref().cloned()).collect())
    }

    /// The same in a task of its own.
    fn getting(&self, cache: &Cache<String>, keys: &[&'static str]) -> tokio::task::JoinHandle<Vec<Option<String>>> {
        let (source, cache, keys) = (self.clone(), cache.clone(), keys.to_vec());
        tokio::spawn(async move { source.get(&cache, &keys).await.unwrap() })
    }
}

fn loaded(key: &str) -> String {
    format!("loaded {key}")
}

fn some(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| Some((*value).to_owned())).collect()
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn the_loader_is_called_once_with_exactly_the_keys_that_neither_tier_has() {
    let store = MemoryBackend::new();
    let (cache, other) = (over_memory(&store).await, over_memory(&store).await);
    other.set("remote", "r".to_owned()).await.unwrap();
    cache.set("local", "l".to_owned()).await.unwrap();
    let source = Source::default();
    let keys = ["a", "local", "b", "remote", "nothing", "a"];
    let before = cache.stats().backend;
    let found = source.get(&cache, &keys).await.unwrap();
    assert_eq!(found[..4], some(&["loaded a", "l", "loaded b", "r"]));
    assert_eq!(found[4..], [None, Some(loaded("a"))]);
    assert_eq!(source.asked(), [["a", "b", "nothing"]]);
    let stats = cache.stats();
    assert_eq!((stats.backend.reads - before.reads, stats.backend.writes - before.writes), (1, 1));
    assert_eq!(stats.backend.loads, 1);
    assert_eq!((stats.local.hits, stats.local.misses), (1, 5), "each key is counted once for each time it was asked");
    for key in ["a", "b", "local", "remote"] {
        assert!(cache.get_if_local(key).is_some(), "{key}");
    }
    assert_eq!(read(&other, "b").await, Some(loaded("b")), "it is in the backend");
    assert_eq!(read(&other, "nothing").await, None, "and what the loader did not return is not");
    let before = cache.stats().backend;
    assert_eq!(source.get(&cache, &["a", "b", "local", "remote"]).await.unwrap().iter().flatten().count(), 4);
    assert_eq!(source.asked().len(), 1, "there was nothing to load");
    assert_eq!(cache.stats().backend.operations(), before.operations());
    assert!(source.get(&cache, &[]).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_batch_and_single_loads_share_one_load_of_a_key() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let single = tokio::spawn({
        let cache = cache.clone();
        async move {
            let loader = async || {
                pause(50).await;
                Ok::<_, io::Error>("single".to_owned())
            };
            cache.get_or_load("a", |_| loader()).await.unwrap()
        }
    });
    pause(5).await;
    let source = Source::default();
    let batch = source.getting(&cache, &["a", "b"]);
    pause(5).await;
    let loader = async || Err::<String, _>("never called");
    assert_eq!(*ends(cache.get_or_load("b", |_| loader())).await.unwrap(), "loaded b");
    assert!(!batch.is_finished(), "who waits for `b` does not wait for `a`");
    let other = source.getting(&cache, &["b", "a"]);
    assert_eq!(ends(batch).await.unwrap(), some(&["single", "loaded b"]));
    assert_eq!(ends(other).await.unwrap(), some(&["loaded b", "single"]));
    assert_eq!(*ends(single).await.unwrap(), "single");
    assert_eq!(source.asked(), [["b"]]);
    assert_eq!(cache.stats().backend.loads, 2);
}

#[tokio::test(start_paused = true)]
async fn batches_that_overlap_load_each_key_once() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let source = Source::default();
    let keys: Vec<String> = (0..40).map(|key| key.to_string()).collect();
    let batches = (0..30).map(|first| {
        let mut keys: Vec<&str> = keys[first..first + 10].iter().map(String::as_str).collect();
        if first % 2 == 1 {
            keys.reverse();
        }
        let (cache, source) = (&cache, &source);
        async move { assert_eq!(source.get(cache, &keys).await.unwrap().iter().flatten().count(), 10) }
    });
    ends(join_all(batches)).await;
    let mut asked: Vec<String> = source.asked().into_iter().flatten().collect();
    assert_eq!(asked.len(), 39);
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 39, "no key twice");
}

#[tokio::test(start_paused = true)]
async fn two_batches_that_wait_for_each_other_s_keys_both_end() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let source = Source::default();
    // `b` is led by somebody who gives up while the first batch leads `a`; the second then leads `b` and waits for `a`.
    let gives_up = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load("b", |_| std::future::pending::<io::Result<String>>()).await }
    });
    pause(1).await;
    let first = source.getting(&cache, &["a", "b"]);
    pause(1).await;
    gives_up.abort();
    pause(1).await;
    let second = source.getting(&cache, &["b", "a"]);
    assert_eq!(ends(first).await.unwrap(), some(&["loaded a", "loaded b"]));
    assert_eq!(ends(second).await.unwrap(), some(&["loaded b", "loaded a"]));
    assert_eq!(source.asked(), [["a"], ["b"]]);
}

#[tokio::test(start_paused = true)]
async fn when_somebody_we_wait_for_gives_up_the_loader_is_called_again_for_what_they_left() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let source = Source::default();
    let gives_up = tokio::spawn({
        let cache = cache.clone();
        async move {
            let loader = |_keys| std::future::pending::<Loaded>();
            cache.get_many_or_load(&["b", "c"], loader).await
        }
    });
    pause(1).await;
    let batch = source.getting(&cache, &["a", "b", "c"]);
    pause(50).await;
    assert!(!batch.is_finished());
    assert_eq!(source.asked(), [["a"]]);
    gives_up.abort();
    assert_eq!(ends(batch).await.unwrap(), some(&["loaded a", "loaded b", "loaded c"]));
    assert_eq!(source.asked(), [vec!["a"], vec!["b", "c"]]);
}

#[tokio::test(start_paused = true)]
async fn the_loader_s_own_error_reaches_everyone_who_waits_for_one_of_its_keys() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let calls = Mutex::new(0);
    let fails = async |_keys| -> Loaded {
        *calls.lock().unwrap() += 1;
        pause(20).await;
        Err(io::Error::other("no such table"))
    };
    let batch = cache.get_many_or_load(&["a", "b"], fails);
    let same = cache.get_many_or_load(&["b"], fails);
    let single = cache.get_or_load("a", async |_| Err::<String, _>("never called"));
    let (batch, same, single) = ends(async { tokio::join!(batch, same, single) }).await;
    for error in [batch.unwrap_err(), same.unwrap_err(), single.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Load);
        assert_eq!(error.to_string(), "get_many_or_load in namespace `t`: the loader failed");
        let own = error.source().unwrap().downcast_ref::<io::Error>().expect("the loader's own type");
        assert_eq!(own.to_string(), "no such table");
    }
    assert_eq!(*calls.lock().unwrap(), 1);
    let source = Source::default();
    assert_eq!(source.get(&cache, &["a", "b"]).await.unwrap(), some(&["loaded a", "loaded b"]), "nothing was kept");
}

#[tokio::test(start_paused = true)]
async fn a_key_the_loader_has_no_value_for_is_absent_to_batches_and_loaded_by_a_single_load_that_waited() {
    let store = MemoryBackend::new();
    let cache = over_memory(&store).await;
    let source = Source::default();
    let batch = source.getting(&cache, &["none", "a"]);
    pause(1).await;
    let same = source.getting(&cache, &["none"]);
    let single = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load("none", async |_| Ok::<_, io::Error>("its own".to_owned())).await.unwrap() }
    });
    assert_eq!(ends(batch).await.unwrap(), [None, Some(loaded("a"))]);
    assert_eq!(ends(same).await.unwrap(), [None]);
    assert_eq!(*ends(single).await.unwrap(), "its own");
    assert_eq!(source.asked(), [["none", "a"]]);
    assert_eq!(read(&cache, "none").await.as_deref(), Some("its own"));
}

#[tokio::test(start_paused = true)]
async fn values_for_keys_that_were_not_asked_for_are_ignored() {
    let store = MemoryBackend::new();
    let cache = over_memory(&store).await;
    let loader =
        async |_keys| Ok::<_, io::Error>([("a", "1".to_owned()), ("b", "2".to_owned()), ("a", "3".to_owned())]);
    let found = cache.get_many_or_load(&["a"], loader).await.unwrap();
    assert_eq!(found[0].as_deref().map(String::as_str), Some("3"), "of two values for one key the later one wins");
    assert_eq!(read(&cache, "b").await, None);
    assert_eq!(store.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn batches_dropped_at_any_moment_leak_no_load() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    let cache = text().build(backend).await.unwrap();
    faults.latency(Duration::from_millis(10));
    let keys: Vec<String> = (0..4).map(|key| key.to_string()).collect();
    for step in 0..60 {
        let source = Source::default();
        let dropped = cache.get_many_or_load(&keys, |keys| source.load(keys));
        let waiter = async {
            pause(1).await;
            source.get(&cache, &["3", "2", "1", "0"]).await.unwrap()
        };
        let (_, found) =
            ends(async { tokio::join!(tokio::time::timeout(Duration::from_millis(step), dropped), waiter) }).await;
        assert_eq!(found, ["3", "2", "1", "0"].map(|key| Some(loaded(key))), "dropped after {step} ms");
        let before = cache.stats().backend.loads;
        cache.delete_many(&keys).await.unwrap();
        for key in &keys {
            let value = ends(cache.get_or_load(key, async |_| Ok::<_, io::Error>("again".to_owned()))).await.unwrap();
            assert_eq!(*value, "again");
        }
        assert_eq!(cache.stats().backend.loads - before, 4, "nobody leads a load that was dropped");
        cache.delete_many(&keys).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_panics_leaves_nobody_waiting() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let panics = tokio::spawn({
        let cache = cache.clone();
        async move {
            let loader = async |_keys| -> Loaded {
                pause(5).await;
                panic!("a defect in the loader");
            };
            cache.get_many_or_load(&["a", "b"], loader).await
        }
    });
    pause(1).await;
    assert_eq!(ends(Source::default().get(&cache, &["b", "a"])).await.unwrap(), some(&["loaded b", "loaded a"]));
    assert!(panics.await.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn of_a_batch_only_the_keys_that_changed_while_it_was_loaded_are_not_stored() {
    for other_instance in [false, true] {
        let store = MemoryBackend::new();
        let cache = over_memory(&store).await;
        let writer = if other_instance { over_memory(&store).await } else { cache.clone() };
        let loading = Source::default().getting(&cache, &["written", "deleted", "same"]);
        pause(10).await;
        writer.set("written", "newer".to_owned()).await.unwrap();
        writer.set("deleted", "newer".to_owned()).await.unwrap();
        writer.delete("deleted").await.unwrap();
        let found = ends(loading).await.unwrap();
        assert_eq!(found, some(&["loaded written", "loaded deleted", "loaded same"]));
        for clear in [false, true] {
            assert_eq!(read(&cache, "written").await.as_deref(), Some("newer"), "{other_instance}");
            assert_eq!(read(&cache, "deleted").await, None, "{other_instance}");
            assert_eq!(read(&cache, "same").await, Some(loaded("same")), "{other_instance}");
            if !clear {
                cache.clear_local();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_loader_runs_even_when_the_backend_is_down_or_hangs_and_nothing_is_stored() {
    for hangs in [false, true] {
        let backend = FaultyBackend::new(MemoryBackend::new());
        let faults = backend.faults();
        let cache = text().build(backend).await.unwrap();
        if hangs {
            faults.hang(true);
        } else {
            faults.fail_all(Some(BackendError::new(BackendErrorKind::Unavailable, "unplugged")));
        }
        let source = Source::default();
        assert_eq!(ends(source.get(&cache, &["a", "b"])).await.unwrap(), some(&["loaded a", "loaded b"]));
        assert_eq!(source.asked(), [["a", "b"]]);
        assert!(cache.stats().backend.errors > 0);
        faults.heal();
        assert_eq!(cache.clear_local(), 2, "kept for a short time");
        assert_eq!(read(&cache, "a").await, None, "nothing was stored");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_the_backend_could_not_say_is_absent_is_not_overwritten() {
    let store = MemoryBackend::new();
    over_memory(&store).await.set("k", "theirs".to_owned()).await.unwrap();
    let backend = FaultyBackend::new(store);
    let faults = backend.faults();
    let cache = text().build(backend).await.unwrap();
    faults.fail_next(1, BackendError::new(BackendErrorKind::Unavailable, "unplugged"));
    assert_eq!(Source::default().get(&cache, &["k"]).await.unwrap(), some(&["loaded k"]));
    assert_eq!(cache.stats().backend.writes, 0);
    assert_eq!(cache.clear_local(), 1, "kept for a short time");
    assert_eq!(read(&cache, "k").await.as_deref(), Some("theirs"));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_read_fails_the_batch_before_the_loader_and_leaks_no_load() {
    let store = MemoryBackend::new();
    over_memory(&store).await.set("broken", "not a number".to_owned()).await.unwrap();
    let cache: Cache<u32> = Cache::builder().namespace("t").build(store).await.unwrap();
    let never = async |_keys| Err::<Vec<(String, u32)>, _>("never called");
    let error = ends(cache.get_many_or_load(&["a", "broken"], never)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    for key in ["", "a"] {
        let error = ends(cache.get_many_or_load(&[key, ""], never)).await.unwrap_err();
        assert_eq!(error.to_string(), "get_many_or_load in namespace `t`: invalid key");
    }
    let value = ends(cache.get_or_load("a", async |_| Ok::<_, io::Error>(7_u32))).await.unwrap();
    assert_eq!(*value, 7);
    cache.close().await;
    assert_eq!(cache.get_many_or_load(&["a"], never).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_loaded_value_that_cannot_be_stored_is_returned_and_the_others_are_stored() {
    let cache = text().max_value_bytes(10).build(MemoryBackend::new()).await.unwrap();
    let found = Source::default().get(&cache, &["a", "much-too-long"]).await.unwrap();
    assert_eq!(found, some(&["loaded a", "loaded much-too-long"]));
    cache.clear_local();
    assert_eq!(read(&cache, "a").await, Some(loaded("a")));
    assert_eq!(read(&cache, "much-too-long").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_of_many_tasks_some_of_them_dropped_all_end_with_the_right_values() {
    let store = MemoryBackend::new();
    let cache = over_memory(&store).await;
    let tasks = (0..64_u64).map(|task| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(task);
            for _ in 0..50 {
                let keys: Vec<String> = (0..6).map(|_| random.u8(..12).to_string()).collect();
                let patience = Duration::from_micros(if random.bool() { random.u64(..2000) } else { 10_000_000 });
                let takes = Duration::from_micros(random.u64(..500));
                let loader = async |keys: Vec<String>| -> Loaded {
                    tokio::time::sleep(takes).await;
                    Ok(keys.into_iter().map(|key| (key.clone(), loaded(&key))).collect())
                };
                if let Ok(found) = tokio::time::timeout(patience, cache.get_many_or_load(&keys, loader)).await {
                    let expected: Vec<_> = keys.iter().map(|key| loaded(key)).collect();
                    let found: Vec<_> = found.unwrap().iter().flatten().map(|value| (**value).clone()).collect();
                    assert_eq!(found, expected);
                } else {
                    assert!(patience < Duration::from_secs(10), "hangs");
                }
                cache.delete(&random.u8(..12).to_string()).await.unwrap();
            }
        })
    });
    for task in ends(join_all(tasks)).await {
        task.unwrap();
    }
}

mod live {
    use twotier_testkit::RedisServer;

    use super::{Source, loaded};
    use crate::support::{READS, WRITES, over_redis, redis, text};

    #[tokio::test]
    async fn a_batch_of_1200_keys_is_three_reads_one_load_and_three_writes_and_then_no_command_at_all() {
        let server = RedisServer::start();
        let cache = text().max_entries(2000).build(redis(&server)).await.unwrap();
        let keys: Vec<String> = (0..1200).map(|key| key.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let source = Source::default();
        server.reset_stats();
        let found = source.get(&cache, &keys).await.unwrap();
        assert!(found.iter().zip(&keys).all(|(value, key)| *value == Some(loaded(key))));
        assert_eq!(server.calls(&["mget"]), 4 + 4 + 2, "512 keys are four commands, sent together");
        assert_eq!(server.calls(&["set", "psetex"]), 1200);
        assert_eq!(source.asked(), std::slice::from_ref(&keys));
        let stats = cache.stats().backend;
        assert_eq!((stats.reads, stats.writes, stats.loads), (3, 3, 1));
        server.reset_stats();
        source.get(&cache, &keys).await.unwrap();
        assert_eq!(server.calls(&READS) + server.calls(&WRITES), 0);
        assert_eq!(server.command(&["GET", "t:1199"]).as_str(), "loaded 1199");
        let other = over_redis(&server).await;
        server.reset_stats();
        source.get(&other, &keys[..100]).await.unwrap();
        assert_eq!((server.calls(&["mget"]), server.calls(&WRITES)), (1, 0));
        assert_eq!(source.asked().len(), 1);
    }
}
