//! What the whole cache costs a hit, beside the bare local tier.

use std::{fmt, hint::black_box, sync::Arc, time::Duration};

use serde::Serialize;
use twotier::{Cache, ChangeListener, Error, Lease, MemoryBackend, Namespace, SystemClock};
use twotier_local::{Digest, LocalOptions, LocalTier};
use twotier_testkit::trace;

use crate::{Result, machine::Machine, progress::Progress, spread::Spread, stopwatch::Stopwatch, table::Table};

/// Entries held, all of which are hit.
const ENTRIES: usize = 10_000;

/// The cost of a hit by three ways, taking turns in one process.
#[derive(Clone, Debug, Serialize)]
pub struct Hits {
    /// What the numbers are in.
    pub units: &'static str,
    /// What it ran on.
    pub machine: Machine,
    /// How many entries there were.
    pub entries: usize,
    /// How many reads were timed in each repetition.
    pub reads: usize,
    /// One hit, by each way.
    pub ways: Vec<Way>,
}

/// One way to a hit.
#[derive(Clone, Debug, Serialize)]
pub struct Way {
    /// What is called.
    pub name: &'static str,
    /// Seconds for one hit.
    pub hit: Spread,
    /// That, divided by the bare local tier's in the same repetition.
    pub ratio: Spread,
}

/// Measures; one thread, keys drawn by Zipf 0.99 so that some are hot.
///
/// # Errors
///
/// When the cache cannot be built or a read that must hit does not.
pub async fn measure(smoke: bool, progress: &Progress) -> Result<Hits> {
    let (repetitions, reads) = if smoke { (2, 20_000) } else { (11, 1_000_000) };
    let keys: Vec<String> = (0..ENTRIES).map(|key| format!("key:{key:07}")).collect();
    let mut zipf = trace::Zipf::new(ENTRIES as u64, 0.99, 42);
    let order: Vec<usize> = (0..reads).map(|_| usize::try_from(zipf.draw()).unwrap_or(0)).collect();

    let builder = Cache::<String>::builder().namespace("hits").max_entries(4 * ENTRIES).local_time_to_live(HOUR);
    let cache = builder.build(MemoryBackend::new()).await?;
    let options = LocalOptions::new(4 * ENTRIES, 8000 * ENTRIES, Duration::from_secs(2));
    let bare: LocalTier<Option<Arc<String>>, Error> =
        LocalTier::new(Namespace::new("hits")?, options, Arc::new(SystemClock::new()));
    bare.link_up(Lease::Unlimited);
    for key in &keys {
        cache.set(key, "value".to_owned()).await?;
        let kept =
            bare.begin_write(key, Digest::of(b"value")).install(Some(Arc::new("value".to_owned())), 5, Some(HOUR));
        if !kept {
            return Err("a value was not kept in a tier that nothing else writes to".into());
        }
    }

    let mut seconds: [Vec<f64>; 3] = Default::default();
    for repetition in 0..repetitions {
        progress.step(&format!("hits, repetition {} of {repetitions}", repetition + 1));
        let mut hits = 0;
        let watch = Stopwatch::start();
        for &key in &order {
            hits += usize::from(black_box(bare.get(&keys[key])).is_some());
        }
        seconds[0].push(watch.seconds());
        let watch = Stopwatch::start();
        for &key in &order {
            hits += usize::from(black_box(cache.get(&keys[key]).await?).is_some());
        }
        seconds[1].push(watch.seconds());
        let watch = Stopwatch::start();
        for &key in &order {
            hits += usize::from(black_box(cache.get_if_local(&keys[key])).is_some());
        }
        seconds[2].push(watch.seconds());
        if hits != 3 * reads {
            return Err(format!("{hits} of {} reads were hits", 3 * reads).into());
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "a count of reads")]
    let one = |total: f64| total / reads as f64;
    let ways = ["LocalTier::get, bare", "Cache::get", "Cache::get_if_local"];
    let ways = ways.into_iter().zip(&seconds).filter_map(|(name, times)| {
        let ratios = times.iter().zip(&seconds[0]).map(|(time, bare)| time / bare);
        Some(Way { name, hit: Spread::of(times.iter().copied().map(one))?, ratio: Spread::of(ratios)? })
    });
    Ok(Hits {
        units: "times in seconds, ratios to the bare local tier, each spread over n repetitions",
        machine: Machine::here(),
        entries: ENTRIES,
        reads,
        ways: ways.collect(),
    })
}

const HOUR: Duration = Duration::from_secs(3600);

impl fmt::Display for Hits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cores, os, rustc, profile, .. } = &self.machine;
        writeln!(f, "twotier: what the whole cache costs a hit\n")?;
        writeln!(f, "  machine   {cpu}, {cores} cores, {os}")?;
        writeln!(f, "  build     {rustc}, {profile}")?;
        writeln!(
            f,
            "  figures   median (least..greatest); {} reads a repetition, all hits, Zipf 0.99 over {} entries, one thread\n",
            self.reads, self.entries
        )?;
        let mut table = Table::new(&["<way", "n", "one hit", "to the bare tier"]);
        for Way { name, hit, ratio } in &self.ways {
            table.row([
                (*name).to_owned(),
                hit.n.to_string(),
                format!("{:.1} ns ({:.1}..{:.1})", hit.median * 1e9, hit.min * 1e9, hit.max * 1e9),
                format!("{:.2} ({:.2}..{:.2})", ratio.median, ratio.min, ratio.max),
            ]);
        }
        write!(f, "{table}")
    }
}
