//! With every rule in force no promise is broken.

use twotier_testkit::protocol::{Config, Write, explore};

const TWO_GETTERS: Config = Config { getters: 2, ..Config::BASE };

/// What every run explores, a few million states in all.
const GATE: &[(&str, Config)] = &[
    (
        "overlapping own writes and a foreign one",
        Config { writes: &[Write::Set, Write::Set], foreign_sets: 1, cancel: true, patience: true, ..TWO_GETTERS },
    ),
    (
        "three getters and foreign writes",
        Config { getters: 3, foreign_sets: 2, cancel: true, patience: true, ..Config::BASE },
    ),
    (
        "deleting and removing",
        Config { writes: &[Write::Delete], foreign_sets: 1, removals: 2, cancel: true, ..TWO_GETTERS },
    ),
    (
        "heartbeats, a lease that runs out, evictions",
        Config {
            getters: 1,
            writes: &[Write::Set],
            foreign_sets: 1,
            beats: 2,
            lapses: 1,
            evictions: true,
            cancel: true,
            ..Config::BASE
        },
    ),
    (
        "acknowledgements that leave early",
        Config { writes: &[Write::Set], foreign_sets: 1, beats: 1, early_replies: true, ..Config::BASE },
    ),
    (
        "a lost connection with a write that lands late",
        Config { writes: &[Write::Set], foreign_sets: 1, breaks: 1, cancel: true, ..TWO_GETTERS },
    ),
    ("flushes", Config { writes: &[Write::Set], flushes: 1, foreign_sets: 1, cancel: true, ..TWO_GETTERS }),
    ("clearing", Config { writes: &[Write::Clear, Write::Set], foreign_sets: 1, ..TWO_GETTERS }),
    ("scripts", Config { writes: &[Write::Script, Write::Set], cancel: true, ..TWO_GETTERS }),
    (
        "reads on a second connection",
        Config { writes: &[Write::Set, Write::Set], foreign_sets: 1, split_reads: true, cancel: true, ..TWO_GETTERS },
    ),
    (
        "attached writes, all on one connection",
        Config { writes: &[Write::Set], foreign_sets: 1, attached_writes: true, cancel: true, ..TWO_GETTERS },
    ),
];

/// What is explored on request.
const LARGE: &[(&str, Config)] = &[
    (
        "large: three overlapping own writes and a foreign one",
        Config { getters: 1, writes: &[Write::Set, Write::Delete, Write::Set], foreign_sets: 1, ..Config::BASE },
    ),
    (
        "large: overlapping own writes, removals, impatient getters",
        Config {
            writes: &[Write::Set, Write::Delete],
            foreign_sets: 1,
            removals: 1,
            cancel: true,
            patience: true,
            ..TWO_GETTERS
        },
    ),
    (
        "large: three getters, an own write and a foreign one",
        Config { getters: 3, writes: &[Write::Set], foreign_sets: 1, cancel: true, patience: true, ..Config::BASE },
    ),
    (
        "large: acknowledgements that leave early",
        Config { writes: &[Write::Set], foreign_sets: 2, beats: 1, early_replies: true, ..TWO_GETTERS },
    ),
    (
        "large: two lost connections, overlapping own writes",
        Config { getters: 1, writes: &[Write::Set, Write::Set], foreign_sets: 1, breaks: 2, ..Config::BASE },
    ),
    (
        "large: a lost connection, heartbeats, a lease that runs out",
        Config { writes: &[Write::Set], foreign_sets: 1, breaks: 1, beats: 1, lapses: 1, ..TWO_GETTERS },
    ),
    (
        "large: a lost connection and a flush",
        Config { writes: &[Write::Set], foreign_sets: 1, breaks: 1, flushes: 1, ..TWO_GETTERS },
    ),
    (
        "large: clearing, heartbeats, a foreign write",
        Config { writes: &[Write::Clear, Write::Set], foreign_sets: 1, beats: 1, ..TWO_GETTERS },
    ),
];

/// No configuration is larger: one that grows by accident fails instead of filling the memory.
const MOST_STATES: usize = 60_000_000;

fn hold(configurations: &[(&str, Config)]) -> usize {
    let mut total = 0;
    for (name, config) in configurations {
        let report = explore(config, MOST_STATES);
        println!("{:>9} states, {:2} steps deep: {name}", report.states, report.depth);
        if let Some(violation) = report.violation {
            panic!("{name}: {violation}");
        }
        assert!(report.complete, "{name}: more than {MOST_STATES} states");
        total += report.states;
    }
    println!("{total:>9} states in all");
    total
}

#[test]
fn no_promise_is_broken_in_a_million_states() {
    let total = hold(GATE);
    assert!(total >= 1_000_000, "{total} states are too few to rely on");
}

#[test]
fn no_promise_is_broken_in_the_large_configurations_when_they_are_asked_for() {
    match std::env::var("TWOTIER_TEST_MODEL_STATES").as_deref() {
        Ok("large") => {
            let total = hold(LARGE);
            assert!(total >= 30_000_000, "{total} states are too few for the large run");
        }
        Ok(other) => panic!("TWOTIER_TEST_MODEL_STATES is `large` or not set, not {other:?}"),
        Err(_not_set) => println!("set TWOTIER_TEST_MODEL_STATES=large to explore them"),
    }
}
