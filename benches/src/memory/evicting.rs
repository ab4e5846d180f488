//! What it costs to insert into a full cache, from small to large: flat, unless something is searched.

use std::cell::Cell;

use serde::Serialize;

use crate::{
    contestant::{self, Contestant, Value, Visitor},
    cpu::Attention,
    format::{thousands, times},
    progress::Progress,
    sheet::Sheet,
    spread::Spread,
    stopwatch::Stopwatch,
    table::Table,
};

const SIZES: [usize; 4] = [500, 10_000, 100_000, 1_000_000];

/// The greatest growth from the smallest to the largest size that still counts as flat. Memory that is in no cache of
/// the processor makes for a few times; a search would make for 2,000.
const FLAT: f64 = 10.0;

/// The cost for one candidate.
#[derive(Clone, Debug, Serialize)]
pub struct Evicting {
    /// Whose.
    pub name: String,
    /// For each size, seconds for one insertion that evicts.
    pub sizes: Vec<Size>,
}

/// The cost at one size.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// How many entries the cache holds.
    pub entries: usize,
    /// Seconds for one insertion.
    pub insertion: Option<Spread>,
    /// How many repetitions were thrown away because something else ran.
    pub discarded: usize,
}

/// Returns seconds for one insertion, or `None` if something else ran.
type Run<'k> = Box<dyn Fn() -> Option<f64> + 'k>;

struct Line<'k> {
    keys: &'k [String],
    entries: usize,
    value: &'k Value,
    insertions: usize,
    runs: Vec<(String, Run<'k>)>,
}

impl Visitor for Line<'_> {
    #[allow(clippy::cast_precision_loss, reason = "a count of insertions")]
    fn visit<C: Contestant>(&mut self, name: &str, make: impl Fn(usize) -> C) {
        let (keys, value, insertions) = (self.keys, self.value, self.insertions);
        let cache = make(self.entries);
        let (full, fresh) = keys.split_at(self.entries);
        for key in full {
            cache.fill(key, value);
        }
        cache.settle();
        // Keys come round again only after more insertions than there are entries, or long after they were evicted.
        let next = Cell::new(0);
        let run = move || {
            let from = next.replace((next.get() + insertions) % fresh.len());
            let attention = Attention::start();
            let watch = Stopwatch::start();
            for key in &fresh[from..from + insertions] {
                cache.fill(key, value);
            }
            let seconds = watch.seconds();
            (!attention.lost()).then_some(seconds / insertions as f64)
        };
        self.runs.push((name.to_owned(), Box::new(run)));
    }
}

pub(super) fn measure(smoke: bool, progress: &Progress) -> Vec<Evicting> {
    let (sizes, repetitions, insertions): (&[usize], usize, usize) =
        if smoke { (&SIZES[..2], 2, 2_000) } else { (&SIZES, 7, 50_000) };
    let most = sizes.iter().max().copied().unwrap_or_default();
    // Every run of each candidate, also one that is repeated, finds keys of its own.
    let keys: Vec<String> = (0..most + 2 * repetitions * insertions).map(|key| format!("key{key:08}")).collect();
    let value = Value::new([b'v'; 100]);
    let mut evicting: Vec<Evicting> = Vec::new();
    for &entries in sizes {
        progress.step(&format!("inserting into full caches of {} entries", thousands(entries as u64)));
        let keys = &keys[..entries + 2 * repetitions * insertions];
        let mut line = Line { keys, entries, value: &value, insertions, runs: Vec::new() };
        contestant::ours(&mut line);
        contestant::peers(&mut line);
        let mut seconds = vec![(Vec::new(), 0); line.runs.len()];
        for repetition in 0..repetitions {
            for turn in 0..line.runs.len() {
                let index = (turn + repetition) % line.runs.len();
                match line.runs[index].1().or_else(|| {
                    seconds[index].1 += 1;
                    line.runs[index].1()
                }) {
                    Some(insertion) => seconds[index].0.push(insertion),
                    None => seconds[index].1 += 1,
                }
            }
        }
        for ((name, _), (seconds, discarded)) in line.runs.iter().zip(seconds) {
            let size = Size { entries, insertion: Spread::of(seconds), discarded };
            match evicting.iter_mut().find(|evicting| evicting.name == *name) {
                Some(evicting) => evicting.sizes.push(size),
                None => evicting.push(Evicting { name: name.clone(), sizes: vec![size] }),
            }
        }
    }
    evicting
}

impl Evicting {
    /// Returns by how much the cost grows from the smallest size to the largest.
    fn growth(&self) -> Option<f64> {
        let (first, last) = (self.sizes.first()?.insertion?, self.sizes.last()?.insertion?);
        Some(last.median / first.median)
    }
}

pub(super) fn bars(evicting: &[Evicting], row: &mut impl FnMut(String, &str, String, bool)) {
    for own in evicting.iter().filter(|evicting| evicting.name.starts_with("twotier")) {
        if let (Some(growth), Some(first), Some(last)) = (own.growth(), own.sizes.first(), own.sizes.last()) {
            let [first, last] = [first, last].map(|size| thousands(size.entries as u64));
            let what = format!("{}: cost of evicting, {last} entries to {first}", own.name);
            row(what, &format!("flat, <= {FLAT:.0}"), format!("{growth:.2}"), growth <= FLAT);
        }
    }
}

pub(super) fn sheet(evicting: &[Evicting]) -> Sheet {
    let sizes = evicting.first().map_or(&[][..], |first| &first.sizes);
    let mut header = vec!["<candidate".to_owned(), "n".to_owned(), "discarded".to_owned()];
    header.extend(sizes.iter().map(|size| format!("{} entries", thousands(size.entries as u64))));
    header.push("growth".to_owned());
    let mut table = Table::new(&header.iter().map(String::as_str).collect::<Vec<_>>());
    for candidate in evicting {
        let spreads = candidate.sizes.iter().filter_map(|size| size.insertion);
        let mut row = vec![candidate.name.clone(), spreads.map(|spread| spread.n).min().unwrap_or(0).to_string()];
        row.push(candidate.sizes.iter().map(|size| size.discarded).sum::<usize>().to_string());
        row.extend(candidate.sizes.iter().map(|size| size.insertion.as_ref().map_or_else(|| "-".to_owned(), times)));
        row.push(candidate.growth().map_or_else(|| "-".to_owned(), |growth| format!("{growth:.2}")));
        table.row(row);
    }
    let notes = vec![
        "One insertion of a new key into a full cache, one thread; ours by a ticket as after a miss.".to_owned(),
        format!(
            "Growth: the largest cache's time divided by the smallest's. Memory in no cache of the processor makes for a few times, a search would make for {}.",
            sizes.first().zip(sizes.last()).map_or(0, |(first, last)| last.entries / first.entries)
        ),
        "Allocations are counted meanwhile, which adds a few nanoseconds to each.".to_owned(),
    ];
    Sheet { title: "inserting into a full cache".to_owned(), notes, table }
}
