//! Policies on real traces and synthetic ones: those whose definition leaves nothing open equal the reference
//! simulators hit for hit, the others reach what is promised of them.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic is how a test fails, and figures go to stderr")]

mod common;

use std::{collections::BTreeMap, env, path::PathBuf};

use twotier_core::{Eviction, LocalStats};
use twotier_local::Digest;
use twotier_testkit::trace::{self, Reference};

use crate::common::{LIFE, Tier, lead, linked_by, seeded_by};

/// The policies whose every hit is settled by their definition, as the reference calls them.
const SETTLED: [(&str, Eviction); 3] = [("LRU", Eviction::Lru), ("FIFO", Eviction::Fifo), ("LFU", Eviction::Lfu)];

/// Replays a trace as the reference was measured: look up; on a miss, put in.
fn replay_on(tier: &Tier<u64>, trace: &[u64]) -> LocalStats {
    let mut key = String::new();
    for number in trace {
        key.clear();
        std::fmt::Write::write_fmt(&mut key, format_args!("{number}")).unwrap();
        if tier.get(&key).is_none() {
            assert!(lead(tier.read(&key)).fill(*number, Digest::ABSENT, 1, LIFE));
        }
    }
    let stats = tier.stats();
    assert_eq!(stats.total_requests(), trace.len() as u64);
    assert_eq!(stats.evicted_for_entries, stats.insertions - stats.size as u64);
    stats
}

fn replay(trace: &[u64], capacity: usize, eviction: Eviction) -> LocalStats {
    replay_on(&linked_by(eviction, capacity), trace)
}

/// Replays a trace by every settled policy at the chosen capacities of its rows and returns at how many.
fn compare(reference: &[Reference], name: &str, trace: &[u64], chosen: impl Fn(usize) -> bool) -> usize {
    let mut rows = 0;
    for (policy, eviction) in SETTLED {
        let of_it = |row: &&Reference| row.trace == name && row.policy == policy && row.source == "own-sim";
        for row in reference.iter().filter(of_it).filter(|row| chosen(row.capacity)) {
            let stats = replay(trace, row.capacity, eviction);
            assert_eq!(stats.hits, row.hits, "{policy} on {name} at {}", row.capacity);
            eprintln!("{policy} on {name} at {}: {} hits, {:.2} %", row.capacity, stats.hits, stats.hit_rate());
            rows += 1;
        }
    }
    rows
}

fn stored() -> Vec<Reference> {
    Reference::read(&trace::folder().join("reference.csv")).unwrap()
}

#[test]
fn one_shard_equals_the_reference_on_web_requests() {
    let trace = trace::load(&trace::folder().join("web12.u64.zst")).unwrap();
    assert_eq!(compare(&stored(), "web12", &trace, |_| true), 3 * 6);
}

#[test]
fn one_shard_equals_the_reference_on_database_objects() {
    let trace = trace::load(&trace::folder().join("orm-busy.u64.zst")).unwrap();
    assert_eq!(compare(&stored(), "orm-busy", &trace, |capacity| capacity == 500), 3);
}

fn synthetic(name: &str, capacities: &[usize]) {
    let trace = trace::synthetic(name).unwrap();
    assert_eq!(compare(&stored(), name, &trace, |row| capacities.contains(&row)), 3 * capacities.len());
}

#[test]
fn one_shard_equals_the_reference_on_skew_with_scans() {
    synthetic("zipf-scan", if cfg!(debug_assertions) { &[500] } else { &[500, 4970, 49701] });
}

// Two million accesses take seconds without optimisation: these two are part of a release build's tests only.
#[test]
#[cfg(not(debug_assertions))]
fn one_shard_equals_the_reference_on_plain_skew() {
    synthetic("zipf-0.99", &[95, 500, 9489]);
}

#[test]
#[cfg(not(debug_assertions))]
fn one_shard_equals_the_reference_on_a_moving_hot_set() {
    synthetic("zipf-shift", &[500, 999, 9994]);
}

