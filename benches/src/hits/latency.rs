//! The time of a single hit while eight threads hit: what a lock costs the unlucky.

use std::{sync::Barrier, thread};

use serde::Serialize;

use super::load::{Kind, Load, Material};
use crate::{
    contestant::{self, Contestant, Visitor},
    format::times,
    progress::Progress,
    sheet::Sheet,
    spread::{Spread, quantile},
    stopwatch::Stopwatch,
    table::Table,
};

const LOAD: Load = Load { kind: Kind::Resident, entries: 10_000, threads: 8 };

/// Percentiles of the time of a single hit, each spread over repetitions.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// The candidate, or the clock by itself.
    pub name: String,
    /// Half of the hits take no longer.
    pub p50: Spread,
    /// 99 of 100 take no longer.
    pub p99: Spread,
    /// 999 of 1000 take no longer.
    pub p999: Spread,
}

type Run<'m> = Box<dyn Fn() -> [f64; 3] + 'm>;

struct Line<'m> {
    material: &'m Material,
    runs: Vec<(String, Run<'m>)>,
}

impl Visitor for Line<'_> {
    fn visit<C: Contestant>(&mut self, name: &str, make: impl Fn(usize) -> C) {
        let material = self.material;
        let cache = make(LOAD.capacity());
        material.warm(&cache, LOAD);
        self.runs.push((name.to_owned(), Box::new(move || percentiles(material, |key| cache.get(key)))));
    }
}

/// Measures every candidate in turn.
pub(super) fn measure(smoke: bool, progress: &Progress) -> Vec<Latency> {
    let (repetitions, operations) = if smoke { (2, 8_000) } else { (7, 400_000) };
    progress.step("the time of a single hit among 8 threads");
    let material = Material::new(LOAD, operations);
    let mut line = Line { material: &material, runs: Vec::new() };
    line.runs.push(("the clock alone".to_owned(), Box::new(|| percentiles(&material, |key| !key.is_empty()))));
    contestant::ours(&mut line);
    contestant::borrowed(&mut line);
    contestant::peers(&mut line);
    let mut measured = vec![Vec::new(); line.runs.len()];
    for repetition in 0..repetitions {
        for turn in 0..line.runs.len() {
            let index = (turn + repetition) % line.runs.len();
            measured[index].push((line.runs[index].1)());
        }
    }
    let summed = line.runs.iter().zip(&measured).filter_map(|((name, _), runs)| {
        let at = |which: usize| Spread::of(runs.iter().map(|run| run[which]));
        Some(Latency { name: name.clone(), p50: at(0)?, p99: at(1)?, p999: at(2)? })
    });
    summed.collect()
}

/// Lets the threads read, each read timed, and returns the percentiles over all threads, in seconds.
fn percentiles(material: &Material, get: impl Fn(&str) -> bool + Sync) -> [f64; 3] {
    let barrier = Barrier::new(LOAD.threads);
    let mut times: Vec<f64> = thread::scope(|scope| {
        let share = material.order.len().div_ceil(LOAD.threads);
        let threads: Vec<_> = material
            .order
            .chunks(share)
            .map(|order| {
                let (barrier, get) = (&barrier, &get);
                scope.spawn(move || {
                    let mut times = Vec::with_capacity(order.len());
                    barrier.wait();
                    for &key in order {
                        let watch = Stopwatch::start();
                        let hit = get(material.keys.at(key));
                        times.push(watch.seconds());
                        debug_assert!(hit, "every key is resident");
                    }
                    times
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no read panics")).collect()
    });
    times.sort_by(f64::total_cmp);
    [0.5, 0.99, 0.999].map(|share| quantile(&times, share).unwrap_or_default())
}

pub(super) fn sheet(latencies: &[Latency]) -> Sheet {
    let mut table = Table::new(&["<candidate", "n", "p50", "p99", "p99.9"]);
    for Latency { name, p50, p99, p999 } in latencies {
        table.row([name.clone(), p50.n.to_string(), times(p50), times(p99), times(p999)]);
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let notes = vec![
        format!(
            "10,000 resident entries, Zipf 0.99, 8 threads on {cores} cores: on fewer than 8 this is oversubscription."
        ),
        "Each time includes a reading of the clock, which is shown by itself in the first row.".to_owned(),
    ];
    Sheet { title: "the time of a single hit among eight threads".to_owned(), notes, table }
}
