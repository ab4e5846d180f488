//! Copies that stand in for a backend that does not answer: how stale they may be, that they say so, and what is never
//! returned.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use twotier::{
    BackendError, BackendErrorKind, Cache, CacheBuilder, ErrorKind, FaultyBackend, Freshness, MemoryBackend,
    MemoryLink, Tier, codec::Text,
};
use twotier_testkit::simulation::VirtualClock;

use crate::support::text;

const BOUND: Duration = Duration::from_secs(2);
const STALE: Duration = Duration::from_secs(300);
const LOCAL: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_millis(500);

/// A cache that returns stale copies, over a backend, a link and a clock in the hands of the test.
struct World {
    cache: Cache<String>,
    backend: Arc<FaultyBackend<MemoryBackend>>,
    link: MemoryLink,
    other: Cache<String>,
}

async fn world(with: impl FnOnce(CacheBuilder<String, Text>) -> CacheBuilder<String, Text>) -> World {
    let clock = VirtualClock::new(Duration::from_millis(1));
    let store = MemoryBackend::with_clock(clock.clone());
    let other = text().clock(clock.clone()).build(store.clone()).await.unwrap();
    let link = store.scripted_link();
    let backend = Arc::new(FaultyBackend::new(store));
    let builder = text().clock(clock).max_staleness(BOUND).op_timeout(DEADLINE).local_time_to_live(LOCAL);
    let cache = with(builder.stale_if_error(STALE)).build(Arc::clone(&backend)).await.unwrap();
    assert!(link.heartbeat());
    World { cache, backend, link, other }
}

impl World {
    /// The backend answers nobody, and the link is lost.
    fn stop(&self) {
        let cause = BackendError::new(BackendErrorKind::Unavailable, "connection refused");
        self.backend.faults().fail_all(Some(cause));
        self.link.cut();
    }

    fn start(&self) {
        self.backend.faults().heal();
        self.link.restore();
        assert!(self.link.heartbeat());
    }

    async fn value(&self, key: &str) -> Result<Option<String>, ErrorKind> {
        let found = self.cache.get(key).await.map_err(|error| error.kind())?;
        Ok(found.map(|value| (*value).clone()))
    }
}

