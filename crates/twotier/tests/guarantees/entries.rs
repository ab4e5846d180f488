//! `entry(key).load_with(…)`: what a loader is given, and what becomes of what it brings.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use twotier::{
    Backend as _, Cache, Error, FaultyBackend, LoadOptions, Loaded, ManualClock, MemoryBackend, Prior, RemainingTtl,
    Tier, blocking,
};

use crate::support::{over_memory, read, text};

const MINUTE: Duration = Duration::from_secs(60);

type Output = Result<Loaded<String>, io::Error>;

fn refresh() -> LoadOptions {
    LoadOptions::new().force_refresh()
}

async fn loads(cache: &Cache<String>, options: LoadOptions, value: &'static str) -> (Option<String>, Tier) {
    let found = cache.entry("k").with(options).load_with(async |_| Output::Ok(Loaded::new(value))).await.unwrap();
    (found.value.as_deref().cloned(), found.tier)
}

fn some(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[tokio::test]
async fn without_options_it_is_a_load_as_any_other() {
    let store = MemoryBackend::new();
    let cache = over_memory(&store).await;
    let loader = async |prior: Prior<String>| {
        assert!(prior.value().is_none() && prior.age().is_none());
        Ok::<_, io::Error>("v".to_owned())
    };
    let found = cache.entry("k").load_with(loader).await.unwrap();
    assert_eq!((found.value.as_deref(), found.tier), (Some(&"v".to_owned()), Tier::Origin));
    assert_eq!(loads(&cache, LoadOptions::new(), "never").await, (some("v"), Tier::Local));
    cache.clear_local();
    assert_eq!(loads(&cache, LoadOptions::new(), "never").await, (some("v"), Tier::Remote));
    assert_eq!(store.operations().total(), 3);
}

#[tokio::test]
async fn a_forced_refresh_is_given_what_is_there_and_replaces_it_in_both_tiers() {
    let store = MemoryBackend::new();
    let (cache, other) = (over_memory(&store).await, over_memory(&store).await);
    cache.set("k", "old").await.unwrap();
    let loader = async |prior: Prior<String>| {
        assert_eq!(prior.value().map(|value| value.as_str()), Some("old"));
        assert_eq!(prior.age(), Some(Duration::ZERO));
        Output::Ok(Loaded::new("new"))
    };
    let found = cache.entry("k").with(refresh()).load_with(loader).await.unwrap();
    assert_eq!((found.value.as_deref(), found.tier), (Some(&"new".to_owned()), Tier::Origin));
    assert_eq!(read(&other, "k").await, some("new"));
    assert_eq!(read(&cache, "k").await, some("new"));
    let gone = async |_| Output::Ok(Loaded::absent());
    assert!(cache.entry("k").with(refresh()).load_with(gone).await.unwrap().value.is_none());
    assert_eq!((read(&other, "k").await, read(&cache, "k").await), (None, None), "the origin has nothing any more");
}

#[tokio::test]
async fn a_forced_refresh_undoes_no_write_that_came_while_it_loaded() {
    for by_other in [true, false] {
        let store = MemoryBackend::new();
        let (cache, other) = (over_memory(&store).await, over_memory(&store).await);
        cache.set("k", "old").await.unwrap();
        let writer = if by_other { &other } else { &cache };
        let loader = async |_| {
            writer.set("k", "written").await.unwrap();
            Output::Ok(Loaded::new("loaded"))
        };
        let found = cache.entry("k").with(refresh()).load_with(loader).await.unwrap();
        assert_eq!(found.value.as_deref(), Some(&"loaded".to_owned()));
        assert_eq!((read(&cache, "k").await, read(&other, "k").await), (some("written"), some("written")));
    }
}

#[tokio::test]
async fn a_value_that_was_not_modified_lives_on_and_is_written_by_nobody() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let cache = text().clock(clock.clone()).time_to_live(MINUTE).build(store.clone()).await.unwrap();
    let other = over_memory(&store).await;
    cache.set("k", "v").await.unwrap();
    clock.advance(MINUTE / 2);
    let before = store.operations();
    let same = async |prior: Prior<String>| {
        assert_eq!(prior.value().map(|value| value.as_str()), Some("v"));
        Output::Ok(Loaded::not_modified())
    };
    let found = cache.entry("k").with(refresh()).load_with(same).await.unwrap();
    assert_eq!((found.value.as_deref(), found.tier), (Some(&"v".to_owned()), Tier::Origin));
    let after = store.operations();
    assert_eq!((after.touch - before.touch, after.reads() - before.reads(), after.total() - before.total()), (1, 1, 2));
    assert_eq!(store.get(b"t:k").await.unwrap().unwrap().ttl, RemainingTtl::Expires(MINUTE));
    assert!(cache.get_if_local("k").is_some(), "the copy stays");
    let own = async |_| Output::Ok(Loaded::not_modified().time_to_live(10 * MINUTE));
    cache.entry("k").with(refresh()).load_with(own).await.unwrap();
    assert_eq!(store.get(b"t:k").await.unwrap().unwrap().ttl, RemainingTtl::Expires(10 * MINUTE));
    let vanished = async |_| {
        other.delete("k").await.unwrap();
        Output::Ok(Loaded::not_modified())
    };
    let found = cache.entry("k").with(refresh()).load_with(vanished).await.unwrap();
    assert_eq!(found.value.as_deref(), Some(&"v".to_owned()));
    assert_eq!(read(&other, "k").await, None, "a deletion that came in between is not undone");
    let nothing = cache.entry("k").load_with(async |_| Output::Ok(Loaded::not_modified())).await.unwrap_err();
    assert!(matches!(nothing, Error::Usage { .. }), "{nothing}");
}

