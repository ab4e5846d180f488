//! Whether the size advisor is right, and what it costs: every trace is replayed by a tier with the advisor, and again
//! by tiers of the sizes that it speaks of.

mod cost;
mod replay;

use std::path::Path;

use serde::Serialize;
use twotier_testkit::trace::{self, Reference};

pub use self::{
    cost::Cost,
    replay::{Cell, Prediction},
};
use crate::{
    Result,
    format::{thousands, times},
    machine::Machine,
    policies,
    progress::Progress,
    sheet::{Findings, Sheet},
    spread::quantile,
    table::Table,
};

/// How many points a prediction may be off.
const TOLERANCE: f64 = 2.0;
/// In how many of a hundred cells it must not be.
const WITHIN: f64 = 95.0;

/// What the suite found.
#[derive(Clone, Debug, Serialize)]
pub struct Advice {
    /// What the numbers are in.
    pub units: &'static str,
    /// Whether traces were cut short.
    pub smoke: bool,
    /// Whether a folder of more traces was given.
    pub more_traces: bool,
    /// What it ran on.
    pub machine: Machine,
    /// Every trace at every capacity by each policy.
    pub cells: Vec<Cell>,
    /// What a hit costs.
    pub costs: Vec<Cost>,
}

/// Replays the stored traces and the made ones; with a folder, every trace of it instead of the stored ones.
///
/// # Errors
///
/// When a trace or the reference cannot be read.
pub fn measure(smoke: bool, folder: Option<&Path>, progress: &Progress) -> Result<Advice> {
    let costs = cost::measure(smoke, progress);
    let place = folder.map_or_else(trace::folder, Path::to_path_buf);
    let reference = Reference::read(&place.join("reference.csv"))?;
    let mut cells = Vec::new();
    for name in policies::names(&place)? {
        let mut accesses = policies::load(&place, &name)?;
        if smoke {
            accesses.truncate(20_000);
        }
        progress.step(&format!("{name}: {} accesses", thousands(accesses.len() as u64)));
        let mut capacities: Vec<usize> =
            reference.iter().filter(|row| row.trace == name).map(|row| row.capacity).collect();
        capacities.sort_unstable();
        capacities.dedup();
        cells.extend(replay::cells(&name, &accesses, &capacities));
    }
    let units = "hit rates in percent, errors in points, seconds";
    Ok(Advice { units, smoke, more_traces: folder.is_some(), machine: Machine::here(), cells, costs })
}

impl Advice {
    /// Returns the sheets for a person.
    #[must_use]
    pub fn findings(&self) -> Findings {
        let traces = if self.more_traces { " --traces DIR" } else { "" };
        Findings {
            suite: "advice",
            title: "whether the size advisor is right",
            command: format!("cargo xtask bench --suite advice{traces}"),
            machine: self.machine.clone(),
            sheets: vec![self.errors(), cost::sheet(&self.costs), self.every_cell()],
        }
    }

    /// Returns the errors by policy, in points, of all that was predicted.
    fn errors(&self) -> Sheet {
        let mut table = Table::new(&[
            "<policy",
            "predictions",
            "not yet",
            "mean error",
            "p95",
            "greatest",
            "within 2 points",
            "<bar",
        ]);
        for policy in replay::POLICIES.map(|policy| policy.to_string()) {
            let all = || self.cells.iter().filter(|cell| cell.policy == policy).flat_map(|cell| &cell.predictions);
            let mut errors: Vec<f64> = all().filter(|made| made.known).map(Prediction::error).collect();
            errors.sort_by(f64::total_cmp);
            let silent = all().count() - errors.len();
            #[allow(clippy::cast_precision_loss, reason = "a count of cells")]
            let count = errors.len().max(1) as f64;
            #[allow(clippy::cast_precision_loss, reason = "a count of cells")]
            let within = errors.partition_point(|error| *error <= TOLERANCE) as f64 / count * 100.0;
            table.row([
                policy,
                errors.len().to_string(),
                silent.to_string(),
                format!("{:.2}", errors.iter().sum::<f64>() / count),
                format!("{:.2}", quantile(&errors, 0.95).unwrap_or_default()),
                format!("{:.2}", errors.last().copied().unwrap_or_default()),
                format!("{within:.1} %"),
                if within >= WITHIN { "met" } else { "not met" }.to_owned(),
            ]);
        }
        let notes = vec![
            "Points of the hit rate between what the advisor of a tier predicts for 0.5, 2 and 4 times its size, and a replay at that size."
                .to_owned(),
            "Bar: within 2 points in 95 % of the predictions made. \"Not yet\" are those that the advisor does not make, for want of requests."
                .to_owned(),
            "Every trace at every capacity of the reference, the advised tier and the others as they are by default, from a cold start."
                .to_owned(),
        ];
        Sheet { title: "errors".to_owned(), notes, table }
    }

    fn every_cell(&self) -> Sheet {
        let header = ["<trace", "<policy", "entries", "hit rate", "0.5x", "real", "2x", "real", "4x", "real"];
        let mut table = Table::new(&header);
        for cell in &self.cells {
            let mut row = vec![
                cell.trace.clone(),
                cell.policy.clone(),
                thousands(cell.capacity as u64),
                format!("{:.2}", cell.hit_rate),
            ];
            for made in &cell.predictions {
                row.push(if made.known { format!("{:.2}", made.predicted) } else { "-".to_owned() });
                row.push(format!("{:.2}", made.real));
            }
            table.row(row);
        }
        let notes = vec!["Per cent of the accesses that hit; `-` where the advisor says nothing yet.".to_owned()];
        Sheet { title: "every prediction".to_owned(), notes, table }
    }
}

/// Formats a spread of seconds.
fn shown(spread: Option<&crate::spread::Spread>) -> String {
    spread.map_or_else(|| "-".to_owned(), times)
}