async fn row(_key: &str) -> io::Result<String> {
    Ok("loaded".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_copy_stands_in_for_a_backend_that_is_away_and_says_how_stale_it_may_be() {
    let world = world(|builder| builder).await;
    world.other.set("k", "1").await.unwrap();
    assert_eq!(world.value("k").await, Ok(Some("1".to_owned())));
    sleep(Duration::from_secs(1)).await;
    assert!(world.link.heartbeat());
    world.stop();
    for passed in [Duration::ZERO, LOCAL, STALE - LOCAL - Duration::from_millis(1)] {
        sleep(passed).await;
        assert_eq!(world.value("k").await, Ok(Some("1".to_owned())), "{passed:?} later");
    }
    let found = world.cache.lookup("k").await.unwrap();
    let Freshness::Stale { at_most, .. } = found.freshness else { panic!("{found:?}") };
    assert_eq!((found.tier, found.age, at_most), (Tier::Local, at_most, STALE));
    assert_eq!(world.cache.get_many(&["k"]).await.unwrap()[0].as_deref().map(String::as_str), Some("1"));
    assert_eq!(world.cache.stats().local.stale, 5);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(world.value("k").await, Err(ErrorKind::Unavailable), "it may be too stale by now");
}

#[tokio::test(start_paused = true)]
async fn without_it_nothing_stands_in() {
    let world = world(|builder| builder.stale_if_error(None)).await;
    world.other.set("k", "1").await.unwrap();
    assert_eq!(world.value("k").await, Ok(Some("1".to_owned())));
    world.stop();
    assert_eq!(world.value("k").await, Err(ErrorKind::Unavailable));
    assert_eq!(world.cache.stats().local.stale, 0);
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_no_hit_for_longer_than_without_it() {
    let world = world(|builder| builder).await;
    world.cache.set("k", "1").await.unwrap();
    sleep(LOCAL - Duration::from_millis(1)).await;
    assert!(world.link.heartbeat());
    let before = world.cache.stats();
    sleep(Duration::from_millis(2)).await;
    assert_eq!(world.cache.get_if_local("k"), None);
    assert_eq!(world.value("k").await, Ok(Some("1".to_owned())));
    let after = world.cache.stats();
    assert_eq!(after.backend.reads - before.backend.reads, 1);
    assert_eq!(after.local.stale, 0);
}

#[tokio::test(start_paused = true)]
async fn a_copy_never_outlives_the_value_in_the_backend() {
    let life = Duration::from_secs(30);
    let world = world(|builder| builder.time_to_live(life)).await;
    world.cache.set("k", "1").await.unwrap();
    world.stop();
    sleep(life - Duration::from_millis(2)).await;
    assert_eq!(world.value("k").await, Ok(Some("1".to_owned())));
    sleep(Duration::from_millis(2)).await;
    assert_eq!(world.value("k").await, Err(ErrorKind::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn what_is_known_to_have_changed_stands_in_for_nothing() {
    let world = world(|builder| builder).await;
    for key in ["reported", "set", "deleted", "invalidated", "kept"] {
        world.cache.set(key, "1").await.unwrap();
    }
    world.other.set("reported", "2").await.unwrap();
    world.stop();
    assert!(world.cache.set("set", "2").await.is_err());
    assert!(world.cache.delete("deleted").await.is_err());
    assert!(world.cache.invalidate_local("invalidated"));
    for key in ["reported", "set", "deleted", "invalidated"] {
        assert_eq!(world.value(key).await, Err(ErrorKind::Unavailable), "{key}");
    }
    assert_eq!(world.value("kept").await, Ok(Some("1".to_owned())));
    world.cache.clear_local();
    assert_eq!(world.value("kept").await, Err(ErrorKind::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn a_load_returns_a_stale_copy_before_it_asks_its_loader_and_nothing_older_afterwards() {
    let world = world(|builder| builder.outage_time_to_live(Duration::ZERO)).await;
    world.cache.set("k", "1").await.unwrap();
    assert_eq!(world.value("absent").await, Ok(None));
    world.stop();
    let found = world.cache.entry("k").load_with(|_| row("k")).await.unwrap();
    assert!(matches!(found.freshness, Freshness::Stale { .. }), "{found:?}");
    let both =
        world.cache.get_many_or_load(&["k"], async |_: Vec<&str>| Ok::<_, io::Error>([("k", "2".to_owned())])).await;
    assert_eq!(*both.unwrap()[0].clone().unwrap(), "1");
    assert_eq!(world.cache.stats().backend.loads, 0);
    // Of what is known to be absent a load asks its loader, and that is newer.
    assert_eq!(world.value("absent").await, Ok(None));
    assert_eq!(*world.cache.get_or_load("absent", row).await.unwrap(), "loaded");
    assert_eq!(world.value("absent").await, Err(ErrorKind::Unavailable), "what was loaded is not kept, and newer");
    // So is what a refresh brings.
    let refresh = twotier::LoadOptions::new().force_refresh();
    let found = world.cache.entry("k").with(refresh).load_with(|_| row("k")).await.unwrap();
    assert_eq!(found.value.as_deref().map(String::as_str), Some("loaded"));
    assert_eq!(world.value("k").await, Err(ErrorKind::Unavailable));
}

/// Has many load a key at once while the backend hangs, some of them after the first of all.
async fn all_load_at_once(first_is_a_batch: bool) {
    let world = Arc::new(world(|builder| builder.breaker_failures(0)).await);
    world.cache.set("k", "1").await.unwrap();
    world.backend.faults().hang(true);
    world.link.cut();
    let began = Instant::now();
    let mut calls = JoinSet::new();
    if first_is_a_batch {
        let cache = world.cache.clone();
        calls.spawn(async move {
            let load = async |_: Vec<&str>| Ok::<_, io::Error>([("k", "2".to_owned())]);
            let found = cache.get_many_or_load(&["k"], load).await.unwrap();
            assert_eq!(found[0].as_deref().map(String::as_str), Some("1"));
        });
        tokio::task::yield_now().await;
    }
    for _ in 0..50 {
        let cache = world.cache.clone();
        calls.spawn(async move {
            let found = cache.entry("k").load_with(|_| row("k")).await.unwrap();
            assert!(matches!(found.freshness, Freshness::Stale { .. }), "{found:?}");
        });
    }
    calls.join_all().await;
    assert!(began.elapsed() <= DEADLINE + Duration::from_millis(5), "{:?}", began.elapsed());
    assert_eq!(world.cache.stats().backend.loads, 0);
}

#[tokio::test(start_paused = true)]
async fn all_who_load_a_key_at_once_are_given_its_stale_copy_as_such() {
    all_load_at_once(false).await;
}

#[tokio::test(start_paused = true)]
async fn all_who_load_a_key_after_a_batch_are_given_its_stale_copy_as_such() {
    all_load_at_once(true).await;
}

#[tokio::test(start_paused = true)]
async fn after_the_soft_timeout_the_copy_is_returned_and_the_read_goes_on() {
    const SOFT: Duration = Duration::from_millis(20);
    let world = world(|builder| builder.soft_timeout(SOFT)).await;
    world.cache.set("k", "1").await.unwrap();
    world.link.cut();
    world.other.set("k", "2").await.unwrap();
    world.link.restore();
    world.backend.faults().latency(Duration::from_millis(100));
    let before = world.backend.faults().calls();
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(world.value("k").await, Ok(Some("1".to_owned())));
    }
    assert_eq!(began.elapsed(), 3 * SOFT);
    assert_eq!(world.backend.faults().calls() - before, 1, "one read for all of them");
    sleep(Duration::from_millis(60)).await;
    assert!(world.link.heartbeat());
    assert_eq!(world.cache.get_if_local("k").as_deref().map(String::as_str), Some("2"), "what the read brought");
    // Without a copy there is nothing to return.
    assert_eq!(world.value("other").await, Ok(None));
    assert_eq!(began.elapsed(), 3 * SOFT + Duration::from_millis(160));
}

#[tokio::test(start_paused = true)]
async fn a_soft_timeout_of_zero_returns_at_once_and_reads_again() {
    let world = world(|builder| builder.soft_timeout(Duration::ZERO)).await;
    world.cache.set("k", "1").await.unwrap();
    world.backend.faults().latency(Duration::from_millis(100));
    sleep(LOCAL).await;
    assert!(world.link.heartbeat());
    let began = Instant::now();
    let found = world.cache.lookup("k").await.unwrap();
    assert!(matches!(found.freshness, Freshness::Stale { .. }), "{found:?}");
    assert_eq!(began.elapsed(), Duration::ZERO);
    sleep(Duration::from_millis(101)).await;
    assert!(world.cache.get_if_local("k").is_some(), "it was read again");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_never_answered_by_a_copy() {
    let world = world(|builder| builder.soft_timeout(Duration::ZERO)).await;
    world.cache.set("k", "1").await.unwrap();
    world.backend.faults().latency(Duration::from_millis(100));
    let refresh = twotier::LoadOptions::new().force_refresh();
    let (found, _other) = tokio::join!(world.cache.entry("k").with(refresh).load_with(|_| row("k")), async {
        // Another caller puts a copy in meanwhile.
        sleep(Duration::from_millis(150)).await;
        world.cache.get("k").await
    });
    assert_eq!(found.unwrap().value.as_deref().map(String::as_str), Some("loaded"));
    assert_eq!(world.value("k").await, Ok(Some("loaded".to_owned())));
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    type Setting = fn(CacheBuilder<String, Text>) -> CacheBuilder<String, Text>;
    let cases: [(&str, Setting); 4] = [
        ("stale_if_error", |builder| builder.stale_if_error(Duration::ZERO)),
        ("stale_if_error", |builder| builder.stale_if_error(Duration::from_secs(8 * 24 * 3600))),
        ("stale_if_error", |builder| builder.stale_if_error(STALE).without_local()),
        ("soft_timeout", |builder| builder.soft_timeout(DEADLINE)),
    ];
    for (field, with) in cases {
        let refused = with(text()).build(MemoryBackend::new()).await.unwrap_err();
        assert!(refused.to_string().contains(field), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn back_again_the_backend_has_the_word() {
    let world = world(|builder| builder).await;
    world.cache.set("k", "1").await.unwrap();
    world.stop();
    assert_eq!(world.value("k").await, Ok(Some("1".to_owned())));
    world.other.set("k", "2").await.unwrap();
    world.start();
    // Until the breaker has tried a call the copy may stand in for it; then never again.
    let began = Instant::now();
    while world.value("k").await != Ok(Some("2".to_owned())) {
        assert!(began.elapsed() <= BOUND, "the backend answers");
        sleep(Duration::from_millis(10)).await;
    }
    world.stop();
    assert_eq!(world.value("k").await, Ok(Some("2".to_owned())));
}
