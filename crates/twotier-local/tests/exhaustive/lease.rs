//! Epoch and lease are two atomics: no pairing of them that a reader can see lets a hit through that owes a write.

use std::sync::Arc;

use twotier_core::{ChangeListener, Lease, LinkId, Mark, Timestamp};

use crate::{
    link::{Links, is_up},
    setting::{BOUND, Tier, Time, both, explore, fill, mark, put, unlinked},
    sync::{AtomicU64, Ordering},
    tier::Read,
};
use std::time::Duration;

/// An entry read in the link's present epoch, if it is up by now.
fn filled_now(tier: &Tier, version: u64) -> bool {
    match tier.read("k") {
        Read::Lead(ticket, _) => fill(ticket, version),
        Read::Bypass(..) | Read::Hit(_) | Read::Join(_) => false,
    }
}

#[test]
fn an_unlimited_lease_does_not_outlive_its_link() {
    explore(|| {
        let time = Time::default();
        let tier = unlinked(10, Arc::new(time.clone()));
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        tier.link_down(LinkId::ONLY);
        let linking = tier.clone();
        both(
            move || linking.link_up(LinkId::ONLY, Lease::Renewed),
            || {
                if filled_now(&tier, 1) {
                    // Nothing was reported since: somebody may have written the key in the first of these steps.
                    time.advance(BOUND + 1);
                    assert_eq!(tier.get("k"), None, "a hit without proof of life");
                }
            },
        );
    });
}

#[test]
fn nothing_is_served_once_a_lost_link_was_reported() {
    explore(|| {
        let time = Time::default();
        let tier = unlinked(10, Arc::new(time));
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        put(&tier, 1);
        let lost = Arc::new(AtomicU64::new(0));
        let (linking, observed) = (tier.clone(), Arc::clone(&lost));
        both(
            move || {
                linking.link_down(LinkId::ONLY);
                observed.store(1, Ordering::Release);
                linking.link_up(LinkId::ONLY, Lease::Unlimited);
            },
            || {
                let lost = lost.load(Ordering::Acquire) == 1;
                assert!(!(lost && tier.get("k").is_some()), "an entry of a lost link");
            },
        );
        assert_eq!(tier.get("k"), None);
    });
}

/// A proof of the last link that is parked between its look at the epoch and its word about the lease.
#[test]
fn a_late_proof_of_the_last_link_lets_no_hit_through_that_owes_a_write() {
    explore(|| {
        let time = Time::default();
        let tier = unlinked(10, Arc::new(time.clone()));
        tier.link_up(LinkId::ONLY, Lease::Renewed);
        let proving = tier.clone();
        let proof = Mark::new(LinkId::ONLY, tier.mark(LinkId::ONLY).epoch, Timestamp::ZERO);
        both(
            move || proving.proof_of_life(proof),
            || {
                time.advance(1);
                tier.link_down(LinkId::ONLY);
                tier.link_up(LinkId::ONLY, Lease::Renewed);
                if filled_now(&tier, 1) {
                    // Written by somebody else in the step in which we read it, and never reported: the new link is
                    // dead.
                    let written = time.steps();
                    time.advance(BOUND - 1);
                    let _may_be_served = tier.get("k");
                    time.advance(1);
                    let stale = tier.get("k").is_some() && time.steps() >= written + BOUND;
                    assert!(!stale, "served {BOUND} steps after it was overwritten");
                }
            },
        );
    });
}

/// The link alone, as a hit sees it: the lease, then the epoch.
#[test]
fn a_lease_is_never_seen_with_an_epoch_older_than_the_one_it_was_granted_in() {
    explore(|| {
        let link = Arc::new(Links::new(Duration::from_nanos(BOUND), Duration::ZERO, true));
        link.up(LinkId::ONLY, Lease::Renewed);
        let changing = Arc::clone(&link);
        both(
            move || {
                changing.proof(mark(1, 1));
                changing.down(LinkId::ONLY);
                changing.up(LinkId::ONLY, Lease::Renewed);
                changing.proof(mark(3, 5));
            },
            || {
                let (lease, epoch) = link.lease_and_epoch(LinkId::ONLY);
                let lease = lease.as_nanos();
                assert!(lease != 1 + BOUND || epoch >= 1);
                assert!(lease != 5 + BOUND || epoch >= 3, "the lease of epoch 3 with epoch {epoch}");
            },
        );
    });
}

#[test]
fn an_unlimited_lease_is_never_seen_with_an_epoch_from_before_it() {
    explore(|| {
        let link = Arc::new(Links::new(Duration::from_nanos(BOUND), Duration::ZERO, true));
        link.up(LinkId::ONLY, Lease::Renewed);
        let changing = Arc::clone(&link);
        both(
            move || {
                changing.down(LinkId::ONLY);
                changing.up(LinkId::ONLY, Lease::Unlimited);
            },
            || {
                let (lease, epoch) = link.lease_and_epoch(LinkId::ONLY);
                assert!(lease != Timestamp::MAX || epoch >= 2, "an entry of epoch {epoch} served for ever");
            },
        );
    });
}

#[test]
fn changes_of_the_epoch_at_the_same_time_all_count() {
    explore(|| {
        let link = Arc::new(Links::new(Duration::from_nanos(BOUND), Duration::ZERO, true));
        link.up(LinkId::ONLY, Lease::Unlimited);
        let flushing = Arc::clone(&link);
        both(
            move || flushing.flush(LinkId::ONLY),
            || {
                link.down(LinkId::ONLY);
                assert!(!is_up(link.epoch(LinkId::ONLY)), "down, and a flush brought it up");
                link.up(LinkId::ONLY, Lease::Unlimited);
            },
        );
        let (flushes, links) = link.flushes_and_links();
        assert!(is_up(link.epoch(LinkId::ONLY)));
        assert_eq!(links, 2);
        assert_eq!(link.epoch(LinkId::ONLY), 2 * links - 1 + 2 * (flushes - 1));
    });
}
