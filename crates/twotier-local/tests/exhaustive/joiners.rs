//! Those who wait for somebody else's read: they are always told, once, and never by a read that was dead.

use loom::{future::block_on, thread};
use twotier_core::ChangeListener;

use crate::{
    flight::{Joined, Joiner},
    setting::{Backend, Ticket, both, explore, explore_up_to, fill, join, lead, linked, push, read},
    tier::Read,
};

fn wait(joiner: Joiner<u64, &'static str>) -> Joined<u64, &'static str> {
    block_on(async move { joiner.wait().await })
}

/// Ends a read in some way while somebody waits for it.
fn a_joiner_of(end: impl Fn(Ticket) + Copy + Send + Sync + 'static, expected: Joined<u64, &'static str>) {
    explore(move || {
        let tier = linked();
        let ticket = lead(&tier);
        let joiner = join(&tier);
        let (outcome, ()) = both(move || wait(joiner), || end(ticket));
        assert_eq!(outcome, expected);
    });
}

#[test]
fn those_who_joined_are_given_the_value() {
    a_joiner_of(|ticket| assert!(fill(ticket, 1)), Joined::Value(1));
}

#[test]
fn those_who_joined_are_given_the_error() {
    a_joiner_of(|ticket| ticket.fail("down"), Joined::Failed("down"));
}

#[test]
fn those_who_joined_elect_again_when_the_leader_goes_away() {
    a_joiner_of(drop, Joined::ElectAgain);
}

#[test]
fn two_who_wait_are_both_woken() {
    // Three threads that block have too many executions for all of them.
    explore_up_to(Some(2), || {
        let tier = linked();
        let ticket = lead(&tier);
        let (one, two) = (join(&tier), join(&tier));
        let one = thread::spawn(move || wait(one));
        let two = thread::spawn(move || wait(two));
        assert!(fill(ticket, 1));
        assert_eq!(one.join().unwrap(), Joined::Value(1));
        assert_eq!(two.join().unwrap(), Joined::Value(1));
    });
}

/// A read that is found to be dead, because the key can be led again, before it ends.
fn a_dead_read_that(end: impl Fn(Ticket) + Copy + Send + Sync + 'static) {
    explore(move || {
        let tier = linked();
        let ticket = lead(&tier);
        let joiner = join(&tier);
        let pushing = tier.clone();
        let ((), dead) = both(
            move || push(&pushing),
            || {
                let second = tier.read("k");
                let dead = matches!(second, Read::Lead(_));
                end(ticket);
                drop(second);
                dead
            },
        );
        let outcome = wait(joiner);
        assert!(!dead || outcome == Joined::ElectAgain, "told {outcome:?} by a read that was dead already");
    });
}

#[test]
fn nobody_is_given_the_value_of_a_read_that_was_overtaken() {
    a_dead_read_that(|ticket| _ = fill(ticket, 1));
}

#[test]
fn nobody_is_given_the_error_of_a_read_that_was_overtaken() {
    a_dead_read_that(|ticket| ticket.fail("down"));
}

#[test]
fn two_reads_of_one_key_both_end_whoever_leads() {
    explore(|| {
        let (tier, backend) = (linked(), Backend::default());
        backend.write(1);
        let (reading, origin) = (tier.clone(), backend.clone());
        let seen = both(move || read(&reading, &origin), || read(&tier, &backend));
        assert_eq!(seen, (1, 1));
        assert_eq!(tier.get("k"), Some(1));
    });
}

#[test]
fn a_read_that_begins_after_a_change_is_not_given_what_was_read_before_it() {
    explore(|| {
        let (tier, backend) = (linked(), Backend::default());
        let (reading, origin) = (tier.clone(), backend.clone());
        both(
            move || read(&reading, &origin),
            || {
                backend.write(1);
                push(&tier);
                assert_eq!(read(&tier, &backend), 1, "reported, and older");
            },
        );
    });
}

#[test]
fn a_read_that_begins_after_a_flush_is_not_given_what_was_read_before_it() {
    explore(|| {
        let (tier, backend) = (linked(), Backend::default());
        let (reading, origin) = (tier.clone(), backend.clone());
        both(
            move || read(&reading, &origin),
            || {
                backend.write(1);
                tier.flushed();
                assert_eq!(read(&tier, &backend), 1, "flushed, and older");
            },
        );
    });
}

#[test]
fn one_of_those_who_wait_reads_for_all() {
    explore(|| {
        let tier = linked();
        let _ticket = lead(&tier);
        let (one, two) = (join(&tier), join(&tier));
        let (first, second) = both(move || one.volunteer(), || two.volunteer());
        assert!(first != second);
    });
}
