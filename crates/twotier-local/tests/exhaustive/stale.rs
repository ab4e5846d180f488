//! A copy of a link that was lost against whatever brings something newer: once that was handed out the copy is not
//! returned any more.

use std::{sync::Arc, time::Duration};

use twotier_core::{ChangeListener, Lease, LinkId, Namespace};

use crate::{
    digest::Digest,
    load::Load,
    options::LocalOptions,
    setting::{BOUND, LIFE, Tier, Time, both, digest, explore_under_lru, fill, lead},
    sync::{AtomicU64, Ordering},
    tier::{LocalTier, Read},
};

/// A tier that has version 1 of the key from before its link was lost.
fn lost() -> Tier {
    let mut options = LocalOptions::new(10, 1_000_000, Duration::from_nanos(BOUND)).keep_lost(true);
    options.shards = Some(1);
    let tier = LocalTier::new(Namespace::new("n").unwrap(), options, Arc::new(Time::default()));
    tier.link_up(LinkId::ONLY, Lease::Renewed);
    assert!(fill(lead(&tier), 1));
    tier.link_down(LinkId::ONLY);
    tier
}

fn stale(tier: &Tier) -> Option<u64> {
    tier.stale("k", Duration::from_nanos(BOUND), |_| true).map(|copy| copy.value)
}

/// Has `newer` happen while somebody looks for a stale copy, and holds that version 1 is not returned after it has
/// returned.
fn a_stale_copy_against(newer: impl Fn(&Tier) + Copy + Send + Sync + 'static) {
    explore_under_lru(None, move || {
        let tier = lost();
        let (bringing, is_out) = (tier.clone(), Arc::new(AtomicU64::new(0)));
        let out = Arc::clone(&is_out);
        both(
            move || {
                newer(&bringing);
                out.store(1, Ordering::Release);
            },
            || {
                let was_out = is_out.load(Ordering::Acquire) == 1;
                let found = stale(&tier);
                assert!(!(was_out && found == Some(1)), "older than what was handed out");
            },
        );
        assert_ne!(stale(&tier), Some(1), "older than what was handed out, and there for good");
    });
}

#[test]
fn a_read_without_a_link() {
    a_stale_copy_against(|tier| {
        let Read::Bypass(ticket, _) = tier.read("k") else { panic!("the link is down") };
        assert!(!fill(ticket, 2));
    });
}

#[test]
fn a_read_over_the_next_link() {
    a_stale_copy_against(|tier| {
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        assert!(fill(lead(tier), 2));
    });
}

#[test]
fn an_own_write_that_fails() {
    a_stale_copy_against(|tier| drop(tier.begin_write("k", digest(2))));
}

#[test]
fn an_own_write_that_succeeds() {
    a_stale_copy_against(|tier| _ = tier.begin_write("k", digest(2)).install(2, 1, LIFE));
}

#[test]
fn a_load_that_is_not_kept() {
    a_stale_copy_against(|tier| {
        let Load::Lead(ticket) = tier.load("k") else { panic!("nobody else loads") };
        assert!(ticket.saw(Digest::ABSENT));
        ticket.supersede();
        ticket.finish(Ok(2));
    });
}

#[test]
fn a_load_that_the_next_link_overtakes() {
    a_stale_copy_against(|tier| {
        let Load::Lead(ticket) = tier.load("k") else { panic!("nobody else loads") };
        assert!(ticket.saw(Digest::ABSENT));
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        ticket.supersede();
        ticket.finish(Ok(2));
    });
}

#[test]
fn a_report_and_a_flush_over_the_next_link() {
    a_stale_copy_against(|tier| {
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        tier.changed(b"n:k");
    });
    a_stale_copy_against(|tier| {
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        tier.flushed(LinkId::ONLY);
    });
}
