//! The deadline of a batch is one of progress: it passes when nothing moved for so long, and what has come is kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use twotier::{AnswerSink, Backend, BackendResult, Cache, Error, ErrorKind, RemainingTtl, Stored, Write, async_trait};

use crate::support::{ends, text};

/// Answers one key after the other, with a pause before each, and stops after so many.
#[derive(Clone, Debug)]
struct Trickle {
    pause: Duration,
    answers: usize,
    /// How often anything moved.
    moved: Arc<AtomicU64>,
    calls: Arc<AtomicUsize>,
}

impl Trickle {
    fn new(pause: Duration, answers: usize) -> Self {
        Self { pause, answers, moved: Arc::default(), calls: Arc::default() }
    }

    async fn step(&self, index: usize) {
        if index >= self.answers {
            std::future::pending::<()>().await;
        }
        sleep(self.pause).await;
        self.moved.fetch_add(1, SeqCst);
    }
}

fn stored() -> Option<Stored> {
    Some(Stored::new("v", RemainingTtl::Persistent))
}

#[async_trait]
impl Backend for Trickle {
    async fn get(&self, _key: &[u8]) -> BackendResult<Option<Stored>> {
        self.calls.fetch_add(1, SeqCst);
        Ok(stored())
    }

    async fn set(&self, _key: &[u8], _value: Bytes, _ttl: Option<Duration>) -> BackendResult<()> {
        Ok(())
    }

    async fn delete(&self, _key: &[u8]) -> BackendResult<bool> {
        Ok(true)
    }

    async fn clear(&self, _prefix: &[u8]) -> BackendResult<u64> {
        Ok(0)
    }

    async fn get_each(&self, keys: &[Bytes], answers: AnswerSink<'_>) {
        self.calls.fetch_add(1, SeqCst);
        for index in 0..keys.len() {
            self.step(index).await;
            answers(index, Ok(stored()));
        }
    }

    async fn set_many(&self, writes: &[Write]) -> Vec<BackendResult<bool>> {
        self.calls.fetch_add(1, SeqCst);
        for index in 0..writes.len() {
            self.step(index).await;
        }
        vec![Ok(true); writes.len()]
    }

    async fn delete_many(&self, keys: &[Bytes]) -> Vec<BackendResult<bool>> {
        self.calls.fetch_add(1, SeqCst);
        for index in 0..keys.len() {
            self.step(index).await;
        }
        vec![Ok(true); keys.len()]
    }

    fn progress(&self) -> u64 {
        self.moved.load(SeqCst)
    }
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|key| key.to_string()).collect()
}

async fn over(backend: &Trickle) -> Cache<String> {
    text().build(backend.clone()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_batch_takes_as_long_as_its_answers_keep_coming() {
    let cache = over(&Trickle::new(Duration::from_millis(400), usize::MAX)).await;
    let began = Instant::now();
    let keys = keys(20);
    assert_eq!(ends_late(cache.get_many(&keys)).await.unwrap().len(), 20);
    ends_late(cache.set_many(keys.iter().map(|key| (key.clone(), "v".to_owned())))).await.unwrap();
    assert_eq!(ends_late(cache.delete_many(&keys)).await.unwrap(), 20);
    assert!(began.elapsed() >= Duration::from_secs(24), "far beyond the operation timeout of 500 ms");
}

/// Fails instead of hanging, for what takes a while of paused time.
async fn ends_late<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), future).await.expect("the call ends")
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_stalls_ends_one_timeout_later_and_keeps_what_has_come() {
    let backend = Trickle::new(Duration::from_millis(10), 7);
    let cache = over(&backend).await;
    let began = Instant::now();
    let keys = keys(600);
    let found = ends(cache.get_each(&keys)).await;
    // Its two parts went together, and each was answered seven times.
    let came: Vec<usize> = (0..600).filter(|&index| found[index].is_ok()).collect();
    assert_eq!(came, (0..7).chain(512..519).collect::<Vec<_>>());
    assert!(found.iter().flat_map(|found| found.as_ref().err()).all(|error| error.kind() == ErrorKind::Timeout));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(500) && took <= Duration::from_millis(1600), "{took:?}");
    assert!((0..7).all(|key| cache.get_if_local(key.to_string()).is_some()), "what has come is a local copy");
    assert_eq!(backend.calls.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_reads_that_stalls_asks_for_no_more() {
    let backend = Trickle::new(Duration::from_millis(10), 0);
    let cache = over(&backend).await;
    let began = Instant::now();
    let found = ends(cache.get_each(&keys(10_000))).await;
    assert_eq!(began.elapsed().as_millis(), 500, "one deadline for the call");
    assert!(found.iter().all(|found| found.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout)));
    assert!(backend.calls.load(SeqCst) <= 4);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_writes_that_stalls_says_what_was_sent_and_sends_no_more() {
    let backend = Trickle::new(Duration::from_millis(10), 0);
    let cache = over(&backend).await;
    let began = Instant::now();
    let items = keys(10_000).into_iter().map(|key| (key, "v".to_owned()));
    let written = ends(cache.set_each(items)).await;
    assert_eq!(began.elapsed().as_millis(), 500, "one deadline for the call");
    let sent = written.iter().filter(|outcome| outcome.as_ref().is_err_and(Error::may_have_executed)).count();
    assert_eq!(sent, 512 * backend.calls.load(SeqCst), "what went, and nothing else, may have been executed");
    assert!(sent <= 4 * 512 && written.iter().all(Result::is_err), "{sent}");
    let deleted = ends(cache.delete_each(&keys(10_000))).await;
    assert!(deleted.iter().all(Result::is_err));
    assert!(backend.calls.load(SeqCst) <= 8);
}
