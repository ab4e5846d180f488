//! With every rule in force no promise is broken.

use twotier_testkit::protocol::{Config, Promise, Promises, Rule, Rules, Write};

use crate::support::{hold, large_ones_are_asked_for};

const TWO_GETTERS: Config = Config { getters: 2, ..Config::BASE };
/// A dead read, one who joined it, and somebody who reads again.
const THREE_GETTERS: Config = Config { getters: 3, ..Config::BASE };

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
    (
        "a lost connection that the next one cannot end",
        Config {
            writes: &[Write::Set],
            foreign_sets: 1,
            breaks: 1,
            unfenced: true,
            promises: Promises::ALL.except(Promise::SettledByNextLink).except(Promise::NothingUndone),
            ..Config::BASE
        },
    ),
    (
        "writes that miss their deadline, a lost connection",
        Config { writes: &[Write::Set, Write::Delete], breaks: 1, deadlines: true, ordered: true, ..Config::BASE },
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

/// As [`GATE`], for those who joined a read that was killed.
const JOINERS: &[(&str, Config)] = &[
    ("joiners: many foreign writes", Config { foreign_sets: 3, ..THREE_GETTERS }),
    ("joiners: overlapping own writes", Config { writes: &[Write::Set, Write::Set], ..THREE_GETTERS }),
    ("joiners: deleting and a foreign write", Config { writes: &[Write::Delete], foreign_sets: 1, ..THREE_GETTERS }),
    ("joiners: a flush", Config { flushes: 1, foreign_sets: 1, cancel: true, ..THREE_GETTERS }),
    ("joiners: a lost connection", Config { foreign_sets: 1, breaks: 1, cancel: true, ..THREE_GETTERS }),
    ("joiners: clearing", Config { writes: &[Write::Clear], foreign_sets: 1, ..THREE_GETTERS }),
    ("joiners: a script", Config { writes: &[Write::Script], cancel: true, ..THREE_GETTERS }),
    (
        "joiners: reads on a second connection",
        Config { writes: &[Write::Set], foreign_sets: 1, split_reads: true, cancel: true, ..THREE_GETTERS },
    ),
    (
        "joiners: acknowledgements that leave early, heartbeats",
        Config { writes: &[Write::Set], beats: 1, early_replies: true, ..THREE_GETTERS },
    ),
    (
        "joiners: a lease that runs out, evictions",
        Config { foreign_sets: 1, beats: 1, lapses: 1, evictions: true, ..THREE_GETTERS },
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
        "large: three getters, deleting and removing",
        Config { writes: &[Write::Delete], foreign_sets: 1, removals: 1, ..THREE_GETTERS },
    ),
    (
        "large: three getters, a lost connection with a write that lands late",
        Config { writes: &[Write::Set], breaks: 1, ..THREE_GETTERS },
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
        Config {
            writes: &[Write::Clear, Write::Set],
            foreign_sets: 1,
            beats: 1,
            promises: Promises::ALL.except(Promise::BoundedJoins),
            ..TWO_GETTERS
        },
    ),
];

#[test]
fn no_promise_is_broken_in_a_million_states() {
    let total = hold(GATE) + hold(JOINERS);
    assert!(total >= 1_000_000, "{total} states are too few to rely on");
}

/// Making joiners look again when their read was killed or bound is just as safe; it only makes them wait.
#[test]
fn without_the_rules_that_spare_joiners_they_only_wait_longer() {
    for rule in [Rule::JoinersStay, Rule::EarlierJoinersAreFree] {
        let promises = Promises::ALL.except(Promise::ServedBySecond);
        let slower = JOINERS.iter().map(|&(name, config)| {
            let without = Rules::only(rule);
            (name, Config { without, promises, ..config })
        });
        let total = hold(&slower.collect::<Vec<_>>());
        assert!(total >= 1_000_000, "{total} states without {rule:?} are too few to rely on");
    }
}

#[test]
fn no_promise_is_broken_in_the_large_configurations_when_they_are_asked_for() {
    if large_ones_are_asked_for() {
        let total = hold(LARGE);
        assert!(total >= 30_000_000, "{total} states are too few for the large run");
    }
}
