//! I8: a load never replaces anything newer than what it saw, in every mode and with or without a local tier.

use std::{
    io,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;
use twotier::{
    Backend, Cache, CacheBuilder, Coherence, FaultyBackend, MemoryBackend,
    codec::{Codec, CodecError, Text},
};

use crate::support::{ends, read, text};

/// Every way in which a cache may receive changes, or not.
fn settings() -> Vec<(&'static str, CacheBuilder<String, Text>)> {
    vec![
        ("broadcast", text()),
        ("none", text().coherence(Coherence::None)),
        ("without a local tier", text().without_local()),
        ("neither", text().without_local().coherence(Coherence::None)),
    ]
}

/// Loads `k` as "old" by either method; `meanwhile` runs inside the loader, after the row was read.
async fn load(cache: &Cache<String>, many: bool, meanwhile: impl Future<Output = ()>) -> String {
    if many {
        let mut meanwhile = Some(meanwhile);
        let loader = |missing: Vec<&'static str>| {
            let meanwhile = meanwhile.take();
            async move {
                if let Some(meanwhile) = meanwhile {
                    meanwhile.await;
                }
                Ok::<_, io::Error>(missing.into_iter().map(|key| (key, "old".to_owned())))
            }
        };
        let loaded = ends(cache.get_many_or_load(&["k", "other"], loader)).await.unwrap();
        return (*loaded[0].clone().unwrap()).clone();
    }
    let loader = async || {
        meanwhile.await;
        Ok::<_, io::Error>("old".to_owned())
    };
    (*ends(cache.get_or_load("k", |_| loader())).await.unwrap()).clone()
}

async fn held(store: &MemoryBackend) -> Option<Bytes> {
    store.get(b"t:k").await.unwrap().map(|stored| stored.value)
}

async fn write(store: &MemoryBackend, value: &'static str) {
    store.set(b"t:k", Bytes::from_static(value.as_bytes()), None).await.unwrap();
}

#[tokio::test]
async fn a_foreign_write_while_the_loader_runs_stays_in_every_mode() {
    for many in [false, true] {
        for (setting, builder) in settings() {
            let store = MemoryBackend::new();
            let cache = builder.build(store.clone()).await.unwrap();
            assert_eq!(load(&cache, many, write(&store, "new")).await, "old", "{setting}: the caller asked before");
            assert_eq!(held(&store).await.unwrap(), "new", "{setting}, many: {many}");
            assert_eq!(read(&cache, "k").await.as_deref(), Some("new"), "{setting}, many: {many}");
        }
    }
}

#[tokio::test]
async fn an_own_write_or_delete_while_the_loader_runs_stays_in_every_mode() {
    for delete in [false, true] {
        for many in [false, true] {
            for (setting, builder) in settings() {
                let store = MemoryBackend::new();
                let cache = builder.build(store.clone()).await.unwrap();
                let meanwhile = async {
                    cache.set("k", "new".to_owned()).await.unwrap();
                    if delete {
                        assert!(cache.delete("k").await.unwrap());
                    }
                };
                load(&cache, many, meanwhile).await;
                let expected = (!delete).then(|| Bytes::from_static(b"new"));
                assert_eq!(held(&store).await, expected, "{setting}, many: {many}");
                assert_eq!(read(&cache, "k").await.as_deref(), (!delete).then_some("new"), "{setting}, many: {many}");
            }
        }
    }
}

#[tokio::test]
async fn a_foreign_change_that_nobody_reports_because_the_link_is_cut_stays() {
    for delete in [false, true] {
        for many in [false, true] {
            let store = MemoryBackend::new();
            let foreign = store.clone();
            let link = store.scripted_link();
            let cache = text().build(store).await.unwrap();
            let meanwhile = async {
                link.cut();
                write(&foreign, "new").await;
                if delete {
                    assert!(foreign.delete(b"t:k").await.unwrap());
                }
                link.restore();
            };
            load(&cache, many, meanwhile).await;
            let expected = (!delete).then(|| Bytes::from_static(b"new"));
            assert_eq!(held(&foreign).await, expected, "many: {many}");
            assert_eq!(read(&cache, "k").await.as_deref(), (!delete).then_some("new"), "many: {many}");
        }
    }
}

