//! Reads of different keys that come at the same time are one call of the backend, and share nothing else.

use std::{
    collections::HashSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::{JoinHandle, yield_now},
};
use twotier::{
    AnswerSink, Attachment, Backend, BackendError, BackendErrorKind, BackendResult, Cache, ChangeListener, Coherence,
    ErrorKind, Lease, LinkId, LinkState, LinkStatus, LinkUp, MemoryBackend, Stored, Watch, async_trait,
};

use crate::support::{ends, text};

/// So many that come while one is under way are one batch.
const GATHERED: usize = 4;
const NORTH: LinkId = LinkId::new(1);
const SOUTH: LinkId = LinkId::new(2);

/// A store that reads many keys in one call, holds answers back, and counts its calls. Keys that begin with `s` lie
/// behind the second of its two links.
#[derive(Clone, Debug, Default)]
struct Together(Arc<State>);

#[derive(Debug, Default)]
struct State {
    store: MemoryBackend,
    /// The keys of each call of `get_each`, in order.
    batches: Mutex<Vec<Vec<String>>>,
    singly: AtomicUsize,
    under_way: AtomicUsize,
    most: AtomicUsize,
    /// Keys that are not answered.
    held: watch::Sender<HashSet<String>>,
    /// Whether keys behind the second link are answered with an error.
    is_failing: AtomicBool,
    /// Keys that a batch says nothing of.
    forgotten: Mutex<HashSet<String>>,
    links: OnceLock<Listener>,
}

struct Listener(Arc<dyn ChangeListener>);

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

impl Together {
    async fn with(keys: impl IntoIterator<Item = String>) -> Self {
        let together = Self::default();
        for key in keys {
            together.0.store.set(qualified(&key).as_bytes(), key.into(), None).await.unwrap();
        }
        together
    }

    fn hold(&self, keys: impl IntoIterator<Item = String>) {
        self.0.held.send_modify(|held| held.extend(keys.into_iter().map(|key| qualified(&key))));
    }

    fn release(&self, key: &str) {
        self.0.held.send_modify(|held| _ = held.remove(&qualified(key)));
    }

    fn release_all(&self) {
        self.0.held.send_modify(HashSet::clear);
    }

    /// How many keys each batch had.
    fn batches(&self) -> Vec<usize> {
        self.0.batches.lock().iter().map(Vec::len).collect()
    }

    fn singly(&self) -> usize {
        self.0.singly.load(SeqCst)
    }

    fn listener(&self) -> &Arc<dyn ChangeListener> {
        &self.0.links.get().unwrap().0
    }

    async fn answer(&self, key: &[u8]) -> BackendResult<Option<Stored>> {
        struct UnderWay<'t>(&'t State);
        impl Drop for UnderWay<'_> {
            fn drop(&mut self) {
                self.0.under_way.fetch_sub(1, SeqCst);
            }
        }
        self.0.most.fetch_max(self.0.under_way.fetch_add(1, SeqCst) + 1, SeqCst);
        let _until_the_end = UnderWay(&self.0);
        let name = String::from_utf8_lossy(key).into_owned();
        self.0.held.subscribe().wait_for(|held| !held.contains(&name)).await.unwrap();
        if self.0.is_failing.load(SeqCst) && self.route(key) == SOUTH {
            return Err(BackendError::new(BackendErrorKind::Unavailable, "unplugged"));
        }
        self.0.store.get(key).await
    }
}