/// More than half of the accesses to the stored real traces hit at the default size, with many more keys than entries.
#[test]
fn the_default_size_hits_more_than_half_of_the_real_traces() {
    for row in stored().iter().filter(|row| row.policy == "LRU" && row.capacity == 500 && !row.trace.contains("zipf")) {
        // The rows are those the tests above reproduce hit for hit.
        assert!(row.hits * 2 > row.accesses, "{}", row.trace);
    }
}

/// With a folder of more traces at hand, every one of them at every capacity.
#[test]
fn one_shard_equals_the_reference_on_every_trace_at_hand() {
    let Some(folder) = env::var_os("TWOTIER_TEST_TRACES").map(PathBuf::from) else {
        eprintln!("TWOTIER_TEST_TRACES names no folder: only the stored traces were replayed");
        return;
    };
    let reference = Reference::read(&folder.join("reference.csv")).unwrap();
    let mut compared = 0;
    for file in folder.read_dir().unwrap() {
        let path = file.unwrap().path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".u64.zst")) else { continue };
        compared += compare(&reference, name, &trace::load(&path).unwrap(), |_| true);
    }
    for name in ["zipf-0.99", "zipf-scan", "zipf-shift"] {
        compared += compare(&reference, name, &trace::synthetic(name).unwrap(), |_| true);
    }
    assert!(compared > 0, "no trace in {} has rows in its reference.csv", folder.display());
    eprintln!("{compared} cells equal the reference");
}

/// The real traces by which policies are judged, where they are at hand: these eight at 500 entries and at 1, 5,
/// 10 and 20 % of their keys.
const REAL: [&str; 8] = ["oltp", "orm-busy", "web12", "adaptsize-cdn", "scarab-recs", "p3", "multi2", "sprite"];

/// Replays the forty cells. Returns the hit ratios in percent by trace and capacity, or `None` where a trace is
/// missing.
fn cells(eviction: Eviction) -> Option<BTreeMap<(&'static str, usize), f64>> {
    let folder = env::var_os("TWOTIER_TEST_TRACES").map(PathBuf::from)?;
    let mut ratios = BTreeMap::new();
    for name in REAL {
        let trace = trace::load(&folder.join(format!("{name}.u64.zst"))).ok()?;
        let mut keys = trace.clone();
        keys.sort_unstable();
        keys.dedup();
        let unique = keys.len();
        for capacity in [500].into_iter().chain([1, 5, 10, 20].map(|percent| (unique * percent + 50) / 100)) {
            ratios.insert((name, capacity), replay(&trace, capacity, eviction).hit_rate());
        }
    }
    assert_eq!(ratios.len(), 40);
    Some(ratios)
}

