use std::sync::atomic::{AtomicBool, Ordering};

use twotier_core::{ChangeListener, Lease, LinkId, ManualClock, Mark, Namespace, RemainingTtl, SystemClock};

use super::*;

/// Records what is reported to it. `store` is looked into at each change, to see what is true at that moment.
#[derive(Default)]
struct Recorder {
    events: Mutex<Vec<String>>,
    store: Option<MemoryBackend>,
}

impl Recorder {
    fn note(&self, what: impl Into<String>) {
        self.events.lock().push(what.into());
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut *self.events.lock())
    }
}

impl ChangeListener for Recorder {
    fn mark(&self, link: LinkId) -> Mark {
        Mark::new(link, 0, Timestamp::ZERO)
    }

    fn proof_of_life(&self, _mark: Mark) {}

    fn changed(&self, key: &[u8]) {
        let live = self.store.as_ref().map(|store| format!(" of {}", store.len()));
        self.note(format!("{}{}", String::from_utf8_lossy(key), live.unwrap_or_default()));
    }

    fn flushed(&self, _link: LinkId) {
        self.note("FLUSHED");
    }

    fn link_up(&self, _link: LinkId, lease: Lease) {
        assert_eq!(lease, Lease::Unlimited);
        self.note("UP");
    }

    fn link_down(&self, _link: LinkId) {
        self.note("DOWN");
    }
}

async fn attach(backend: &MemoryBackend, namespace: &str) -> Arc<Recorder> {
    attach_recorder(backend, namespace, Recorder::default()).await
}

async fn attach_recorder(backend: &MemoryBackend, namespace: &str, listener: Recorder) -> Arc<Recorder> {
    let listener = Arc::new(listener);
    let attached = backend.attach(watch(namespace, &listener, None)).await.unwrap();
    assert_eq!(attached, Attachment::new(Coherence::Broadcast));
    assert_eq!(listener.events(), ["UP"]);
    listener
}

fn watch(namespace: &str, listener: &Arc<Recorder>, coherence: Option<Coherence>) -> Watch {
    Watch::new(Namespace::new(namespace).unwrap(), Arc::<Recorder>::clone(listener)).coherence(coherence)
}

async fn set(backend: &MemoryBackend, key: &str) {
    backend.set(key.as_bytes(), Bytes::from_static(b"v"), None).await.unwrap();
}

#[tokio::test]
async fn a_change_is_reported_to_every_other_handle_of_its_namespace() {
    let a = MemoryBackend::new();
    let (b, c, other) = (a.clone(), a.clone(), a.clone());
    let (listener_a, listener_b, listener_c) = (attach(&a, "n").await, attach(&b, "n").await, attach(&c, "n").await);
    let listener_other = attach(&other, "nn").await;

    set(&a, "n:1").await;
    assert_eq!(
        (listener_a.events(), listener_b.events(), listener_c.events()),
        (vec![], vec!["n:1".into()], vec!["n:1".into()])
    );
    // A handle that no cache has is a writer like any other.
    a.clone().delete(b"n:1").await.unwrap();
    assert_eq!((listener_a.events(), listener_b.events()), (vec!["n:1".to_owned()], vec!["n:1".to_owned()]));
    assert_eq!(listener_other.events(), Vec::<String>::new());
}

#[tokio::test]
async fn what_changed_nothing_is_not_reported() {
    let a = MemoryBackend::new();
    let b = a.clone();
    let listener = attach(&a, "n").await;
    b.delete(b"n:1").await.unwrap();
    b.delete_many(&["n:1".into(), "n:2".into()]).await;
    b.clear(b"n:").await.unwrap();
    b.get(b"n:1").await.unwrap();
    assert_eq!(listener.events(), Vec::<String>::new());
}

#[tokio::test]
async fn a_change_is_reported_after_it_was_made_and_outside_the_lock() {
    let a = MemoryBackend::new();
    let b = a.clone();
    let listener = attach_recorder(&a, "n", Recorder { store: Some(a.clone()), ..Recorder::default() }).await;
    let writes = ["n:1", "n:2"].map(|key| Write::new(key, "v", None));
    b.set_many(&writes).await;
    assert_eq!(listener.events(), ["n:1 of 2", "n:2 of 2"]);
    assert_eq!(b.clear(b"n:").await.unwrap(), 2);
    assert_eq!(listener.events(), ["n:1 of 0", "n:2 of 0"]);
}

#[tokio::test]
async fn a_flush_by_somebody_reaches_everyone() {
    let a = MemoryBackend::new();
    let b = a.clone();
    let (listener_a, listener_b) = (attach(&a, "n").await, attach(&b, "m").await);
    set(&b, "m:1").await;
    assert!(!a.is_empty());
    a.flush_all();
    assert!(a.is_empty());
    assert_eq!((listener_a.events(), listener_b.events()), (vec!["FLUSHED".into()], vec!["FLUSHED".into()]));
}

