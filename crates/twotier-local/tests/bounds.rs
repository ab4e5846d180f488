//! Size, order and weight, in the words of the original's acceptance list.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic is how a test fails, and figures go to stderr")]

mod common;

use std::{sync::Arc, time::Duration};

use twotier_core::{ChangeListener, Eviction, Lease, LinkId, ManualClock};
use twotier_local::{Digest, ENTRY_OVERHEAD, LocalOptions};

use crate::common::{LIFE, POLICIES, Tier, lead, linked, namespace, push};

fn put(tier: &Tier<u32>, key: &str, bytes: usize) -> bool {
    lead(tier.read(key)).fill(0, Digest::ABSENT, bytes, LIFE)
}

fn weighed(max_bytes: usize) -> Tier<u32> {
    let options = LocalOptions::new(500, max_bytes, Duration::from_secs(2));
    let tier = Tier::new(namespace(), options, Arc::new(ManualClock::new()));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
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
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    for key in 0..20_000 {
        assert!(put(&tier, &key.to_string(), 1));
    }
    assert_eq!((tier.stats().size, tier.stats().max_size), (5000, 5000));
}

/// A tier of 64 shards, each of which has a 64th of the bytes.
fn large(eviction: Eviction, max_bytes: usize) -> Tier<u32> {
    let mut options = LocalOptions::new(10_000, max_bytes, Duration::from_secs(2)).eviction(eviction);
    (options.shards, options.seed) = (Some(64), Some(1));
    let tier = Tier::new(namespace(), options, Arc::new(ManualClock::new()));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    tier
}

#[test]
fn a_value_of_an_eighth_of_the_bytes_is_kept_however_many_shards_there_are() {
    for eviction in POLICIES {
        let tier = large(eviction, 800_000);
        for key in 0..10_000 {
            assert!(put(&tier, &key.to_string(), 50));
        }
        let full = tier.stats();
        assert!(full.bytes <= 800_000 && full.bytes > 780_000, "{full:?}");
        let largest = 100_000 - tier.weight_of("large-1", 0);
        for key in ["large-1", "large-2", "large-3"] {
            assert!(put(&tier, key, largest), "{eviction}");
            assert_eq!(tier.get(key), Some(0), "{eviction}");
            assert!(tier.stats().bytes <= 800_000, "{eviction}");
        }
        let size = tier.stats().size;
        assert!(!put(&tier, "large-4", largest + 1));
        let stats = tier.stats();
        assert_eq!((stats.oversized, stats.size), (1, size), "{eviction}: one byte more evicts nobody");
        // One that went may have been as large as those that came.
        assert!(stats.bytes > 600_000, "{eviction}: {stats:?}");
    }
}

#[test]
fn room_for_a_large_value_comes_from_all_shards_and_returns_to_them() {
    let tier = large(Eviction::Lru, 800_000);
    let fill = || (0..10_000).for_each(|key| assert!(put(&tier, &key.to_string(), 50)));
    fill();
    let before = tier.stats().size;
    assert!(put(&tier, "large", 90_000));
    let with = tier.stats().size;
    assert!(with * 100 > before * 85, "{with} of {before} are left beside a value of an eighth");
    // New keys push it out in its turn and not at once.
    for key in 0..64 {
        assert!(put(&tier, &format!("new-{key}"), 50));
    }
    assert_eq!(tier.get("large"), Some(0));
    assert!(tier.invalidate("large"));
    tier.clear();
    fill();
    assert!(tier.stats().size.abs_diff(before) <= before / 50, "{} were {before}", tier.stats().size);
}

#[test]
fn refused_values_and_all_that_goes_give_their_bytes_back() {
    for eviction in POLICIES {
        let tier = large(eviction, 400_000);
        for round in 0..50_000u32 {
            let key = (round % 300).to_string();
            match round % 7 {
                0 => {
                    let refused = lead(tier.read(&key));
                    tier.invalidate(&key);
                    assert!(!refused.fill(0, Digest::ABSENT, 40_000, LIFE));
                }
                1 => _ = tier.begin_write(&key, Digest::ABSENT).install(1, 200, LIFE),
                2 => push(&tier, &key),
                3 => tier.flush(),
                4 if round % 997 == 4 => _ = tier.clear(),
                _ => _ = tier.get(&key).is_none() && put(&tier, &key, 1000),
            }
            assert!(tier.stats().bytes <= 400_000);
        }
        tier.clear();
        for key in 0..8 {
            assert!(put(&tier, &format!("large-{key}"), 50_000 - tier.weight_of("large-0", 0)), "{eviction}");
        }
        assert_eq!((tier.stats().size, tier.stats().bytes), (8, 400_000), "{eviction}: bytes were lost");
    }
}

#[test]
fn a_value_that_a_flush_keeps_out_evicts_nobody() {
    let tier = large(Eviction::Lru, 800_000);
    let late = lead(tier.read("late"));
    tier.flush();
    for key in 0..10_000 {
        assert!(put(&tier, &key.to_string(), 50));
    }
    let before = tier.stats();
    assert!(!late.fill(0, Digest::ABSENT, 90_000, LIFE));
    let after = tier.stats();
    assert_eq!((after.size, after.evicted_for_bytes), (before.size, before.evicted_for_bytes));
}

#[test]
fn the_hottest_by_lfu_are_those_hit_most_often_and_of_several_the_most_recently_used() {
    let mut options = LocalOptions::new(1000, 1_000_000, Duration::from_secs(2)).eviction(Eviction::Lfu);
    options.shards = Some(1);
    let tier: Tier<u32> = Tier::new(namespace(), options, Arc::new(ManualClock::new()));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    for key in 0..300 {
        assert!(put(&tier, &key.to_string(), 10));
    }
    // Key k is hit k / 100 times: three levels, and one that is left empty again.
    for key in 100..300 {
        assert!((0..key / 100).all(|_| tier.get(&key.to_string()).is_some()));
    }
    let expected: Vec<String> = (0..300).rev().map(|key: u32| key.to_string()).collect();
    assert_eq!(tier.hottest(1000), expected);
    assert_eq!(tier.hottest(70), expected[..70]);
    (200..300).for_each(|key: u32| assert!(tier.invalidate(&key.to_string())));
    assert_eq!(tier.hottest(1000), expected[100..], "the highest level is gone");
}