#[tokio::test]
async fn a_reported_delete_while_the_loader_runs_is_not_undone() {
    for many in [false, true] {
        let store = MemoryBackend::new();
        let foreign = store.clone();
        let cache = text().build(store).await.unwrap();
        let meanwhile = async {
            write(&foreign, "new").await;
            foreign.delete(b"t:k").await.unwrap();
        };
        load(&cache, many, meanwhile).await;
        assert_eq!(held(&foreign).await, None, "many: {many}");
        assert_eq!(cache.stats().coherence.refused_loads, 1);
    }
}

/// Encodes "old" only when it is asked to.
struct SlowToEncode {
    started: Mutex<Option<mpsc::Sender<()>>>,
    go: Mutex<mpsc::Receiver<()>>,
}

impl Codec<String> for SlowToEncode {
    fn encode(&self, value: &String) -> Result<Bytes, CodecError> {
        if value == "old" {
            if let Some(started) = self.started.lock().unwrap().take() {
                started.send(()).unwrap();
            }
            self.go.lock().unwrap().recv().unwrap();
        }
        Ok(Bytes::copy_from_slice(value.as_bytes()))
    }

    fn decode(&self, bytes: &Bytes) -> Result<String, CodecError> {
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_own_write_or_delete_that_completes_while_a_loaded_value_is_encoded_stays() {
    for delete in [false, true] {
        let (started, wait) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let codec = SlowToEncode { started: Mutex::new(Some(started)), go: Mutex::new(gate) };
        let store = MemoryBackend::new();
        let cache: Cache<String> = Cache::builder().namespace("t").codec(codec).build(store.clone()).await.unwrap();
        let loading = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get_or_load("k", async |_| Ok::<_, io::Error>("old".to_owned())).await.unwrap() }
        });
        tokio::task::spawn_blocking(move || wait.recv().unwrap()).await.unwrap();
        cache.set("k", "new".to_owned()).await.unwrap();
        if delete {
            // Nothing is there again, as the load saw it.
            assert!(cache.delete("k").await.unwrap());
        }
        go.send(()).unwrap();
        assert_eq!(*ends(loading).await.unwrap(), "old");
        let expected = (!delete).then(|| Bytes::from_static(b"new"));
        assert_eq!(held(&store).await, expected, "delete: {delete}");
        assert_eq!(read(&cache, "k").await.as_deref(), (!delete).then_some("new"), "delete: {delete}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_while_the_store_waits_for_its_turn_stays() {
    for (own, delete) in [(false, false), (false, true), (true, false), (true, true)] {
        let store = MemoryBackend::new();
        let foreign = store.clone();
        let faulty = FaultyBackend::new(store);
        let faults = faulty.faults();
        let builder = text().max_in_flight(1).op_timeout(Duration::from_secs(5));
        let cache = builder.build(faulty).await.unwrap();
        let go = Arc::new(Notify::new());
        let loading = tokio::spawn({
            let (cache, go) = (cache.clone(), Arc::clone(&go));
            let loader = async move || {
                go.notified().await;
                Ok::<_, io::Error>("old".to_owned())
            };
            async move { cache.get_or_load("k", |_| loader()).await.unwrap() }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        faults.hang(true);
        let other = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get("other").await }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        let writing = own.then(|| {
            let cache = cache.clone();
            tokio::spawn(async move {
                if delete {
                    assert!(!cache.delete("k").await.unwrap(), "nothing was stored before it");
                } else {
                    cache.set("k", "new".to_owned()).await.unwrap();
                }
            })
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        // The loader returns; its store waits behind the read, and behind the own write.
        go.notify_one();
        tokio::time::sleep(Duration::from_millis(10)).await;
        if !own {
            write(&foreign, "new").await;
            if delete {
                assert!(foreign.delete(b"t:k").await.unwrap());
            }
        }
        faults.hang(false);
        ends(other).await.unwrap().unwrap();
        assert_eq!(*ends(loading).await.unwrap(), "old");
        if let Some(writing) = writing {
            ends(writing).await.unwrap();
        }
        let expected = (!delete).then(|| Bytes::from_static(b"new"));
        assert_eq!(held(&foreign).await, expected, "own: {own}");
        assert_eq!(read(&cache, "k").await.as_deref(), (!delete).then_some("new"), "own: {own}, delete: {delete}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_after_something_newer_was_returned_does_not_join_an_older_load() {
    for (setting, builder) in settings() {
        let store = MemoryBackend::new();
        let foreign = store.clone();
        // No copy says that the key is absent, so that it is read anew although nobody reports the change.
        let cache = builder.negative_time_to_live(None).build(store).await.unwrap();
        let go = Arc::new(Notify::new());
        let loading = |value: &str, go: Arc<Notify>| {
            let (cache, value) = (cache.clone(), value.to_owned());
            let loader = async move || {
                go.notified().await;
                Ok::<_, io::Error>(value)
            };
            tokio::spawn(async move { (*cache.get_or_load("k", |_| loader()).await.unwrap()).clone() })
        };
        let first = loading("old", Arc::clone(&go));
        tokio::time::sleep(Duration::from_millis(10)).await;
        write(&foreign, "new").await;
        assert_eq!(read(&cache, "k").await.as_deref(), Some("new"), "{setting}");
        let second = loading("mine", Arc::new(Notify::new()));
        tokio::time::sleep(Duration::from_millis(10)).await;
        go.notify_one();
        assert_eq!(ends(first).await.unwrap(), "old", "{setting}: it asked before");
        assert_eq!(ends(second).await.unwrap(), "new", "{setting}");
    }
}

#[tokio::test]
async fn a_loaded_value_that_cannot_be_stored_is_returned_and_counted() {
    let cache = text().max_value_bytes(1000).build(MemoryBackend::new()).await.unwrap();
    for round in 1..=3 {
        let loaded = cache.get_or_load("k", async |_| Ok::<_, io::Error>("x".repeat(2000))).await.unwrap();
        assert_eq!(loaded.len(), 2000);
        let stats = cache.stats().backend;
        assert_eq!((stats.loads, stats.unstored, stats.errors), (round, round, round));
    }
}

/// A store that is slow to take a batch over: the thread that sends it waits.
#[derive(Debug)]
struct SlowToSend {
    store: MemoryBackend,
    started: Mutex<Option<mpsc::Sender<()>>>,
    go: Mutex<mpsc::Receiver<()>>,
    deletes: Arc<std::sync::atomic::AtomicUsize>,
}

#[twotier::async_trait]
impl Backend for SlowToSend {
    async fn get(&self, key: &[u8]) -> twotier::BackendResult<Option<twotier::Stored>> {
        self.store.get(key).await
    }

    async fn set(&self, key: &[u8], value: Bytes, ttl: Option<Duration>) -> twotier::BackendResult<()> {
        self.store.set(key, value, ttl).await
    }

    async fn delete(&self, key: &[u8]) -> twotier::BackendResult<bool> {
        self.deletes.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.store.delete(key).await
    }

    async fn clear(&self, prefix: &[u8]) -> twotier::BackendResult<u64> {
        self.store.clear(prefix).await
    }

    async fn set_many(&self, writes: &[twotier::Write]) -> Vec<twotier::BackendResult<bool>> {
        if let Some(started) = self.started.lock().unwrap().take() {
            started.send(()).unwrap();
            self.go.lock().unwrap().recv().unwrap();
        }
        self.store.set_many(writes).await
    }

    async fn attach(&self, watch: twotier::Watch) -> twotier::BackendResult<twotier::Attachment> {
        self.store.attach(watch).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_delete_is_never_sent_between_the_last_look_at_a_load_and_its_store() {
    let (started, wait) = mpsc::channel();
    let (go, gate) = mpsc::channel();
    let (store, deletes) = (MemoryBackend::new(), Arc::default());
    let backend = SlowToSend {
        store: store.clone(),
        started: Mutex::new(Some(started)),
        go: Mutex::new(gate),
        deletes: Arc::clone(&deletes),
    };
    let cache = text().op_timeout(Duration::from_secs(20)).build(backend).await.unwrap();
    let loading = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load("k", async |_| Ok::<_, io::Error>("old".to_owned())).await.unwrap() }
    });
    tokio::task::spawn_blocking(move || wait.recv().unwrap()).await.unwrap();
    // The load is live and its store is being sent; the row goes now.
    let deleting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.delete("k").await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(deletes.load(std::sync::atomic::Ordering::SeqCst), 0, "it stands behind the store");
    go.send(()).unwrap();
    ends(loading).await.unwrap();
    assert!(ends(deleting).await.unwrap(), "it removes what the load stored");
    assert_eq!(held(&store).await, None);
    assert_eq!(read(&cache, "k").await, None);
}
