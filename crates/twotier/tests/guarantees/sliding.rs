//! `touch`, and reads that extend the life of what they find: the copy stays.

use std::time::Duration;

use twotier::{
    Backend as _, BackendError, BackendErrorKind, ErrorKind, FaultyBackend, ManualClock, MemoryBackend, RemainingTtl,
    SetOptions,
};

use crate::support::{eventually, over_memory, read, text};

const MINUTE: Duration = Duration::from_secs(60);

async fn ttl(store: &MemoryBackend) -> Option<RemainingTtl> {
    store.get(b"t:k").await.unwrap().map(|stored| stored.ttl)
}

#[tokio::test]
async fn a_touch_extends_the_life_in_both_tiers_and_drops_no_copy() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let cache = text().clock(clock.clone()).build(store.clone()).await.unwrap();
    cache.set_with("k", "v", SetOptions::new().time_to_live(Duration::from_secs(10))).await.unwrap();
    clock.advance(Duration::from_secs(9));
    assert!(cache.touch("k", MINUTE).await.unwrap());
    assert_eq!(ttl(&store).await, Some(RemainingTtl::Expires(MINUTE)));
    let reads = store.operations().reads();
    clock.advance(Duration::from_secs(50));
    assert_eq!(read(&cache, "k").await.as_deref(), Some("v"));
    assert_eq!(store.operations().reads(), reads, "it was a local hit, after the life that it was written with");
    clock.advance(Duration::from_secs(10));
    assert_eq!(read(&cache, "k").await, None, "and no longer than the value");
}

#[tokio::test]
async fn a_touch_that_shortens_a_life_shortens_that_of_the_copy() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let cache = text().clock(clock.clone()).build(store.clone()).await.unwrap();
    cache.set("k", "v").await.unwrap();
    assert!(cache.touch("k", Duration::from_secs(1)).await.unwrap());
    assert!(cache.get_if_local("k").is_some());
    clock.advance(Duration::from_secs(1));
    assert!(cache.get_if_local("k").is_none());
}

