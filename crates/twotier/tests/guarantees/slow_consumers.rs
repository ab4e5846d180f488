//! I6 for permits: a future that is kept and not polled holds up nobody but itself.

use std::{pin::Pin, time::Duration};

use futures_util::{FutureExt, StreamExt, future::join_all, poll, stream, stream::FuturesUnordered};
use tokio::time::Instant;
use twotier::{Cache, FaultyBackend, MemoryBackend};

use crate::support::{ends, text};

const ROUND_TRIP: Duration = Duration::from_millis(20);

/// A cache that may have a few keys under way, a round trip away from its store.
async fn distant(max_in_flight: usize) -> Cache<String> {
    let faulty = FaultyBackend::new(MemoryBackend::new());
    faulty.faults().latency(ROUND_TRIP);
    text().max_in_flight(max_in_flight).build(faulty).await.unwrap()
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|key| format!("k{key}")).collect()
}

/// Reads somebody else's keys for a while; returns the longest time that one took.
async fn others(cache: &Cache<String>) -> Duration {
    let mut longest = Duration::ZERO;
    for number in 0..50 {
        let began = Instant::now();
        ends(cache.get(format!("other{number}"))).await.unwrap();
        longest = longest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    longest
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_of_many_reads_slows_nobody_else_down() {
    let quiet = others(&distant(64).await).await;
    for which in ["unordered", "buffered", "joined"] {
        let cache = distant(64).await;
        let job = cache.clone();
        tokio::spawn(async move {
            let keys = keys(200);
            let mut reads: Pin<Box<dyn stream::Stream<Item = ()> + Send + '_>> = match which {
                "unordered" => {
                    let reads: FuturesUnordered<_> = keys.iter().map(|key| job.get(key).map(drop)).collect();
                    Box::pin(reads)
                }
                "buffered" => Box::pin(stream::iter(&keys).map(|key| job.get(key).map(drop)).buffered(200)),
                _ => Box::pin(stream::once(join_all(keys.iter().map(|key| job.get(key))).map(drop))),
            };
            while reads.next().await.is_some() {
                // It does something with each.
                tokio::time::sleep(ROUND_TRIP).await;
            }
        });
        // What it asked for is answered by then.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let slowest = others(&cache).await;
        assert!(slowest <= 2 * quiet, "{which}: {slowest:?}, quiet {quiet:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_polled_once_and_then_kept_give_their_permits_back() {
    let cache = distant(4).await;
    let batch = keys(4);
    let other_batch: Vec<String> = (0..4).map(|key| format!("m{key}")).collect();
    // As many of each kind as there are permits.
    let (written, deleted) = (["s0", "s1", "s2", "s3"], ["d0", "d1", "d2", "d3"]);
    let mut kept: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
    for key in &batch {
        kept.push(Box::pin(cache.get(key).map(drop)));
    }
    kept.push(Box::pin(cache.get_many(&other_batch).map(drop)));
    for (written, deleted) in written.into_iter().zip(deleted) {
        kept.push(Box::pin(cache.set(written, "v".to_owned()).map(drop)));
        kept.push(Box::pin(cache.delete(deleted).map(drop)));
    }
    kept.push(Box::pin(cache.set_many(written.map(|key| (key, "v".to_owned()))).map(drop)));
    kept.push(Box::pin(cache.delete_many(&deleted).map(drop)));
    kept.push(Box::pin(cache.update("u", |_| Some("v".to_owned())).map(drop)));
    kept.push(Box::pin(cache.get_or_load("l", async |_| Err::<String, _>("no")).map(drop)));
    for call in &mut kept {
        assert!(poll!(call.as_mut()).is_pending());
    }
    for key in ["a", "b", "c"] {
        ends(cache.get(key)).await.unwrap();
        ends(cache.set(key, "w".to_owned())).await.unwrap();
    }
    // Nobody who asks for the same keys is held up either.
    for key in &batch {
        ends(cache.get(key)).await.unwrap();
    }
    ends(cache.get_many(&other_batch)).await.unwrap();
    for call in kept {
        ends(call).await;
    }
}
