//! Loads: an origin whose rows change, loaders that read a row and store it late, and every rule that keeps an old row
//! from replacing a newer one.

use twotier_testkit::protocol::{Config, Promise, Promises, Rule, Write};

use crate::support::{hold, large_ones_are_asked_for, needed, one_needed};

/// One caller that loads.
const LOADER: Config = Config { loaders: 1, loads: 1, ordered: true, ..Config::BASE };
/// A caller that loads and one that reads.
const LOADER_AND_GETTER: Config = Config { getters: 2, ..LOADER };
/// Two callers that load, more than once.
const TWO_LOADERS: Config = Config { getters: 2, loaders: 2, loads: 2, ..LOADER };

/// What is promised where nothing is reported.
const UNREPORTED: Promises = Promises::only(Promise::ReadYourWrites)
    .and(Promise::MonotonicReads)
    .and(Promise::NothingLeaks)
    .and(Promise::UnsentHasNoEffect)
    .and(Promise::NothingUndone)
    .and(Promise::CallOrder)
    .and(Promise::FreshLoads)
    .and(Promise::MonotonicLoads);

/// What every run explores.
const GATE: &[(&str, Config)] = &[
    ("loads: somebody else writes", Config { foreign_sets: 1, removals: 1, beats: 1, ..LOADER_AND_GETTER }),
    ("loads: somebody else writes twice", Config { foreign_sets: 2, ..LOADER_AND_GETTER }),
    ("loads: somebody else deletes", Config { foreign_sets: 1, foreign_deletes: 1, beats: 1, ..LOADER_AND_GETTER }),
    ("loads: own writes", Config { writes: &[Write::Set], removals: 1, cancel: true, ..LOADER_AND_GETTER }),
    ("loads: own deletions", Config { writes: &[Write::Delete], cancel: true, ..TWO_LOADERS }),
    (
        "loads: own deletions whose row changes late",
        Config { writes: &[Write::Delete], late_rows: true, removals: 1, ..TWO_LOADERS },
    ),
    ("loads: own writes and deletions", Config { writes: &[Write::Delete, Write::Set], removals: 1, ..LOADER }),
    ("loads: a lost connection", Config { foreign_sets: 1, breaks: 1, ..LOADER_AND_GETTER }),
    (
        "loads: a lost connection and an own deletion",
        Config { writes: &[Write::Delete], breaks: 1, loads: 2, ..LOADER },
    ),
    ("loads: a flush", Config { foreign_sets: 1, flushes: 1, ..LOADER_AND_GETTER }),
    ("loads: clearing", Config { writes: &[Write::Clear], foreign_sets: 1, ..LOADER_AND_GETTER }),
    ("loads: two loaders and somebody else", Config { foreign_sets: 1, removals: 1, cancel: true, ..TWO_LOADERS }),
    ("loads: reads on a second connection", Config { foreign_sets: 1, removals: 1, split_reads: true, ..TWO_LOADERS }),
    (
        "loads: reads on a second connection, own deletions",
        Config { writes: &[Write::Delete], split_reads: true, cancel: true, patience: true, ..TWO_LOADERS },
    ),
    ("loads: three callers", Config { getters: 3, foreign_sets: 1, ..TWO_LOADERS }),
    (
        "loads: a lost connection and deletions of somebody else",
        Config { foreign_deletes: 1, breaks: 1, split_reads: true, ..TWO_LOADERS },
    ),
    (
        "loads: own writes that miss their deadline",
        Config { writes: &[Write::Set], deadlines: true, breaks: 1, removals: 1, ..LOADER },
    ),
    (
        "loads: nothing is reported",
        Config { foreign_sets: 2, unreported: true, evictions: true, promises: UNREPORTED, ..TWO_LOADERS },
    ),
    (
        "loads: nothing is reported, own writes",
        Config { writes: &[Write::Delete], unreported: true, evictions: true, promises: UNREPORTED, ..TWO_LOADERS },
    ),
];

