// The rules of touches and of loads that are stored nowhere, one race a test: included by `main.rs` once for each
// eviction policy, `EVICTION`.

use std::{sync::Arc, time::Duration};

use twotier_core::{ChangeListener, Lease, LinkId, ManualClock};
use twotier_local::{Digest, LoadTicket, Loaded, LocalOptions, TouchTicket};

use crate::common::{LIFE, Text, Tier, join_load, lead, lead_load, linked_by, loaded, namespace, push};

type Texts = Tier<&'static str>;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn on_clock() -> (ManualClock, Texts) {
    let clock = ManualClock::new();
    let options = LocalOptions::new(500, 1_000_000, secs(2)).eviction(EVICTION);
    let tier = Tier::new(namespace(), options, Arc::new(clock.clone()));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    (clock, tier)
}

fn put(tier: &Texts, life: Duration) {
    assert!(lead(tier.read("k")).fill("v", Digest::of(b"v"), 1, Some(life)));
}

#[test]
fn a_copy_is_served_throughout_a_touch_and_lives_on_when_it_has_succeeded() {
    let (clock, tier) = on_clock();
    put(&tier, secs(10));
    clock.advance(secs(9));
    let touch = tier.begin_touch("k", secs(60));
    assert_eq!(tier.get("k"), Some("v"));
    assert_eq!(tier.remaining("k"), Some(secs(1)), "the touch may fail");
    clock.advance(Duration::from_millis(500));
    touch.extend();
    assert_eq!(tier.remaining("k"), Some(secs(60) - Duration::from_millis(500)), "counted from before it was sent");
    clock.advance(secs(59));
    assert_eq!(tier.get("k"), Some("v"));
    clock.advance(Duration::from_millis(500));
    assert_eq!(tier.get("k"), None);
}

