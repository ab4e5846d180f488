//! Each rule is needed: without it the model finds the promise that breaks, and with it that configuration keeps all.

use twotier_testkit::protocol::{Config, Promise, Promises, Rule, Rules, Write, explore};

use crate::support::{LIMIT, breaks, breaks_early, needed};

/// One getter and one own write.
const ONE: Config = Config { writes: &[Write::Set], ..Config::BASE };
/// As many getters as needed, no own write.
const READS: Config = Config { writes: &[], ..ONE };

#[test]
fn overlapping_own_writes_install_nothing() {
    let config = Config { writes: &[Write::Set, Write::Set], ..ONE };
    needed(Rule::OverlapInstallsNothing, Promise::ReadYourWrites, config);
}

#[test]
fn the_write_registered_last_does_not_install_either() {
    let config = Config { writes: &[Write::Set, Write::Set], ..ONE };
    needed(Rule::LastRegisteredMayNotInstall, Promise::ReadYourWrites, config);
}

#[test]
fn a_push_before_the_acknowledgement_kills_the_write() {
    needed(Rule::PushKillsWrite, Promise::NotStaleForEver, Config { foreign_sets: 1, ..ONE });
}

#[test]
fn a_write_does_not_install_after_a_flush() {
    needed(Rule::WriteChecksEpoch, Promise::NotStaleForEver, Config { flushes: 1, ..ONE });
}

#[test]
fn a_write_does_not_install_after_its_connection_was_lost() {
    needed(Rule::WriteChecksEpoch, Promise::NotStaleForEver, Config { breaks: 1, foreign_sets: 1, ..ONE });
}

#[test]
fn the_default_tracking_mode_forgets_what_is_written_by_ourselves() {
    needed(Rule::Broadcast, Promise::NotStaleForEver, Config { foreign_sets: 1, ..ONE });
}

#[test]
fn no_fill_inserts_while_an_own_write_is_pending() {
    needed(Rule::PendingGate, Promise::BoundedStaleness, Config { beats: 1, ..ONE });
}

#[test]
fn the_entry_goes_when_the_write_is_registered() {
    needed(Rule::WriteEvictsAtRegistration, Promise::BoundedStaleness, Config { beats: 1, ..ONE });
}

#[test]
fn the_end_of_a_write_kills_reads_that_began_during_it() {
    needed(Rule::WriteKillsAtEnd, Promise::ReadYourWrites, ONE);
}

#[test]
fn a_refused_fill_evicts_the_entry() {
    needed(Rule::RefusedFillEvicts, Promise::MonotonicReads, Config { getters: 2, foreign_sets: 1, ..ONE });
}

#[test]
fn a_refused_fill_kills_the_pending_write() {
    needed(Rule::RefusedFillKillsWrite, Promise::MonotonicReads, Config { foreign_sets: 1, ..ONE });
}

#[test]
fn a_refused_fill_binds_the_read_registered_in_its_place() {
    needed(Rule::RefusedFillBindsFlight, Promise::MonotonicReads, Config { getters: 2, foreign_sets: 2, ..READS });
}

#[test]
fn a_refused_fill_binds_the_read_that_an_impatient_joiner_registered() {
    let config = Config { getters: 2, foreign_sets: 1, patience: true, ..READS };
    needed(Rule::RefusedFillBindsFlight, Promise::MonotonicReads, config);
}

#[test]
fn a_read_that_began_while_the_link_was_down_leaves_no_older_entry() {
    let config = Config { getters: 2, breaks: 1, foreign_sets: 1, ..READS };
    needed(Rule::BypassEndsAsRefused, Promise::MonotonicReads, config);
}

#[test]
fn a_read_that_began_while_the_link_was_down_kills_the_pending_write() {
    needed(Rule::BypassEndsAsRefused, Promise::MonotonicReads, Config { breaks: 1, foreign_sets: 1, ..ONE });
}

#[test]
fn nothing_is_inserted_while_the_namespace_is_being_cleared() {
    let config = Config { writes: &[Write::Clear], beats: 1, ..ONE };
    needed(Rule::ClearGatesFills, Promise::Announced, config);
    needed(Rule::ClearGatesFills, Promise::BoundedStaleness, config);
}

#[test]
fn a_dropped_get_takes_its_registration_with_it() {
    needed(Rule::DropGuard, Promise::NothingLeaks, Config { getters: 2, cancel: true, ..READS });
}

