//! That a loader found nothing is remembered, until something is known of the key.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use twotier::{
    Cache, ErrorKind, FaultyBackend, Loaded, ManualClock, MemoryBackend,
    codec::{Json, Sealed},
};

use crate::support::{over_memory, text};

/// A loader that finds nothing, and counts how often it ran.
#[derive(Default)]
struct Nothing(AtomicUsize);

impl Nothing {
    async fn load(&self, cache: &Cache<String>, key: &str) -> Option<String> {
        let loader = async |_: &str| {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok::<_, io::Error>(None::<String>)
        };
        cache.get_or_load(key, loader).await.unwrap().as_deref().cloned()
    }

    fn runs(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

#[tokio::test]
async fn an_absence_that_a_loader_found_is_loaded_once_for_its_negative_time_to_live() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let builder = text().clock(clock.clone()).negative_time_to_live(Duration::from_secs(5));
    let cache = builder.build(store.clone()).await.unwrap();
    let nothing = Nothing::default();
    for _ in 0..3 {
        assert_eq!(nothing.load(&cache, "k").await, None);
    }
    assert_eq!((nothing.runs(), store.operations().total()), (1, 1), "one read, one load, and no write");
    assert!(cache.lookup_or_load("k", async |_| Ok::<_, io::Error>(None::<String>)).await.unwrap().value.is_none());
    assert_eq!(cache.stats().backend.loads, 1);
    let mut batch = Vec::new();
    let loader = |keys: Vec<&'static str>| {
        batch.extend(keys);
        async { Ok::<_, io::Error>(Vec::<(&str, String)>::new()) }
    };
    assert_eq!(cache.get_many_or_load(&["k", "l"], loader).await.unwrap(), [None, None]);
    assert_eq!(batch, ["l"], "what is known to be absent is not loaded by a batch either");
    assert_eq!((nothing.load(&cache, "l").await, nothing.runs()), (None, 0), "and what a batch did not find is known");
    clock.advance(Duration::from_secs(5));
    assert_eq!((nothing.load(&cache, "k").await, nothing.runs()), (None, 1));
}

#[tokio::test]
async fn a_loader_says_for_how_long_an_absence_is_remembered() {
    let clock = ManualClock::new();
    let builder = text().clock(clock.clone()).negative_time_to_live(None);
    let cache = builder.build(MemoryBackend::with_clock(clock.clone())).await.unwrap();
    let nothing = Nothing::default();
    nothing.load(&cache, "k").await;
    nothing.load(&cache, "k").await;
    assert_eq!(nothing.runs(), 2, "without a negative time to live nothing is remembered");
    let minute = Duration::from_secs(60);
    let absent = async |_: &str| Ok::<_, io::Error>(Loaded::<String>::absent().time_to_live(minute));
    assert_eq!(cache.get_or_load("k", absent).await.unwrap(), None);
    clock.advance(minute - Duration::from_millis(1));
    assert_eq!((nothing.load(&cache, "k").await, nothing.runs()), (None, 0));
    clock.advance(Duration::from_millis(1));
    assert_eq!((nothing.load(&cache, "k").await, nothing.runs()), (None, 1));
}

#[tokio::test]
async fn a_loader_that_always_has_a_value_runs_although_another_found_nothing() {
    let cache = over_memory(&MemoryBackend::new()).await;
    Nothing::default().load(&cache, "k").await;
    let value = cache.get_or_load("k", async |_| Ok::<_, io::Error>("made".to_owned())).await.unwrap();
    assert_eq!(*value, "made");
    assert_eq!(Nothing::default().load(&cache, "k").await.as_deref(), Some("made"));
}

#[tokio::test]
async fn a_key_that_was_merely_read_as_absent_is_loaded_all_the_same() {
    let cache = over_memory(&MemoryBackend::new()).await;
    assert_eq!(cache.get("k").await.unwrap(), None);
    assert_eq!(
        cache.get_or_load("k", async |_| Ok::<_, io::Error>(Some("row".to_owned()))).await.unwrap().as_deref(),
        Some(&"row".to_owned())
    );
    cache.delete("k").await.unwrap();
    let nothing = Nothing::default();
    nothing.load(&cache, "k").await;
    assert_eq!(nothing.runs(), 1, "a deletion says nothing of the origin");
}

