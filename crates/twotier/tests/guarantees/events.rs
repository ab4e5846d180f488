//! Whoever listens is notified of what happens: each copy that goes once, with its cause, and each change of the link;
//! and nobody waits for whoever listens.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use twotier::{Event, Events, Eviction, ManualClock, MemoryBackend, RemovalCause};

use crate::support::{ends, eventually, over_memory, read, text};

type Notified = Arc<Mutex<Vec<(String, Option<String>, RemovalCause)>>>;

fn listener(notified: &Notified) -> impl Fn(&str, Option<Arc<String>>, RemovalCause) + Send + Sync + 'static + use<> {
    let notified = Arc::clone(notified);
    move |key, value, cause| {
        notified.lock().unwrap().push((key.to_owned(), value.map(|value| (*value).clone()), cause));
    }
}

fn taken(events: &mut Events) -> Vec<Event> {
    std::iter::from_fn(|| events.try_next()).collect()
}

#[tokio::test]
async fn each_copy_that_goes_is_reported_once_with_its_value_and_its_cause_whatever_the_policy() {
    use RemovalCause::{Cleared, EvictedForBytes, EvictedForEntries, Expired, Invalidated, Outdated, Superseded};
    for eviction in [
        Eviction::Lru,
        Eviction::Fifo,
        Eviction::Lfu,
        Eviction::Random { seed: 1 },
        Eviction::S3Fifo,
        Eviction::WTinyLfu,
    ] {
        let (notified, clock) = (Notified::default(), ManualClock::new());
        let store = MemoryBackend::with_clock(clock.clone());
        let writer = over_memory(&store).await;
        let cache = text()
            .eviction(eviction)
            .clock(clock.clone())
            .max_entries(3)
            .max_bytes(2_000)
            .local_time_to_live(Duration::from_secs(60))
            .on_removal(listener(&notified))
            .build(store.clone())
            .await
            .unwrap();
        let mut events = cache.events();
        let set = async |key: &str, value: &str| cache.set(key, value.to_owned()).await.unwrap();

        set("a", "1").await;
        set("a", "2").await;
        assert!(cache.invalidate_local("a"));
        set("b", "3").await;
        writer.set("b", "4".to_owned()).await.unwrap();
        assert_eq!(read(&cache, "absent").await, None);
        clock.advance(Duration::from_secs(61));
        assert_eq!(read(&cache, "absent").await, None);
        assert_eq!(cache.clear_local(), 1);
        for key in ["c", "d", "e", "f"] {
            set(key, "5").await;
        }
        cache.clear_local();
        set("g", &"6".repeat(900)).await;
        set("h", &"7".repeat(900)).await;
        store.flush_all();
        assert_eq!(read(&cache, "h").await, None);

        let stats = cache.stats().local;
        let counted = [
            (Superseded, stats.superseded),
            (Invalidated, stats.invalidated),
            (Expired, stats.expired),
            (EvictedForEntries, stats.evicted_for_entries),
            (EvictedForBytes, stats.evicted_for_bytes),
            (Outdated, stats.outdated),
            (Cleared, stats.cleared),
        ];
        let all: u64 = counted.iter().map(|(_, count)| count).sum();
        eventually("every removal is reported", async || notified.lock().unwrap().len() as u64 == all).await;
        let notified = notified.lock().unwrap().clone();
        let mut by_cause: HashMap<RemovalCause, u64> = HashMap::new();
        notified.iter().for_each(|(_, _, cause)| *by_cause.entry(*cause).or_default() += 1);
        for (cause, count) in counted {
            assert!(count > 0, "{eviction}: nothing was {cause}");
            assert_eq!(by_cause.get(&cause), Some(&count), "{eviction}: {cause}");
        }
        let (first, second) = (("a".to_owned(), Some("1".to_owned())), ("a".to_owned(), Some("2".to_owned())));
        assert_eq!(notified[0], (first.0, first.1, Superseded));
        assert_eq!(notified[1], (second.0, second.1, Invalidated));
        assert!(notified.contains(&("absent".to_owned(), None, Expired)));

        let removed: Vec<_> = taken(&mut events)
            .into_iter()
            .filter_map(|event| match event {
                Event::Removed { key, cause, .. } => Some((key.to_string(), cause)),
                _ => None,
            })
            .collect();
        let listened: Vec<_> = notified.into_iter().map(|(key, _, cause)| (key, cause)).collect();
        assert_eq!(removed, listened, "{eviction}: the stream and the listener receive the same, in one order");
        assert_eq!(events.dropped(), 0);
    }
}

