//! The measurement that the original system made: writes, then two passes over what was written.

use serde::Serialize;
use twotier::Cache;

use crate::{
    Result,
    commands::Commands,
    progress::Progress,
    spread::Spread,
    stage::{Local, Regime, Stage},
    stopwatch::Stopwatch,
};

/// The passes over all keys.
const PASSES: u32 = 2;
/// The size of each value, in bytes.
const VALUE: usize = 100;

/// What one regime came to.
#[derive(Clone, Debug, Serialize)]
pub struct Original {
    /// The regime, for a table.
    pub name: String,
    /// The regime, for machines.
    pub regime: Regime,
    /// How many keys were written, and read in each of two passes.
    pub keys: usize,
    /// Without the local tier.
    pub off: Variant,
    /// With it.
    pub on: Variant,
    /// The share of the reads' time that it saved, by repetition.
    pub saved_reads: Spread,
    /// The share of the whole time that it saved, by repetition.
    pub saved_total: Spread,
}

/// What one variant came to; times are in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Variant {
    /// All writes.
    pub writes: Spread,
    /// Both passes.
    pub reads: Spread,
    /// The mean of one read, by repetition.
    pub read: Spread,
    /// Writes and reads.
    pub total: Spread,
    /// What the server counted for the writes of one repetition, where there is a server.
    pub write_commands: Option<Commands>,
    /// What the server counted for the reads of one repetition, where there is a server.
    pub read_commands: Option<Commands>,
    /// How many reads of one repetition the cache sent to its backend.
    pub backend_reads: u64,
}

/// One repetition of one variant.
struct Run {
    writes: f64,
    reads: f64,
    write_commands: Option<Commands>,
    read_commands: Option<Commands>,
    backend_reads: u64,
}

/// Measures one regime, the variants taking turns.
///
/// # Errors
///
/// When the backend fails, a value does not come back, or the local tier lets a read through.
pub async fn measure(stage: &Stage, keys: usize, repetitions: usize, progress: &Progress) -> Result<Original> {
    let names: Vec<String> = (0..keys).map(|key| format!("key-{key}")).collect();
    let value = "v".repeat(VALUE);
    let namespace = format!("twotier-bench-{}-original", std::process::id());
    let off = stage.cache(&namespace, Local::Off).await?;
    let on = stage.cache(&namespace, Local::Entries(500)).await?;
    // The first command of a connection pays for more than itself.
    off.set(&names[0], value.clone()).await?;
    on.set(&names[0], value.clone()).await?;

    progress.step(&format!(
        "{}: {keys} writes and {PASSES} passes of {keys} reads, without and with the local tier, n = {repetitions}",
        stage.name()
    ));
    let (mut runs_off, mut runs_on) = (Vec::new(), Vec::new());
    for repetition in 1..=repetitions {
        progress.detail(&format!("{}: repetition {repetition} of {repetitions}", stage.name()));
        on.clear_local();
        // Whoever comes second finds a server and processors that are awake, so they take turns at that too.
        if repetition % 2 == 1 {
            runs_off.push(run(stage, &off, &names, &value).await?);
            runs_on.push(run(stage, &on, &names, &value).await?);
        } else {
            runs_on.push(run(stage, &on, &names, &value).await?);
            runs_off.push(run(stage, &off, &names, &value).await?);
        }
    }
    off.clear().await?;
    off.close().await;
    on.close().await;

    let reads = u64::from(PASSES) * keys as u64;
    check(&runs_off, "without the local tier", reads)?;
    check(&runs_on, "with the local tier", 0)?;

    let share = |part: fn(&Run) -> f64| {
        Spread::of(runs_off.iter().zip(&runs_on).map(|(off, on)| 1.0 - part(on) / part(off))).ok_or("nothing was run")
    };
    Ok(Original {
        name: stage.name(),
        regime: stage.regime(),
        keys,
        saved_reads: share(|run| run.reads)?,
        saved_total: share(|run| run.writes + run.reads)?,
        off: sum_up(runs_off, keys).ok_or("nothing was run")?,
        on: sum_up(runs_on, keys).ok_or("nothing was run")?,
    })
}

async fn run(stage: &Stage, cache: &Cache<String>, keys: &[String], value: &str) -> Result<Run> {
    let start = stage.commands()?;
    let clock = Stopwatch::start();
    for key in keys {
        cache.set(key, value.to_owned()).await?;
    }
    let writes = clock.seconds();

    let written = stage.commands()?;
    let reads_before = cache.stats().backend.reads;
    let clock = Stopwatch::start();
    let mut found = 0;
    for _ in 0..PASSES {
        for key in keys {
            found += usize::from(cache.get(key).await?.is_some());
        }
    }
    let reads = clock.seconds();
    if found != keys.len() * PASSES as usize {
        return Err(format!("of {} reads only {found} found the value", keys.len() * PASSES as usize).into());
    }
    let read = stage.commands()?;
    let between = |earlier: &Option<Commands>, later: &Option<Commands>| Some(later.as_ref()?.since(earlier.as_ref()?));
    Ok(Run {
        writes,
        reads,
        write_commands: between(&start, &written),
        read_commands: between(&written, &read),
        backend_reads: cache.stats().backend.reads - reads_before,
    })
}

/// Each read goes to the backend, or none: a time is worth nothing if the wrong thing was timed.
fn check(runs: &[Run], which: &str, expected: u64) -> Result<()> {
    match runs.iter().find(|run| run.backend_reads != expected) {
        None => Ok(()),
        Some(run) => Err(format!("{which}: {} backend reads, not {expected}", run.backend_reads).into()),
    }
}

#[allow(clippy::cast_precision_loss, reason = "there are some hundreds of keys")]
fn sum_up(mut runs: Vec<Run>, keys: usize) -> Option<Variant> {
    let spread = |part: &dyn Fn(&Run) -> f64| Spread::of(runs.iter().map(part));
    let (writes, reads) = (spread(&|run| run.writes)?, spread(&|run| run.reads)?);
    let read = spread(&|run| run.reads / (keys as f64 * f64::from(PASSES)))?;
    let total = spread(&|run| run.writes + run.reads)?;
    let Run { write_commands, read_commands, backend_reads, .. } = runs.pop()?;
    Some(Variant { writes, reads, read, total, write_commands, read_commands, backend_reads })
}
