//! The six scenarios: what a cache must do, asserted by counts and never by times.
//!
//! Counts are the cache's own statistics and, where there is a private server, the commands that it counted.

use std::fmt::Debug;

use serde::Serialize;
use tokio::task::JoinSet;
use twotier::Cache;

use crate::{
    Result,
    stage::{Local, Stage},
};

/// One of the six.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// The local tier is off.
    Disabled,
    /// The local tier is empty.
    Cold,
    /// The local tier was warmed.
    Warm,
    /// The local tier is full.
    Eviction,
    /// The local tier is cleared.
    Clear,
    /// The counters, with many tasks at once.
    Statistics,
}

/// How a scenario ended on one stage.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Which one.
    pub scenario: Scenario,
    /// Where.
    pub stage: String,
    /// What did not hold; `None` if everything did.
    pub broken: Option<String>,
}

/// Plays every scenario on a stage.
pub async fn play(stage: &Stage, keys: usize) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for scenario in Scenario::ALL {
        let play = Play::new(stage, scenario, keys);
        let outcome = scenario.play(&play).await;
        let outcome = outcome.and(play.clean().await);
        let broken = outcome.err().map(|error| error.to_string());
        verdicts.push(Verdict { scenario, stage: stage.name(), broken });
    }
    verdicts
}

impl Scenario {
    /// All of them, in the order in which they are played.
    pub const ALL: [Self; 6] = [Self::Disabled, Self::Cold, Self::Warm, Self::Eviction, Self::Clear, Self::Statistics];

    /// Names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Eviction => "eviction",
            Self::Clear => "clear",
            Self::Statistics => "statistics",
        }
    }

    /// Returns what must hold.
    #[must_use]
    pub fn expectation(self) -> &'static str {
        match self {
            Self::Disabled => "off: each read is one backend read; nothing held, no hit or miss counted",
            Self::Cold => "the first read of each key misses and fills, the second is a hit",
            Self::Warm => "a few round trips bring every key; then all reads are hits, with no command",
            Self::Eviction => "the least recently used goes; 501 keys in the default tier leave 500",
            Self::Clear => "only the local tier is cleared, the counters stay; the next read refills",
            Self::Statistics => "known hits and misses from 8 tasks at once are counted exactly",
        }
    }

    async fn play(self, play: &Play<'_>) -> Result<()> {
        match self {
            Self::Disabled => disabled(play).await,
            Self::Cold => cold(play).await,
            Self::Warm => warm(play).await,
            Self::Eviction => eviction(play).await,
            Self::Clear => clear(play).await,
            Self::Statistics => statistics(play).await,
        }
    }
}

async fn disabled(play: &Play<'_>) -> Result<()> {
    let cache = play.cache(Local::Off).await?;
    play.write_all(&cache).await?;
    let reads = play.counted(async {
        play.read_all(&cache).await?;
        play.read_all(&cache).await
    });
    let commands = reads.await?;
    let stats = cache.stats();
    equal("backend reads", stats.backend.reads, 2 * play.count())?;
    if let Some(commands) = commands {
        equal("GET commands at the server", commands.gets, 2 * play.count())?;
    }
    equal("local tier enabled", stats.local.enabled, false)?;
    equal("entries", stats.local.size, 0)?;
    equal("hits and misses", stats.local.total_requests(), 0)
}

async fn cold(play: &Play<'_>) -> Result<()> {
    play.write_elsewhere().await?;
    let cache = play.cache(play.room()).await?;
    let first = play.counted(play.read_all(&cache)).await?;
    let stats = cache.stats();
    equal("hits of the first pass", stats.local.hits, 0)?;
    equal("misses of the first pass", stats.local.misses, play.count())?;
    equal("backend reads of the first pass", stats.backend.reads, play.count())?;
    equal("entries after the first pass", stats.local.size, play.keys.len())?;
    let second = play.counted(play.read_all(&cache)).await?;
    let stats = cache.stats();
    equal("hits of the second pass", stats.local.hits, play.count())?;
    equal("backend reads after the second pass", stats.backend.reads, play.count())?;
    if let (Some(first), Some(second)) = (first, second) {
        equal("GET commands of the first pass", first.gets, play.count())?;
        equal("commands of the second pass", second.all, 0)?;
    }
    Ok(())
}

