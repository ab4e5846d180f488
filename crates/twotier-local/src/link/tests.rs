use std::time::Duration;

use twotier_core::{Lease, LinkId, Mark, Timestamp};

use crate::{
    entry::WINDOW,
    link::{Changes, Links, is_up},
};

const BOUND: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(4);

fn lease(links: &Links) -> Timestamp {
    links.lease_and_epoch(LinkId::ONLY).0
}

fn at(millis: u64) -> Timestamp {
    Timestamp::ZERO.saturating_add(Duration::from_millis(millis))
}

#[test]
fn every_change_is_idempotent() {
    let link = Links::new(BOUND, TICK);
    link.down(LinkId::ONLY);
    link.flush(LinkId::ONLY);
    assert_eq!(link.epoch(LinkId::ONLY), 0);
    link.up(LinkId::ONLY, Lease::Unlimited);
    link.up(LinkId::ONLY, Lease::Renewed);
    assert_eq!((link.epoch(LinkId::ONLY), lease(&link)), (1, Timestamp::MAX));
    link.flush(LinkId::ONLY);
    assert_eq!(link.epoch(LinkId::ONLY), 3);
    link.down(LinkId::ONLY);
    link.down(LinkId::ONLY);
    assert_eq!(link.epoch(LinkId::ONLY), 4);
    let Changes { flushes, links, .. } = link.changes();
    assert_eq!((flushes, links), (2, 1));
}

#[test]
fn a_lease_starts_with_the_first_proof_and_is_shortened_by_the_lag_of_the_clock() {
    let link = Links::new(BOUND, TICK);
    link.up(LinkId::ONLY, Lease::Renewed);
    assert_eq!(lease(&link), Timestamp::ZERO);
    link.proof(Mark::new(LinkId::ONLY, 1, at(100)));
    assert_eq!(lease(&link), at(2096));
    link.proof(Mark::new(LinkId::ONLY, 1, at(50)));
    assert_eq!(lease(&link), at(2096), "an older mark takes nothing away");
}

#[test]
fn a_proof_of_another_epoch_extends_nothing() {
    let link = Links::new(BOUND, TICK);
    link.proof(Mark::new(LinkId::ONLY, 0, at(100)));
    assert_eq!(lease(&link), Timestamp::ZERO, "the link is down");
    link.up(LinkId::ONLY, Lease::Renewed);
    link.flush(LinkId::ONLY);
    link.proof(Mark::new(LinkId::ONLY, 1, at(100)));
    assert_eq!(lease(&link), Timestamp::ZERO, "flushed meanwhile");
}

#[test]
fn an_unlimited_lease_does_not_outlive_its_link() {
    let link = Links::new(BOUND, TICK);
    link.up(LinkId::ONLY, Lease::Unlimited);
    link.down(LinkId::ONLY);
    link.up(LinkId::ONLY, Lease::Renewed);
    assert_eq!(lease(&link), Timestamp::ZERO);
}

#[test]
fn what_happens_to_one_link_touches_no_other() {
    let links = Links::new(BOUND, TICK);
    let [a, b, c] = [1, 2, 1022].map(LinkId::new);
    for link in [a, b, c] {
        links.up(link, Lease::Renewed);
        links.proof(Mark::new(link, links.epoch(link), at(100)));
    }
    let before = links.lease_and_epoch(b);
    assert_eq!(before.0, at(2096));
    links.flush(a);
    links.down(a);
    links.down(c);
    links.proof(Mark::new(a, links.epoch(a), at(200)));
    links.proof(Mark::new(a, before.1, at(300)));
    assert_eq!(links.lease_and_epoch(b), before);
    assert!(links.is_any_up() && !is_up(links.epoch(a)) && !is_up(links.epoch(c)));
    links.all_down();
    assert!(!links.is_any_up());
}

#[test]
fn no_two_epochs_are_the_same_and_a_number_comes_back_with_a_greater_one() {
    let links = Links::new(BOUND, TICK);
    let mut last = 0;
    for number in [0, 1, 2, 1, 1022, 1, 0] {
        let link = LinkId::new(number);
        links.up(link, Lease::Unlimited);
        for _ in 0..2 {
            links.flush(link);
            assert!(is_up(links.epoch(link)) && links.epoch(link) > last, "link {number}");
            last = links.epoch(link);
        }
        links.down(link);
        assert!(links.epoch(link) > last, "link {number}");
        last = links.epoch(link);
    }
}

#[test]
fn a_link_that_there_is_no_room_for_never_is_up() {
    let links = Links::new(BOUND, TICK);
    for number in [1024, u16::MAX] {
        let link = LinkId::new(number);
        links.up(link, Lease::Unlimited);
        links.proof(Mark::new(link, 1, at(100)));
        links.flush(link);
        links.down(link);
        assert_eq!(links.lease_and_epoch(link), (Timestamp::ZERO, 0));
    }
}

/// An entry has few bits for its epoch: all that are current must lie close together.
#[test]
fn a_quiet_link_has_a_new_epoch_now_and_then() {
    let links = Links::new(BOUND, TICK);
    let [busy, quiet] = [1, 2].map(LinkId::new);
    links.up(quiet, Lease::Unlimited);
    links.up(busy, Lease::Unlimited);
    for _ in 0..WINDOW {
        links.flush(busy);
        assert!(links.epoch(busy).abs_diff(links.epoch(quiet)) <= WINDOW + 2);
    }
    assert!(links.epoch(quiet) > WINDOW);
    assert_eq!(links.lease_and_epoch(quiet).0, Timestamp::MAX, "its word is as good as before");
}
