//! Those who wait for somebody else's read: each receives one outcome, and never that of a read that was dead.

use loom::thread;
use twotier_core::{ChangeListener, LinkId};

use crate::{
    flight::Joined,
    setting::{Backend, Ticket, both, explore, explore_up_to, fill, join, lead, linked, push, read, wait},
    sync::{AtomicU64, Ordering},
    tier::Read,
};

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
    explore_up_to(2, || {
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

/// A read that is overtaken by a change while somebody waits for it, and somebody else who begins after the change.
fn an_overtaken_read_that(
    end: impl Fn(Ticket) + Copy + Send + Sync + 'static,
    expected: &'static [Joined<u64, &'static str>],
) {
    explore(move || {
        let tier = linked();
        let ticket = lead(&tier);
        let joiner = join(&tier);
        let pushing = tier.clone();
        let (later, ()) = both(
            move || {
                push(&pushing);
                pushing.read("k")
            },
            || end(ticket),
        );
        assert!(matches!(later, Read::Lead(..)), "given what was read before the change: {later:?}");
        let outcome = wait(joiner);
        assert!(expected.contains(&outcome), "received {outcome:?}");
    });
}

#[test]
fn only_those_who_joined_before_a_change_are_given_what_was_read_before_it() {
    an_overtaken_read_that(|ticket| _ = fill(ticket, 1), &[Joined::Value(1)]);
}

#[test]
fn those_who_joined_a_read_that_was_overtaken_and_failed_look_again() {
    an_overtaken_read_that(|ticket| ticket.fail("down"), &[Joined::Failed("down"), Joined::ElectAgain]);
}

/// A read is bound while somebody joins it: whoever joins after the refused answer was returned takes no other bytes.
#[test]
fn whoever_joins_after_a_newer_answer_was_returned_is_given_nothing_older() {
    explore(|| {
        let tier = linked();
        let overtaken = lead(&tier);
        push(&tier);
        let second = lead(&tier);
        let joining = tier.clone();
        let returned = std::sync::Arc::new(AtomicU64::new(0));
        let seen = std::sync::Arc::clone(&returned);
        let ((floor, later), ()) = both(
            move || {
                let floor = seen.load(Ordering::Acquire);
                (floor, joining.read("k"))
            },
            || {
                assert!(!fill(overtaken, 2));
                returned.store(2, Ordering::Release);
            },
        );
        let Read::Join(joiner) = later else { panic!("the second read was dead: {later:?}") };
        assert!(!fill(second, 1));
        let outcome = wait(joiner);
        assert!(outcome == Joined::ElectAgain || floor == 0, "received {outcome:?} after version {floor}");
    });
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
                tier.flushed(LinkId::ONLY);
                assert_eq!(read(&tier, &backend), 1, "flushed, and older");
            },
        );
    });
}
