//! The rules of coherence without a server: an in-memory link that a test delays, repeats, loses and cuts.

use std::time::Duration;

use twotier::{Cache, ManualClock, MemoryBackend, MemoryLink};

use crate::support::{read, text};

const BOUND: Duration = Duration::from_secs(2);

struct World {
    clock: ManualClock,
    cache: Cache<String>,
    link: MemoryLink,
    other: Cache<String>,
}

impl World {
    async fn new() -> Self {
        let clock = ManualClock::new();
        let store = MemoryBackend::with_clock(clock.clone());
        let other = text().clock(clock.clone()).build(store.clone()).await.unwrap();
        let link = store.scripted_link();
        let builder = text().clock(clock.clone()).max_staleness(BOUND).local_time_to_live(Duration::from_secs(60));
        let cache = builder.build(store).await.unwrap();
        other.set("k", "1".to_owned()).await.unwrap();
        assert_eq!(read(&cache, "k").await.as_deref(), Some("1"));
        Self { clock, cache, link, other }
    }

    async fn overwrite(&self, value: &str) {
        self.other.set("k", value.to_owned()).await.unwrap();
    }

    fn held(&self) -> Option<String> {
        self.cache.get_if_local("k").map(|value| (*value).clone())
    }
}

#[tokio::test]
async fn a_late_report_leaves_a_copy_for_at_most_the_bound() {
    let world = World::new().await;
    world.link.hold();
    world.overwrite("2").await;
    assert_eq!(world.held().as_deref(), Some("1"), "the report is under way");
    world.clock.advance(BOUND - Duration::from_nanos(1));
    assert!(!world.link.heartbeat());
    assert_eq!(world.held().as_deref(), Some("1"));
    world.clock.advance(Duration::from_nanos(1));
    assert_eq!(world.held(), None, "the lease has ended");
    assert_eq!(read(&world.cache, "k").await.as_deref(), Some("2"), "and the backend is asked");
    world.link.release();
    assert!(world.link.heartbeat());
}

#[tokio::test]
async fn a_copy_whose_lease_lapsed_is_valid_again_when_the_same_link_goes_on() {
    let world = World::new().await;
    world.clock.advance(BOUND * 2);
    assert_eq!(world.held(), None);
    assert!(world.link.heartbeat());
    assert_eq!(world.held().as_deref(), Some("1"), "every report until now was applied");
}

#[tokio::test]
async fn a_read_that_crosses_a_late_report_does_not_outlive_it() {
    let world = World::new().await;
    world.link.hold();
    world.overwrite("2").await;
    world.overwrite("3").await;
    world.cache.clear_local();
    assert_eq!(read(&world.cache, "k").await.as_deref(), Some("3"));
    assert_eq!(world.link.deliver(1), 1);
    assert_eq!(world.held(), None, "the first of two reports cannot know that the copy is newer");
    assert_eq!(read(&world.cache, "k").await.as_deref(), Some("3"));
    world.link.release();
    assert_eq!(read(&world.cache, "k").await.as_deref(), Some("3"));
}

#[tokio::test]
async fn repeated_reports_change_nothing() {
    let world = World::new().await;
    world.link.repeat(true);
    for round in 2..20 {
        world.overwrite(&round.to_string()).await;
        assert_eq!(read(&world.cache, "k").await, Some(round.to_string()));
        assert_eq!(world.held(), Some(round.to_string()));
    }
}

#[tokio::test]
async fn nothing_from_before_a_cut_is_served_and_nothing_is_kept_until_the_link_is_back() {
    let world = World::new().await;
    world.link.cut();
    assert!(!world.cache.health().is_healthy());
    assert_eq!(world.held(), None);
    assert_eq!(read(&world.cache, "k").await.as_deref(), Some("1"));
    assert_eq!(world.held(), None, "nothing is kept");
    world.overwrite("2").await;
    world.link.restore();
    assert!(world.cache.health().is_healthy());
    assert_eq!(world.held(), None);
    assert_eq!(read(&world.cache, "k").await.as_deref(), Some("2"));
    assert_eq!(world.held().as_deref(), Some("2"));
}

#[tokio::test]
async fn an_own_write_that_crosses_a_late_report_of_a_foreign_one_is_not_kept_wrongly() {
    let world = World::new().await;
    world.link.hold();
    world.cache.set("k", "own".to_owned()).await.unwrap();
    world.overwrite("foreign").await;
    assert_eq!(world.held().as_deref(), Some("own"), "the report is under way");
    world.link.release();
    assert_eq!(read(&world.cache, "k").await.as_deref(), Some("foreign"));
}

#[tokio::test]
async fn a_report_that_is_lost_leaves_a_copy_until_its_time_to_live_ends_and_not_longer() {
    let world = World::new().await;
    world.link.lose(1);
    world.overwrite("2").await;
    for _ in 0..59 {
        world.clock.advance(Duration::from_secs(1));
        assert!(world.link.heartbeat());
    }
    world.clock.advance(Duration::from_secs(1));
    assert!(world.link.heartbeat());
    assert_eq!(read(&world.cache, "k").await.as_deref(), Some("2"), "the time to live is the last bound");
}
