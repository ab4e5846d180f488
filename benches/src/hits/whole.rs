//! What the whole cache costs a hit: beside the bare local tier, and beside other ways to put a cache in front of a
//! server.

#[cfg(feature = "peers")]
mod by_hand;

use std::{hint::black_box, sync::Arc, time::Duration};

use serde::Serialize;
use twotier::{Cache, ChangeListener, Error, Lease, LinkId, MemoryBackend, Namespace, RedisBackend, SystemClock};
use twotier_local::{Digest, LocalOptions, LocalTier};
use twotier_testkit::trace;

use super::bare::shown;
use crate::{
    Result, cpu::Attention, format::times, progress::Progress, server::Server, sheet::Sheet, spread::Spread,
    stopwatch::Stopwatch, table::Table,
};

/// Entries held, all of which are hit.
const ENTRIES: usize = 10_000;
/// What ratios are taken to.
const BARE: &str = "LocalTier::get, bare";
/// What is measured.
pub(super) const CACHE: &str = "Cache::get, in memory";
/// The other way to a hit without a wait.
const IF_LOCAL: &str = "Cache::get_if_local, in memory";
/// The whole cache over a server.
const CACHE_ON_SERVER: &str = "Cache::get, on a server";
/// A way by others.
pub(super) const REDIS_RS: &str = "redis-rs, client-side cache";
/// A way by hand.
pub(super) const MOKA_BY_HAND: &str = "moka::future + redis by hand";
/// A way by hand.
#[cfg(feature = "peers")]
const QUICK_CACHE_BY_HAND: &str = "quick_cache + redis by hand";

const NAMESPACE: &str = "twotier-bench-hits";
const HOUR: Duration = Duration::from_secs(3600);

/// One way to a hit.
#[derive(Clone, Debug, Serialize)]
pub struct Way {
    /// What is called.
    pub name: &'static str,
    /// Seconds for one hit.
    pub hit: Spread,
    /// That, divided by the bare local tier's in the same repetition.
    pub to_bare: Spread,
    /// That, divided by the whole cache's in the same repetition.
    pub to_cache: Spread,
    /// How many repetitions were thrown away because something else ran.
    pub discarded: usize,
}

/// Keys, and the order in which they are read.
struct Reads {
    keys: Vec<String>,
    order: Vec<usize>,
}

