//! What a run came to: tables for a person, and the same figures for machines.

use std::fmt;

use serde::Serialize;

use crate::{
    commands::Commands,
    format::{percent, percents, thousands, time, times},
    machine::Machine,
    original::Original,
    replay::Replay,
    scenarios::{Scenario, Verdict},
    stage::{FAR, Regime},
    table::Table,
};

/// What the numbers of a report are in.
pub const UNITS: &str = "times in seconds, shares and ratios between 0 and 1, each spread over n repetitions";

/// Everything that was found out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the numbers are in.
    pub units: &'static str,
    /// Whether counts were tiny, so that no time means anything.
    pub smoke: bool,
    /// How long it all took, in seconds.
    pub took_seconds: f64,
    /// What it ran on.
    pub machine: Machine,
    /// The server, or why there was none.
    pub server: String,
    /// What was left out, and why.
    pub left_out: Vec<String>,
    /// The original system's measurement.
    pub original: Vec<Original>,
    /// The scenarios.
    pub scenarios: Vec<Verdict>,
    /// The replays.
    pub replays: Vec<Replay>,
}

impl Report {
    /// Returns the scenarios that did not hold.
    pub fn broken(&self) -> impl Iterator<Item = &Verdict> {
        self.scenarios.iter().filter(|verdict| verdict.broken.is_some())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cores, os, rustc, profile, commit } = &self.machine;
        let commit = if commit.is_empty() { String::new() } else { format!(", commit {commit}") };
        writeln!(
            f,
            "twotier: what the local tier saves{}\n",
            if self.smoke { " (smoke run: times mean nothing)" } else { "" }
        )?;
        writeln!(f, "  machine   {cpu}, {cores} cores, {os}")?;
        writeln!(f, "  build     {rustc}, {profile}{commit}")?;
        writeln!(f, "  server    {}", self.server)?;
        writeln!(
            f,
            "  figures   median (least..greatest) of n repetitions; variants take turns; values of 100 bytes as JSON"
        )?;

        if let Some(first) = self.original.first() {
            let keys = first.keys;
            writeln!(f, "\n1  The original measurement: {keys} writes, then two passes of {keys} reads\n")?;
            writeln!(f, "{}", originals(&self.original))?;
            writeln!(
                f,
                "  The original system claimed 0.001 ms a local read against 37 ms, 64 % and 97 % of the time saved."
            )?;
            if let Some(far) = self.original.iter().find(|original| original.regime == Regime::Far) {
                let (on, off) = (time(far.on.read.median), time(far.off.read.median));
                let (total, reads) = (percent(far.saved_total.median), percent(far.saved_reads.median));
                writeln!(f, "  Measured here: {on} against {off}; {total} saved in all, {reads} of the reads.")?;
            }
        }
        writeln!(f, "\n2  Six scenarios, asserted by counts\n")?;
        write!(f, "{}", scenarios(&self.scenarios))?;
        if !self.replays.is_empty() {
            writeln!(f, "\n3  Real traces through the whole cache, one reader, cold start\n")?;
            writeln!(f, "{}", replays(&self.replays))?;
            writeln!(f, "  LRU and optimum: a simulator's hit rates for the whole trace, in one shard.")?;
            writeln!(f, "  Saved at {0} ms: computed, not measured, as round trips saved × {0} ms.", FAR.as_millis())?;
        }
        for what in &self.left_out {
            writeln!(f, "\n!!! left out: {what}")?;
        }
        writeln!(f)?;
        for verdict in self.broken() {
            let broken = verdict.broken.as_deref().unwrap_or_default();
            writeln!(f, "FAILED: scenario `{}`, {}: {broken}", verdict.scenario.name(), verdict.stage)?;
        }
        write!(f, "took {}", time(self.took_seconds))
    }
}

fn originals(originals: &[Original]) -> Table {
    let header = ["<local tier", "writes", "reads", "one read", "in all", "<to write", "<to read"];
    let mut table = Table::new(&header);
    for original in originals {
        table.heading(format!("{} (n = {})", original.name, original.off.total.n));
        for (local, variant) in [("off", &original.off), ("on", &original.on)] {
            let commands = |commands: &Option<Commands>| commands.as_ref().map_or_else(dash, Commands::to_string);
            table.row([
                format!("  {local}"),
                time(variant.writes.median),
                time(variant.reads.median),
                times(&variant.read),
                times(&variant.total),
                commands(&variant.write_commands),
                commands(&variant.read_commands),
            ]);
        }
        table.row([
            "  saved".to_owned(),
            String::new(),
            percent(original.saved_reads.median),
            String::new(),
            percents(&original.saved_total),
            String::new(),
            String::new(),
        ]);
    }
    table
}

fn scenarios(verdicts: &[Verdict]) -> String {
    let mut stages: Vec<&str> = Vec::new();
    for verdict in verdicts {
        if !stages.contains(&verdict.stage.as_str()) {
            stages.push(&verdict.stage);
        }
    }
    let header: Vec<String> = ["scenario", "what holds"].iter().map(|text| format!("<{text}")).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).chain(stages.iter().copied()).collect();
    let mut table = Table::new(&header);
    for scenario in Scenario::ALL {
        let mut cells = vec![scenario.name().to_owned(), scenario.expectation().to_owned()];
        for stage in &stages {
            let verdict = verdicts.iter().find(|verdict| verdict.scenario == scenario && verdict.stage == *stage);
            cells.push(match verdict {
                Some(Verdict { broken: None, .. }) => "ok".to_owned(),
                Some(_) => "FAILED".to_owned(),
                None => "-".to_owned(),
            });
        }
        table.row(cells);
    }
    table.to_string()
}

fn replays(replays: &[Replay]) -> Table {
    let header = [
        "<entries",
        "hit rate",
        "LRU",
        "optimum",
        "round trips",
        "saved",
        "time, off",
        "time, on",
        "saved",
        "saved at 37 ms",
    ];
    let mut table = Table::new(&header);
    let ratio = |ratio: Option<f64>| ratio.map_or_else(dash, |ratio| format!("{:.2} %", ratio * 100.0));
    let mut last = String::new();
    for replay in replays {
        let title = title(replay);
        if title != last {
            table.heading(title.as_str());
            last = title;
        }
        table.row([
            format!("  {} ({} of the keys)", thousands(replay.capacity as u64), percent(replay.capacity_share)),
            ratio(Some(replay.hit_ratio)),
            ratio(replay.lru),
            ratio(replay.optimum),
            thousands(replay.round_trips),
            thousands(replay.round_trips_saved),
            replay.seconds_without.map_or_else(dash, |spread| time(spread.median)),
            time(replay.seconds.median),
            replay.saved.as_ref().map_or_else(dash, percents),
            time(replay.computed_seconds_saved_far),
        ]);
    }
    table
}

fn title(replay: &Replay) -> String {
    let accesses = thousands(replay.accesses as u64);
    let part = if replay.accesses == replay.of {
        format!("all {accesses} accesses of {}", replay.trace)
    } else {
        format!("the first {accesses} of {} accesses of {}", thousands(replay.of as u64), replay.trace)
    };
    format!("{part} to {} keys; {} (n = {})", thousands(replay.keys as u64), replay.stage, replay.seconds.n)
}

fn dash() -> String {
    "-".to_owned()
}
