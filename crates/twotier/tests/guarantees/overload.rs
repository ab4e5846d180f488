//! How much may be under way to the backend and wait for it, and that no caller starves another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::JoinHandle};
use twotier::{Backend, BackendResult, Cache, ErrorKind, MemoryBackend, Stored, Write, async_trait};

use crate::support::{ends, text};

/// A store behind a gate, which counts what is under way to it.
#[derive(Clone, Debug)]
struct Gauged {
    store: MemoryBackend,
    gate: Arc<Semaphore>,
    keys: Arc<AtomicUsize>,
    most_keys: Arc<AtomicUsize>,
    /// How many keys each call asked for, in order.
    calls: Arc<Mutex<Vec<usize>>>,
}

const OPEN: usize = 1 << 40;

impl Gauged {
    fn new(gate: usize) -> Self {
        Self {
            store: MemoryBackend::new(),
            gate: Arc::new(Semaphore::new(gate)),
            keys: Arc::default(),
            most_keys: Arc::default(),
            calls: Arc::default(),
        }
    }

    async fn call<T>(&self, keys: usize, call: impl Future<Output = T>) -> T {
        struct UnderWay<'g>(&'g Gauged, usize);
        impl Drop for UnderWay<'_> {
            fn drop(&mut self) {
                self.0.keys.fetch_sub(self.1, SeqCst);
            }
        }
        self.calls.lock().push(keys);
        let under_way = self.keys.fetch_add(keys, SeqCst) + keys;
        let _until_the_end = UnderWay(self, keys);
        self.most_keys.fetch_max(under_way, SeqCst);
        let _passed = self.gate.acquire().await.unwrap();
        call.await
    }

    fn calls(&self) -> usize {
        self.calls.lock().len()
    }
}

#[async_trait]
impl Backend for Gauged {
    async fn get(&self, key: &[u8]) -> BackendResult<Option<Stored>> {
        self.call(1, self.store.get(key)).await
    }
    async fn set(&self, key: &[u8], value: Bytes, ttl: Option<Duration>) -> BackendResult<()> {
        self.call(1, self.store.set(key, value, ttl)).await
    }
    async fn delete(&self, key: &[u8]) -> BackendResult<bool> {
        self.call(1, self.store.delete(key)).await
    }
    async fn clear(&self, prefix: &[u8]) -> BackendResult<u64> {
        self.call(1, self.store.clear(prefix)).await
    }
    async fn get_many(&self, keys: &[Bytes]) -> Vec<BackendResult<Option<Stored>>> {
        self.call(keys.len(), self.store.get_many(keys)).await
    }
    async fn set_many(&self, writes: &[Write]) -> Vec<BackendResult<bool>> {
        self.call(writes.len(), self.store.set_many(writes)).await
    }
    async fn delete_many(&self, keys: &[Bytes]) -> Vec<BackendResult<bool>> {
        self.call(keys.len(), self.store.delete_many(keys)).await
    }
}

fn reading(cache: &Cache<String>, key: &str) -> JoinHandle<twotier::Result<Option<Arc<String>>>> {
    let (cache, key) = (cache.clone(), key.to_owned());
    tokio::spawn(async move { cache.get(&key).await })
}

/// Lets everything run that can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|key| key.to_string()).collect()
}

#[tokio::test]
async fn no_more_keys_are_under_way_than_allowed_and_all_are_read_in_the_end() {
    let backend = Gauged::new(1);
    let cache = text().max_in_flight(8).build(backend.clone()).await.unwrap();
    let reads: Vec<_> = names(100).iter().map(|key| reading(&cache, key)).collect();
    let items: Vec<_> = names(100).into_iter().map(|key| (format!("w{key}"), key)).collect();
    let (keys, more) = (names(100), names(200));
    let (read, written, deleted) =
        tokio::join!(cache.get_many(&more[100..]), cache.set_many(items), cache.delete_many(&keys));
    read.unwrap();
    written.unwrap();
    deleted.unwrap();
    for read in reads {
        ends(read).await.unwrap().unwrap();
    }
    assert_eq!(backend.most_keys.load(SeqCst), 8, "all that was allowed, and no more");
}

