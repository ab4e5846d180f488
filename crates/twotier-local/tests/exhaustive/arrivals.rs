//! Raw answers: whoever is polled makes the value, once, for everybody; nobody waits for somebody who is not polled,
//! and nothing of an answer that nobody waits for is left.

use std::sync::{Arc, Weak};

use loom::thread;
use twotier_core::{ChangeListener, LinkId};

use crate::{
    flight::Joined,
    setting::{both, explore_under_lru, fill, go_on, join, lead_and_join, linked, push, wait},
    tier::Read,
};

#[test]
fn whoever_waits_for_a_raw_answer_is_given_its_value() {
    explore_under_lru(None, || {
        let tier = linked();
        let (ticket, joiner) = lead_and_join(&tier);
        let (outcome, ()) = both(move || wait(joiner), || ticket.arrived(|ticket| assert!(fill(ticket, 1))));
        assert_eq!(outcome, Joined::Value(1));
        assert_eq!(tier.get("k"), Some(1));
    });
}

#[test]
fn a_joiner_that_is_never_polled_holds_nobody_up() {
    explore_under_lru(None, || {
        let tier = linked();
        let (ticket, unpolled) = lead_and_join(&tier);
        let polled = join(&tier);
        let (outcome, ()) = both(move || wait(polled), || ticket.arrived(|ticket| assert!(fill(ticket, 1))));
        assert_eq!(outcome, Joined::Value(1));
        drop(unpolled);
    });
}

#[test]
fn a_joiner_that_goes_away_as_the_answer_arrives_takes_it_from_nobody() {
    explore_under_lru(None, || {
        let tier = linked();
        let (ticket, leaves) = lead_and_join(&tier);
        let polled = join(&tier);
        ticket.arrived(|ticket| assert!(fill(ticket, 1)));
        let (outcome, ()) = both(move || wait(polled), move || drop(leaves));
        assert_eq!(outcome, Joined::Value(1));
    });
}

#[test]
fn of_two_who_wait_one_makes_the_value_and_both_are_given_it() {
    // Three threads that block have too many executions for all of them.
    explore_under_lru(Some(2), || {
        let tier = linked();
        let (ticket, one) = lead_and_join(&tier);
        let two = join(&tier);
        let one = thread::spawn(move || wait(one));
        let two = thread::spawn(move || wait(two));
        // Made twice, it would have to be given the ticket twice.
        ticket.arrived(|ticket| assert!(fill(ticket, 1)));
        assert_eq!(one.join().unwrap(), Joined::Value(1));
        assert_eq!(two.join().unwrap(), Joined::Value(1));
    });
}

#[test]
fn an_answer_that_cannot_be_decoded_leaves_nobody_waiting() {
    explore_under_lru(Some(4), || {
        let tier = linked();
        let (ticket, one) = lead_and_join(&tier);
        let two = join(&tier);
        ticket.arrived(drop);
        let outcomes = both(move || wait(one), move || wait(two));
        assert_eq!(outcomes, (Joined::ElectAgain, Joined::ElectAgain));
        assert!(matches!(tier.read("k"), Read::Lead(..)), "the read was left behind");
    });
}

#[test]
fn an_answer_that_arrives_as_the_last_joiner_goes_away_is_dropped() {
    explore_under_lru(None, || {
        let tier = linked();
        let (ticket, joiner) = lead_and_join(&tier);
        let raw = Arc::new(());
        let left = Arc::downgrade(&raw);
        both(move || drop(joiner), || ticket.arrived(move |_ticket| panic!("decoded for nobody: {raw:?}")));
        assert_eq!(Weak::strong_count(&left), 0, "a raw answer was left behind");
        assert!(matches!(tier.read("k"), Read::Lead(..)), "the read was left behind");
    });
}

#[test]
fn whoever_joins_as_the_last_joiner_goes_away_is_given_an_answer() {
    explore_under_lru(None, || {
        let tier = linked();
        let (ticket, leaves) = lead_and_join(&tier);
        ticket.arrived(|ticket| assert!(fill(ticket, 1)));
        let joining = tier.clone();
        let again = |ticket| if fill(ticket, 1) { 1 } else { panic!("nothing came in between") };
        let (version, ()) = both(move || go_on(&joining, joining.read("k"), again), move || drop(leaves));
        assert_eq!(version, 1);
        assert_eq!(tier.get("k"), Some(1));
    });
}

#[test]
fn an_answer_is_not_kept_when_a_change_is_reported_before_it_is_made_a_value() {
    explore_under_lru(None, || {
        let tier = linked();
        let (ticket, joiner) = lead_and_join(&tier);
        ticket.arrived(|ticket| _ = fill(ticket, 1));
        let (outcome, later) = both(
            move || wait(joiner),
            || {
                push(&tier);
                assert_eq!(tier.get("k"), None, "older than the news");
                tier.read("k")
            },
        );
        assert_eq!(outcome, Joined::Value(1), "it began before the change");
        assert!(matches!(later, Read::Lead(..)), "given what was read before the change: {later:?}");
        assert_eq!(tier.get("k"), None, "older than the news, and there for good");
    });
}

#[test]
fn forgetting_a_key_ends_the_wait_of_its_joiners() {
    explore_under_lru(None, || {
        let tier = linked();
        let (ticket, joiner) = lead_and_join(&tier);
        let raw = Arc::new(());
        let left = Arc::downgrade(&raw);
        ticket.arrived(move |ticket| {
            let _held = raw;
            fill(ticket, 1);
        });
        let (outcome, _) = both(move || wait(joiner), || tier.invalidate("k"));
        assert!(matches!(outcome, Joined::Value(1) | Joined::ElectAgain));
        assert_eq!(Weak::strong_count(&left), 0, "a raw answer was left behind");
        assert_eq!(tier.get("k"), None);
    });
}

#[test]
fn an_answer_that_crosses_a_lost_link_is_given_and_not_kept() {
    explore_under_lru(None, || {
        let tier = linked();
        let (ticket, joiner) = lead_and_join(&tier);
        let (outcome, ()) = both(
            move || wait(joiner),
            || {
                tier.link_down(LinkId::ONLY);
                ticket.arrived(|ticket| assert!(!fill(ticket, 1)));
            },
        );
        assert_eq!(outcome, Joined::Value(1));
    });
}