#[test]
fn a_copy_ends_as_early_as_a_touch_allows_though_its_outcome_is_not_known() {
    let ends: [fn(TouchTicket<&'static str, ()>); 3] = [|touch| touch.extend(), |touch| touch.keep_life(), drop];
    for end in ends {
        let (clock, tier) = on_clock();
        put(&tier, secs(60));
        end(tier.begin_touch("k", secs(1)));
        assert_eq!(tier.remaining("k"), Some(secs(1)));
        clock.advance(secs(1));
        assert_eq!(tier.get("k"), None);
    }
}

#[test]
fn of_two_touches_at_once_the_later_one_decides_in_whatever_order_they_end() {
    for later_first in [false, true] {
        let (_clock, tier) = on_clock();
        put(&tier, secs(10));
        let (first, second) = (tier.begin_touch("k", secs(60)), tier.begin_touch("k", secs(1)));
        if later_first {
            second.extend();
            first.extend();
        } else {
            first.extend();
            second.extend();
        }
        assert_eq!(tier.remaining("k"), Some(secs(1)), "the later one is executed last");
    }
}

#[test]
fn a_read_that_crosses_a_touch_brings_no_life_from_before_it() {
    let (_clock, tier) = on_clock();
    let before = lead(tier.read("k"));
    let touch = tier.begin_touch("k", secs(1));
    assert!(!before.fill("v", Digest::of(b"v"), 1, Some(secs(60))), "it was registered before");
    let during = lead(tier.read("k"));
    assert!(during.fill("v", Digest::of(b"v"), 1, Some(secs(60))));
    assert_eq!(tier.remaining("k"), Some(secs(1)), "it may have been answered before the touch was executed");
    assert!(tier.invalidate("k"));
    let across = lead(tier.read("k"));
    touch.extend();
    assert!(!across.fill("v", Digest::of(b"v"), 1, Some(secs(60))), "so may this one");
    let after = lead(tier.read("k"));
    assert!(after.fill("v", Digest::of(b"v"), 1, Some(secs(60))));
    assert_eq!(tier.remaining("k"), Some(secs(60)));
}

#[test]
fn a_touch_extends_no_copy_that_came_after_it_or_whose_key_changed_since() {
    let overtake: [fn(&Texts); 4] = [
        |tier| push(tier, "k"),
        |tier| drop(tier.begin_write("k", Digest::of(b"v"))),
        |tier| _ = tier.invalidate("k"),
        |tier| _ = tier.clear(),
    ];
    for overtake in overtake {
        let (_clock, tier) = on_clock();
        put(&tier, secs(10));
        let touch = tier.begin_touch("k", secs(60));
        overtake(&tier);
        assert_eq!(tier.get("k"), None);
        put(&tier, secs(5));
        touch.extend();
        assert!(tier.remaining("k").is_none_or(|left| left <= secs(5)));
    }
}

#[test]
fn a_touch_from_before_a_flush_or_a_lost_link_extends_nothing() {
    let overtake: [fn(&Texts); 2] = [|tier| tier.flushed(LinkId::ONLY), |tier| {
        tier.link_down(LinkId::ONLY);
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
    }];
    for overtake in overtake {
        let (_clock, tier) = on_clock();
        put(&tier, secs(10));
        let touch = tier.begin_touch("k", secs(60));
        overtake(&tier);
        put(&tier, secs(5));
        touch.extend();
        assert!(tier.remaining("k").is_none_or(|left| left <= secs(5)));
    }
}

#[test]
fn a_touch_that_found_nothing_takes_a_value_away_and_leaves_an_absence() {
    let (_clock, tier) = on_clock();
    put(&tier, secs(10));
    tier.begin_touch("k", secs(60)).missing();
    assert_eq!(tier.get("k"), None);
    assert!(lead(tier.read("k")).fill("nothing", Digest::ABSENT, 0, LIFE));
    tier.begin_touch("k", secs(600)).missing();
    assert_eq!(tier.get("k"), Some("nothing"));
}

fn load(tier: &Texts) -> LoadTicket<&'static str, ()> {
    let load = lead_load(tier.load("k"));
    assert!(load.saw(Digest::ABSENT));
    load
}

#[test]
fn what_a_live_load_brings_is_kept_without_being_stored_and_its_life_begins_then() {
    let (clock, tier) = on_clock();
    let load = load(&tier);
    let joiner = join_load(tier.load("k"));
    clock.advance(secs(30));
    assert!(load.keep("nothing", Digest::LOADED_ABSENT, 0, Some(secs(5))));
    assert_eq!(loaded(joiner), Loaded::Value("nothing"));
    assert!(tier.serves("k", Digest::LOADED_ABSENT) && !tier.serves("k", Digest::ABSENT));
    assert_eq!(tier.remaining("k"), Some(secs(5)));
    drop(lead_load(tier.load("k")));
}

#[test]
fn what_an_overtaken_load_brings_is_not_kept_and_takes_away_what_may_be_older() {
    let overtake: [fn(&Texts); 5] = [
        |tier| push(tier, "k"),
        |tier| drop(tier.begin_write("k", Digest::of(b"v"))),
        |tier| _ = tier.invalidate("k"),
        |tier| tier.flushed(LinkId::ONLY),
        |tier| _ = lead(tier.read("k")).fill("other", Digest::of(b"other"), 5, LIFE),
    ];
    for overtake in overtake {
        let tier: Texts = linked_by(EVICTION, 500);
        let load = load(&tier);
        let joiner = join_load(tier.load("k"));
        overtake(&tier);
        assert!(!load.keep("nothing", Digest::LOADED_ABSENT, 0, LIFE));
        assert_eq!(tier.get("k"), None);
        assert!(matches!(loaded(joiner), Loaded::Value("nothing") | Loaded::ElectAgain));
        assert_eq!(tier.counters().refused_loads, 1);
    }
}

#[test]
fn a_load_is_not_kept_while_an_own_write_is_under_way() {
    let tier: Texts = linked_by(EVICTION, 500);
    let write = tier.begin_write("k", Digest::of(b"v"));
    let load = load(&tier);
    assert!(!load.keep("nothing", Digest::LOADED_ABSENT, 0, LIFE));
    drop(write);
    assert_eq!(tier.get("k"), None);
}

#[test]
fn a_read_under_way_is_not_kept_over_what_a_load_kept() {
    let tier: Texts = linked_by(EVICTION, 500);
    let read = lead(tier.read("k"));
    assert!(load(&tier).keep("nothing", Digest::LOADED_ABSENT, 0, LIFE));
    assert!(!read.fill_text("older"));
    assert_ne!(tier.get("k"), Some("older"));
}