/// What is explored on request.
const LARGE: &[(&str, Config)] = &[
    (
        "large: loads, somebody else writes twice",
        Config { foreign_sets: 2, removals: 1, beats: 1, ..LOADER_AND_GETTER },
    ),
    (
        "large: loads, three callers, impatient and dropped",
        Config { getters: 3, foreign_sets: 1, removals: 1, cancel: true, patience: true, ..TWO_LOADERS },
    ),
    (
        "large: loads, three callers and own writes",
        Config { getters: 3, writes: &[Write::Set], removals: 1, cancel: true, patience: true, ..TWO_LOADERS },
    ),
    (
        "large: loads, three callers, somebody else writes and deletes",
        Config { getters: 3, foreign_sets: 1, foreign_deletes: 1, ..TWO_LOADERS },
    ),
    (
        "large: loads, two lost connections and own deletions",
        Config { writes: &[Write::Delete], breaks: 2, loads: 2, cancel: true, ..LOADER },
    ),
    (
        "large: loads, reads on a second connection, a lost connection",
        Config { foreign_sets: 2, removals: 1, breaks: 1, split_reads: true, ..TWO_LOADERS },
    ),
];

#[test]
fn no_loaded_value_replaces_a_newer_one_in_every_state() {
    hold(GATE);
}

#[test]
fn loads_keep_their_promises_in_the_large_configurations_when_asked_for() {
    if large_ones_are_asked_for() {
        hold(LARGE);
    }
}

#[test]
fn a_loaded_value_is_stored_only_where_nothing_is() {
    needed(Rule::StoreIsConditional, Promise::FreshLoads, Config { foreign_sets: 1, ..LOADER });
}

#[test]
fn a_report_kills_the_load() {
    let config = Config { foreign_sets: 1, removals: 1, beats: 1, ..LOADER };
    needed(Rule::PushKillsLoad, Promise::FreshLoads, config);
}

#[test]
fn a_lost_link_kills_the_load() {
    let config = Config { foreign_sets: 1, removals: 1, breaks: 1, ..LOADER };
    needed(Rule::LoadChecksEpoch, Promise::FreshLoads, config);
}

/// A load that began before the write is kept from its store while the write is pending, and killed as it ends; or
/// killed as it begins.
#[test]
fn an_own_write_kills_the_load_as_it_begins() {
    let config = Config { writes: &[Write::Delete], ..LOADER };
    for other in [Rule::StoreChecksPending, Rule::WriteEndKillsLoad] {
        one_needed([Rule::WriteBeginKillsLoad, other], Promise::FreshLoads, config);
    }
}

/// A load that began during the write may have read the row before it changed.
#[test]
fn an_own_write_kills_the_load_as_it_ends() {
    let config = Config { writes: &[Write::Delete], late_rows: true, ..LOADER };
    needed(Rule::WriteEndKillsLoad, Promise::FreshLoads, config);
}

#[test]
fn no_loaded_value_is_stored_while_an_own_write_is_pending() {
    let config = Config { writes: &[Write::Delete], late_rows: true, ..LOADER };
    needed(Rule::StoreChecksPending, Promise::FreshLoads, config);
}

#[test]
fn a_loaded_value_that_was_not_stored_leaves_no_older_copy_behind() {
    let config = Config { foreign_sets: 2, ..LOADER_AND_GETTER };
    needed(Rule::UnstoredLoadForgets, Promise::MonotonicLoads, config);
}

/// Else a deletion that begins once the store is registered is executed first, and the store finds the key absent.
#[test]
fn a_store_is_queued_before_any_write_that_is_registered_after_it() {
    let config = Config { writes: &[Write::Delete], ..LOADER };
    needed(Rule::QueuedInCallOrder, Promise::FreshLoads, config);
}

#[test]
fn a_killed_load_is_not_joined() {
    let config = Config { writes: &[Write::Delete], ..TWO_LOADERS };
    needed(Rule::JoinOnlyLiveLoads, Promise::MonotonicLoads, config);
}

#[test]
fn what_a_killed_load_found_in_the_backend_is_not_handed_on() {
    let config = Config { getters: 3, foreign_sets: 1, ..TWO_LOADERS };
    needed(Rule::FoundIsHandedOnByLiveLoads, Promise::MonotonicLoads, config);
}

#[test]
fn a_load_that_saw_something_else_than_a_later_read_is_not_joined() {
    let config = Config {
        getters: 3,
        loaders: 2,
        foreign_sets: 1,
        unreported: true,
        evictions: true,
        promises: UNREPORTED,
        ..LOADER
    };
    needed(Rule::LoadBoundToSeen, Promise::MonotonicLoads, config);
}

#[test]
fn a_store_of_a_lost_link_lands_before_the_next_link_or_never() {
    let config = Config { writes: &[Write::Delete], breaks: 1, ..LOADER };
    needed(Rule::NewLinkEndsTheOld, Promise::FreshLoads, config);
}
