//! What a write that failed may have done: nothing if it was not sent, and nothing once the next link is up.

use twotier_testkit::protocol::{Config, Promise, Rule, Write};

use crate::support::needed;

/// Two own writes, and a getter that sees what becomes of them.
const TWO_WRITES: Config = Config { writes: &[Write::Set, Write::Set], ..Config::BASE };

#[test]
fn a_write_that_misses_its_deadline_unqueued_is_never_sent() {
    let config = Config { deadlines: true, ..TWO_WRITES };
    needed(Rule::UnsentStaysUnsent, Promise::UnsentHasNoEffect, config);
}

#[test]
fn a_late_write_undoes_what_was_acknowledged() {
    let config = Config { deadlines: true, ..TWO_WRITES };
    needed(Rule::UnsentStaysUnsent, Promise::NothingUndone, config);
}

#[test]
fn a_late_write_over_the_next_link_undoes_what_was_acknowledged() {
    let config = Config { getters: 0, breaks: 1, ..TWO_WRITES };
    needed(Rule::UnsentStaysUnsent, Promise::UnsentHasNoEffect, Config { deadlines: true, ..config });
}

#[test]
fn writes_of_one_key_are_queued_in_the_order_of_their_calls() {
    needed(Rule::QueuedInCallOrder, Promise::CallOrder, Config { ordered: true, ..TWO_WRITES });
    let lost = Config { getters: 0, ordered: true, breaks: 1, deadlines: true, ..TWO_WRITES };
    needed(Rule::QueuedInCallOrder, Promise::CallOrder, lost);
}

#[test]
fn a_new_link_ends_the_old_one_before_it_is_published() {
    let config = Config { breaks: 1, writes: &[Write::Set], ..Config::BASE };
    needed(Rule::NewLinkEndsTheOld, Promise::SettledByNextLink, config);
}

#[test]
fn a_zombie_write_undoes_what_was_acknowledged_over_the_next_link() {
    needed(Rule::NewLinkEndsTheOld, Promise::NothingUndone, Config { getters: 0, breaks: 1, ..TWO_WRITES });
    let deletes = Config { getters: 0, breaks: 1, writes: &[Write::Set, Write::Delete], ..Config::BASE };
    needed(Rule::NewLinkEndsTheOld, Promise::NothingUndone, deletes);
}
