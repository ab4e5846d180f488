//! After a link was lost its copies are read again, the hottest first: what users ask for most is a hit before they
//! ask for it.

use std::{sync::Arc, time::Duration};

use twotier::{BackendError, BackendErrorKind, Cache, FaultyBackend, ManualClock, MemoryBackend, MemoryLink};

use crate::support::{eventually, text};

struct World {
    cache: Cache<String>,
    backend: Arc<FaultyBackend<MemoryBackend>>,
    link: MemoryLink,
    other: Cache<String>,
}

async fn world(copies: usize, revalidated: usize) -> World {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let other = text().clock(clock.clone()).build(store.clone()).await.unwrap();
    let link = store.scripted_link();
    let backend = Arc::new(FaultyBackend::new(store));
    let builder = text().clock(clock).max_entries(copies).revalidate(revalidated);
    let cache = builder.build(Arc::clone(&backend)).await.unwrap();
    assert!(link.heartbeat());
    let values = (0..copies).map(|key| (key, format!("value {key}")));
    cache.set_many(values).await.unwrap();
    World { cache, backend, link, other }
}

impl World {
    fn held(&self, key: usize) -> Option<String> {
        self.cache.get_if_local(key).map(|value| (*value).clone())
    }

    fn reads(&self) -> u64 {
        self.backend.inner().operations().get_many
    }
}

#[tokio::test]
async fn the_hottest_copies_are_hits_again_without_being_asked_for() {
    let world = world(1000, 600).await;
    // Who is asked for during the outage stays the hottest.
    for key in 0..100 {
        assert!(world.held(key).is_some());
    }
    world.link.cut();
    assert!((0..100).all(|key| world.held(key).is_none()), "the link is down");
    let before = world.reads();
    world.link.restore();
    assert!(world.link.heartbeat());
    eventually("the hottest are hits", async || world.held(0).is_some() && world.held(500).is_some()).await;
    let again = (0..1000).filter(|&key| world.held(key).is_some()).count();
    assert_eq!((again, world.reads() - before), (600, 2), "512 to a call");
    assert!((0..100).all(|key| world.held(key).is_some()), "the hottest are among them");
    assert_eq!(world.cache.stats().backend.loads, 0);
}

#[tokio::test]
async fn what_changed_meanwhile_is_found_out() {
    let world = world(100, 100).await;
    world.link.cut();
    world.other.set(7, "new").await.unwrap();
    world.other.delete(8).await.unwrap();
    world.link.restore();
    assert!(world.link.heartbeat());
    eventually("they are hits", async || world.held(0).is_some() && world.held(7).is_some()).await;
    assert_eq!((world.held(7).as_deref(), world.held(8)), (Some("new"), None));
}

#[tokio::test]
async fn after_a_flush_nothing_is_read_again() {
    let world = world(100, 100).await;
    world.link.cut();
    world.link.restore();
    world.backend.inner().flush_all();
    assert!(world.link.heartbeat());
    let before = world.reads();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let kept = (0..100).filter(|&key| world.held(key).is_some()).count();
    assert_eq!(kept, 0);
    assert_eq!(world.reads(), before);
}

#[tokio::test]
async fn a_backend_that_does_not_answer_is_not_asked_for_the_rest() {
    let world = world(2000, 2000).await;
    world.link.cut();
    let cause = BackendError::new(BackendErrorKind::Unavailable, "connection refused");
    world.backend.faults().fail_all(Some(cause));
    let before = world.backend.faults().calls();
    world.link.restore();
    assert!(world.link.heartbeat());
    eventually("it was asked", async || world.backend.faults().calls() > before).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(world.backend.faults().calls() - before, 1);
}

#[tokio::test]
async fn none_is_read_again_where_that_is_switched_off() {
    let world = world(100, 0).await;
    world.link.cut();
    let before = world.reads();
    world.link.restore();
    assert!(world.link.heartbeat());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((world.reads() - before, world.cache.stats().local.size), (0, 100));
    assert_eq!(world.held(0), None);
}

mod live {
    use std::{io, time::Duration};

    use tokio::time::Instant;
    use twotier::{Cache, RedisBackend};
    use twotier_testkit::{Proxy, RedisServer};

    use crate::support::{eventually, foreign, text};

    /// `TWOTIER_TEST_COPIES=100000` plays it at length.
    fn copies() -> usize {
        std::env::var("TWOTIER_TEST_COPIES").ok().map_or(10_000, |copies| copies.parse().expect("a number"))
    }

    fn held(cache: &Cache<String>, key: usize) -> bool {
        cache.get_if_local(key).is_some()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[allow(clippy::print_stdout, reason = "the figures are what the run is for")]
    async fn after_a_second_without_a_link_the_hot_half_are_hits_again_and_no_loader_ran() {
        let (server, copies) = (RedisServer::start(), copies());
        let proxy = Proxy::start(server.addr());
        let builder = text().max_entries(2 * copies).revalidate(copies);
        let cache = builder.build(RedisBackend::new(proxy.url()).unwrap()).await.unwrap();
        cache.set_many((0..copies).map(|key| (key, format!("value {key}")))).await.unwrap();
        let hot = 0..copies / 2;
        assert!(hot.clone().all(|key| held(&cache, key)));

        proxy.refuse(true);
        proxy.cut();
        let changed = copies / 100;
        let script = "for key = 0, ARGV[1] - 1 do redis.call('SET', ARGV[2] .. key * 50, 'new') end";
        let prefix = format!("{}:", cache.namespace());
        server.command(&["EVAL", script, "0", &changed.to_string(), &prefix]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!held(&cache, 0), "there is no link");
        let before = server.calls(&["get", "mget"]);

        proxy.refuse(false);
        let links = cache.stats().coherence.links;
        eventually("the link is up", async || cache.stats().coherence.links > links).await;
        let up = Instant::now();
        let hits = || hot.clone().filter(|&key| held(&cache, key)).count();
        eventually("the hot half are hits", async || hits() * 100 >= 99 * hot.len()).await;
        let took = up.elapsed();
        for key in (0..changed).map(|key| key * 50).filter(|key| hot.contains(key)) {
            let value = cache.get_or_load(key, async |_: usize| Ok::<_, io::Error>("loaded".to_owned())).await.unwrap();
            assert_eq!(*value, "new", "it changed while there was no link");
        }
        let commands = server.calls(&["get", "mget"]) - before;
        println!("{copies} copies: 99 % of the hot half are hits {took:?} after the link was up; {commands} reads");
        assert_eq!(cache.stats().backend.loads, 0);
        foreign(&server, &cache, &["SET", &format!("{prefix}1"), "newer"]).await;
        assert_eq!(cache.get(1).await.unwrap().as_deref().map(String::as_str), Some("newer"));
    }
}
