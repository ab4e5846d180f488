//! I9: a write that is not sent by its deadline never is, its error says so, and writes are sent in the order of the
//! calls.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::join_all, poll};
use parking_lot::Mutex;
use tokio::sync::Notify;
use twotier::{
    Backend, BackendError, BackendErrorKind, BackendResult, Cache, Error, ErrorKind, FaultyBackend, MemoryBackend,
    Stored, Write, async_trait,
};

use crate::support::{ends, read, text};

/// A store whose connection is being made until it is `up`, and which notes every write as it is sent.
#[derive(Clone, Debug)]
struct Connecting {
    store: MemoryBackend,
    up: Arc<AtomicBool>,
    changed: Arc<Notify>,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Connecting {
    fn new() -> Self {
        Self { store: MemoryBackend::new(), up: Arc::default(), changed: Arc::default(), sent: Arc::default() }
    }

    fn set_up(&self, up: bool) {
        self.up.store(up, SeqCst);
        self.changed.notify_waiters();
    }

    fn note(&self, write: impl Into<String>) {
        assert!(self.up.load(SeqCst), "nothing is sent without a connection");
        self.sent.lock().push(write.into());
    }

    fn sent(&self) -> Vec<String> {
        self.sent.lock().clone()
    }
}

fn name(key: &[u8]) -> String {
    String::from_utf8_lossy(key).trim_start_matches("t:").to_owned()
}

#[async_trait]
impl Backend for Connecting {
    async fn ready(&self) -> BackendResult<()> {
        loop {
            let changed = self.changed.notified();
            if self.up.load(SeqCst) {
                return Ok(());
            }
            changed.await;
        }
    }

    async fn get(&self, key: &[u8]) -> BackendResult<Option<Stored>> {
        self.ready().await?;
        // The deadline of an update begins before that of its write.
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.store.get(key).await
    }

    async fn set(&self, key: &[u8], value: Bytes, ttl: Option<Duration>) -> BackendResult<()> {
        self.note(format!("set {} {}", name(key), name(&value)));
        self.store.set(key, value, ttl).await
    }

    async fn delete(&self, key: &[u8]) -> BackendResult<bool> {
        self.note(format!("delete {}", name(key)));
        self.store.delete(key).await
    }

    async fn clear(&self, prefix: &[u8]) -> BackendResult<u64> {
        self.note("clear");
        self.store.clear(prefix).await
    }

