//! What is asked of a hit, beside what was measured. Nothing fails by it: a bar is read off the report.

use serde::Serialize;

use super::{
    bare::{Cell, Row, shown},
    load::{Kind, Load},
    whole::{self, Way},
};
use crate::{
    contestant::{BORROWED, FOYER, MOKA, QUICK_CACHE},
    sheet::Sheet,
    spread::Spread,
    table::Table,
};

/// A bar, and what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    /// What is compared.
    pub what: String,
    /// The bar, as text.
    pub bar: String,
    /// What was measured; `None` if it could not be.
    pub measured: Option<Spread>,
    /// Whether the median reaches it in this run.
    pub met: bool,
}

/// Which of ours is held against a peer.
#[derive(Clone, Copy)]
enum Ours {
    Fastest,
    Borrowed,
    Lru,
}

use Ours::{Borrowed, Fastest, Lru};

/// Throughput in a cell of 10,000 entries: kind, threads, which of ours, the peer, and the least ratio.
const THROUGHPUT: [(Kind, usize, Ours, &str, f64); 17] = [
    (Kind::Resident, 1, Fastest, QUICK_CACHE, 1.2),
    (Kind::Resident, 1, Fastest, MOKA, 8.0),
    (Kind::Resident, 1, Fastest, FOYER, 6.0),
    (Kind::Resident, 2, Fastest, QUICK_CACHE, 1.6),
    (Kind::Resident, 2, Fastest, QUICK_CACHE, 1.15),
    (Kind::Resident, 2, Fastest, MOKA, 9.0),
    (Kind::Resident, 8, Fastest, QUICK_CACHE, 1.6),
    (Kind::Resident, 8, Fastest, QUICK_CACHE, 1.15),
    (Kind::Resident, 8, Fastest, MOKA, 9.0),
    (Kind::Resident, 2, Borrowed, QUICK_CACHE, 2.4),
    (Kind::NinetyTen, 1, Fastest, QUICK_CACHE, 1.3),
    (Kind::NinetyTen, 2, Fastest, QUICK_CACHE, 1.5),
    (Kind::NinetyTen, 8, Fastest, QUICK_CACHE, 1.5),
    (Kind::Resident, 1, Lru, QUICK_CACHE, 0.9),
    (Kind::Resident, 2, Lru, QUICK_CACHE, 0.9),
    (Kind::Resident, 1, Lru, MOKA, 6.0),
    (Kind::Resident, 2, Lru, MOKA, 6.0),
];

/// The whole cache: the way, and the least or most that its ratio to `Cache::get` may be.
const WHOLE: [(&str, f64); 2] = [(whole::REDIS_RS, 8.0), (whole::MOKA_BY_HAND, 5.0)];

/// Reads the bars off what was measured; those whose cells or peers did not run are left out.
pub(super) fn read(cells: &[Cell], ways: &[Way]) -> Vec<Bar> {
    let throughput = THROUGHPUT.iter().filter_map(|bar| throughput(cells, *bar));
    let bare = ways.iter().find(|way| way.name == whole::CACHE).map(|way| Bar {
        what: format!("{}: time of a hit, to the bare local tier", way.name),
        bar: "<= 1.30".to_owned(),
        measured: Some(way.to_bare),
        met: way.to_bare.median <= 1.3,
    });
    let whole = WHOLE.iter().filter_map(|&(name, least)| {
        let way = ways.iter().find(|way| way.name == name)?;
        Some(at_least(format!("{name}: time of a hit, to {}", whole::CACHE), least, Some(way.to_cache)))
    });
    throughput.chain(bare).chain(whole).collect()
}

fn throughput(cells: &[Cell], bar: (Kind, usize, Ours, &str, f64)) -> Option<Bar> {
    let (kind, threads, ours, peer, least) = bar;
    let wanted = Load { kind, entries: 10_000, threads };
    let cell = cells.iter().find(|cell| cell.load == wanted)?;
    let peer = cell.rows.iter().find(|row| row.name == peer)?;
    let candidates = cell.rows.iter().filter(|row| match ours {
        Fastest => row.name.starts_with("twotier") && !row.name.ends_with(BORROWED),
        Borrowed => row.name.ends_with(BORROWED),
        Lru => row.name == "twotier lru",
    });
    let ratios = candidates.filter_map(|row: &Row| Some((row, row.to(peer)?)));
    let (row, ratio) = ratios.max_by(|a, b| a.1.median.total_cmp(&b.1.median))?;
    let which = match ours {
        Fastest => "fastest policy",
        Borrowed => "borrowed read",
        Lru => "default policy",
    };
    let what = format!("{}: {} ({which}) to {}", super::bare::title(wanted), row.name, peer.name);
    Some(at_least(what, least, Some(ratio)))
}

fn at_least(what: String, least: f64, measured: Option<Spread>) -> Bar {
    let met = measured.is_some_and(|measured| measured.median >= least);
    Bar { what, bar: format!(">= {least:.2}"), measured, met }
}

pub(super) fn sheet(bars: &[Bar]) -> Sheet {
    let mut table = Table::new(&["<what", "bar", "measured", "<in this run"]);
    for Bar { what, bar, measured, met } in bars {
        let met = if *met { "met" } else { "not met" };
        table.row([what.clone(), bar.clone(), shown(measured.as_ref(), 1.0), met.to_owned()]);
    }
    let mut notes = super::notes();
    notes.push(
        "The fastest policy is the best of six medians, chosen afterwards for each line, which flatters it a little."
            .to_owned(),
    );
    notes.push("1.15 is the floor for a tier with a lock that sleeps, where two bars are given.".to_owned());
    Sheet { title: "the bars".to_owned(), notes, table }
}