#[tokio::test]
async fn a_listener_may_use_the_cache_and_a_panic_in_it_is_nobody_elses() {
    let notified = Notified::default();
    let slot: Arc<Mutex<Option<twotier::Cache<String>>>> = Arc::default();
    let (inside, note) = (Arc::clone(&slot), listener(&notified));
    let cache = text()
        .on_removal(move |key, value, cause| {
            if let Some(cache) = &*inside.lock().unwrap() {
                let _held = cache.invalidate_local("other");
                assert!(cache.get_if_local(key).is_none());
            }
            note(key, value, cause);
            assert_ne!(key, "bad", "a listener that panics");
        })
        .build(MemoryBackend::new())
        .await
        .unwrap();
    *slot.lock().unwrap() = Some(cache.clone());
    for key in ["bad", "other", "good"] {
        cache.set(key, "v".to_owned()).await.unwrap();
    }
    assert!(cache.invalidate_local("bad"));
    assert!(cache.invalidate_local("good"));
    eventually("all are reported", async || notified.lock().unwrap().len() == 3).await;
    slot.lock().unwrap().take();
}

#[tokio::test]
async fn a_subscriber_that_is_too_slow_loses_the_oldest_and_learns_how_many() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let (mut slow, mut gone) = (cache.events(), cache.events());
    assert!(gone.try_next().is_none());
    drop(gone);
    for round in 0..3000 {
        cache.set("k", round.to_string()).await.unwrap();
    }
    let kept = taken(&mut slow);
    assert_eq!((kept.len() as u64 + slow.dropped(), slow.dropped() > 0), (2999, true));
    assert!(slow.try_next().is_none());
    cache.set("k", String::new()).await.unwrap();
    assert!(matches!(ends(slow.next()).await, Some(Event::Removed { cause: RemovalCause::Superseded, .. })));
}

#[tokio::test]
async fn flushes_and_changes_of_the_link_are_reported_in_their_order_and_the_stream_ends_with_the_cache() {
    let store = MemoryBackend::new();
    let handle = store.clone();
    let link = handle.scripted_link();
    let cache = text().build(handle).await.unwrap();
    let mut events = cache.events();
    store.flush_all();
    link.cut();
    link.restore();
    let notified = taken(&mut events);
    assert!(
        matches!(notified[..], [Event::Flushed { .. }, Event::LinkDown { .. }, Event::LinkUp { .. }]),
        "{notified:?}"
    );
    drop((cache, link, store));
    let last = ends(async { while events.next().await.is_some() {} });
    last.await;
}

mod live {
    use twotier::{BackendErrorKind, Event};
    use twotier_testkit::RedisServer;

    use crate::support::{ends, over_redis};

    #[tokio::test]
    async fn a_lost_server_is_reported_with_its_cause_and_so_is_its_return() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        let mut events = cache.events();
        server.kill();
        let down = ends(events.next()).await;
        let Some(Event::LinkDown { cause: Some(cause), .. }) = down else { panic!("{down:?}") };
        assert_eq!(cause.kind(), BackendErrorKind::Unavailable);
        server.restart();
        assert!(matches!(ends(events.next()).await, Some(Event::LinkUp { .. })));
    }
}