#[tokio::test]
async fn a_call_beyond_those_that_may_wait_is_refused_and_nothing_is_asked_of_the_backend() {
    let backend = Gauged::new(OPEN);
    let cache = text().max_in_flight(1).max_waiting(2).build(backend.clone()).await.unwrap();
    cache.set("held", "v".to_owned()).await.unwrap();
    backend.gate.forget_permits(OPEN);
    let calls = backend.calls();
    let admitted: Vec<_> = ["a", "b", "c"].iter().map(|key| reading(&cache, key)).collect();
    settle().await;
    assert_eq!(backend.calls() - calls, 1, "one is under way, two wait");
    let refused = [
        ends(cache.get("d")).await.map(drop),
        ends(cache.get_many(&["d", "e"])).await.map(drop),
        ends(cache.set("held", "w".to_owned())).await,
        ends(cache.set_many([("held", "w".to_owned())])).await,
        ends(cache.delete("held")).await.map(drop),
        ends(cache.delete_many(&["held"])).await.map(drop),
        ends(cache.clear()).await.map(drop),
        ends(cache.get_or_load("d", async |_| Ok::<_, std::io::Error>("loaded".to_owned()))).await.map(drop),
    ];
    for (which, refused) in refused.into_iter().enumerate() {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Overloaded, "{which}");
    }
    assert_eq!(backend.calls() - calls, 1);
    assert_eq!(cache.stats().backend.overloaded, 8);
    assert_eq!(cache.get("held").await.unwrap().as_deref().map(String::as_str), Some("v"), "hits ask nobody");
    backend.gate.add_permits(OPEN);
    for read in admitted {
        assert_eq!(ends(read).await.unwrap().unwrap(), None);
    }
    assert_eq!(ends(cache.get("d")).await.unwrap(), None, "there is room again");
}

#[tokio::test]
async fn whoever_goes_away_while_waiting_makes_room_for_another() {
    let backend = Gauged::new(0);
    let cache = text().max_in_flight(1).max_waiting(1).build(backend.clone()).await.unwrap();
    let first = reading(&cache, "a");
    let second = reading(&cache, "b");
    settle().await;
    second.abort();
    settle().await;
    let third = reading(&cache, "c");
    settle().await;
    assert!(!third.is_finished(), "it waits where the second one did");
    first.abort();
    backend.gate.add_permits(OPEN);
    assert_eq!(ends(third).await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn a_write_whose_caller_went_away_counts_until_it_has_ended() {
    let backend = Gauged::new(0);
    let cache = text().max_in_flight(1).build(backend.clone()).await.unwrap();
    let writing = tokio::spawn({
        let cache = cache.clone();
        async move { cache.set("a", "1".to_owned()).await }
    });
    settle().await;
    writing.abort();
    let read = reading(&cache, "b");
    settle().await;
    assert_eq!(backend.calls(), 1, "the write is still under way");
    backend.gate.add_permits(OPEN);
    ends(read).await.unwrap().unwrap();
    assert_eq!(backend.most_keys.load(SeqCst), 1);
}

#[tokio::test]
async fn a_batch_of_100_000_keys_goes_in_bounded_parts_and_starves_no_single_read() {
    let backend = Gauged::new(0);
    let cache = text().max_in_flight(512).build(backend.clone()).await.unwrap();
    let batch = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_many(&names(100_000)).await }
    });
    while backend.calls() == 0 {
        tokio::task::yield_now().await;
    }
    let single = reading(&cache, "single");
    settle().await;
    backend.gate.add_permits(1);
    assert_eq!(ends(single).await.unwrap().unwrap(), None);
    assert_eq!(backend.calls.lock()[..2], [512, 1], "it was next");
    assert_eq!(ends(batch).await.unwrap().unwrap().len(), 100_000);
    assert_eq!(backend.most_keys.load(SeqCst), 512);
    assert_eq!(backend.calls(), 100_000_usize.div_ceil(512) + 1);
}

#[tokio::test]
async fn others_run_while_a_batch_of_100_000_keys_is_worked_on() {
    let cache = text().max_entries(200_000).max_bytes(1 << 30).build(MemoryBackend::new()).await.unwrap();
    let turns = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counting.fetch_add(1, SeqCst);
            tokio::task::yield_now().await;
        }
    });
    let keys = names(100_000);
    let least = 100_000 / 512;
    // Nothing here waits for anything: the store is in this process, and then the values are local.
    let items: Vec<_> = keys.iter().map(|key| (key.clone(), key.clone())).collect();
    let took = async |what: &str, call: &mut (dyn Future<Output = ()> + Unpin)| {
        let before = turns.load(SeqCst);
        call.await;
        let turns = turns.load(SeqCst) - before;
        assert!(turns >= least, "{what}: others had {turns} turns");
    };
    took("set_many", &mut Box::pin(async { cache.set_many(items).await.unwrap() })).await;
    took("hits", &mut Box::pin(async { assert_eq!(cache.get_many(&keys).await.unwrap().len(), 100_000) })).await;
    cache.clear_local();
    took("misses", &mut Box::pin(async { assert_eq!(cache.get_many(&keys).await.unwrap().len(), 100_000) })).await;
    took("delete_many", &mut Box::pin(async { assert_eq!(cache.delete_many(&keys).await.unwrap(), 100_000) })).await;
    other.abort();
}
