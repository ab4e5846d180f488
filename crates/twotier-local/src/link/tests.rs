use std::time::Duration;

use twotier_core::{Lease, Mark, Timestamp};

use crate::link::{Changes, LeaseState};

const BOUND: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(4);

fn at(millis: u64) -> Timestamp {
    Timestamp::ZERO.saturating_add(Duration::from_millis(millis))
}

#[test]
fn every_change_is_idempotent() {
    let link = LeaseState::new(BOUND, TICK);
    link.down();
    link.flush();
    assert_eq!(link.epoch(), 0);
    link.up(Lease::Unlimited);
    link.up(Lease::Renewed);
    assert_eq!((link.epoch(), link.lease()), (1, Timestamp::MAX));
    link.flush();
    assert_eq!(link.epoch(), 3);
    link.down();
    link.down();
    assert_eq!(link.epoch(), 4);
    let Changes { flushes, links } = link.changes();
    assert_eq!((flushes, links), (2, 1));
}

#[test]
fn a_lease_starts_with_the_first_proof_and_is_shortened_by_the_lag_of_the_clock() {
    let link = LeaseState::new(BOUND, TICK);
    link.up(Lease::Renewed);
    assert_eq!(link.lease(), Timestamp::ZERO);
    link.proof(Mark::new(1, at(100)));
    assert_eq!(link.lease(), at(2096));
    link.proof(Mark::new(1, at(50)));
    assert_eq!(link.lease(), at(2096), "an older mark takes nothing away");
}

#[test]
fn a_proof_of_another_epoch_extends_nothing() {
    let link = LeaseState::new(BOUND, TICK);
    link.proof(Mark::new(0, at(100)));
    assert_eq!(link.lease(), Timestamp::ZERO, "the link is down");
    link.up(Lease::Renewed);
    link.flush();
    link.proof(Mark::new(1, at(100)));
    assert_eq!(link.lease(), Timestamp::ZERO, "flushed meanwhile");
}

#[test]
fn an_unlimited_lease_does_not_outlive_its_link() {
    let link = LeaseState::new(BOUND, TICK);
    link.up(Lease::Unlimited);
    link.down();
    link.up(Lease::Renewed);
    assert_eq!(link.lease(), Timestamp::ZERO);
}
