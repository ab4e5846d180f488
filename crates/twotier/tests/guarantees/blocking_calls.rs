//! Where `twotier::blocking` may be called: wherever a thread may block, and with an error where it must not.

use std::{
    cell::RefCell,
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::{LocalSet, block_in_place, spawn_blocking, spawn_local, yield_now},
};
use twotier::{Error, ErrorKind, MemoryBackend, Result, blocking};

use crate::support::text;

type Texts = blocking::Cache<String>;

fn cache() -> Texts {
    Texts::build(text(), MemoryBackend::new()).unwrap()
}

fn loaded(value: &str) -> std::io::Result<String> {
    Ok(value.to_owned())
}

/// A write, a read of the backend, and a load.
fn use_it(cache: &Texts) {
    cache.set("k", "v".to_owned()).unwrap();
    assert!(cache.invalidate_local("k"));
    assert_eq!(*cache.get("k").unwrap().unwrap(), "v");
    assert_eq!(*cache.get_or_load("l", |_| loaded("w")).unwrap(), "w");
}

/// Every kind of call is refused, and nothing reached the backend.
fn refused(cache: &Texts) {
    let before = cache.stats().backend.operations();
    let refusals: Vec<Error> = vec![
        cache.get("cold").unwrap_err(),
        cache.set("k", String::new()).unwrap_err(),
        cache.get_or_load("cold", |_| loaded("never")).unwrap_err(),
        cache.warm(&["cold"]).unwrap_err(),
        cache.get_each(&["cold"]).remove(0).unwrap_err(),
        cache.close().unwrap_err(),
        Texts::build(text(), MemoryBackend::new()).unwrap_err(),
    ];
    for error in refusals {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(
            error.to_string().contains("twotier::Cache") && error.to_string().contains("spawn_blocking"),
            "{error}"
        );
    }
    assert_eq!(cache.stats().backend.operations(), before);
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn blocking_calls_work_in_spawn_blocking_and_in_block_in_place() {
    for runtime in [current_thread(), two_threads()] {
        runtime.block_on(async { spawn_blocking(|| use_it(&cache())).await.unwrap() });
    }
    let runtime = two_threads();
    runtime.block_on(runtime.spawn(async { block_in_place(|| use_it(&cache())) })).unwrap();
    runtime.block_on(async { block_in_place(|| use_it(&cache())) });
}

#[test]
fn blocking_calls_work_where_a_runtime_is_entered_and_not_driven() {
    let runtime = current_thread();
    let _entered = runtime.enter();
    use_it(&cache());
}

#[test]
fn blocking_calls_within_any_asynchronous_task_are_refused() {
    let cache = cache();
    current_thread().block_on(async { refused(&cache) });
    two_threads().block_on(async { refused(&cache) });
    for runtime in [current_thread(), two_threads()] {
        let cache = cache.clone();
        runtime.block_on(async { tokio::spawn(async move { refused(&cache) }).await.unwrap() });
    }
    let local = cache.clone();
    current_thread().block_on(LocalSet::new().run_until(async {
        refused(&local);
        let local = local.clone();
        spawn_local(async move { refused(&local) }).await.unwrap();
    }));
    // In a thread that may block, but by a task that is driven there.
    let nested = cache.clone();
    two_threads().block_on(async {
        spawn_blocking(move || current_thread().block_on(async { refused(&nested) })).await.unwrap();
    });
    use_it(&cache);
}

#[test]
fn a_refused_blocking_call_takes_nothing_of_its_task_budget() {
    let cache = cache();
    current_thread().block_on(async {
        let tasks = tokio::spawn(async {});
        // Of 128 steps a task may make between two pauses none is lost, so the channel is read without one.
        let (sender, mut receiver) = tokio::sync::mpsc::channel(100);
        for number in 0..100 {
            sender.try_send(number).unwrap();
        }
        yield_now().await;
        refused(&cache);
        let mut drained = Box::pin(async { while receiver.recv().await.is_some_and(|number| number < 99) {} });
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(drained.as_mut().poll(&mut context).is_ready());
        tasks.await.unwrap();
    });
}

#[test]
fn an_unconstrained_task_that_blocks_stalls_and_gets_its_answer() {
    let cache = cache();
    let keys: Vec<String> = (0..2000).map(|key| key.to_string()).collect();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        current_thread().block_on(tokio::task::unconstrained(async {
            sender.send(cache.warm(&keys).map(|_| ()).and_then(|()| cache.set("k", "v".to_owned()))).unwrap();
        }));
    });
    receiver.recv_timeout(Duration::from_secs(20)).expect("the call ends").unwrap();
}

#[test]
fn a_loader_may_read_another_blocking_cache_and_other_keys_of_its_own() {
    let (users, teams) = (cache(), cache());
    teams.set("7", "red".to_owned()).unwrap();
    assert!(teams.invalidate_local("7"));
    let user = users.get_or_load("1", |_| {
        let team = teams.get("7")?.map(|team| format!("{team} team"));
        let friend = users.get_or_load("2", |_| loaded("friend"))?;
        Ok::<_, Error>(format!("{} and {friend}", team.unwrap_or_default()))
    });
    assert_eq!(*user.unwrap(), "red team and friend");
    assert_eq!(users.get("1").unwrap().as_deref().map(String::as_str), Some("red team and friend"));
    let many = users.get_many_or_load(&["3", "4"], |keys| {
        let of_a_team = |key| teams.get_or_load(key, |_| loaded("of a team")).map(|team| (key, team));
        keys.into_iter().map(of_a_team).collect::<Result<Vec<_>>>()
    });
    assert_eq!(many.unwrap().iter().flatten().count(), 2);
    let changed = users.update("1", |_| teams.get("7").ok().flatten());
    assert_eq!(changed.unwrap().as_deref().map(String::as_str), Some("red"));
}

