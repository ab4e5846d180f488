//! The asynchronous cache, polled outside its runtime or after its end: results and errors, never a panic or a hang.

use std::{num::NonZeroU32, sync::mpsc::channel, thread, time::Duration};

use futures_executor::block_on;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
};
use twotier::{Backend, Cache, Error, ErrorKind, Faults, FaultyBackend, MemoryBackend, Result, SetOptions};

use crate::support::text;

fn loaded(value: &str) -> std::io::Result<String> {
    Ok(value.to_owned())
}

fn all_loaded(missing: Vec<&'static str>) -> std::io::Result<Vec<(&'static str, String)>> {
    Ok(missing.into_iter().map(|key| (key, key.to_owned())).collect())
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn built(runtime: &Runtime, backend: impl Backend) -> Cache<String> {
    runtime.block_on(text().build(backend)).unwrap()
}

/// Fails instead of hanging.
fn ends<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, outcome) = channel();
    let calling = thread::spawn(move || _ = sender.send(call()));
    outcome.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| {
        assert!(calling.is_finished(), "the call ends");
        std::panic::resume_unwind(calling.join().unwrap_err())
    })
}

/// Calls every method, and returns how each call ended.
async fn call_everything(cache: &Cache<String>) -> Vec<(&'static str, Result<()>)> {
    assert!(Handle::try_current().is_err(), "no runtime is entered");
    let value = || "v".to_owned();
    let pace = NonZeroU32::MAX;
    let mut ended = vec![
        ("set", cache.set("k", value()).await),
        ("set_with", cache.set_with("w", value(), SetOptions::new().time_to_live(Duration::from_secs(9))).await),
        ("set_many", cache.set_many([("a", value()), ("b", value())]).await),
        ("set_each", cache.set_each([("c", value())]).await.remove(0)),
    ];
    let hot = cache.hot_keys(9);
    let _ = cache.clear_local();
    ended.extend([
        ("get", cache.get("k").await.map(drop)),
        ("get, absent", cache.get("none").await.map(drop)),
        ("lookup", cache.lookup("w").await.map(drop)),
        ("get_many", cache.get_many(&["a", "b", "none"]).await.map(drop)),
        ("get_each", cache.get_each(&["c"]).await.remove(0).map(drop)),
        ("get_or_load", cache.get_or_load("l", async |_| loaded("v")).await.map(drop)),
        ("get_many_or_load", cache.get_many_or_load(&["m", "n"], async |keys| all_loaded(keys)).await.map(drop)),
        ("update", cache.update("k", |held| held.cloned()).await.map(drop)),
        ("warm", cache.warm(&hot).await.map(drop)),
        ("warm_paced", cache.warm_paced(&["x", "y"], pace).await.map(drop)),
        ("delete", cache.delete("k").await.map(drop)),
        ("delete_many", cache.delete_many(&["a", "b"]).await.map(drop)),
        ("delete_each", cache.delete_each(&["c"]).await.remove(0).map(drop)),
    ]);
    let _ = (cache.get_if_local("l"), cache.invalidate_local("l"), cache.stats(), cache.health(), cache.namespace());
    ended.push(("clear", cache.clear().await.map(drop)));
    cache.close().await;
    assert_eq!(cache.get("k").await.unwrap_err().kind(), ErrorKind::Closed);
    ended
}

fn all_worked(ended: Vec<(&str, Result<()>)>) {
    let failed: Vec<_> = ended.into_iter().filter(|(_, result)| result.is_err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn every_method_works_when_it_is_polled_outside_any_runtime() {
    let runtime = runtime();
    let cache = built(&runtime, MemoryBackend::new());
    all_worked(ends(move || block_on(call_everything(&cache))));
}

#[test]
fn a_backend_that_sleeps_may_be_called_from_outside_any_runtime() {
    let runtime = runtime();
    let faults = Faults::default();
    let cache = built(&runtime, FaultyBackend::with_faults(MemoryBackend::new(), faults.clone()));
    faults.latency(Duration::from_millis(1));
    all_worked(ends(move || block_on(call_everything(&cache))));
}

#[test]
fn building_a_cache_outside_any_runtime_is_an_error_that_names_the_way_out() {
    let error = block_on(text().build(MemoryBackend::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("twotier::blocking"), "{error}");
    let error = block_on(Cache::<u8>::connect("redis://127.0.0.1:1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn after_the_end_of_its_runtime_every_method_ends_in_a_result_or_an_error() {
    for faults in [None, Some(Faults::default())] {
        let runtime = runtime();
        let cache = match faults {
            None => built(&runtime, MemoryBackend::new()),
            Some(faults) => {
                let cache = built(&runtime, FaultyBackend::with_faults(MemoryBackend::new(), faults.clone()));
                faults.latency(Duration::from_millis(1));
                cache
            }
        };
        drop(runtime);
        let ended = ends(move || block_on(call_everything(&cache)));
        let refused = ended.into_iter().filter_map(|(_, result)| result.err());
        assert!(refused.map(|error| error.kind()).all(|kind| kind == ErrorKind::Unavailable));
    }
}

#[test]
fn a_call_under_way_when_the_runtime_of_its_cache_ends_is_an_error() {
    let runtime = runtime();
    let faults = Faults::default();
    let cache = built(&runtime, FaultyBackend::with_faults(MemoryBackend::new(), faults.clone()));
    faults.hang(true);
    type Call = fn(&Cache<String>) -> Result<()>;
    let calls: [Call; 4] = [
        |cache| block_on(cache.get("k")).map(drop),
        |cache| block_on(cache.set("k", String::new())),
        |cache| block_on(cache.get_many(&["l"])).map(drop),
        |cache| block_on(cache.clear()).map(drop),
    ];
    let under_way = calls.map(|call| {
        let cache = cache.clone();
        thread::spawn(move || call(&cache))
    });
    while faults.calls() < 4 {
        thread::yield_now();
    }
    drop(runtime);
    for call in under_way {
        let error: Error = ends(move || call.join().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}

#[test]
fn a_loader_that_waits_goes_on_after_the_end_of_the_runtime_of_its_cache() {
    let runtime = runtime();
    let cache = built(&runtime, MemoryBackend::new());
    let (started, wait) = (channel(), oneshot::channel());
    let loading = thread::spawn(move || {
        block_on(cache.get_or_load("k", async |_| {
            started.0.send(()).unwrap();
            let value: String = wait.1.await.unwrap();
            Ok::<_, std::io::Error>(value)
        }))
    });
    started.1.recv().unwrap();
    drop(runtime);
    wait.0.send("v".to_owned()).unwrap();
    assert_eq!(*ends(move || loading.join().unwrap()).unwrap(), "v");
}

mod live {
    use twotier_testkit::RedisServer;

    use super::{all_worked, block_on, built, call_everything, ends, runtime};
    use crate::support::redis;

    #[test]
    fn every_method_works_over_a_server_when_it_is_polled_outside_any_runtime() {
        let server = RedisServer::start();
        let runtime = runtime();
        let cache = built(&runtime, redis(&server));
        all_worked(ends(move || block_on(call_everything(&cache))));
    }
}