    async fn compare_and_set(
        &self,
        key: &[u8],
        expected: Option<Bytes>,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> BackendResult<bool> {
        self.note(format!("update {}", name(key)));
        self.store.compare_and_set(key, expected, value, ttl).await
    }

    async fn set_many(&self, writes: &[Write]) -> Vec<BackendResult<bool>> {
        for write in writes {
            self.note(format!("set {} {}", name(&write.key), name(&write.value)));
        }
        self.store.set_many(writes).await
    }

    async fn delete_many(&self, keys: &[Bytes]) -> Vec<BackendResult<bool>> {
        for key in keys {
            self.note(format!("delete {}", name(key)));
        }
        self.store.delete_many(keys).await
    }
}

async fn cache(backend: &Connecting) -> Cache<String> {
    text().build(backend.clone()).await.unwrap()
}

fn v(value: &str) -> String {
    value.to_owned()
}

type Call<'c> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'c>>;

/// Every way to change something, as a future of its outcome.
fn every_write(cache: &Cache<String>) -> Vec<(&'static str, Call<'static>)> {
    let (set, many, each) = (cache.clone(), cache.clone(), cache.clone());
    let (delete, delete_many, delete_each, clear) = (cache.clone(), cache.clone(), cache.clone(), cache.clone());
    vec![
        ("set", Box::pin(async move { set.set("a", v("1")).await })),
        ("set_many", Box::pin(async move { many.set_many([("b", v("1")), ("c", v("1"))]).await })),
        ("set_each", Box::pin(async move { each.set_each([("d", v("1"))]).await.remove(0) })),
        ("delete", Box::pin(async move { delete.delete("e").await.map(drop) })),
        ("delete_many", Box::pin(async move { delete_many.delete_many(&["f", "g"]).await.map(drop) })),
        ("delete_each", Box::pin(async move { delete_each.delete_each(&["h"]).await.remove(0).map(drop) })),
        ("clear", Box::pin(async move { clear.clear().await.map(drop) })),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_is_not_sent_by_its_deadline_never_is_and_its_error_says_so() {
    let backend = Connecting::new();
    let cache = cache(&backend).await;
    let mut calls = Vec::new();
    for (which, call) in every_write(&cache) {
        calls.push(async move { (which, call.await) });
    }
    for (which, outcome) in ends(join_all(calls)).await {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{which}: {error}");
        assert!(!error.may_have_executed() && error.to_string().contains("not sent"), "{which}: {error}");
    }
    backend.set_up(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(backend.sent(), Vec::<String>::new());
    cache.set("a", v("2")).await.unwrap();
    assert_eq!(backend.sent(), ["set a 2"]);
    assert_eq!(read(&cache, "a").await.as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_dropped_before_it_was_sent_never_is() {
    let backend = Connecting::new();
    let cache = cache(&backend).await;
    for in_turn in [false, true] {
        for (which, mut call) in every_write(&cache) {
            backend.set_up(false);
            assert!(poll!(call.as_mut()).is_pending(), "{which} waits for the connection");
            if in_turn {
                // It is the next one to be sent by now.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            drop(call);
            backend.set_up(true);
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(backend.sent(), Vec::<String>::new(), "{which}, in turn: {in_turn}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_and_is_never_polled_again_is_sent_in_its_turn_and_holds_nobody_up() {
    let backend = Connecting::new();
    let cache = cache(&backend).await;
    let mut idle = std::pin::pin!(cache.set("k", v("first")));
    assert!(poll!(idle.as_mut()).is_pending());
    let second = tokio::spawn({
        let cache = cache.clone();
        async move { cache.set("k", v("second")).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    backend.set_up(true);
    ends(second).await.unwrap().unwrap();
    assert_eq!(backend.sent(), ["set k first", "set k second"]);
    // Left alone past its deadline, it is not sent.
    backend.set_up(false);
    let mut late = std::pin::pin!(cache.set("k", v("late")));
    assert!(poll!(late.as_mut()).is_pending());
    tokio::time::sleep(Duration::from_secs(1)).await;
    backend.set_up(true);
    ends(cache.set("k", v("third"))).await.unwrap();
    assert_eq!(backend.sent(), ["set k first", "set k second", "set k third"]);
    assert!(!ends(late).await.unwrap_err().may_have_executed());
}

#[tokio::test(start_paused = true)]
async fn writes_of_every_kind_reach_the_backend_in_the_order_of_the_calls() {
    let backend = Connecting::new();
    let cache = cache(&backend).await;
    backend.store.set(b"t:k", Bytes::from_static(b"0"), None).await.unwrap();
    let mut calls: Vec<Call<'_>> = vec![
        Box::pin(async { cache.set("k", v("1")).await }),
        Box::pin(async { cache.set_many([("k", v("2"))]).await }),
        Box::pin(async { cache.delete("k").await.map(drop) }),
        Box::pin(async { cache.set_each([("k", v("3"))]).await.remove(0) }),
        Box::pin(async { cache.delete_many(&["k"]).await.map(drop) }),
        Box::pin(async { cache.clear().await.map(drop) }),
        Box::pin(async { cache.set("k", v("4")).await }),
    ];
    // Each call begins after the one before it, and none can be sent yet.
    for call in &mut calls {
        assert!(poll!(call.as_mut()).is_pending());
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    backend.set_up(true);
    for outcome in ends(join_all(calls)).await {
        outcome.unwrap();
    }
    let expected = ["set k 1", "set k 2", "delete k", "set k 3", "delete k", "clear", "set k 4"];
    assert_eq!(backend.sent(), expected);
    assert_eq!(read(&cache, "k").await.as_deref(), Some("4"));
}

#[tokio::test(start_paused = true)]
async fn an_update_that_cannot_be_sent_changes_nothing_and_says_so() {
    let backend = Connecting::new();
    let cache = cache(&backend).await;
    backend.set_up(true);
    let changed = cache.update("k", |held| {
        // The connection is lost between the read and the write.
        backend.set_up(false);
        Some(format!("{}+", held.map_or("", String::as_str)))
    });
    let error = ends(changed).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && !error.may_have_executed(), "{error}");
    backend.set_up(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(backend.sent(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_for_its_turn_past_its_deadline_is_not_sent() {
    let store = MemoryBackend::new();
    let faulty = FaultyBackend::new(store.clone());
    let faults = faulty.faults();
    let cache = text().max_in_flight(1).build(faulty).await.unwrap();
    faults.hang(true);
    let first = cache.set("k", v("first"));
    let second = cache.set("k", v("second"));
    let (first, second) = ends(futures_util::future::join(first, second)).await;
    assert!(first.unwrap_err().may_have_executed(), "it was sent");
    assert!(!second.unwrap_err().may_have_executed(), "it stood behind the first");
    faults.hang(false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(store.get(b"t:k").await.unwrap().unwrap().value, "first");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_was_not_executed_and_of_a_lost_link_nobody_knows() {
    let faulty = FaultyBackend::new(MemoryBackend::new());
    let faults = faulty.faults();
    let cache = text().breaker_failures(0).build(faulty).await.unwrap();
    for (kind, may) in [
        (BackendErrorKind::Unavailable, true),
        (BackendErrorKind::Timeout, true),
        (BackendErrorKind::Protocol, true),
        (BackendErrorKind::Busy, false),
        (BackendErrorKind::Rejected, false),
        (BackendErrorKind::Denied, false),
        (BackendErrorKind::WrongType, false),
        (BackendErrorKind::Unsupported, false),
    ] {
        faults.fail_all(Some(BackendError::new(kind, "no")));
        assert_eq!(cache.set("k", v("1")).await.unwrap_err().may_have_executed(), may, "{kind}");
        assert_eq!(cache.delete_many(&["k"]).await.unwrap_err().may_have_executed(), may, "{kind}");
        assert!(!cache.get("k").await.unwrap_err().may_have_executed(), "a read changes nothing");
    }
    faults.fail_all(Some(BackendError::new(BackendErrorKind::Unavailable, "no").not_sent()));
    assert!(!cache.set("k", v("1")).await.unwrap_err().may_have_executed());
}

#[tokio::test]
async fn a_write_for_which_the_backend_is_not_ready_was_not_sent_whatever_its_error_says() {
    for at_once in [true, false] {
        let cache = text().build(NeverReady { store: MemoryBackend::new(), at_once }).await.unwrap();
        let error = cache.set("k", v("1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(!error.may_have_executed(), "at once: {at_once}, {error:?}");
    }
}

#[test]
fn a_write_that_waits_when_the_runtime_ends_was_not_sent_and_of_one_under_way_nobody_knows() {
    let never_up = Connecting::new();
    let hangs = FaultyBackend::new(MemoryBackend::new());
    let faults = hangs.faults();
    let backends: [(Arc<dyn Backend>, bool); 2] = [(Arc::new(never_up), false), (Arc::new(hangs), true)];
    for (backend, sent) in backends {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let cache = runtime.block_on(text().build(backend)).unwrap();
        faults.hang(sent);
        let mut write = Box::pin(cache.set("k", v("1")));
        assert!(write.as_mut().now_or_never().is_none(), "sent: {sent}");
        drop(runtime);
        let error = write.as_mut().now_or_never().expect("the call ends with the runtime").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "sent: {sent}");
        assert_eq!(error.may_have_executed(), sent, "{error:?}");
    }
}

/// A store whose connection cannot be made, which it says at once or a moment later.
#[derive(Debug)]
struct NeverReady {
    store: MemoryBackend,
    at_once: bool,
}

#[async_trait]
impl Backend for NeverReady {
    async fn ready(&self) -> BackendResult<()> {
        if !self.at_once {
            tokio::task::yield_now().await;
        }
        Err(BackendError::new(BackendErrorKind::Unavailable, "unplugged"))
    }

    async fn get(&self, key: &[u8]) -> BackendResult<Option<Stored>> {
        self.store.get(key).await
    }

    async fn set(&self, key: &[u8], value: Bytes, ttl: Option<Duration>) -> BackendResult<()> {
        self.store.set(key, value, ttl).await
    }

    async fn delete(&self, key: &[u8]) -> BackendResult<bool> {
        self.store.delete(key).await
    }

    async fn clear(&self, prefix: &[u8]) -> BackendResult<u64> {
        self.store.clear(prefix).await
    }
}
