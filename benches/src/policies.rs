//! How often each policy hits: access traces, replayed as the reference results were made.

mod reference;
mod replay;
mod summary;

use std::path::{Path, PathBuf};

use serde::Serialize;
use twotier_testkit::trace::{self, Reference};

pub(crate) use self::replay::Trace;
pub use self::summary::Summary;
use self::{reference::Known, replay::Players};
use crate::{
    Result,
    format::thousands,
    machine::Machine,
    progress::Progress,
    sheet::{Findings, Sheet},
    table::Table,
};

/// A loop longer than the small caches: no recency policy hits at all, so it takes part in no mean.
const LOOP: &str = "loop";
/// One trace that turns from recency to a loop and back.
const MIX: &str = "mix-sprite-loop";
/// The traces that are made.
const SYNTHETIC: [&str; 3] = ["zipf-0.99", "zipf-scan", "zipf-shift"];

/// What the suite found.
#[derive(Clone, Debug, Serialize)]
pub struct Policies {
    /// What the numbers are in.
    pub units: &'static str,
    /// Whether traces were cut short.
    pub smoke: bool,
    /// Whether a folder of more traces was given.
    pub more_traces: bool,
    /// What it ran on.
    pub machine: Machine,
    /// Every trace at every capacity.
    pub cells: Vec<Cell>,
    /// Means over the cells, for each policy.
    pub summaries: Vec<Summary>,
    /// How many cells the means over real traces are about.
    pub real_cells: usize,
}

/// A trace at a capacity.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The trace.
    pub trace: String,
    /// Whether it was recorded, not made.
    pub real: bool,
    /// How many accesses were replayed.
    pub accesses: usize,
    /// How many different keys there are.
    pub unique: usize,
    /// How many entries the caches hold.
    pub capacity: usize,
    /// The share of accesses that hit, for each policy; simulators first.
    pub hit_ratios: Vec<Score>,
}

/// What a policy reaches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// The policy.
    pub name: String,
    /// The share of accesses that hit.
    pub hit_ratio: f64,
}

/// Replays the stored traces and the made ones; with a folder, every trace of it instead of the stored ones.
///
/// # Errors
///
/// When a trace or the reference cannot be read.
pub fn measure(smoke: bool, folder: Option<&Path>, progress: &Progress) -> Result<Policies> {
    let place = folder.map_or_else(trace::folder, Path::to_path_buf);
    let reference = Reference::read(&place.join("reference.csv"))?;
    let players = Players::all();
    let mut cells = Vec::new();
    for name in names(&place)? {
        let mut accesses = load(&place, &name)?;
        if smoke {
            accesses.truncate(20_000);
        }
        progress.step(&format!("{name}: {} accesses", thousands(accesses.len() as u64)));
        let real = !SYNTHETIC.contains(&name.as_str()) && name != MIX;
        let known = (!smoke).then(|| Known::of(&name, &reference));
        cells.extend(replay::cells(&players, &name, real, &accesses, known.as_ref()));
    }
    let summaries = summary::of(&cells);
    let real_cells = cells.iter().filter(|cell| summary::counts(cell)).count();
    Ok(Policies {
        units: "shares of accesses",
        smoke,
        more_traces: folder.is_some(),
        machine: Machine::here(),
        cells,
        summaries,
        real_cells,
    })
}

/// Returns the traces of a folder by name, then those that are made.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in folder.read_dir()? {
        let file = file?.file_name();
        names.extend(file.to_str().and_then(|name| name.strip_suffix(".u64.zst")).map(str::to_owned));
    }
    names.sort();
    let both = ["sprite", LOOP].iter().all(|part| names.iter().any(|name| name == part));
    names.extend(SYNTHETIC.map(str::to_owned));
    names.extend(both.then(|| MIX.to_owned()));
    Ok(names)
}

pub(crate) fn load(folder: &Path, name: &str) -> Result<Vec<u64>> {
    let stored = |name: &str| trace::load(&PathBuf::from(folder).join(format!("{name}.u64.zst")));
    if name == MIX {
        let (sprite, turns) = (stored("sprite")?, stored(LOOP)?);
        let shifted = turns.iter().map(|key| key + (1 << 40));
        return Ok(sprite.iter().copied().chain(shifted).chain(sprite.iter().copied()).collect());
    }
    match trace::synthetic(name) {
        Some(accesses) => Ok(accesses),
        None => Ok(stored(name)?),
    }
}

impl Policies {
    /// Returns the sheets for a person.
    #[must_use]
    pub fn findings(&self) -> Findings {
        let traces = if self.more_traces { " --traces DIR" } else { "" };
        Findings {
            suite: "policies",
            title: "how often each policy hits",
            command: format!("cargo xtask bench --suite policies{traces}"),
            machine: self.machine.clone(),
            sheets: vec![summary::bars(self), summary::sheet(self), self.every_cell()],
        }
    }

    fn every_cell(&self) -> Sheet {
        let names = summary::names(&self.cells);
        let header: Vec<&str> = ["<trace", "entries"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let mut table = Table::new(&header);
        for cell in &self.cells {
            let mut row = vec![cell.trace.clone(), thousands(cell.capacity as u64)];
            row.extend(
                names.iter().map(|name| {
                    cell.ratio(name).map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", ratio * 100.0))
                }),
            );
            table.row(row);
        }
        let notes = vec![
            "Per cent of the accesses that hit; one replay, which chance changes only where a policy or a hash draws."
                .to_owned(),
            "Replayed in order, one thread, from a cold start: get, and after a miss insert.".to_owned(),
            "Columns that begin with `sim` are simulators' results from the reference, not measured here.".to_owned(),
        ];
        Sheet { title: "every trace at every capacity".to_owned(), notes, table }
    }
}

impl Cell {
    /// Returns what a policy reaches here.
    #[must_use]
    pub fn ratio(&self, name: &str) -> Option<f64> {
        self.hit_ratios.iter().find(|score| score.name == name).map(|score| score.hit_ratio)
    }
}