#[tokio::test]
async fn a_handle_serves_one_cache_and_its_clone_another() {
    let a = MemoryBackend::new();
    let _listener = attach(&a, "n").await;
    let listener = Arc::new(Recorder::default());
    let error = a.attach(watch("n", &listener, None)).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unsupported);
    assert_eq!(error.to_string(), "this handle already serves a cache; give each cache a clone of its own");
    assert_eq!(listener.events(), Vec::<String>::new());
    attach(&a.clone(), "n").await;
}

#[tokio::test]
async fn a_listener_that_asked_for_no_reports_is_never_called() {
    let a = MemoryBackend::new();
    let listener = Arc::new(Recorder::default());
    let attached = a.attach(watch("n", &listener, Some(Coherence::None))).await.unwrap();
    assert_eq!(attached, Attachment::new(Coherence::None));
    assert!(matches!(a.link(), LinkState::Unlinked));
    set(&a.clone(), "n:1").await;
    a.flush_all();
    assert!(a.attach(watch("n", &listener, None)).await.is_err());
    a.close().await;
    assert_eq!(listener.events(), Vec::<String>::new());
}

#[tokio::test]
async fn a_closed_or_dropped_handle_receives_that_and_nothing_more() {
    let a = MemoryBackend::new();
    let (b, c) = (a.clone(), a.clone());
    let (listener_b, listener_c) = (attach(&b, "n").await, attach(&c, "n").await);
    b.close().await;
    b.close().await;
    drop(c);
    set(&a, "n:1").await;
    a.flush_all();
    assert_eq!((listener_b.events(), listener_c.events()), (vec!["DOWN".into()], vec!["DOWN".into()]));
    assert_eq!((Arc::strong_count(&listener_b), Arc::strong_count(&listener_c)), (1, 1), "the listeners are let go");
}

#[tokio::test]
async fn a_closed_handle_refuses_and_the_others_go_on() {
    let a = MemoryBackend::new();
    let b = a.clone();
    a.close().await;
    assert!(matches!(a.link(), LinkState::Closed));
    assert_eq!(a.get(b"n:1").await.unwrap_err().kind(), BackendErrorKind::Closed);
    set(&b, "n:1").await;
    assert_eq!(b.operations().total(), 1, "a refused call is none");
}

#[tokio::test]
async fn the_link_is_as_old_as_the_attachment() {
    let clock = ManualClock::new();
    let a = MemoryBackend::with_clock(clock.clone());
    clock.advance(Duration::from_secs(5));
    assert!(matches!(a.link(), LinkState::Unlinked));
    let _listener = attach(&a, "n").await;
    clock.advance(Duration::from_secs(7));
    assert!(matches!(a.link(), LinkState::Up(up) if up.age == Duration::from_secs(7)));
}

#[tokio::test]
async fn expired_values_are_freed_by_the_next_write() {
    let clock = ManualClock::new();
    let a = MemoryBackend::with_clock(clock.clone());
    for number in 0..1000_u64 {
        let ttl = Some(Duration::from_millis(1 + number % 10));
        a.set(format!("n:{number}").as_bytes(), Bytes::from_static(b"v"), ttl).await.unwrap();
    }
    clock.advance(Duration::from_millis(5));
    set(&a, "n:last").await;
    // Looks at what is held, not at what lives.
    assert_eq!(a.shared.store.lock().len(Timestamp::ZERO), 501);
    assert_eq!(a.len(), 501);
}

#[tokio::test]
async fn a_clock_that_lags_makes_no_value_live_too_long() {
    #[derive(Debug)]
    struct Lagging(ManualClock);
    impl Clock for Lagging {
        fn now(&self) -> Timestamp {
            let nanos = self.0.now().as_nanos();
            Timestamp::from_nanos(nanos - nanos % 4_000_000)
        }
        fn resolution(&self) -> Duration {
            Duration::from_millis(4)
        }
    }
    let truth = ManualClock::new();
    let a = MemoryBackend::with_clock(Lagging(truth.clone()));
    for offset in 0..4 {
        truth.advance(Duration::from_millis(1));
        let ttl = Duration::from_millis(20 + offset);
        a.set(b"n:1", Bytes::from_static(b"v"), Some(ttl)).await.unwrap();
        for age in 0..30 {
            let left = ttl.saturating_sub(Duration::from_millis(age));
            match a.get(b"n:1").await.unwrap().map(|stored| stored.ttl) {
                Some(RemainingTtl::Expires(returned)) => {
                    assert!(returned <= left, "{returned:?} returned, {left:?} true");
                }
                Some(other) => panic!("{other:?}"),
                None => assert!(left <= Duration::from_millis(8), "gone {left:?} too early"),
            }
            truth.advance(Duration::from_millis(1));
        }
    }
    assert!(MemoryBackend::with_clock(SystemClock::new()).is_empty());
}

