//! LRU in one shard equals the reference simulators hit for hit, on real traces and synthetic ones.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic is how a test fails, and figures go to stderr")]

mod common;

use std::{env, path::PathBuf};

use twotier_core::LocalStats;
use twotier_local::Digest;
use twotier_testkit::trace::{self, Reference};

use crate::common::{LIFE, lead, linked};

/// Replays a trace as the reference was measured: look up; on a miss, put in.
fn replay(trace: &[u64], capacity: usize) -> LocalStats {
    let tier = linked(capacity);
    let mut key = String::new();
    for number in trace {
        key.clear();
        std::fmt::Write::write_fmt(&mut key, format_args!("{number}")).unwrap();
        if tier.get(&key).is_none() {
            assert!(lead(tier.read(&key)).fill(*number, Digest::ABSENT, 1, LIFE));
        }
    }
    tier.stats()
}

/// Replays a trace at the chosen capacities of its LRU rows and returns at how many.
fn compare(reference: &[Reference], name: &str, trace: &[u64], chosen: impl Fn(usize) -> bool) -> usize {
    let rows: Vec<_> = reference
        .iter()
        .filter(|row| row.trace == name && row.policy == "LRU" && row.source == "own-sim" && chosen(row.capacity))
        .collect();
    for row in &rows {
        let stats = replay(trace, row.capacity);
        assert_eq!(stats.hits, row.hits, "{name} at {}", row.capacity);
        assert_eq!(stats.total_requests(), row.accesses, "{name} at {}", row.capacity);
        assert_eq!(stats.evicted_for_entries, stats.insertions - stats.size as u64);
        eprintln!("{name} at {}: {} hits, {:.2} %", row.capacity, stats.hits, stats.hit_rate());
    }
    rows.len()
}

fn stored() -> Vec<Reference> {
    Reference::read(&trace::folder().join("reference.csv")).unwrap()
}

#[test]
fn one_shard_equals_the_reference_on_web_requests() {
    let trace = trace::load(&trace::folder().join("web12.u64.zst")).unwrap();
    assert_eq!(compare(&stored(), "web12", &trace, |_| true), 6);
}

#[test]
fn one_shard_equals_the_reference_on_database_objects() {
    let trace = trace::load(&trace::folder().join("orm-busy.u64.zst")).unwrap();
    assert_eq!(compare(&stored(), "orm-busy", &trace, |capacity| capacity == 500), 1);
}

fn synthetic(name: &str, capacities: &[usize]) {
    let trace = trace::synthetic(name).unwrap();
    assert_eq!(compare(&stored(), name, &trace, |row| capacities.contains(&row)), capacities.len());
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
