//! Real access traces, replayed through the whole cache.
//!
//! Every key of the trace is in the backend beforehand; each access is one `get`, in order, from one task, cold start.
//! So a miss is one round trip and fills the local tier, as in the replay that the reference ratios come from.

use std::collections::HashMap;

use serde::Serialize;
use twotier::Cache;
use twotier_testkit::trace::{self, Reference};

use crate::{
    Result,
    format::thousands,
    progress::Progress,
    spread::Spread,
    stage::{FAR, Local, Regime, Stage},
    stopwatch::Stopwatch,
};

/// The size of each value, in bytes.
const VALUE: usize = 100;
/// Keys are written in batches of this many.
const BATCH: usize = 512;

/// The replay of one trace, or of its beginning, on one stage.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The trace's name, and its file's.
    pub trace: &'static str,
    /// How many accesses to take; `None` is all of them.
    pub first: Option<usize>,
    /// How often at most.
    pub repetitions: usize,
    /// No further repetition starts once this many seconds have passed.
    pub seconds: f64,
    /// Whether to replay without a local tier as well, for the time it saves.
    pub without_local: bool,
}

/// What the replay of one trace at one capacity came to.
#[derive(Clone, Debug, Serialize)]
pub struct Replay {
    /// The trace's name.
    pub trace: String,
    /// The stage, for a table.
    pub stage: String,
    /// The stage, for machines.
    pub regime: Regime,
    /// Accesses replayed.
    pub accesses: usize,
    /// Accesses of the whole trace.
    pub of: usize,
    /// Distinct keys among those replayed.
    pub keys: usize,
    /// Entries of the local tier.
    pub capacity: usize,
    /// What the capacity is of the keys of the whole trace, as a share.
    pub capacity_share: f64,
    /// Reads answered locally.
    pub hits: u64,
    /// Their share.
    pub hit_ratio: f64,
    /// Exact LRU's share, by a simulator; only for a whole trace.
    pub lru: Option<f64>,
    /// The greatest share there can be (Belady), by a simulator; only for a whole trace.
    pub optimum: Option<f64>,
    /// Round trips that were made.
    pub round_trips: u64,
    /// Round trips saved, one for each hit.
    pub round_trips_saved: u64,
    /// Seconds with the local tier.
    pub seconds: Spread,
    /// Seconds without it, where that was replayed too.
    pub seconds_without: Option<Spread>,
    /// The share of the time that the local tier saved, by repetition.
    pub saved: Option<Spread>,
    /// Computed, not measured: the seconds that the saved round trips would have taken at [`FAR`].
    pub computed_seconds_saved_far: f64,
}

/// A trace with its keys as the cache takes them.
struct Trace {
    name: &'static str,
    keys: Vec<String>,
    /// Indices into `keys`.
    accesses: Vec<usize>,
    whole: usize,
    keys_of_whole: usize,
}

/// Reads what simulators reach on the stored traces.
///
/// # Errors
///
/// When the table cannot be read.
pub fn reference() -> Result<Vec<Reference>> {
    Ok(Reference::read(&trace::folder().join("reference.csv"))?)
}

/// Replays one trace at 500 entries and at 5 % of its keys; the variants take turns.
///
/// # Errors
///
/// When the trace cannot be read, the backend fails, a key is not found, or the counts contradict each other.
pub async fn run(stage: &Stage, plan: Plan, reference: &[Reference], progress: &Progress) -> Result<Vec<Replay>> {
    let trace = Trace::load(plan)?;
    let namespace = format!("twotier-bench-{}-{}", std::process::id(), trace.name);
    let capacities = [500, five_percent(trace.keys_of_whole)];
    progress.step(&format!(
        "{}: writing {} keys, then replaying {}",
        stage.name(),
        thousands(trace.keys.len() as u64),
        trace.title()
    ));
    fill(&stage.cache(&namespace, Local::Off).await?, &trace.keys).await?;

    let mut without = Vec::new();
    let mut with = [Vec::new(), Vec::new()];
    let clock = Stopwatch::start();
    for repetition in 1..=plan.repetitions {
        if repetition > 1 && clock.seconds() > plan.seconds {
            break;
        }
        progress.detail(&format!("{}: repetition {repetition}, as time allows", stage.name()));
        if plan.without_local {
            without.push(once(stage, &namespace, Local::Off, &trace).await?);
        }
        for (runs, capacity) in with.iter_mut().zip(capacities) {
            runs.push(once(stage, &namespace, Local::Entries(capacity), &trace).await?);
        }
    }
    stage.cache(&namespace, Local::Off).await?.clear().await?;

    let mut replays = Vec::new();
    for (runs, capacity) in with.iter().zip(capacities) {
        replays.push(trace.sum_up(stage, capacity, runs, &without, reference)?);
    }
    Ok(replays)
}

