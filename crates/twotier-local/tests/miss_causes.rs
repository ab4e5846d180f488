//! Every miss is counted by exactly one cause, and it is the right one.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::{sync::Arc, time::Duration};

use twotier_core::{ChangeListener, Lease, LinkId, ManualClock, Mark, MissCauses};
use twotier_local::{Digest, LocalOptions};

use crate::common::{LIFE, POLICIES, Tier, lead, linked, linked_by, namespace, push, sharded_by};

const BOUND: Duration = Duration::from_secs(2);

fn put(tier: &Tier<u32>, key: &str) -> bool {
    lead(tier.read(key)).fill(0, Digest::ABSENT, 1, LIFE)
}

/// Returns the names of the causes of the misses that these keys have now.
fn causes(tier: &Tier<u32>, keys: &[&str]) -> Vec<&'static str> {
    keys.iter()
        .map(|key| {
            let before = tier.stats();
            assert_eq!(tier.get(key), None, "{key} is a hit");
            let after = tier.stats();
            assert_eq!(after.misses, before.misses + 1);
            let changed = |(before, after): (_, (&'static str, u64))| (before != after).then_some(after.0);
            let mut all = before.miss_causes.iter().zip(after.miss_causes.iter()).filter_map(changed);
            let cause = all.next().unwrap();
            assert_eq!(all.next(), None, "two causes of one miss");
            cause
        })
        .collect()
}

#[test]
fn a_key_that_was_never_here_or_was_cleared_is_cold() {
    let tier = linked(3);
    assert!(put(&tier, "cleared"));
    tier.clear();
    assert_eq!(causes(&tier, &["never", "cleared"]), ["cold", "cold"]);
}

#[test]
fn a_key_that_made_room_for_others_was_evicted_by_every_policy() {
    for policy in POLICIES {
        let tier = linked_by(policy, 3);
        for key in ["a", "b", "c", "d", "e"] {
            assert!(put(&tier, key));
        }
        let gone: Vec<_> =
            ["a", "b", "c", "d", "e"].into_iter().filter(|key| !tier.keys().contains(&(*key).into())).collect();
        assert_eq!((gone.len(), causes(&tier, &gone)), (2, vec!["evicted"; 2]), "{policy}");
        assert!(put(&tier, gone[0]));
        tier.clear();
        assert_eq!(causes(&tier, &gone[..1]), ["cold"], "{policy}: it came in again since it was evicted");
    }
}

#[test]
fn a_key_that_made_room_in_another_shard_was_evicted() {
    let mut options = LocalOptions::new(1000, 50_000, BOUND);
    options.shards = Some(4);
    let tier = Tier::new(namespace(), options, Arc::new(ManualClock::new()));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    let keys: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    for key in &keys {
        assert!(lead(tier.read(key)).fill(0, Digest::ABSENT, 400, LIFE));
    }
    let held = tier.keys();
    let gone: Vec<&str> = keys.iter().filter(|key| !held.contains(key)).map(String::as_str).collect();
    assert!(gone.len() > 150 && tier.stats().evicted_for_bytes > 150);
    let evicted = causes(&tier, &gone).into_iter().filter(|cause| *cause == "evicted").count();
    assert!(evicted * 10 > gone.len() * 7, "{evicted} of {}", gone.len());
}

#[test]
fn a_key_that_changed_was_invalidated_whoever_changed_it() {
    let tier = linked(10);
    for key in ["reported", "invalidated", "written"] {
        assert!(put(&tier, key));
    }
    push(&tier, "reported");
    assert!(tier.invalidate("invalidated"));
    drop(tier.begin_write("written", Digest::ABSENT));
    let overtaken = lead(tier.read("overtaken"));
    push(&tier, "overtaken");
    assert!(!overtaken.fill(0, Digest::ABSENT, 1, LIFE));
    push(&tier, "never");
    let keys = ["reported", "invalidated", "written", "overtaken", "never"];
    assert_eq!(causes(&tier, &keys), ["invalidated", "invalidated", "invalidated", "invalidated", "cold"]);
}

#[test]
fn a_key_past_its_life_has_expired_until_it_comes_in_again() {
    let clock = Arc::new(ManualClock::new());
    let tier = Tier::new(namespace(), LocalOptions::new(10, 100_000, BOUND), Arc::clone(&clock) as _);
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    assert!(lead(tier.read("k")).fill(0, Digest::ABSENT, 1, Some(Duration::from_secs(1))));
    clock.advance(Duration::from_secs(1));
    assert_eq!(causes(&tier, &["k", "k"]), ["expired", "expired"]);
    assert!(put(&tier, "k"));
    tier.clear();
    assert_eq!(causes(&tier, &["k"]), ["cold"]);
}

#[test]
fn a_key_from_before_a_flush_or_a_lost_link_is_outdated_and_without_a_link_there_is_no_lease() {
    let tier = linked(10);
    for key in ["flushed", "lost"] {
        assert!(put(&tier, key));
    }
    tier.flushed(LinkId::ONLY);
    assert_eq!(causes(&tier, &["flushed"]), ["outdated"]);
    tier.link_down(LinkId::ONLY);
    assert_eq!(causes(&tier, &["lost", "lost", "never"]), ["outdated", "outdated", "lease"]);
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    assert_eq!(causes(&tier, &["never"]), ["cold"]);
}

#[test]
fn a_copy_without_a_lease_is_missed_for_that_and_stays() {
    let clock = Arc::new(ManualClock::new());
    let tier = Tier::new(namespace(), LocalOptions::new(10, 100_000, BOUND), Arc::clone(&clock) as _);
    assert_eq!(tier.lease_remaining(LinkId::ONLY), Some(Duration::ZERO));
    tier.link_up(LinkId::ONLY, Lease::Renewed);
    assert!(put(&tier, "k"));
    assert_eq!(causes(&tier, &["k"]), ["lease"]);
    let Mark { epoch, at, .. } = tier.mark(LinkId::ONLY);
    tier.proof_of_life(Mark::new(LinkId::ONLY, epoch, at));
    assert!(tier.lease_remaining(LinkId::ONLY).unwrap() > Duration::from_secs(1));
    assert_eq!(tier.get("k"), Some(0));
    clock.advance(BOUND);
    assert_eq!((causes(&tier, &["k"]), tier.lease_remaining(LinkId::ONLY)), (vec!["lease"], Some(Duration::ZERO)));
    assert_eq!(linked::<u32>(1).lease_remaining(LinkId::ONLY), None, "a lease that need not be renewed");
}

#[test]
fn a_value_too_heavy_to_be_kept_is_missed_for_that() {
    let tier = Tier::new(namespace(), LocalOptions::new(10, 1000, BOUND), Arc::new(ManualClock::new()));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    assert!(put(&tier, "k"));
    assert!(!lead(tier.read("other")).fill(0, Digest::ABSENT, 1001, LIFE));
    assert!(!tier.begin_write("k", Digest::ABSENT).install(0, 1001, LIFE));
    assert_eq!(causes(&tier, &["other", "k"]), ["oversized", "oversized"]);
}

#[test]
fn a_tier_that_keeps_nothing_counts_no_cause() {
    let tier: Tier<u32> = Tier::new(namespace(), LocalOptions::keep_nothing(BOUND), Arc::new(ManualClock::new()));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    assert_eq!((tier.get("k"), tier.stats().miss_causes), (None, MissCauses::default()));
}

#[test]
fn the_causes_add_up_to_the_misses_of_a_mixed_load() {
    for policy in POLICIES {
        let (tier, mut random) = (sharded_by(policy, 64, 4), 1_u64);
        for step in 0..20_000_u32 {
            // xorshift64; the product of two draws prefers small keys.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let key = (((random & 0xff) * (random >> 8 & 0xff)) >> 8).to_string();
            match step % 97 {
                0 => push(&tier, &key),
                1 => drop(tier.begin_write(&key, Digest::ABSENT)),
                2 if step % 970 == 2 => tier.flushed(LinkId::ONLY),
                _ if tier.get(&key).is_none() => _ = put(&tier, &key),
                _ => {}
            }
        }
        let stats = tier.stats();
        let causes = stats.miss_causes;
        assert_eq!(causes.total(), stats.misses, "{policy}");
        assert!(causes.cold > 0 && causes.evicted > 0 && causes.invalidated > 0 && causes.outdated > 0, "{causes:?}");
        assert_eq!(causes.lease + causes.expired + causes.oversized, 0, "{policy}");
        assert!(causes.evicted > 3000, "{policy}: as many fates as entries are remembered, {causes:?}");
    }
}