impl Reads {
    fn new(count: usize) -> Self {
        let mut zipf = trace::Zipf::new(ENTRIES as u64, 0.99, 42);
        Self {
            keys: (0..ENTRIES).map(|key| format!("key:{key:07}")).collect(),
            order: (0..count).map(|_| usize::try_from(zipf.draw()).unwrap_or(0)).collect(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(|&key| self.keys[key].as_str())
    }
}

/// Seconds of the repetitions of one way; `None` where it was disturbed each time.
#[derive(Debug, Default)]
struct Timed {
    seconds: Vec<Option<f64>>,
    discarded: usize,
}

/// Times a way that counts its hits, and again if something else ran; every read has to hit.
macro_rules! time {
    ($timed:expr, $reads:expr, $key:ident => $hit:expr) => {{
        let mut seconds = None;
        for _attempt in 0..3 {
            let mut hits = 0;
            let attention = Attention::start();
            let watch = Stopwatch::start();
            for $key in $reads.iter() {
                hits += usize::from($hit);
            }
            let took = watch.seconds();
            let lost = attention.lost();
            if hits != $reads.order.len() {
                return Err(format!("{hits} of {} reads were hits", $reads.order.len()).into());
            }
            if !lost {
                seconds = Some(took);
                break;
            }
            $timed.discarded += 1;
        }
        $timed.seconds.push(seconds);
    }};
}
#[cfg(feature = "peers")]
use time;

/// Measures; one task, keys drawn by Zipf 0.99 so that some are hot.
///
/// # Errors
///
/// When a cache cannot be built or a read that must hit does not.
pub(super) async fn measure(smoke: bool, progress: &Progress, left_out: &mut Vec<String>) -> Result<Vec<Way>> {
    let (repetitions, count) = if smoke { (2, 20_000) } else { (7, 500_000) };
    let reads = Reads::new(count);
    let cache = whole(MemoryBackend::new(), &reads).await?;
    let bare = bare(&reads)?;
    let server = Server::find()?;
    if server.is_none() {
        left_out.push(format!("every way over a server: {}", Server::none()));
    }
    let served = match &server {
        Some(server) => Some(whole(RedisBackend::new(server.url())?, &reads).await?),
        None => None,
    };
    #[cfg(feature = "peers")]
    let others = match &server {
        Some(server) => Some(by_hand::Others::new(server.url(), &reads).await?),
        None => None,
    };
    left_out.push(
        "multi-tier-cache, rustis and cached with client-side caching: each brings a client of its own to build"
            .to_owned(),
    );

    let mut timed: [Timed; 4] = Default::default();
    #[cfg(feature = "peers")]
    let mut timed_others: [Timed; 3] = Default::default();
    for repetition in 0..repetitions {
        progress.step(&format!("the whole cache, repetition {} of {repetitions}", repetition + 1));
        time!(timed[0], reads, key => black_box(bare.get(key)).is_some());
        time!(timed[1], reads, key => black_box(cache.get(key).await?).is_some());
        time!(timed[2], reads, key => black_box(cache.get_if_local(key)).is_some());
        if let Some(served) = &served {
            time!(timed[3], reads, key => black_box(served.get(key).await?).is_some());
        }
        #[cfg(feature = "peers")]
        if let Some(others) = &others {
            others.time(&reads, &mut timed_others).await?;
        }
    }
    if let Some(served) = &served {
        served.clear().await?;
    }

    let names = [BARE, CACHE, IF_LOCAL, CACHE_ON_SERVER];
    let ways = names.into_iter().zip(timed);
    #[cfg(feature = "peers")]
    let ways = ways.chain([REDIS_RS, MOKA_BY_HAND, QUICK_CACHE_BY_HAND].into_iter().zip(timed_others));
    Ok(sum_up(&ways.collect::<Vec<_>>(), count))
}

async fn whole(backend: impl twotier::Backend + 'static, reads: &Reads) -> Result<Cache<String>> {
    let builder = Cache::<String>::builder().namespace(NAMESPACE).max_entries(4 * ENTRIES).local_time_to_live(HOUR);
    let cache = builder.time_to_live(HOUR).build(backend).await?;
    for batch in reads.keys.chunks(1000) {
        cache.set_many(batch.iter().map(|key| (key.as_str(), "value".to_owned()))).await?;
    }
    for key in &reads.keys {
        cache.get(key).await?;
    }
    Ok(cache)
}

fn bare(reads: &Reads) -> Result<LocalTier<Option<Arc<String>>, Error>> {
    let options = LocalOptions::new(4 * ENTRIES, 8000 * ENTRIES, Duration::from_secs(2));
    let bare = LocalTier::new(Namespace::new(NAMESPACE)?, options, Arc::new(SystemClock::new()));
    bare.link_up(LinkId::ONLY, Lease::Unlimited);
    for key in &reads.keys {
        let ticket = bare.begin_write(key, Digest::of(b"value"));
        if !ticket.install(Some(Arc::new("value".to_owned())), 5, Some(HOUR)) {
            return Err("a value was not kept in a tier that nothing else writes to".into());
        }
    }
    Ok(bare)
}

#[allow(clippy::cast_precision_loss, reason = "a count of reads")]
fn sum_up(ways: &[(&'static str, Timed)], count: usize) -> Vec<Way> {
    let ratio = |way: &Timed, to: &Timed| {
        Spread::of(way.seconds.iter().zip(&to.seconds).filter_map(|(way, to)| Some((*way)? / (*to)?)))
    };
    let [bare, cache] = [&ways[0].1, &ways[1].1];
    let sum = |(name, way): &(&'static str, Timed)| {
        Some(Way {
            name,
            hit: Spread::of(way.seconds.iter().flatten().map(|total| total / count as f64))?,
            to_bare: ratio(way, bare)?,
            to_cache: ratio(way, cache)?,
            discarded: way.discarded,
        })
    };
    ways.iter().filter_map(sum).collect()
}

pub(super) fn sheet(ways: &[Way]) -> Sheet {
    let mut table = Table::new(&["<way", "n", "discarded", "one hit", "to the bare tier", "to Cache::get"]);
    for way in ways {
        table.row([
            way.name.to_owned(),
            way.hit.n.to_string(),
            way.discarded.to_string(),
            times(&way.hit),
            shown(Some(&way.to_bare), 1.0),
            shown(Some(&way.to_cache), 1.0),
        ]);
    }
    let notes = vec![
        "Times, so that a greater ratio is slower; every read is a hit (asserted); one task, Zipf 0.99 over 10,000 entries."
            .to_owned(),
        "By hand: `get` from the cache in the process, and after a miss `GET` from the server and insert; nothing tells such a cache of a change."
            .to_owned(),
    ];
    Sheet { title: "the whole cache, beside other ways to put a cache in front of a server".to_owned(), notes, table }
}