#[tokio::test]
async fn what_is_stored_nowhere_is_loaded_again_and_what_is_kept_here_is_seen_by_nobody_else() {
    let store = MemoryBackend::new();
    let (cache, other) = (over_memory(&store).await, over_memory(&store).await);
    for value in ["1", "2"] {
        assert_eq!(loads(&cache, LoadOptions::new().no_store(), value).await, (some(value), Tier::Origin));
    }
    assert_eq!(loads(&cache, LoadOptions::new().local_only(), "3").await, (some("3"), Tier::Origin));
    assert_eq!(loads(&cache, LoadOptions::new(), "never").await, (some("3"), Tier::Local));
    assert!(store.is_empty() && read(&other, "k").await.is_none());
    other.set("k", "4").await.unwrap();
    assert_eq!(loads(&cache, LoadOptions::new(), "never").await, (some("4"), Tier::Remote), "a report ends the copy");
}

#[tokio::test]
async fn a_local_copy_is_skipped_and_replaced_where_that_is_asked_for() {
    let store = MemoryBackend::new();
    let unreported = text().coherence(twotier::Coherence::None).build(store.clone()).await.unwrap();
    unreported.set("k", "old").await.unwrap();
    over_memory(&store).await.set("k", "new").await.unwrap();
    assert_eq!(loads(&unreported, LoadOptions::new(), "never").await.0, some("old"));
    assert_eq!(loads(&unreported, LoadOptions::new().skip_local(), "never").await, (some("new"), Tier::Remote));
    assert_eq!(read(&unreported, "k").await, some("new"), "nothing older is served afterwards");
}

#[tokio::test]
async fn a_life_is_that_of_the_loader_or_of_the_call_or_of_the_cache() {
    let store = MemoryBackend::with_clock(ManualClock::new());
    let cache = text().time_to_live(MINUTE).build(store.clone()).await.unwrap();
    let option = LoadOptions::new().time_to_live(2 * MINUTE).force_refresh();
    for (given, options, expected) in
        [(None, refresh(), MINUTE), (None, option, 2 * MINUTE), (Some(3 * MINUTE), option, 3 * MINUTE)]
    {
        let loader = async |_| {
            let loaded = Loaded::new("v");
            Output::Ok(if let Some(given) = given { loaded.time_to_live(given) } else { loaded })
        };
        cache.entry("k").with(options).load_with(loader).await.unwrap();
        assert_eq!(store.get(b"t:k").await.unwrap().unwrap().ttl, RemainingTtl::Expires(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_has_a_deadline_of_its_own_for_its_loader_and_for_that_of_others() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let began = tokio::time::Instant::now();
    let soon = LoadOptions::new().timeout(Duration::from_millis(50));
    let hangs = || std::future::pending::<Output>();
    let error = cache.entry("k").with(soon).load_with(|_| hangs()).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { after, .. } if after == Duration::from_millis(50)), "{error:?}");
    let mut slow = Box::pin(cache.get_or_load("k", |_| hangs()));
    assert!(futures_util::poll!(slow.as_mut()).is_pending());
    assert_eq!(loads(&cache, soon, "v").await, (some("v"), Tier::Origin), "it waits no longer for the other one");
    assert_eq!(began.elapsed().as_millis() / 10, 10);
}

#[tokio::test(start_paused = true)]
async fn every_forced_refresh_runs_its_own_loader_after_the_call() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    backend.faults().latency(Duration::from_millis(5));
    let cache = text().build(backend).await.unwrap();
    let row = AtomicUsize::new(0);
    let refreshes = (0..5).map(|_| async {
        let before = row.load(Ordering::SeqCst);
        let loader = async |_| Output::Ok(Loaded::new((row.fetch_add(1, Ordering::SeqCst) + 1).to_string()));
        let found = cache.entry("k").with(refresh()).load_with(loader).await.unwrap();
        assert!(found.value.unwrap().parse::<usize>().unwrap() > before);
    });
    futures_util::future::join_all(refreshes).await;
    assert_eq!(read(&cache, "k").await, some("5"));
}

#[test]
fn the_blocking_twin_takes_an_ordinary_function() {
    let cache = blocking::Cache::build(text(), MemoryBackend::new()).unwrap();
    let answer = |value: &'static str| move |_: Prior<String>| Output::Ok(Loaded::new(value));
    assert_eq!(cache.entry("k").load_with(answer("v")).unwrap().value.as_deref(), Some(&"v".to_owned()));
    let found = cache.entry("k").with(refresh()).load_with(answer("w")).unwrap();
    assert_eq!((found.value.as_deref(), found.tier), (Some(&"w".to_owned()), Tier::Origin));
    assert_eq!(cache.increment("n", 2).unwrap(), 2);
    assert!(cache.touch("n", MINUTE).unwrap());
    let unchanged = cache.update("k", |_| twotier::Change::none()).unwrap();
    assert_eq!(unchanged.as_deref(), Some(&"w".to_owned()));
}