async fn warm(play: &Play<'_>) -> Result<()> {
    play.write_elsewhere().await?;
    let cache = play.cache(play.room()).await?;
    equal("keys warmed", cache.warm(&play.keys).await?, play.keys.len())?;
    let warmed = cache.stats();
    at_most("backend reads of the warm-up", warmed.backend.reads, 5)?;
    equal("entries", warmed.local.size, play.keys.len())?;
    let commands = play.counted(play.read_all(&cache)).await?;
    let stats = cache.stats();
    equal("hits", stats.local.hits, play.count())?;
    equal("misses", stats.local.misses, 0)?;
    equal("backend reads after the warm-up", stats.backend.reads, warmed.backend.reads)?;
    if let Some(commands) = commands {
        equal("commands of the reads", commands.all, 0)?;
    }
    Ok(())
}

async fn eviction(play: &Play<'_>) -> Result<()> {
    let three = play.cache(Local::Entries(3)).await?;
    for key in ["a", "b", "c"] {
        three.set(key, play.value.clone()).await?;
    }
    three.set("b", play.value.clone()).await?;
    three.set("c", play.value.clone()).await?;
    equal("evictions by overwriting", three.stats().local.evictions(), 0)?;
    equal("`a` is there", three.get("a").await?.is_some(), true)?;
    three.set("d", play.value.clone()).await?;
    equal("evictions by the fourth key", three.stats().local.evictions(), 1)?;
    equal("entries", three.stats().local.size, 3)?;
    let held = ["a", "b", "c", "d"].map(|key| three.get_if_local(key).is_some());
    equal("which of a, b, c, d are held", held, [true, false, true, true])?;

    let default = play.cache(Local::Entries(500)).await?;
    for key in 0..501 {
        default.set(&format!("of-501-{key}"), play.value.clone()).await?;
    }
    equal("entries of 501 keys", default.stats().local.size, 500)?;
    equal("evictions of 501 keys", default.stats().local.evictions(), 1)
}

async fn clear(play: &Play<'_>) -> Result<()> {
    let cache = play.cache(play.room()).await?;
    play.write_all(&cache).await?;
    play.read_all(&cache).await?;
    let before = cache.stats().local;
    equal("entries cleared", cache.clear_local(), play.keys.len())?;
    let after = cache.stats().local;
    equal("entries left", after.size, 0)?;
    equal("hits still counted", after.hits, before.hits)?;
    play.read_all(&play.cache(Local::Off).await?).await?;
    let backend_reads = cache.stats().backend.reads;
    play.read_all(&cache).await?;
    equal("misses that refill", cache.stats().local.misses - after.misses, play.count())?;
    equal("backend reads that refill", cache.stats().backend.reads - backend_reads, play.count())?;
    play.read_all(&cache).await?;
    equal("hits after the refill", cache.stats().local.hits - after.hits, play.count())
}

