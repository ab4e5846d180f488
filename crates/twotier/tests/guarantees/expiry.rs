//! F1 and I4: no copy outlives either time to live.

use std::time::Duration;

use twotier::{ManualClock, MemoryBackend, SetOptions};

use crate::support::{read, text};

#[tokio::test]
async fn a_local_copy_never_outlives_its_own_time_to_live() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let builder = text().clock(clock.clone()).local_time_to_live(Duration::from_secs(10));
    let cache = builder.build(store.clone()).await.unwrap();
    cache.set("k", "v".to_owned()).await.unwrap();
    // Up to a tenth is taken off, so that copies made together do not end together.
    clock.advance(Duration::from_millis(8_999));
    assert!(cache.get_if_local("k").is_some());
    clock.advance(Duration::from_millis(1_001));
    assert!(cache.get_if_local("k").is_none());
    assert_eq!(cache.stats().local.expired, 1);
    assert_eq!(read(&cache, "k").await.as_deref(), Some("v"), "the backend still has it");
}

#[tokio::test]
async fn a_local_copy_never_outlives_the_value_in_the_backend() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let cache = text().clock(clock.clone()).build(store.clone()).await.unwrap();
    let options = SetOptions::new().time_to_live(Duration::from_millis(700));
    cache.set_with("k", "v".to_owned(), options).await.unwrap();
    clock.advance(Duration::from_millis(300));
    // Read again, with 400 ms left.
    cache.clear_local();
    assert!(read(&cache, "k").await.is_some());
    clock.advance(Duration::from_millis(399));
    assert!(cache.get_if_local("k").is_some());
    clock.advance(Duration::from_millis(1));
    assert!(cache.get_if_local("k").is_none());
    assert_eq!(read(&cache, "k").await, None);
}

#[tokio::test]
async fn a_rewritten_key_takes_the_new_time_to_live() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let cache = text().clock(clock.clone()).build(store.clone()).await.unwrap();
    let short = SetOptions::new().time_to_live(Duration::from_secs(1));
    cache.set_with("k", "short".to_owned(), short).await.unwrap();
    cache.set("k", "for ever".to_owned()).await.unwrap();
    clock.advance(Duration::from_secs(10));
    assert_eq!(cache.get_if_local("k").as_deref().map(String::as_str), Some("for ever"));
    cache.set_with("k", "short".to_owned(), short).await.unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(read(&cache, "k").await, None);
}

#[tokio::test]
async fn an_absent_key_is_remembered_for_the_negative_time_to_live_only() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let builder = text().clock(clock.clone()).negative_time_to_live(Duration::from_secs(2));
    let cache = builder.build(store.clone()).await.unwrap();
    assert_eq!(read(&cache, "k").await, None);
    clock.advance(Duration::from_millis(1_999));
    assert_eq!(read(&cache, "k").await, None);
    assert_eq!(cache.stats().backend.reads, 1);
    clock.advance(Duration::from_millis(1));
    assert_eq!(read(&cache, "k").await, None);
    assert_eq!(cache.stats().backend.reads, 2);

    let forgetful = text().negative_time_to_live(None).build(store).await.unwrap();
    read(&forgetful, "k").await;
    read(&forgetful, "k").await;
    assert_eq!(forgetful.stats().backend.reads, 2);
    assert_eq!(forgetful.stats().local.size, 0);
}

mod live {
    use std::time::{Duration, Instant};

    use twotier::SetOptions;
    use twotier_testkit::RedisServer;

    use crate::support::{over_redis, read};

    #[tokio::test]
    async fn no_hit_is_served_after_redis_has_expired_the_key() {
        let server = RedisServer::start();
        let (writer, reader) = (over_redis(&server).await, over_redis(&server).await);
        for ttl in [5_u64, 20, 60, 150] {
            let options = SetOptions::new().time_to_live(Duration::from_millis(ttl));
            writer.set_with("k", ttl.to_string(), options).await.unwrap();
            let written = Instant::now();
            read(&reader, "k").await;
            // Both tiers are asked until the value is gone from each; neither may serve it after its time.
            loop {
                let now = written.elapsed();
                let (own, other) = (writer.get_if_local("k"), reader.get_if_local("k"));
                if own.is_none() && other.is_none() {
                    break;
                }
                assert!(now <= Duration::from_millis(ttl), "served {now:?} after a write with {ttl} ms");
                tokio::task::yield_now().await;
            }
        }
    }
}
