//! The local tier alone beside other caches in the process: how many operations a second, and how many of them hit.

use std::collections::BTreeMap;

use serde::Serialize;

use super::load::{Kind, Load, Material, Sample};
use crate::{
    contestant::{self, Contestant, QUICK_CACHE, Visitor},
    format::percent,
    progress::Progress,
    sheet::Sheet,
    spread::Spread,
    table::Table,
};

/// A load, and how every candidate bears it.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The load.
    #[serde(flatten)]
    pub load: Load,
    /// One for each candidate.
    pub rows: Vec<Row>,
}

/// A candidate under a load.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Operations a second, by all threads together.
    pub throughput: Option<Spread>,
    /// That, divided by the throughput of the peer in the same repetition.
    pub to_quick_cache: Option<Spread>,
    /// The share of reads that hit, in the last repetition.
    pub hit_ratio: f64,
    /// How many repetitions were thrown away because something else ran.
    pub discarded: usize,
    /// Each repetition that counts, by its number.
    #[serde(skip)]
    pub(super) by_repetition: BTreeMap<usize, f64>,
}

impl Row {
    /// Divides throughputs, repetition by repetition.
    pub(super) fn to(&self, peer: &Self) -> Option<Spread> {
        let ratio = |(repetition, own): (&usize, &f64)| Some(own / peer.by_repetition.get(repetition)?);
        Spread::of(self.by_repetition.iter().filter_map(ratio))
    }
}

/// How often a run that something else disturbed is measured again.
const AGAIN: usize = 3;

/// Measures every candidate under every load.
pub(super) fn measure(smoke: bool, progress: &Progress) -> Vec<Cell> {
    loads(smoke).into_iter().map(|load| cell(load, smoke, progress)).collect()
}

fn loads(smoke: bool) -> Vec<Load> {
    use Kind::{NinetyTen, ReadThrough, Resident};
    let plan: &[(usize, Kind, &[usize])] = if smoke {
        &[(500, Resident, &[1]), (500, ReadThrough, &[1]), (500, NinetyTen, &[2])]
    } else {
        &[
            (500, Resident, &[1, 2, 8]),
            (500, ReadThrough, &[1]),
            (10_000, Resident, &[1, 2, 8]),
            (10_000, ReadThrough, &[1, 2, 8]),
            (10_000, NinetyTen, &[1, 2, 8]),
            (1_000_000, Resident, &[1]),
            (1_000_000, NinetyTen, &[2]),
        ]
    };
    let each = |&(entries, kind, threads): &(usize, Kind, &'static [usize])| {
        threads.iter().map(move |&threads| Load { kind, entries, threads })
    };
    plan.iter().flat_map(each).collect()
}

/// A candidate whose cache is full, ready to be measured. What is called inside is known at compile time: the pointer
/// is followed once for hundreds of thousands of operations.
struct Candidate<'m> {
    name: String,
    run: Box<dyn Fn() -> Sample + 'm>,
}

struct Line<'m> {
    load: Load,
    material: &'m Material,
    candidates: Vec<Candidate<'m>>,
}

impl Visitor for Line<'_> {
    fn visit<C: Contestant>(&mut self, name: &str, make: impl Fn(usize) -> C) {
        let (load, material) = (self.load, self.material);
        let cache = make(load.capacity());
        material.warm(&cache, load);
        self.candidates.push(Candidate { name: name.to_owned(), run: Box::new(move || material.run(&cache, load)) });
    }
}

fn cell(load: Load, smoke: bool, progress: &Progress) -> Cell {
    progress.step(&format!("bare: {}", title(load)));
    let (repetitions, operations) = match (smoke, load.entries) {
        (true, _) => (2, 20_000),
        // Nearly each of them waits for memory.
        (false, 1_000_000) => (7, 200_000),
        (false, _) => (7, 400_000),
    };
    let material = Material::new(load, operations);
    let mut line = Line { load, material: &material, candidates: Vec::new() };
    contestant::ours(&mut line);
    if load.kind == Kind::Resident {
        contestant::borrowed(&mut line);
    }
    contestant::peers(&mut line);
    let mut rows: Vec<Row> = line.candidates.iter().map(|candidate| Row::named(&candidate.name)).collect();
    for repetition in 0..repetitions {
        // Another one begins each time, so that nobody always follows the same neighbour.
        for turn in 0..rows.len() {
            let index = (turn + repetition) % rows.len();
            let (row, run) = (&mut rows[index], &line.candidates[index].run);
            for _attempt in 0..AGAIN {
                let sample = run();
                row.hit_ratio = sample.hit_ratio;
                if !sample.lost {
                    row.by_repetition.insert(repetition, sample.throughput);
                    break;
                }
                row.discarded += 1;
            }
        }
    }
    let peer = rows.iter().find(|row| row.name == QUICK_CACHE).cloned();
    for row in &mut rows {
        row.throughput = Spread::of(row.by_repetition.values().copied());
        row.to_quick_cache = peer.as_ref().and_then(|peer| row.to(peer));
    }
    Cell { load, rows }
}

impl Row {
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            throughput: None,
            to_quick_cache: None,
            hit_ratio: 0.0,
            discarded: 0,
            by_repetition: BTreeMap::new(),
        }
    }
}

pub(super) fn title(load: Load) -> String {
    let Load { kind, entries, threads } = load;
    let kind = match kind {
        Kind::Resident => "all keys resident",
        Kind::ReadThrough => "read-through, ten times more keys",
        Kind::NinetyTen => "90/10 read/insert, ten times more keys",
    };
    let entries = crate::format::thousands(entries as u64);
    format!("{entries} entries, {kind}, {threads} thread{}", if threads == 1 { "" } else { "s" })
}

pub(super) fn sheet(cells: &[Cell]) -> Sheet {
    let mut table = Table::new(&["<candidate", "n", "discarded", "M operations/s", "to quick_cache", "hit ratio"]);
    for cell in cells {
        table.heading(title(cell.load));
        for row in &cell.rows {
            let throughput = row.throughput.as_ref();
            table.row([
                row.name.clone(),
                throughput.map_or(0, |spread| spread.n).to_string(),
                row.discarded.to_string(),
                shown(throughput, 1e-6),
                shown(row.to_quick_cache.as_ref(), 1.0),
                percent(row.hit_ratio),
            ]);
        }
    }
    let mut notes = super::notes();
    notes.push(
        "Keys of 11 bytes drawn by Zipf 0.99, values of 100 bytes behind an `Arc`; operations of all threads together."
            .to_owned(),
    );
    notes.push(
        "More threads than cores is oversubscription, not scaling: it shows what a holder of a lock costs that lost its core."
            .to_owned(),
    );
    notes.push("\"Resident\" caches have room for twice the entries, so that splitting evicts nothing.".to_owned());
    Sheet { title: "the local tier alone, beside other caches in the process".to_owned(), notes, table }
}

pub(super) fn shown(spread: Option<&Spread>, factor: f64) -> String {
    spread.map_or_else(
        || "-".to_owned(),
        |spread| {
            let Spread { median, min, max, .. } = spread;
            format!("{:.2} ({:.2}..{:.2})", median * factor, min * factor, max * factor)
        },
    )
}
