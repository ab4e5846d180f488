//! `twotier::blocking`: the same cache without a runtime of the caller's.

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::runtime::Handle;
use twotier::{ErrorKind, Faults, FaultyBackend, MemoryBackend, SetOptions, blocking::Cache};

use crate::support::text;

fn cache() -> Cache<String> {
    Cache::build(text(), MemoryBackend::new()).unwrap()
}

fn loaded(value: &str) -> std::io::Result<String> {
    Ok(value.to_owned())
}

/// Calls every method from threads that know of no runtime.
fn call_everything(cache: &Cache<String>) {
    assert!(Handle::try_current().is_err());
    assert_eq!(cache.namespace().as_str(), "t");
    thread::scope(|scope| {
        for thread in 0..4 {
            let cache = cache.clone();
            scope.spawn(move || {
                let key = format!("k{thread}");
                cache.set(&key, "v".to_owned()).unwrap();
                assert_eq!(cache.get(&key).unwrap().as_deref().map(String::as_str), Some("v"));
            });
        }
    });
    assert_eq!(cache.get_many(&["k0", "none"]).unwrap().iter().flatten().count(), 1);
    let loaded = cache.get_or_load("l", |_| loaded("loaded")).unwrap();
    assert_eq!(*loaded, "loaded");
    assert!(cache.lookup("l").unwrap().value.is_some());
    cache.set_many([("m", "1".to_owned())]).unwrap();
    assert!(cache.delete("m").unwrap());
    assert_eq!(cache.delete_many(&["k0", "k1"]).unwrap(), 2);
    cache.clear_local();
    assert_eq!(cache.warm(&["k2", "k3", "none"]).unwrap(), 2);
    assert!(cache.get_if_local("k2").is_some() && cache.invalidate_local("k2"));
    assert_eq!(cache.clear().unwrap(), 3);
    assert!(cache.health().is_healthy());
    let loader =
        |missing: Vec<&'static str>| Ok::<_, std::io::Error>(missing.into_iter().map(|key| (key, key.to_owned())));
    let loaded = cache.get_many_or_load(&["x", "y"], loader).unwrap();
    assert_eq!(loaded.iter().flatten().map(|value| value.as_str()).collect::<Vec<_>>(), ["x", "y"]);
    assert!(cache.set_each([("z", "1".to_owned()), ("", "2".to_owned())]).iter().map(Result::is_ok).eq([true, false]));
    assert!(cache.get_each(&["z", ""]).iter().map(Result::is_ok).eq([true, false]));
    assert!(matches!(cache.delete_each(&["z", "z", "none"])[..], [Ok(true), Ok(true), Ok(false)]));
    let looked_up = cache.lookup_or_load("x", |_| Err::<String, _>("never")).unwrap();
    assert_eq!(looked_up.tier, twotier::Tier::Local);
    let hot = cache.hot_keys(10);
    cache.clear_local();
    assert!(hot.contains(&"x".to_owned()));
    assert_eq!(cache.warm_paced(&hot, NonZeroU32::MAX).unwrap(), 2);
    cache.set_with("s", "1".to_owned(), SetOptions::new().time_to_live(Duration::from_secs(9))).unwrap();
    let changed = cache.update("s", |value| value.map(|value| format!("{value}!"))).unwrap();
    assert_eq!(changed.as_deref().map(String::as_str), Some("1!"));
    assert!(cache.clear_local() > 0);
    cache.close().unwrap();
    assert_eq!(cache.get("k2").unwrap_err().kind(), ErrorKind::Closed);
    assert!(cache.stats().backend.operations() > 0);
}

#[test]
fn every_method_works_from_plain_threads() {
    call_everything(&cache());
}

#[test]
fn a_lazy_cache_is_built_from_a_plain_thread() {
    let cache = Cache::build_lazy(text(), MemoryBackend::new()).unwrap();
    call_everything(&cache);
    assert!(Cache::build_lazy(text().max_entries(0), MemoryBackend::new()).is_err());
}

#[test]
fn every_method_works_from_plain_threads_over_a_backend_that_sleeps() {
    // It sleeps on tokio's clock in the call itself, which is made on the caller's stack.
    let faults = Faults::default();
    let backend = FaultyBackend::with_faults(MemoryBackend::new(), faults.clone());
    let cache = Cache::build(text(), backend).unwrap();
    faults.latency(Duration::from_millis(1));
    call_everything(&cache);
}