#[test]
fn a_dropped_write_takes_its_registration_with_it() {
    needed(Rule::DropGuard, Promise::NothingLeaks, Config { attached_writes: true, ..ONE });
}

#[test]
fn a_dead_read_is_not_joined() {
    needed(Rule::JoinOnlyLive, Promise::ReadYourWrites, Config { getters: 2, ..ONE });
}

#[test]
fn whoever_joined_a_read_is_given_its_answer_though_it_was_killed() {
    let foreign = Config { getters: 3, foreign_sets: 2, ..READS };
    needed(Rule::JoinersStay, Promise::ServedBySecond, foreign);
    let own = Config { getters: 3, writes: &[Write::Set, Write::Set], ..READS };
    breaks_early(Rule::JoinersStay, Promise::ServedBySecond, own);
}

#[test]
fn whoever_joins_a_bound_read_takes_those_bytes_only() {
    needed(Rule::JoinersOfBoundAreBound, Promise::MonotonicReads, Config { getters: 2, foreign_sets: 2, ..READS });
    let impatient = Config { getters: 2, foreign_sets: 1, patience: true, ..READS };
    needed(Rule::JoinersOfBoundAreBound, Promise::MonotonicReads, impatient);
}

#[test]
fn a_bound_read_binds_only_those_who_began_later() {
    let config = Config { getters: 3, foreign_sets: 3, ..READS };
    needed(Rule::EarlierJoinersAreFree, Promise::ServedBySecond, config);
    // It is only slower.
    let promises = Promises::ALL.except(Promise::ServedBySecond);
    let report = explore(&Config { without: Rules::only(Rule::EarlierJoinersAreFree), promises, ..config }, LIMIT);
    assert!(report.complete, "{:?}", report.violation);
}

#[test]
fn a_read_older_than_the_bound_is_not_joined() {
    needed(Rule::JoinOnlyYoung, Promise::BoundedJoins, Config { getters: 2, beats: 1, ..ONE });
}

#[test]
fn only_the_registered_read_inserts() {
    needed(Rule::OnlyRegisteredInserts, Promise::NotStaleForEver, Config { foreign_sets: 1, ..READS });
}

#[test]
fn a_read_does_not_insert_after_a_flush() {
    needed(Rule::FillChecksEpoch, Promise::NotStaleForEver, Config { flushes: 1, ..READS });
}

#[test]
fn a_read_does_not_insert_after_its_connection_was_lost() {
    needed(Rule::FillChecksEpoch, Promise::NotStaleForEver, Config { breaks: 1, foreign_sets: 1, ..READS });
}

#[test]
fn the_epoch_goes_up_after_tracking_is_on() {
    needed(Rule::TrackingBeforeEpoch, Promise::NotStaleForEver, Config { breaks: 1, foreign_sets: 1, ..READS });
}

#[test]
fn what_the_old_connection_writes_is_foreign_to_the_new_one() {
    // Where a new link may end the old one there is nothing to be taken for own or foreign.
    let promises = Promises::ALL.except(Promise::SettledByNextLink).except(Promise::NothingUndone);
    let config = Config { breaks: 1, unfenced: true, promises, ..ONE };
    needed(Rule::ZombieIsForeign, Promise::NotStaleForEver, config);
}

#[test]
fn a_lease_counts_from_before_its_request_was_sent() {
    needed(Rule::LeaseFromMark, Promise::BoundedStaleness, Config { beats: 1, foreign_sets: 1, ..READS });
}

#[test]
fn a_lease_needs_a_second_reply_where_acknowledgements_leave_early() {
    let config = Config { beats: 1, foreign_sets: 1, early_replies: true, ..READS };
    needed(Rule::LeaseNeedsSecondReply, Promise::BoundedStaleness, config);
}

#[test]
fn a_single_reply_is_a_fence_where_they_do_not() {
    let config = Config { beats: 2, foreign_sets: 2, ..ONE };
    let report = explore(&Config { without: Rules::only(Rule::LeaseNeedsSecondReply), ..config }, LIMIT);
    assert!(report.complete, "{:?}", report.violation);
}

#[test]
fn reads_on_a_second_connection_ask_for_detached_writes() {
    let config = Config { split_reads: true, cancel: true, ..ONE };
    let attached = Config { attached_writes: true, promises: Promises::only(Promise::NotStaleForEver), ..config };
    breaks("detached writes, with reads on a second connection,", &attached, &config);
}