fn mean(ratios: &BTreeMap<(&'static str, usize), f64>) -> f64 {
    ratios.values().sum::<f64>() / ratios.len() as f64
}

/// Prints a table of a policy's cells beside those of LRU, and returns the mean and the worst difference to LRU in a
/// cell of at least 100 entries.
fn report(eviction: Eviction) -> Option<(f64, f64)> {
    let ratios = cells(eviction)?;
    let folder = env::var_os("TWOTIER_TEST_TRACES").map(PathBuf::from)?;
    let reference = Reference::read(&folder.join("reference.csv")).unwrap();
    let mut worst = f64::MAX;
    for ((name, capacity), ratio) in &ratios {
        let row = |row: &&Reference| row.trace == *name && row.capacity == *capacity && row.policy == "LRU";
        let lru = reference.iter().find(row).map_or(f64::NAN, |row| row.hits as f64 * 100.0 / row.accesses as f64);
        eprintln!("{eviction:10} {name:14} {capacity:7} {ratio:6.2} % LRU {lru:6.2} % {:+6.2}", ratio - lru);
        if *capacity >= 100 {
            worst = worst.min(ratio - lru);
        }
    }
    eprintln!("{eviction:10} mean {:.2} %, at worst {worst:+.2} points to LRU", mean(&ratios));
    Some((mean(&ratios), worst))
}

#[test]
fn s3_fifo_hits_more_than_half_of_the_real_traces_at_hand_and_is_never_far_below_lru() {
    if let Some((mean, worst)) = report(Eviction::S3Fifo) {
        assert!(mean >= 52.0 && worst >= -2.0, "mean {mean:.2} %, worst {worst:.2} points");
    }
}

#[test]
fn w_tinylfu_hits_more_than_half_of_the_real_traces_at_hand() {
    if let Some((mean, _)) = report(Eviction::WTinyLfu) {
        assert!(mean >= 52.0, "mean {mean:.2} %");
    }
}

/// The other half of what it is for: a load that turns into a loop longer than the cache, and back.
#[test]
fn w_tinylfu_turns_from_recency_to_a_loop_and_back() {
    let Some(folder) = env::var_os("TWOTIER_TEST_TRACES").map(PathBuf::from) else { return };
    let load = |name: &str| trace::load(&folder.join(name));
    let (Ok(sprite), Ok(lap)) = (load("sprite.u64.zst"), load("loop.u64.zst")) else { return };
    let mix: Vec<u64> =
        sprite.iter().copied().chain(lap.iter().map(|key| key + (1 << 40))).chain(sprite.clone()).collect();
    let ratio = replay(&mix, 500, Eviction::WTinyLfu).hit_rate();
    eprintln!("w-tinylfu on mix-sprite-loop at 500: {ratio:.2} %");
    assert!(ratio >= 50.0, "{ratio:.2} %");
}

/// The same on a load that every build makes for itself: a popular set, then a loop of twice the capacity.
#[test]
fn w_tinylfu_holds_a_part_of_a_loop_of_which_lru_holds_nothing() {
    let lap: Vec<u64> = (0..40_000).map(|access| access % 200).collect();
    assert_eq!(replay(&lap, 100, Eviction::Lru).hits, 0);
    let hits = replay(&lap, 100, Eviction::WTinyLfu).hits;
    assert!(hits > 40_000 / 3, "{hits} of 40,000, where half can be had");
}

/// One-time keys in great number do not displace what is popular.
#[test]
fn a_scan_costs_s3_fifo_and_w_tinylfu_little_of_the_popular_set() {
    let trace = trace::synthetic("zipf-scan").unwrap();
    let trace = &trace[..300_000];
    let lru = replay(trace, 500, Eviction::Lru).hit_rate();
    for eviction in [Eviction::S3Fifo, Eviction::WTinyLfu] {
        let ratio = replay(trace, 500, eviction).hit_rate();
        eprintln!("{eviction}: {ratio:.2} %, LRU: {lru:.2} %");
        assert!(ratio > lru + 5.0, "{eviction}: {ratio:.2} %, LRU: {lru:.2} %");
    }
}

/// Splitting costs little from 32 entries a shard on, whoever shares one.
#[test]
fn shards_of_32_entries_and_more_cost_at_most_six_tenths_of_a_point() {
    let trace = trace::load(&trace::folder().join("web12.u64.zst")).unwrap();
    for eviction in [Eviction::Lru, Eviction::S3Fifo, Eviction::WTinyLfu] {
        for (capacity, shards) in [(512, 16), (1024, 32), (2048, 64)] {
            let whole = replay(&trace, capacity, eviction).hit_rate();
            let splits: Vec<f64> = (1..=3)
                .map(|seed| replay_on(&seeded_by(eviction, capacity, shards, seed), &trace).hit_rate())
                .collect();
            eprintln!("{eviction} at {capacity}: {whole:.2} % whole, {splits:.2?} % in {shards} shards");
            let worst = splits.iter().copied().fold(f64::INFINITY, f64::min);
            assert!(
                worst > whole - 0.7 && splits.iter().sum::<f64>() / 3.0 > whole - 0.6,
                "{eviction} at {capacity}: {whole:.2} %, {splits:.2?}"
            );
        }
    }
}
