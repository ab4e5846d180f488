//! Size, order and weight, in the words of the original's acceptance list.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic is how a test fails, and figures go to stderr")]

mod common;

use std::{sync::Arc, time::Duration};

use twotier_core::{ChangeListener, Lease, ManualClock};
use twotier_local::{Digest, ENTRY_OVERHEAD, LocalOptions};

use crate::common::{LIFE, Tier, lead, linked, namespace};

fn put(tier: &Tier<u32>, key: &str, bytes: usize) -> bool {
    lead(tier.read(key)).fill(0, Digest::ABSENT, bytes, LIFE)
}

fn weighed(max_bytes: usize) -> Tier<u32> {
    let options = LocalOptions::new(500, max_bytes, Duration::from_secs(2));
    let tier = Tier::new(namespace(), options, Arc::new(ManualClock::new()));
    tier.link_up(Lease::Unlimited);
    tier
}

#[test]
fn the_least_recently_used_of_three_goes_when_a_fourth_comes() {
    let tier = linked(3);
    for key in ["a", "b", "c"] {
        assert!(put(&tier, key, 1));
    }
    assert_eq!(tier.get("a"), Some(0));
    assert!(put(&tier, "d", 1));
    assert_eq!(tier.keys(), ["c", "a", "d"]);
}

#[test]
fn overwriting_a_present_key_evicts_no_other() {
    let tier = linked(3);
    for key in ["a", "b", "c"] {
        assert!(put(&tier, key, 1));
    }
    assert!(tier.begin_write("a", Digest::ABSENT).install(1, 1, LIFE));
    assert_eq!(tier.keys(), ["b", "c", "a"]);
    assert_eq!(tier.stats().evictions(), 0);
}

#[test]
fn of_501_keys_in_the_default_size_500_are_left() {
    let tier = linked(500);
    for key in 0..501 {
        assert!(put(&tier, &key.to_string(), 1));
    }
    assert_eq!((tier.stats().size, tier.stats().evicted_for_entries), (500, 1));
    assert_eq!(tier.get("0"), None);
}

#[test]
fn a_size_of_zero_is_taken_as_one_and_is_no_panic() {
    let tier = linked(0);
    assert!(put(&tier, "a", 1));
    assert!(put(&tier, "b", 1));
    assert_eq!((tier.keys(), tier.stats().max_size), (vec!["b".to_owned()], 1));
}

#[test]
fn the_least_recently_used_go_until_the_bytes_fit() {
    let tier = weighed(3 * (1 + 10 + ENTRY_OVERHEAD));
    assert_eq!(tier.weight_of("a", 10), 1 + 10 + ENTRY_OVERHEAD);
    for key in ["a", "b", "c"] {
        assert!(put(&tier, key, 10));
    }
    assert_eq!(tier.stats().bytes, tier.stats().max_bytes);
    assert!(put(&tier, "d", 11));
    assert_eq!(tier.keys(), ["c", "d"], "one byte too much takes two of them");
    assert_eq!((tier.stats().evicted_for_bytes, tier.stats().evicted_for_entries), (2, 0));
}

#[test]
fn a_value_too_heavy_for_the_tier_evicts_nobody_but_the_older_value_of_its_key() {
    let tier = weighed(1000);
    for key in ["a", "b"] {
        assert!(put(&tier, key, 1));
    }
    assert!(!tier.begin_write("a", Digest::ABSENT).install(1, 1000, LIFE));
    assert_eq!((tier.keys(), tier.stats().oversized), (vec!["b".to_owned()], 1));
    assert_eq!((tier.stats().evictions(), tier.stats().bytes), (0, tier.weight_of("b", 1)));
}

#[test]
fn a_large_tier_is_split_and_keeps_its_bounds_exactly() {
    let options = LocalOptions::new(5000, 100_000_000, Duration::from_secs(2));
    let tier: Tier<u32> = Tier::new(namespace(), options, Arc::new(ManualClock::new()));
    tier.link_up(Lease::Unlimited);
    for key in 0..20_000 {
        assert!(put(&tier, &key.to_string(), 1));
    }
    assert_eq!((tier.stats().size, tier.stats().max_size), (5000, 5000));
}