/// Each task writes keys of its own (no read), reads each twice (hits), then reads keys that nobody wrote (misses).
async fn statistics(play: &Play<'_>) -> Result<()> {
    const TASKS: u64 = 8;
    const PRESENT: u64 = 25;
    const ABSENT: u64 = 10;
    let cache = play.cache(play.room()).await?;
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    for task in 0..TASKS {
        let (cache, value) = (cache.clone(), play.value.clone());
        tasks.spawn(async move {
            for key in 0..PRESENT {
                let key = format!("present-{task}-{key}");
                cache.set(&key, value.clone()).await?;
                equal("first read", cache.get(&key).await?.is_some(), true)?;
                equal("second read", cache.get(&key).await?.is_some(), true)?;
            }
            for key in 0..ABSENT {
                equal("read of nothing", cache.get(format!("absent-{task}-{key}")).await?.is_some(), false)?;
            }
            Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    let stats = cache.stats();
    equal("hits", stats.local.hits, TASKS * PRESENT * 2)?;
    equal("misses", stats.local.misses, TASKS * ABSENT)?;
    equal("insertions evicted", stats.local.evictions(), 0)?;
    // Misses that come together are one call: one for each task at a time, at least one for each key of a task.
    let calls = stats.backend.reads;
    equal("backend reads that add up", (ABSENT..=TASKS * ABSENT).contains(&calls), true)?;
    equal("backend writes", stats.backend.writes, TASKS * PRESENT)?;
    equal("hit rate, in tenths of a percent", format!("{:.1}", stats.local.hit_rate()), "83.3".to_owned())
}

/// What a scenario is played with.
struct Play<'s> {
    stage: &'s Stage,
    namespace: String,
    keys: Vec<String>,
    value: String,
}

/// Commands of one step.
struct Counted {
    gets: u64,
    all: u64,
}

impl<'s> Play<'s> {
    fn new(stage: &'s Stage, scenario: Scenario, keys: usize) -> Self {
        Self {
            stage,
            namespace: format!("twotier-bench-{}-{}", std::process::id(), scenario.name()),
            keys: (0..keys).map(|key| format!("key-{key}")).collect(),
            value: "value".to_owned(),
        }
    }

    fn count(&self) -> u64 {
        self.keys.len() as u64
    }

    /// Room for every key of any scenario.
    fn room(&self) -> Local {
        Local::Entries(self.keys.len().max(1000))
    }

    async fn cache(&self, local: Local) -> Result<Cache<String>> {
        self.stage.cache(&self.namespace, local).await
    }

    async fn write_all(&self, cache: &Cache<String>) -> Result<()> {
        for key in &self.keys {
            cache.set(key, self.value.clone()).await?;
        }
        Ok(())
    }

    /// Writes every key by another instance.
    async fn write_elsewhere(&self) -> Result<()> {
        let other = self.cache(Local::Off).await?;
        self.write_all(&other).await?;
        other.close().await;
        Ok(())
    }

    async fn read_all(&self, cache: &Cache<String>) -> Result<()> {
        for key in &self.keys {
            let value = cache.get(key).await?;
            equal("value read", value.as_deref(), Some(&self.value))?;
        }
        Ok(())
    }

    /// Takes a step and returns the commands that the server counted meanwhile, if it is all ours.
    async fn counted(&self, step: impl Future<Output = Result<()>>) -> Result<Option<Counted>> {
        let before = self.stage.commands()?;
        step.await?;
        let after = self.stage.commands()?;
        let (Some(before), Some(after), true) = (before, after, self.stage.counts_are_ours()) else {
            return Ok(None);
        };
        let commands = after.since(&before);
        Ok(Some(Counted { gets: commands.calls("get") + commands.calls("mget"), all: commands.total() }))
    }

    async fn clean(&self) -> Result<()> {
        self.cache(Local::Off).await?.clear().await?;
        Ok(())
    }
}

fn equal<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<()> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, not {expected:?}").into()) }
}

fn at_most(what: &str, found: u64, bound: u64) -> Result<()> {
    if found <= bound { Ok(()) } else { Err(format!("{what}: {found}, more than {bound}").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_scenario_holds_in_memory() {
        for verdict in play(&Stage::in_memory(), 20).await {
            assert_eq!(verdict.broken, None, "{}", verdict.scenario.name());
        }
    }

    #[test]
    fn what_does_not_hold_is_said_with_both_numbers() {
        assert_eq!(equal("hits", 3, 4).unwrap_err().to_string(), "hits: 3, not 4");
        assert_eq!(at_most("reads", 6, 5).unwrap_err().to_string(), "reads: 6, more than 5");
    }
}