#[tokio::test]
async fn each_operation_is_counted_once_whatever_the_handle() {
    let a = MemoryBackend::new();
    let b = a.clone();
    let keys: Vec<Bytes> = vec!["n:1".into(), "n:2".into()];
    set(&a, "n:1").await;
    let _ = (b.get(b"n:1").await, a.get(b"n:1").await, b.delete(b"n:1").await, a.clear(b"n:").await);
    let _ = (a.get_many(&keys).await, b.delete_many(&keys).await);
    b.set_many(&[Write::new("n:1", "v", None)]).await;
    let _ = b.compare_and_set(b"n:1", None, None, None).await;
    let _ = (a.increment(b"n:2", 1, None).await, b.touch(b"n:2", Duration::from_secs(1)).await);
    let counts = a.operations();
    let expected = OperationCounts {
        get: 2,
        set: 1,
        delete: 1,
        clear: 1,
        get_many: 1,
        set_many: 1,
        delete_many: 1,
        compare_and_set: 1,
        increment: 1,
        touch: 1,
    };
    assert_eq!(counts, expected);
    assert_eq!((counts.total(), counts.reads()), (11, 3));
    assert_eq!(b.operations(), counts);
}

#[test]
fn nothing_is_printed_of_what_is_stored() {
    let a = MemoryBackend::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(a.set(b"secret-key", Bytes::from_static(b"secret-value"), None)).unwrap();
    let printed = format!("{a:?}");
    assert!(printed.contains("len: 1") && !printed.contains("secret"), "{printed}");
}

/// The smallest local tier there is: one copy, and whether the read under way may become it.
#[derive(Default)]
struct Copy {
    state: Mutex<(Option<Bytes>, bool)>,
}

impl ChangeListener for Copy {
    fn mark(&self, link: LinkId) -> Mark {
        Mark::new(link, 0, Timestamp::ZERO)
    }

    fn proof_of_life(&self, _mark: Mark) {}

    fn changed(&self, _key: &[u8]) {
        *self.state.lock() = (None, false);
    }

    fn flushed(&self, _link: LinkId) {
        self.changed(b"");
    }

    fn link_up(&self, _link: LinkId, _lease: Lease) {
        self.changed(b"");
    }

    fn link_down(&self, _link: LinkId) {
        self.changed(b"");
    }
}

#[tokio::test]
async fn an_overlapping_namespace_is_refused_where_it_is_attached_until_the_other_is_gone() {
    let (first, second) = (MemoryBackend::new(), "app:users");
    let silent = Some(Coherence::None);
    for (held, mode) in [("app", None), ("app:users:old", None), ("app", silent)] {
        let holder = first.clone();
        holder.attach(watch(held, &Arc::default(), mode)).await.unwrap();
        for mode in [None, silent] {
            let backend = first.clone();
            let error = backend.attach(watch(second, &Arc::default(), mode)).await.unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Rejected);
            assert!(error.to_string().contains(&format!("`{second}` and `{held}`")), "{error}");
            backend.attach(watch("apps", &Arc::default(), mode)).await.expect("the handle is as free as before");
        }
        first.clone().attach(watch(held, &Arc::default(), mode)).await.expect("the same one is no overlap");
        holder.close().await;
        first.clone().attach(watch(second, &Arc::default(), None)).await.expect("nobody has the other any more");
    }
}

#[test]
fn no_copy_outlives_the_return_of_the_write_that_replaced_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let writer = MemoryBackend::new();
    let reader = writer.clone();
    let copy = Arc::new(Copy::default());
    let watch = Watch::new(Namespace::new("n").unwrap(), Arc::<Copy>::clone(&copy));
    runtime().block_on(reader.attach(watch)).unwrap();

    let done = AtomicBool::new(false);
    let (mut stale, mut copies) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = runtime();
            while !done.load(Ordering::SeqCst) {
                copy.state.lock().1 = true;
                let read = runtime.block_on(reader.get(b"n:k")).unwrap();
                let mut state = copy.state.lock();
                if state.1 {
                    state.0 = read.map(|stored| stored.value);
                }
            }
        });
        let runtime = runtime();
        for round in 0..20_000_u64 {
            // Gives the reader, on another core, the time to make a copy that can be taken away.
            for _ in 0..500 {
                std::hint::spin_loop();
            }
            copies += usize::from(copy.state.lock().0.is_some());
            let value = Bytes::copy_from_slice(&round.to_be_bytes());
            runtime.block_on(writer.set(b"n:k", value.clone(), None)).unwrap();
            let held = copy.state.lock().0.clone();
            stale += usize::from(held.is_some_and(|held| held != value));
        }
        done.store(true, Ordering::SeqCst);
    });
    eprintln!("a copy before {copies} of 20 000 writes");
    assert_eq!(stale, 0, "writes of 20 000 that left an older copy");
}