#[tokio::test]
async fn a_touch_says_whether_the_key_was_there_and_takes_a_copy_away_that_has_none() {
    let store = MemoryBackend::new();
    let ours = store.clone();
    let link = ours.scripted_link();
    let cache = text().build(ours).await.unwrap();
    let other = over_memory(&store).await;
    assert!(!cache.touch("k", MINUTE).await.unwrap());
    cache.set("k", "v").await.unwrap();
    link.hold();
    other.delete("k").await.unwrap();
    assert!(cache.get_if_local("k").is_some(), "the report is under way");
    assert!(!cache.touch("k", MINUTE).await.unwrap());
    assert!(cache.get_if_local("k").is_none());
    let refused = cache.touch("k", Duration::ZERO).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().starts_with("touch in namespace `t`"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_touch_a_copy_lives_no_longer_than_before_or_than_was_asked_for() {
    let clock = ManualClock::new();
    let backend = FaultyBackend::new(MemoryBackend::with_clock(clock.clone()));
    let faults = backend.faults();
    let cache = text().clock(clock.clone()).build(backend).await.unwrap();
    cache.set_with("k", "v", SetOptions::new().time_to_live(Duration::from_secs(10))).await.unwrap();
    let broken = || BackendError::new(BackendErrorKind::Unavailable, "the connection broke");
    faults.fail_next(1, broken());
    assert!(cache.touch("k", MINUTE).await.unwrap_err().may_have_executed());
    assert!(cache.get_if_local("k").is_some());
    clock.advance(Duration::from_secs(10));
    assert!(cache.get_if_local("k").is_none());
    cache.set("k", "v").await.unwrap();
    faults.fail_next(1, broken());
    cache.touch("k", Duration::from_secs(1)).await.unwrap_err();
    clock.advance(Duration::from_secs(1));
    assert!(cache.get_if_local("k").is_none());
}

#[tokio::test]
async fn where_only_its_life_bounds_how_stale_a_copy_is_a_touch_does_not_extend_that() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let builder = text().clock(clock.clone()).coherence(twotier::Coherence::None);
    let cache = builder.local_time_to_live(Duration::from_secs(10)).build(store.clone()).await.unwrap();
    cache.set("k", "v").await.unwrap();
    clock.advance(Duration::from_secs(8));
    assert!(cache.touch("k", MINUTE).await.unwrap());
    clock.advance(Duration::from_secs(2));
    assert!(cache.get_if_local("k").is_none());
}

#[tokio::test(start_paused = true)]
async fn reads_extend_a_life_once_for_each_share_of_it_and_stay_local_hits() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let sliding = || text().clock(clock.clone()).time_to_live(MINUTE).sliding(0.1);
    let (cache, other) = (sliding().build(store.clone()).await.unwrap(), over_memory(&store).await);
    cache.set("k", "v").await.unwrap();
    clock.advance(Duration::from_secs(5));
    for _ in 0..100 {
        assert!(cache.get_if_local("k").is_some());
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(store.operations().touch, 0, "too little of it has passed");
    for extended in 1..=100 {
        clock.advance(Duration::from_secs(7));
        for _ in 0..10 {
            assert!(cache.get("k").await.unwrap().is_some());
            tokio::task::yield_now().await;
        }
        eventually("the life is extended", async || store.operations().touch >= extended).await;
        assert_eq!(store.operations().touch, extended);
    }
    let operations = store.operations();
    assert_eq!((operations.reads(), operations.total() - operations.touch), (0, 1), "ten minutes of local hits");
    assert_eq!(ttl(&store).await, Some(RemainingTtl::Expires(MINUTE)));
    assert_eq!(other.stats().coherence.invalidations, 101, "others are notified once for each");
    clock.advance(MINUTE);
    assert_eq!(read(&cache, "k").await, None, "nobody asked for it any more");
}

#[tokio::test(start_paused = true)]
async fn a_read_of_the_backend_extends_a_life_too_whatever_bounds_the_copy() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let short =
        text().clock(clock.clone()).time_to_live(MINUTE).sliding(0.1).local_time_to_live(Duration::from_secs(3));
    let cache = short.build(store.clone()).await.unwrap();
    cache.set("k", "v").await.unwrap();
    clock.advance(Duration::from_secs(50));
    assert!(cache.get("k").await.unwrap().is_some());
    eventually("the life is extended", async || store.operations().touch == 1).await;
    clock.advance(Duration::from_secs(50));
    assert!(cache.get("k").await.unwrap().is_some());
    let without = text().clock(clock.clone()).time_to_live(MINUTE).sliding(0.1).without_local();
    let without = without.build(store.clone()).await.unwrap();
    eventually("the life is extended", async || store.operations().touch == 2).await;
    clock.advance(Duration::from_secs(50));
    assert!(without.get("k").await.unwrap().is_some());
    eventually("the life is extended", async || store.operations().touch == 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_longer_life_of_its_own_is_not_cut_short_and_an_absence_is_not_touched() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let cache = text().clock(clock.clone()).time_to_live(MINUTE).sliding(0.1).build(store.clone()).await.unwrap();
    cache.set_with("k", "v", SetOptions::new().time_to_live(10 * MINUTE)).await.unwrap();
    cache.set_with("ever", "v", SetOptions::new().time_to_live(None)).await.unwrap();
    for _ in 0..8 {
        clock.advance(MINUTE);
        for key in ["k", "ever", "absent"] {
            cache.get(key).await.unwrap();
        }
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(store.operations().touch, 0);
    assert_eq!(ttl(&store).await, Some(RemainingTtl::Expires(2 * MINUTE)));
    assert_eq!(store.get(b"t:ever").await.unwrap().unwrap().ttl, RemainingTtl::Persistent);
}

#[tokio::test(start_paused = true)]
async fn reads_cost_nothing_more_while_the_backend_is_away() {
    let clock = ManualClock::new();
    let backend = FaultyBackend::new(MemoryBackend::with_clock(clock.clone()));
    let faults = backend.faults();
    let cache = text().clock(clock.clone()).time_to_live(MINUTE).sliding(0.1).build(backend).await.unwrap();
    cache.set("k", "v").await.unwrap();
    clock.advance(Duration::from_secs(10));
    faults.fail_all(Some(BackendError::new(BackendErrorKind::Unavailable, "away")));
    let before = faults.calls();
    for _ in 0..1000 {
        assert!(cache.get("k").await.unwrap().is_some());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(faults.calls() - before <= 3, "one attempt and a pause of half a second");
    faults.heal();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(cache.get("k").await.unwrap().is_some());
    eventually("the life is extended", async || cache.get("k").await.unwrap().is_some() && faults.failures() > 0).await;
}

#[tokio::test]
async fn a_share_is_one_and_takes_a_time_to_live() {
    for (share, ttl) in [(0.1, None), (0.6, Some(MINUTE)), (-0.1, Some(MINUTE)), (0.1, Some(MINUTE * 60 * 24 * 11))] {
        let refused = text().sliding(share).time_to_live(ttl).build(MemoryBackend::new()).await.unwrap_err();
        assert!(refused.to_string().contains("sliding"), "{refused}");
    }
}

mod live {
    use std::time::Duration;

    use twotier_testkit::RedisServer;

    use super::MINUTE;
    use crate::support::{READS, eventually, over_redis, redis, text};

    #[tokio::test]
    async fn a_thousand_touches_and_reads_are_a_thousand_local_hits() {
        let server = RedisServer::start();
        let (cache, other) = (over_redis(&server).await, text().build(redis(&server).another_link()).await.unwrap());
        cache.set("k", "v").await.unwrap();
        server.reset_stats();
        for _ in 0..1000 {
            assert!(cache.touch("k", MINUTE).await.unwrap());
            assert!(cache.get("k").await.unwrap().is_some());
        }
        assert_eq!((server.calls(&["pexpire"]), server.calls(&READS)), (1000, 0));
        assert!(server.command(&["PTTL", "t:k"]).as_int() > 0);
        eventually("others are notified", async || other.stats().coherence.invalidations > 0).await;
    }

    #[tokio::test]
    async fn a_sliding_cache_extends_lives_by_few_commands_and_reads_nothing_again() {
        let server = RedisServer::start();
        let ttl = Duration::from_secs(5);
        let cache = text().time_to_live(ttl).sliding(0.1).build(redis(&server)).await.unwrap();
        cache.set("k", "v").await.unwrap();
        server.reset_stats();
        let began = std::time::Instant::now();
        while began.elapsed() < ttl + Duration::from_secs(1) {
            assert!(cache.get("k").await.unwrap().is_some(), "it is read all the time");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (touched, read) = (server.calls(&["pexpire"]), server.calls(&READS));
        assert!((1..=12).contains(&touched) && read == 0, "{touched} touches and {read} reads");
    }
}