/// One replay.
#[derive(Clone, Copy)]
struct Run {
    seconds: f64,
    hits: u64,
    round_trips: u64,
}

async fn once(stage: &Stage, namespace: &str, local: Local, trace: &Trace) -> Result<Run> {
    let cache = stage.cache(namespace, local).await?;
    let mut found = 0;
    let clock = Stopwatch::start();
    for &key in &trace.accesses {
        found += usize::from(cache.get(&trace.keys[key]).await?.is_some());
    }
    let seconds = clock.seconds();
    let stats = cache.stats();
    cache.close().await;
    if found != trace.accesses.len() {
        return Err(format!("{}: of {} accesses only {found} found their key", trace.name, trace.accesses.len()).into());
    }
    let (hits, round_trips) = (stats.local.hits, stats.backend.reads);
    if hits + round_trips != trace.accesses.len() as u64 {
        let accesses = trace.accesses.len();
        return Err(
            format!("{}: {hits} hits and {round_trips} round trips are not {accesses} accesses", trace.name).into()
        );
    }
    Ok(Run { seconds, hits, round_trips })
}

async fn fill(cache: &Cache<String>, keys: &[String]) -> Result<()> {
    let value = "v".repeat(VALUE);
    for batch in keys.chunks(BATCH) {
        cache.set_many(batch.iter().map(|key| (key.as_str(), value.clone()))).await?;
    }
    cache.close().await;
    Ok(())
}

impl Trace {
    fn load(plan: Plan) -> Result<Self> {
        let all = trace::load(&trace::folder().join(format!("{}.u64.zst", plan.trace)))?;
        let mut keys = Vec::new();
        let mut index = HashMap::new();
        let mut accesses = Vec::with_capacity(all.len());
        for &key in &all {
            accesses.push(*index.entry(key).or_insert_with(|| {
                keys.push(key.to_string());
                keys.len() - 1
            }));
        }
        let (whole, keys_of_whole) = (accesses.len(), keys.len());
        // Keys are numbered by their first access, so those of the beginning come first.
        accesses.truncate(plan.first.unwrap_or(whole));
        keys.truncate(accesses.iter().max().map_or(0, |last| last + 1));
        Ok(Self { name: plan.trace, keys, accesses, whole, keys_of_whole })
    }

    fn is_whole(&self) -> bool {
        self.accesses.len() == self.whole
    }

    fn title(&self) -> String {
        if self.is_whole() {
            format!("all {} accesses of {}", thousands(self.whole as u64), self.name)
        } else {
            format!("the first {} accesses of {}", thousands(self.accesses.len() as u64), self.name)
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "no count here comes near 52 bits")]
    fn sum_up(
        &self,
        stage: &Stage,
        capacity: usize,
        runs: &[Run],
        without: &[Run],
        reference: &[Reference],
    ) -> Result<Replay> {
        let last = runs.last().ok_or("nothing was replayed")?;
        let ratio = |policy: &str| {
            let row = |row: &&Reference| row.trace == self.name && row.capacity == capacity && row.policy == policy;
            let row = reference.iter().find(row).filter(|_| self.is_whole())?;
            Some(row.hits as f64 / row.accesses as f64)
        };
        Ok(Replay {
            trace: self.name.to_owned(),
            stage: stage.name(),
            regime: stage.regime(),
            accesses: self.accesses.len(),
            of: self.whole,
            keys: self.keys.len(),
            capacity,
            capacity_share: capacity as f64 / self.keys_of_whole as f64,
            hits: last.hits,
            hit_ratio: last.hits as f64 / self.accesses.len() as f64,
            lru: ratio("LRU"),
            optimum: ratio("OPT"),
            round_trips: last.round_trips,
            round_trips_saved: last.hits,
            seconds: Spread::of(runs.iter().map(|run| run.seconds)).ok_or("nothing was replayed")?,
            seconds_without: Spread::of(without.iter().map(|run| run.seconds)),
            saved: Spread::of(runs.iter().zip(without).map(|(with, without)| 1.0 - with.seconds / without.seconds)),
            computed_seconds_saved_far: last.hits as f64 * FAR.as_secs_f64(),
        })
    }
}

/// Returns 5 % of the keys, rounded as in the reference table.
fn five_percent(keys: usize) -> usize {
    (keys + 10) / 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_percent_is_rounded_as_in_the_reference_table() {
        assert_eq!(five_percent(13_756), 688);
        assert_eq!(five_percent(76_349), 3_817);
    }
}
