use std::time::Duration;

use twotier_core::{Lease, LinkId, Mark, Timestamp};

use crate::{
    entry::WINDOW,
    link::{Links, is_up},
};

const BOUND: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(4);

fn lease(links: &Links) -> Timestamp {
    links.lease_and_epoch(LinkId::ONLY).0
}

fn links() -> Links {
    Links::new(BOUND, TICK, true)
}

fn at(millis: u64) -> Timestamp {
    Timestamp::ZERO.saturating_add(Duration::from_millis(millis))
}

#[test]
fn every_change_is_idempotent() {
    let link = links();
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
    assert_eq!(link.flushes_and_links(), (2, 1));
}

#[test]
fn a_lease_starts_with_the_first_proof_and_is_shortened_by_the_lag_of_the_clock() {
    let link = links();
    link.up(LinkId::ONLY, Lease::Renewed);
    assert_eq!(lease(&link), Timestamp::ZERO);
    link.proof(Mark::new(LinkId::ONLY, 1, at(100)));
    assert_eq!(lease(&link), at(2096));
    link.proof(Mark::new(LinkId::ONLY, 1, at(50)));
    assert_eq!(lease(&link), at(2096), "an older mark takes nothing away");
}

#[test]
fn a_proof_of_another_epoch_extends_nothing() {
    let link = links();
    link.proof(Mark::new(LinkId::ONLY, 0, at(100)));
    assert_eq!(lease(&link), Timestamp::ZERO, "the link is down");
    link.up(LinkId::ONLY, Lease::Renewed);
    link.flush(LinkId::ONLY);
    link.proof(Mark::new(LinkId::ONLY, 1, at(100)));
    assert_eq!(lease(&link), Timestamp::ZERO, "flushed meanwhile");
}

#[test]
fn an_unlimited_lease_does_not_outlive_its_link() {
    let link = links();
    link.up(LinkId::ONLY, Lease::Unlimited);
    link.down(LinkId::ONLY);
    link.up(LinkId::ONLY, Lease::Renewed);
    assert_eq!(lease(&link), Timestamp::ZERO);
}

#[test]
fn what_happens_to_one_link_touches_no_other() {
    let links = links();
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
    let links = links();
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
    let links = links();
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
    let links = links();
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

#[test]
fn of_an_epoch_that_ended_with_its_link_the_last_proof_is_known_until_a_flush() {
    let links = links();
    let [link, other] = [1, 2].map(LinkId::new);
    links.up(other, Lease::Renewed);
    let mut lost = Vec::new();
    for round in 1..=2 {
        links.up(link, Lease::Renewed);
        let epoch = links.epoch(link);
        assert_eq!(links.proven(link, epoch), Some(Timestamp::ZERO), "nothing is proved yet");
        links.proof(Mark::new(link, epoch, at(100 * round + 2000)));
        assert_eq!(links.proven(link, epoch), Some(at(100 * round + 2000)));
        assert!(!links.keeps(link, epoch), "it is not over");
        links.down(link);
        lost.push((epoch, at(100 * round + 2000)));
    }
    for &(epoch, proof) in &lost {
        assert_eq!((links.proven(link, epoch), links.keeps(link, epoch)), (Some(proof), true));
        assert_eq!(links.proven(other, epoch), None, "it is the epoch of another link");
    }
    assert_eq!(links.proven(link, links.epoch(link)), None, "it is down");
    links.flush(other);
    assert!(links.keeps(link, lost[1].0));
    links.flush(link);
    assert!(lost.iter().all(|&(epoch, _)| links.proven(link, epoch).is_none()), "everything may have changed");
}

#[test]
fn an_epoch_that_a_flush_ended_is_over_though_the_link_is_lost_later() {
    let links = links();
    links.up(LinkId::ONLY, Lease::Unlimited);
    let flushed = links.epoch(LinkId::ONLY);
    links.flush(LinkId::ONLY);
    let lost = links.epoch(LinkId::ONLY);
    links.down(LinkId::ONLY);
    assert_eq!(links.proven(LinkId::ONLY, flushed), None);
    assert_eq!(links.proven(LinkId::ONLY, lost), Some(Timestamp::ZERO), "an unlimited lease proves nothing");
    links.up(LinkId::ONLY, Lease::Unlimited);
    links.all_down();
    assert_eq!(links.proven(LinkId::ONLY, lost), None, "it was closed");
}

#[test]
fn only_so_many_lost_epochs_are_remembered_and_where_none_are_kept_none() {
    let links = links();
    let mut epochs = Vec::new();
    for _ in 0..100 {
        links.up(LinkId::ONLY, Lease::Renewed);
        epochs.push(links.epoch(LinkId::ONLY));
        links.down(LinkId::ONLY);
    }
    let kept = epochs.iter().filter(|&&epoch| links.keeps(LinkId::ONLY, epoch)).count();
    assert_eq!((kept, links.keeps(LinkId::ONLY, epochs[99])), (64, true));
    let forgetful = Links::new(BOUND, TICK, false);
    forgetful.up(LinkId::ONLY, Lease::Renewed);
    let epoch = forgetful.epoch(LinkId::ONLY);
    forgetful.down(LinkId::ONLY);
    assert!(!forgetful.keeps(LinkId::ONLY, epoch) && forgetful.proven(LinkId::ONLY, epoch).is_none());
}