#[tokio::test]
async fn a_report_an_own_write_a_flush_and_a_lost_link_end_what_is_remembered_of_an_absence() {
    let store = MemoryBackend::new();
    let ours = store.clone();
    let link = ours.scripted_link();
    let cache = text().build(ours).await.unwrap();
    let other = over_memory(&store).await;
    let nothing = Nothing::default();
    nothing.load(&cache, "k").await;
    assert_eq!(nothing.runs(), 1);
    other.set("k", "v").await.unwrap();
    assert_eq!(nothing.load(&cache, "k").await.as_deref(), Some("v"), "somebody else wrote it");
    cache.delete("k").await.unwrap();
    nothing.load(&cache, "k").await;
    cache.set("k", "w").await.unwrap();
    assert_eq!(nothing.load(&cache, "k").await.as_deref(), Some("w"), "an own write");
    assert_eq!(nothing.runs(), 1);
    cache.delete("k").await.unwrap();
    nothing.load(&cache, "k").await;
    store.flush_all();
    nothing.load(&cache, "k").await;
    assert_eq!(nothing.runs(), 2, "a flush");
    link.cut();
    link.restore();
    nothing.load(&cache, "k").await;
    assert_eq!(nothing.runs(), 1, "a lost link");
    assert!(cache.invalidate_local("k"));
    nothing.load(&cache, "k").await;
    assert_eq!(nothing.runs(), 1, "forgotten by hand");
}

#[tokio::test(start_paused = true)]
async fn an_absence_that_was_overtaken_while_it_was_loaded_is_not_remembered() {
    let store = MemoryBackend::new();
    let (cache, other) = (over_memory(&store).await, over_memory(&store).await);
    let late = |change: &'static str| {
        let (cache, other) = (cache.clone(), other.clone());
        async move {
            let loader = async |_: &str| {
                match change {
                    "report" => other.set("k", "new").await.unwrap(),
                    _ => cache.set("k", "new").await.unwrap(),
                }
                Ok::<_, io::Error>(None::<String>)
            };
            assert_eq!(cache.get_or_load("k", loader).await.unwrap(), None, "what the loader found, by {change}");
            assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&"new".to_owned()), "after a {change}");
            cache.delete("k").await.unwrap();
        }
    };
    late("report").await;
    late("write").await;
}

#[tokio::test(start_paused = true)]
async fn an_absence_is_not_remembered_when_the_backend_could_not_say_what_it_holds() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    let cache = text().build(backend).await.unwrap();
    let nothing = Nothing::default();
    faults.fail_next(1, twotier::BackendError::new(twotier::BackendErrorKind::Rejected, "busy"));
    nothing.load(&cache, "k").await;
    nothing.load(&cache, "k").await;
    assert_eq!(nothing.runs(), 2, "there may be a value in the backend");
}

#[tokio::test]
async fn an_absence_is_shared_by_a_codec_that_can_say_it_until_somebody_writes_or_deletes_the_key() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let sealed =
        || Cache::<String>::builder().namespace("t").clock(clock.clone()).codec(Sealed::new(Json)).share_absence(true);
    let (ours, theirs) = (sealed().build(store.clone()).await.unwrap(), sealed().build(store.clone()).await.unwrap());
    let nothing = Nothing::default();
    nothing.load(&ours, "k").await;
    assert_eq!(store.len(), 1);
    let before = store.operations().total();
    nothing.load(&ours, "k").await;
    assert_eq!(store.operations().total(), before, "it is a local hit");
    nothing.load(&theirs, "k").await;
    assert_eq!(nothing.runs(), 1, "the other instance does not load");
    assert_eq!((theirs.get("k").await.unwrap(), theirs.stats().backend.foreign), (None, 0));
    let _copy = ours.invalidate_local("k");
    nothing.load(&ours, "k").await;
    assert_eq!(nothing.runs(), 0, "nor does ours when it has forgotten");
    theirs.delete("k").await.unwrap();
    nothing.load(&ours, "k").await;
    assert_eq!(nothing.runs(), 1, "it was deleted");
    clock.advance(Duration::from_secs(5));
    nothing.load(&theirs, "k").await;
    assert_eq!(nothing.runs(), 1, "it has a life of its own");
    theirs.set("k", "row").await.unwrap();
    assert_eq!(nothing.load(&ours, "k").await.as_deref(), Some("row"));
    theirs.delete("k").await.unwrap();
    nothing.load(&ours, "k").await;
    let always = async |_: &str| Ok::<_, io::Error>("made".to_owned());
    assert_eq!(*theirs.get_or_load("k", always).await.unwrap(), "made", "it is replaced by a value");
    assert_eq!(nothing.load(&ours, "k").await.as_deref(), Some("made"));
}

#[tokio::test]
async fn sharing_an_absence_takes_a_codec_that_can_say_it_and_a_local_tier() {
    let refused = text().share_absence(true).build(MemoryBackend::new()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("share_absence") && refused.to_string().contains("Sealed"), "{refused}");
    let sealed = Cache::<String>::builder().codec(Sealed::new(Json)).share_absence(true).without_local();
    assert_eq!(sealed.build(MemoryBackend::new()).await.unwrap_err().kind(), ErrorKind::Invalid);
}
