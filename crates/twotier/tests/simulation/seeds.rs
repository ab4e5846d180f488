//! The gate: many seeds of each family, and one of them again.

use std::env;

use twotier_testkit::simulation::Event;

use crate::{
    run::{Outcome, run},
    scenario::Family,
};

/// How many seeds run when nobody asks for more.
const SEEDS: u64 = 600;
/// How many events before the end a failing run prints, heartbeats left out.
const LAST_EVENTS: usize = 150;

#[test]
fn plain() {
    run_family(Family::Plain);
}

#[test]
fn replies_before_the_pushes_of_their_cycle() {
    run_family(Family::EarlyReplies);
}

#[test]
fn a_clock_that_lags() {
    run_family(Family::CoarseClock);
}

#[test]
fn a_staleness_bound_as_short_as_the_delays() {
    run_family(Family::SmallBound);
}

#[test]
fn several_writers_of_each_key() {
    run_family(Family::ManyWriters);
}

#[test]
fn a_distant_server() {
    run_family(Family::Distant);
}

#[test]
fn late_delivery_of_what_an_old_connection_was_sent() {
    run_family(Family::LateDelivery);
}

#[test]
fn rows_of_an_origin_that_are_loaded_late() {
    run_family(Family::Origin);
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in 0..60 {
        let (first, second) = (run(seed, true), run(seed, true));
        for (index, (one, other)) in first.events.iter().zip(&second.events).enumerate() {
            assert_eq!(one, other, "event {index} of seed {seed}");
        }
        assert_eq!(first.events.len(), second.events.len(), "seed {seed}");
        let unkept = run(seed, false);
        assert_eq!((first.hits, first.lasted), (unkept.hits, unkept.lasted), "a journal changes nothing: seed {seed}");
    }
}

/// Prints every event of the seed in `TWOTIER_TEST_SEED`, and fails as it fails.
#[test]
fn replay() {
    let Some(seed) = number("TWOTIER_TEST_SEED") else { return };
    let outcome = run(seed, true);
    for event in &outcome.events {
        println!("{event}");
    }
    assert_eq!(outcome.violation, None, "seed {seed}");
}

fn run_family(family: Family) {
    let seeds = number("TWOTIER_TEST_SEEDS").unwrap_or(SEEDS);
    let (mut runs, mut operations, mut hits, mut loads) = (0, 0, 0, 0);
    for seed in (0..seeds).filter(|seed| Family::of(*seed) == family) {
        let outcome = run(seed, false);
        if let Some(violation) = &outcome.violation {
            fail(seed, violation);
        }
        runs += 1;
        operations += outcome.operations;
        hits += outcome.hits;
        loads += outcome.loads;
    }
    println!("{family:?}: {runs} runs, {operations} operations, {hits} local hits, {loads} loads from the origin");
    assert!(seeds < 100 || hits > 0, "{family:?}: not one local hit in {runs} runs");
    assert!(seeds < 100 || family != Family::Origin || loads > 0, "nothing was loaded in {runs} runs");
}

/// Runs the seed again with a journal, and panics with its last events and the command that prints them all.
fn fail(seed: u64, violation: &str) -> ! {
    let Outcome { events, .. } = run(seed, true);
    // Up to the first violation: what came after explains nothing.
    let end = events.iter().position(|event| event.who == "CHECKER").map_or(events.len(), |index| index + 1);
    let beats = |event: &&Event| !(event.what.ends_with(": PING") || event.what.ends_with(": HELLO 3"));
    let events: Vec<String> = events[..end].iter().filter(beats).map(ToString::to_string).collect();
    let last = &events[events.len().saturating_sub(LAST_EVENTS)..];
    panic!(
        "seed {seed}: {violation}\n{}\nevery event:\nTWOTIER_TEST_SEED={seed} cargo test -p twotier --all-features \
         --test simulation replay -- --nocapture",
        last.join("\n")
    );
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_error| panic!("{variable} is not a number")))
}