#[test]
fn a_blocking_loader_that_asks_for_its_own_key_is_an_error_at_once() {
    let (a, b) = (cache(), cache());
    let own = a.get_or_load("k", |_| a.get_or_load("k", |_| loaded("never")));
    let by_way_of_another = a.get_or_load("k", |_| b.get_or_load("k", |_| a.get_or_load("k", |_| loaded("never"))));
    for error in [own.unwrap_err(), by_way_of_another.unwrap_err()] {
        let mut causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        assert!(causes.any(|cause| cause.to_string().contains("a loader must not ask for the key")), "{error:?}");
    }
    let elsewhere = a.get_or_load("k", |_| b.get_or_load("k", |_| loaded("of another cache")));
    assert_eq!(*elsewhere.unwrap(), "of another cache");
    assert_eq!((a.stats().backend.timeouts, b.stats().backend.timeouts), (0, 0));
}

#[test]
fn a_blocking_loader_runs_outside_any_runtime_and_may_start_its_own() {
    let cache = cache();
    let sync_client = || {
        assert!(Handle::try_current().is_err(), "no runtime is entered");
        current_thread().block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        two_threads().block_on(async { yield_now().await });
    };
    let row = cache.get_or_load("k", |_| {
        sync_client();
        loaded("row")
    });
    assert_eq!(*row.unwrap(), "row");
    let rows = cache.get_many_or_load(&["l"], |keys| {
        sync_client();
        Ok::<_, std::io::Error>(keys.into_iter().map(|key| (key, "row".to_owned())))
    });
    assert_eq!(rows.unwrap().iter().flatten().count(), 1);
    let changed = cache.update("k", |_| {
        sync_client();
        Some("changed".to_owned())
    });
    assert_eq!(*changed.unwrap().unwrap(), "changed");
    assert_eq!(cache.stats().backend.loads, 2);
}

#[test]
fn blocking_caches_may_be_dropped_in_tasks_and_in_loaders() {
    for runtime in [current_thread(), two_threads()] {
        let last = cache();
        runtime.block_on(async { tokio::spawn(async move { drop(last) }).await.unwrap() });
        let last = cache();
        runtime.block_on(async { spawn_blocking(move || drop(last)).await.unwrap() });
        let last = cache();
        runtime.block_on(async { drop(last) });
    }
    let (users, teams) = (cache(), cache());
    let clone = users.clone();
    let user = users.get_or_load("k", move |_| {
        drop((clone, teams));
        loaded("v")
    });
    assert_eq!(*user.unwrap(), "v");
    use_it(&users);
}

#[test]
fn a_blocking_call_goes_on_when_all_other_clones_are_dropped() {
    let cache = cache();
    let (started, wait) = (channel(), channel());
    let calling = thread::spawn({
        let cache = cache.clone();
        move || {
            let value = cache.get_or_load("k", |_| {
                started.0.send(()).unwrap();
                wait.1.recv().unwrap();
                loaded("v")
            });
            value.map(|value| (value, cache.stats().backend.writes))
        }
    });
    started.1.recv().unwrap();
    drop(cache);
    wait.0.send(()).unwrap();
    let (value, writes) = calling.join().unwrap().unwrap();
    assert_eq!((value.as_str(), writes), ("v", 1));
}

/// Calls the cache when its thread ends.
struct AtTheEnd(Texts, Sender<Result<()>>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        let Self(cache, outcome) = self;
        let written = cache.set("k", "v".to_owned());
        let read = cache.get("cold").map(drop);
        let loaded = cache.get_or_load("l", |_| loaded("w")).map(drop);
        assert!(written.is_ok() == read.is_ok() && read.is_ok() == loaded.is_ok());
        let each = cache.get_each(&["cold"]).remove(0).map(drop);
        let built = Texts::build(text(), MemoryBackend::new()).map(drop);
        outcome.send(written.and(read).and(loaded).and(each).and(built)).unwrap();
    }
}

thread_local! {
    static LAST: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
}

#[test]
fn a_blocking_call_as_its_thread_ends_works_or_is_an_error() {
    let (sender, outcome) = channel();
    let leave = |cache: Texts, sender| LAST.set(Some(AtTheEnd(cache, sender)));
    let last = sender.clone();
    // Thread-local values go in the reverse order of their first use: this one before those of the runtime.
    thread::spawn(move || {
        let cache = cache();
        use_it(&cache);
        leave(cache, last);
    });
    outcome.recv_timeout(Duration::from_secs(20)).expect("the thread ends").unwrap();
    // And this one after them.
    thread::spawn(move || {
        LAST.set(None);
        let cache = cache();
        use_it(&cache);
        leave(cache, sender);
    });
    let error = outcome.recv_timeout(Duration::from_secs(20)).expect("the thread ends").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("the thread is ending"), "{error}");
}