#[async_trait]
impl Backend for Together {
    async fn get(&self, key: &[u8]) -> BackendResult<Option<Stored>> {
        self.0.singly.fetch_add(1, SeqCst);
        self.answer(key).await
    }
    fn reads_together(&self) -> bool {
        true
    }
    async fn get_each(&self, keys: &[Bytes], answers: AnswerSink<'_>) {
        let names = keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        self.0.batches.lock().push(names);
        let mut reads: FuturesUnordered<_> =
            keys.iter().enumerate().map(async |(index, key)| (index, self.answer(key).await)).collect();
        while let Some((index, answer)) = reads.next().await {
            if !self.0.forgotten.lock().contains(&*String::from_utf8_lossy(&keys[index])) {
                answers(index, answer);
            }
        }
    }
    async fn set(&self, key: &[u8], value: Bytes, ttl: Option<Duration>) -> BackendResult<()> {
        self.0.store.set(key, value, ttl).await
    }
    async fn delete(&self, key: &[u8]) -> BackendResult<bool> {
        self.0.store.delete(key).await
    }
    async fn clear(&self, prefix: &[u8]) -> BackendResult<u64> {
        self.0.store.clear(prefix).await
    }
    async fn compare_and_set(
        &self,
        key: &[u8],
        expected: Option<Bytes>,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> BackendResult<bool> {
        self.0.store.compare_and_set(key, expected, value, ttl).await
    }
    async fn attach(&self, watch: Watch) -> BackendResult<Attachment> {
        for link in [NORTH, SOUTH] {
            watch.listener.link_up(link, Lease::Unlimited);
        }
        self.0.links.set(Listener(watch.listener)).unwrap();
        Ok(Attachment::new(Coherence::Broadcast))
    }
    fn links(&self) -> Vec<LinkStatus> {
        [NORTH, SOUTH].map(|link| LinkStatus::new(link, LinkState::Up(LinkUp::new(Duration::ZERO)))).into()
    }
    fn route(&self, key: &[u8]) -> LinkId {
        if key.starts_with(b"t:s") { SOUTH } else { NORTH }
    }
}

fn qualified(key: &str) -> String {
    format!("t:{key}")
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

type Reading = JoinHandle<twotier::Result<Option<Arc<String>>>>;

fn reading(cache: &Cache<String>, key: &str) -> Reading {
    let (cache, key) = (cache.clone(), key.to_owned());
    tokio::spawn(async move { cache.get(&key).await })
}

fn readings(cache: &Cache<String>, keys: &[String]) -> Vec<Reading> {
    keys.iter().map(|key| reading(cache, key)).collect()
}

/// Has a read under way by itself, which is not answered: those that come meanwhile are gathered.
async fn crowd(cache: &Cache<String>, backend: &Together) -> Reading {
    backend.hold(["crowd".to_owned()]);
    let read = reading(cache, "crowd");
    settle().await;
    assert_eq!((backend.singly(), backend.batches()), (1, vec![]));
    read
}

/// Takes all of four permits by reads that are not answered.
async fn occupy(cache: &Cache<String>, backend: &Together) -> Vec<Reading> {
    let keys = names("held", 4);
    backend.hold(keys.clone());
    let reads = readings(cache, &keys);
    settle().await;
    assert_eq!((backend.singly(), backend.batches()), (1, vec![3]));
    reads
}

/// Lets everything run that can.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

async fn value(read: Reading) -> Option<String> {
    ends(read).await.unwrap().unwrap().map(|value| (*value).clone())
}

fn is_held(cache: &Cache<String>, key: &str) -> bool {
    cache.get_if_local(key).is_some()
}

#[tokio::test]
async fn reads_that_come_at_the_same_time_are_a_handful_of_calls_and_each_is_answered_and_kept() {
    let keys = names("k", 200);
    let backend = Together::with(keys.clone()).await;
    let cache = text().build(backend.clone()).await.unwrap();
    for (key, read) in keys.iter().zip(readings(&cache, &keys)) {
        assert_eq!(value(read).await.as_deref(), Some(&**key));
        assert!(is_held(&cache, key));
    }
    let (singly, batches) = (backend.singly(), backend.batches());
    assert!(singly == 1 && batches.len() <= 8, "{singly} by themselves, and batches of {batches:?}");
    assert_eq!(singly + batches.iter().sum::<usize>(), 200, "each key is asked for once");
    assert_eq!(cache.stats().backend.reads, (singly + batches.len()) as u64, "a batch counts once");
}

#[tokio::test]
async fn a_read_goes_by_itself_while_none_is_under_way_and_so_does_the_next_one_after_a_rush() {
    let backend = Together::default();
    let cache = text().build(backend.clone()).await.unwrap();
    for key in names("one", 3) {
        assert_eq!(value(reading(&cache, &key)).await, None);
    }
    assert_eq!((backend.singly(), backend.batches()), (3, vec![]));
    for read in readings(&cache, &names("rush", 100)) {
        value(read).await;
    }
    // The first one after it may find out that nobody else comes.
    value(reading(&cache, "after")).await;
    let (singly, batches) = (backend.singly(), backend.batches());
    value(reading(&cache, "lone")).await;
    assert_eq!((backend.singly(), backend.batches()), (singly + 1, batches));
}

#[tokio::test]
async fn a_read_that_comes_while_another_is_under_way_waits_neither_for_its_answer_nor_for_company() {
    let backend = Together::default();
    let cache = text().build(backend.clone()).await.unwrap();
    let crowd = crowd(&cache, &backend).await;
    assert_eq!(value(reading(&cache, "k")).await, None);
    assert!(!crowd.is_finished());
    assert_eq!(backend.batches(), [1]);
}

#[tokio::test]
async fn a_backend_that_reads_one_key_at_a_time_is_never_asked_for_many() {
    #[derive(Debug, Default)]
    struct OneByOne(AtomicUsize);
    #[async_trait]
    impl Backend for OneByOne {
        async fn get(&self, _key: &[u8]) -> BackendResult<Option<Stored>> {
            self.0.fetch_add(1, SeqCst);
            settle().await;
            Ok(None)
        }
        async fn get_many(&self, _keys: &[Bytes]) -> Vec<BackendResult<Option<Stored>>> {
            panic!("one after the other");
        }
        async fn set(&self, _key: &[u8], _value: Bytes, _ttl: Option<Duration>) -> BackendResult<()> {
            Ok(())
        }
        async fn delete(&self, _key: &[u8]) -> BackendResult<bool> {
            Ok(false)
        }
        async fn clear(&self, _prefix: &[u8]) -> BackendResult<u64> {
            Ok(0)
        }
    }
    let backend = Arc::new(OneByOne::default());
    let cache = text().build(Arc::clone(&backend)).await.unwrap();
    for read in readings(&cache, &names("k", 100)) {
        assert_eq!(value(read).await, None);
    }
    assert_eq!(backend.0.load(SeqCst), 100);
}

#[tokio::test]
async fn a_late_answer_holds_up_none_of_those_that_were_gathered_with_it_and_keeps_only_its_own_room() {
    let keys = names("k", GATHERED);
    let backend = Together::with(keys.clone()).await;
    let cache = text().max_in_flight(1 + GATHERED).max_waiting(1000).build(backend.clone()).await.unwrap();
    let crowd = crowd(&cache, &backend).await;
    backend.hold(["k3".to_owned()]);
    let mut reads = readings(&cache, &keys);
    let late = reads.remove(3);
    for (key, read) in keys.iter().filter(|key| *key != "k3").zip(reads) {
        assert_eq!(value(read).await.as_deref(), Some(&**key));
        assert!(is_held(&cache, key), "its ticket ended with its answer");
    }
    assert_eq!(backend.batches(), [GATHERED]);
    assert!(!late.is_finished());
    // All but one have given their permits back.
    backend.hold(names("more", GATHERED - 1));
    let more = readings(&cache, &names("more", GATHERED - 1));
    settle().await;
    assert_eq!(backend.0.under_way.load(SeqCst), 1 + GATHERED, "there is room for as many as were answered");
    let beyond = readings(&cache, &names("beyond", 2));
    settle().await;
    assert_eq!(backend.batches(), [GATHERED, GATHERED - 1], "and for no more");
    backend.release("k3");
    assert_eq!(value(late).await.as_deref(), Some("k3"));
    backend.release_all();
    for read in more.into_iter().chain([crowd]).chain(beyond) {
        assert_eq!(value(read).await, None);
    }
    assert_eq!(backend.0.most.load(SeqCst), 1 + GATHERED);
}

#[tokio::test]
async fn whoever_goes_away_before_or_after_a_batch_is_sent_holds_up_nobody() {
    let keys = names("k", GATHERED);
    let backend = Together::with(keys.clone()).await;
    let cache = text().build(backend.clone()).await.unwrap();
    let _crowd = crowd(&cache, &backend).await;
    backend.hold(keys.clone());
    // Polled once, by hand: the first opens the batch, and is gone before that is sent.
    let mut polled: Vec<_> = keys.iter().map(|key| cache.get(key)).collect();
    for read in &mut polled {
        assert!(futures_util::poll!(read).is_pending());
    }
    drop(polled.remove(0));
    settle().await;
    assert_eq!(backend.batches(), [GATHERED], "it was asked for already");
    drop(polled.remove(0));
    backend.release_all();
    for (key, read) in keys[2..].iter().zip(polled) {
        assert_eq!(ends(read).await.unwrap().as_deref(), Some(key));
    }
    assert!(!is_held(&cache, "k0") && !is_held(&cache, "k1"), "nobody decoded what nobody waited for");
    for key in ["k0", "k1"] {
        assert_eq!(value(reading(&cache, key)).await.as_deref(), Some(key), "and nothing is left of it");
    }
}

#[tokio::test]
async fn keys_of_one_batch_that_lie_behind_different_links_are_kept_by_the_word_of_their_own() {
    let keys: Vec<_> = names("n", GATHERED / 2).into_iter().chain(names("s", GATHERED / 2)).collect();
    let backend = Together::with(keys.clone()).await;
    let cache = text().build(backend.clone()).await.unwrap();
    let _crowd = crowd(&cache, &backend).await;
    backend.hold(keys.clone());
    let reads = readings(&cache, &keys);
    settle().await;
    assert_eq!(backend.batches(), [GATHERED]);
    backend.listener().link_down(SOUTH);
    backend.release_all();
    for (key, read) in keys.iter().zip(reads) {
        assert_eq!(value(read).await.as_deref(), Some(&**key), "what it brought is returned");
        assert_eq!(is_held(&cache, key), key.starts_with('n'), "{key}");
    }
}

#[tokio::test]
async fn a_link_that_does_not_answer_opens_its_own_breaker_however_its_keys_were_gathered() {
    let keys: Vec<_> = names("n", GATHERED / 2).into_iter().chain(names("s", GATHERED / 2)).collect();
    let backend = Together::with(keys.clone()).await;
    backend.0.is_failing.store(true, SeqCst);
    let cache = text().build(backend.clone()).await.unwrap();
    let _crowd = crowd(&cache, &backend).await;
    let mut round = 0;
    while cache.stats().backend.breaker.opened == 0 {
        round += 1;
        assert!(round < 100, "the breaker never opens");
        let keys: Vec<_> =
            (0..GATHERED / 2).flat_map(|key| [format!("n{round}:{key}"), format!("s{round}:{key}")]).collect();
        for (key, read) in keys.iter().zip(readings(&cache, &keys)) {
            assert_eq!(ends(read).await.unwrap().is_err(), key.starts_with('s'), "{key}");
        }
    }
    assert!(backend.batches().contains(&GATHERED), "they were gathered: {:?}", backend.batches());
    let asked = backend.singly() + backend.batches().iter().sum::<usize>();
    assert_eq!(ends(cache.get("s0")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(backend.singly() + backend.batches().iter().sum::<usize>(), asked, "nothing is asked over that link");
    assert_eq!(value(reading(&cache, "n0")).await.as_deref(), Some("n0"), "and the other one is as it was");
}

#[tokio::test]
async fn gathered_reads_wait_for_room_and_those_beyond_what_may_wait_are_refused() {
    let backend = Together::default();
    let cache = text().max_in_flight(4).max_waiting(4).build(backend.clone()).await.unwrap();
    let held = occupy(&cache, &backend).await;
    let mut reads = readings(&cache, &names("k", 10));
    settle().await;
    let refused: Vec<_> = (0..10).rev().filter(|index| reads[*index].is_finished()).collect();
    assert_eq!(refused.len(), 6, "as many wait as may");
    for index in refused {
        let error = ends(reads.remove(index)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
    }
    assert_eq!(cache.stats().backend.overloaded, 6);
    assert_eq!(backend.batches(), [3], "nothing is asked of the backend");
    backend.release_all();
    for read in reads.into_iter().chain(held) {
        assert_eq!(value(read).await, None);
    }
    assert_eq!(backend.0.most.load(SeqCst), 4, "never more than is allowed");
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_read_once_there_is_room() {
    let backend = Together::default();
    let cache = text().max_in_flight(4).build(backend.clone()).await.unwrap();
    let held = occupy(&cache, &backend).await;
    let mut reads = readings(&cache, &names("k", 4));
    settle().await;
    for gone in reads.drain(1..) {
        gone.abort();
    }
    let gone = readings(&cache, &names("gone", 4));
    settle().await;
    gone.iter().for_each(|read| read.abort());
    settle().await;
    backend.release_all();
    for read in reads.into_iter().chain(held) {
        assert_eq!(value(read).await, None);
    }
    settle().await;
    assert_eq!(backend.batches(), [3, 1], "the first batch without three of its keys, and nothing of the second");
    let again = readings(&cache, &names("again", 4));
    for read in again {
        assert_eq!(value(read).await, None, "all permits are there");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_gathered_read_has_a_deadline_of_their_own() {
    let keys = names("k", 4);
    let backend = Together::with(keys.clone()).await;
    let timeout = Duration::from_secs(1);
    let cache = text().op_timeout(timeout).build(backend.clone()).await.unwrap();
    let _crowd = crowd(&cache, &backend).await;
    backend.hold(keys.clone());
    let timed = async |read: Reading| {
        let ended = ends(read).await.unwrap();
        (ended.map(|value| value.map(|value| (*value).clone())), tokio::time::Instant::now())
    };
    let began = tokio::time::Instant::now();
    let reads = readings(&cache, &keys);
    settle().await;
    assert_eq!(backend.batches(), [4]);
    tokio::time::sleep(timeout / 2).await;
    let (later, latest) = (reading(&cache, "k0"), reading(&cache, "k1"));
    for read in reads {
        let (ended, at) = timed(read).await;
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Timeout);
        assert!((at - began).abs_diff(timeout) <= Duration::from_millis(3), "after {:?}", at - began);
    }
    assert!(!later.is_finished(), "its time is not over");
    backend.release("k0");
    assert_eq!(value(later).await.as_deref(), Some("k0"), "a late answer serves who still waits");
    let (ended, at) = timed(latest).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Timeout);
    assert!((at - began).abs_diff(timeout * 3 / 2) <= Duration::from_millis(3), "after {:?}", at - began);
}

#[tokio::test]
async fn a_key_of_which_a_batch_says_nothing_is_an_error_of_its_own() {
    let keys = names("k", GATHERED);
    let backend = Together::with(keys.clone()).await;
    backend.0.forgotten.lock().insert(qualified("k2"));
    let cache = text().build(backend.clone()).await.unwrap();
    let _crowd = crowd(&cache, &backend).await;
    for (key, read) in keys.iter().zip(readings(&cache, &keys)) {
        match ends(read).await.unwrap() {
            Ok(found) => assert_eq!(found.as_deref(), Some(key)),
            Err(error) => assert_eq!((&**key, error.kind()), ("k2", ErrorKind::Rejected)),
        }
    }
    assert_eq!(backend.batches(), [GATHERED]);
}

#[tokio::test]
async fn a_report_while_a_batch_is_under_way_concerns_its_key_alone() {
    let keys = names("k", GATHERED);
    let backend = Together::with(keys.clone()).await;
    let cache = text().build(backend.clone()).await.unwrap();
    let _crowd = crowd(&cache, &backend).await;
    backend.hold(keys.clone());
    let reads = readings(&cache, &keys);
    settle().await;
    backend.listener().changed(qualified("k2").as_bytes());
    backend.release_all();
    for (key, read) in keys.iter().zip(reads) {
        assert_eq!(value(read).await.as_deref(), Some(&**key));
        assert_eq!(is_held(&cache, key), key != "k2");
    }
}

/// Has 100 keys be used at once by so many tasks, and holds that their reads are gathered.
async fn assert_gathered<F>(call: impl Fn(Cache<String>, String) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let backend = Together::default();
    let cache = text().build(backend.clone()).await.unwrap();
    let calls: Vec<_> = names("k", 100).into_iter().map(|key| tokio::spawn(call(cache.clone(), key))).collect();
    for call in calls {
        ends(call).await.unwrap();
    }
    let (singly, batches) = (backend.singly(), backend.batches());
    assert_eq!(singly + batches.iter().sum::<usize>(), 100);
    assert!(singly == 1 && batches.len() <= 8, "{singly} by themselves, and batches of {batches:?}");
}

#[tokio::test]
async fn the_reads_of_loads_are_gathered_too() {
    assert_gathered(|cache, key| async move {
        let loaded = cache.get_or_load(&key, async |_| Ok::<_, std::io::Error>(key.clone())).await;
        assert_eq!(*loaded.unwrap(), key);
    })
    .await;
}

#[tokio::test]
async fn the_reads_of_updates_are_gathered_too() {
    assert_gathered(|cache, key| async move {
        cache.update(&key, |_| Some(key.clone())).await.unwrap();
    })
    .await;
}

#[test]
fn the_end_of_the_runtime_that_sends_a_batch_is_an_error_for_readers_on_another() {
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let backend = Together::default();
    let cache = home.block_on(async { text().build(backend.clone()).await.unwrap() });
    let keys = names("k", 64);
    backend.hold(keys.clone());
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let reads = other.block_on(async { readings(&cache, &keys) });
    other.block_on(async {
        while backend.singly() + backend.batches().iter().sum::<usize>() < 64 {
            yield_now().await;
        }
    });
    home.shutdown_timeout(Duration::from_secs(5));
    other.block_on(async {
        for read in reads {
            assert_eq!(ends(read).await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
        }
    });
}

#[test]
fn reads_that_were_gathered_and_never_sent_end_with_the_runtime_of_the_cache() {
    let home = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let backend = Together::default();
    let cache = home.block_on(async { text().build(backend.clone()).await.unwrap() });
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Nothing runs there any more: neither the lone read nor the task of the batch.
    let reads = other.block_on(async {
        let reads = readings(&cache, &names("k", 3));
        settle().await;
        reads
    });
    assert_eq!((backend.singly(), backend.batches()), (0, vec![]));
    drop(home);
    other.block_on(async {
        for read in reads {
            assert_eq!(ends(read).await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
        }
    });
}

mod live {
    use twotier::RedisBackend;
    use twotier_testkit::{Proxy, RedisServer};

    use super::*;
    use crate::support::over_redis;

    fn write(server: &RedisServer, keys: usize) {
        let mut words = vec!["MSET".to_owned()];
        words.extend((0..keys).flat_map(|key| [format!("t:{key}"), format!("v{key}")]));
        server.command(&words);
    }

    #[tokio::test]
    async fn the_server_works_on_one_half_of_the_reads_while_the_other_is_put_together() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        server.reset_stats();
        let readers: Vec<_> = (0..64)
            .map(|reader| {
                let cache = cache.clone();
                tokio::spawn(async move {
                    for key in 0..200 {
                        cache.get(format!("{reader}:{key}")).await.unwrap();
                    }
                })
            })
            .collect();
        for reader in readers {
            ends(reader).await.unwrap();
        }
        let (keys, batches) = (server.calls(&["pttl"]), server.calls(&["mget"]));
        assert_eq!(keys, 64 * 200);
        assert!(keys <= 40 * batches, "{keys} keys in {batches} batches: client and server take turns");
        assert!(keys >= 6 * batches, "{keys} keys in {batches} batches: they hardly share round trips");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn readers_that_go_away_at_any_point_leave_nobody_behind() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let cache =
            text().max_entries(1).max_in_flight(300).build(RedisBackend::new(proxy.url()).unwrap()).await.unwrap();
        write(&server, 300);
        for round in 0..40_u64 {
            // Without, within and after the round trip, and the first of each batch among them.
            proxy.set_round_trip(Duration::from_micros(300 * (round % 3)));
            let mut kept = Vec::new();
            for (key, read) in readings(&cache, &names("", 300)).into_iter().enumerate() {
                if fastrand::bool() || key % 100 == 8 {
                    read.abort();
                } else {
                    kept.push((key, read));
                }
                if key % 64 == 0 {
                    yield_now().await;
                }
            }
            for (key, read) in kept {
                assert_eq!(value(read).await.unwrap(), format!("v{key}"));
            }
        }
        // None of those that went away is still counted: there is room for as many as ever, at once.
        let found = ends(cache.get_many(&names("", 300))).await.unwrap();
        assert!(found.iter().all(Option::is_some));
    }

    #[tokio::test]
    async fn a_lost_connection_is_an_error_for_everyone_who_waits() {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.addr());
        let cache = text().build(RedisBackend::new(proxy.url()).unwrap()).await.unwrap();
        proxy.pause();
        let reads = readings(&cache, &names("", 300));
        settle().await;
        proxy.cut();
        for read in reads {
            assert_eq!(ends(read).await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
        }
    }

    #[tokio::test]
    async fn a_key_of_another_type_among_many_is_its_own_error() {
        let server = RedisServer::start();
        let cache = over_redis(&server).await;
        write(&server, 100);
        for key in [20, 50, 51] {
            server.command(&["DEL", &format!("t:{key}")]);
            server.command(&["LPUSH", &format!("t:{key}"), "x"]);
        }
        server.reset_stats();
        for (key, read) in readings(&cache, &names("", 120)).into_iter().enumerate() {
            match (key, ends(read).await.unwrap()) {
                (20 | 50 | 51, result) => assert_eq!(result.unwrap_err().kind(), ErrorKind::Rejected),
                (100.., result) => assert_eq!(result.unwrap(), None),
                (_, result) => assert_eq!(*result.unwrap().unwrap(), format!("v{key}")),
            }
        }
        assert!(server.calls(&["mget"]) >= 1, "they were read together");
    }

    #[tokio::test]
    async fn a_user_who_may_not_run_mget_reads_all_the_same_in_few_round_trips() {
        let user = "r on >p ~t:* &* -@all +hello +ping +get +pttl +multi +exec +client +info +role +set +del +unlink";
        let server = RedisServer::builder().acl_user(user).start();
        let backend = RedisBackend::new(server.url_as("r", "p")).unwrap();
        let cache = text().max_entries(1).build(backend).await.unwrap();
        write(&server, 200);
        server.reset_stats();
        for _twice in 0..2 {
            for (key, read) in readings(&cache, &names("", 200)).into_iter().enumerate() {
                assert_eq!(value(read).await.unwrap(), format!("v{key}"));
            }
        }
        assert_eq!(server.calls(&["get"]), 400, "each once");
        assert!(!server.info("errorstats").contains_key("errorstat_NOPERM"), "and nothing was tried in vain");
    }
}