/// The names of the public methods in the sources of a cache.
fn names(source: &str) -> BTreeSet<&str> {
    let heads = source.lines().filter_map(|line| line.trim().strip_prefix("pub "));
    let functions = heads.filter_map(|head| head.strip_prefix("async ").unwrap_or(head).strip_prefix("fn "));
    functions.filter_map(|function| function.split(['(', '<']).next()).collect()
}

#[test]
fn the_blocking_cache_has_the_same_names_as_the_asynchronous_one() {
    let mut asynchronous = names(include_str!("../../src/cache.rs"));
    assert!(asynchronous.contains("get_many_or_load") && asynchronous.len() > 20);
    // What is left to `CacheBuilder::build` there.
    asynchronous.extend(["build", "build_lazy"]);
    assert_eq!(names(include_str!("../../src/blocking.rs")), asynchronous);
}

#[test]
fn thirty_two_threads_that_ask_for_one_cold_key_run_one_loader() {
    const THREADS: usize = 32;
    let (cache, loads, start) = (cache(), AtomicUsize::new(0), Barrier::new(THREADS));
    let ask = || {
        start.wait();
        cache.get_or_load("k", |_| {
            loads.fetch_add(1, Ordering::Relaxed);
            // Everybody looked into the local tier before there is a value: those who came late found that there is
            // none.
            let looked = || cache.stats().local.hits + cache.stats().local.misses;
            while looked() < THREADS as u64 {
                thread::yield_now();
            }
            loaded("v")
        })
    };
    thread::scope(|scope| {
        let calling: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        for asked in calling {
            assert_eq!(*asked.join().unwrap().unwrap(), "v");
        }
    });
    let backend = cache.stats().backend;
    assert_eq!((loads.into_inner(), backend.reads, backend.writes), (1, 1, 1));
}

#[test]
fn whoever_waited_long_enough_for_a_blocking_loader_runs_their_own() {
    let cache = Cache::build(text().load_wait(Duration::from_millis(20)), MemoryBackend::new()).unwrap();
    let meeting = Barrier::new(2);
    thread::scope(|scope| {
        let slow = scope.spawn(|| {
            cache.get_or_load("k", |_| {
                meeting.wait();
                meeting.wait();
                loaded("slow")
            })
        });
        meeting.wait();
        assert_eq!(*cache.get_or_load("k", |_| loaded("quick")).unwrap(), "quick");
        meeting.wait();
        assert_eq!(*slow.join().unwrap().unwrap(), "slow");
    });
    assert_eq!(*cache.get("k").unwrap().unwrap(), "quick", "what came late replaced nothing");
}

#[test]
fn a_blocking_call_over_a_backend_that_hangs_ends_at_its_deadline() {
    let faults = Faults::default();
    let backend = FaultyBackend::with_faults(MemoryBackend::new(), faults.clone());
    let cache = Cache::build(text().op_timeout(Duration::from_millis(20)).breaker_failures(0), backend).unwrap();
    faults.hang(true);
    let errors = [
        cache.get("k").unwrap_err(),
        cache.set("k", String::new()).unwrap_err(),
        cache.get_each(&["k"]).remove(0).unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Timeout), "{errors:?}");
    assert!(cache.update("k", |_| Some(String::new())).is_err());
    assert_eq!(*cache.get_or_load("k", |_| loaded("v")).unwrap(), "v", "a cache keeps nobody from the origin");
    faults.hang(false);
    assert_eq!(cache.get("cold").unwrap(), None);
}

mod live {
    use twotier_testkit::RedisServer;

    use super::{Cache, call_everything};
    use crate::support::{redis, text};

    #[test]
    fn every_method_works_from_plain_threads_over_a_server() {
        let server = RedisServer::start();
        let cache = Cache::build(text(), redis(&server)).unwrap();
        call_everything(&cache);
        drop(cache);
        let connected: Cache<String> = Cache::connect(&server.url()).unwrap();
        connected.set("k", "v".to_owned()).unwrap();
        assert!(connected.invalidate_local("k"));
        assert_eq!(*connected.get("k").unwrap().unwrap(), "v");
    }
}
