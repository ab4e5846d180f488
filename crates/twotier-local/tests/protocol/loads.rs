// The rules of loads, one race a test: included by `main.rs` once for each eviction policy, `EVICTION`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::Duration,
};

use twotier_core::{LinkId, ChangeListener, Lease, ManualClock};
use twotier_local::{Digest, LoadTicket, Loaded, LocalOptions, WriteTicket};

use crate::common::{LIFE, Text, Tier, join_load, lead, lead_load, linked_by, loaded, namespace, push};

type Texts = Tier<&'static str>;

fn linked() -> Texts {
    linked_by(EVICTION, 500)
}

fn of(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// A load of `k` whose leader found the backend without the key.
fn load(tier: &Texts) -> LoadTicket<&'static str, ()> {
    let load = lead_load(tier.load("k"));
    assert!(load.saw(Digest::ABSENT));
    load
}

fn put(tier: &Texts, key: &str, text: &'static str) {
    assert!(lead(tier.read(key)).fill_text(text));
}

fn store(load: &LoadTicket<&'static str, ()>, text: &str) -> WriteTicket<&'static str, ()> {
    load.begin_store(of(text)).expect("nothing came in between")
}

/// A load that is overtaken is not joined and not stored, and those who joined it before are given its value.
fn is_killed_by(overtake: impl Fn(&Texts)) {
    let tier = linked();
    let old = lead_load(tier.load("k"));
    let joiner = join_load(tier.load("k"));
    assert!(old.saw(Digest::ABSENT) && old.is_live());
    overtake(&tier);
    assert!(!old.is_live());
    assert!(old.begin_store(of("old")).is_none(), "it was registered before the change");
    let new = lead_load(tier.load("k"));
    let after = join_load(tier.load("k"));
    old.finish(Ok("old"));
    assert_eq!(loaded(joiner), Loaded::Value("old"), "it began before the change");
    assert_eq!(tier.counters().refused_loads, 1);
    assert_eq!(tier.get("k"), None);
    assert!(new.is_live(), "the end of the old one took the new one's place");
    assert!(new.saw(Digest::ABSENT));
    assert!(store(&new, "new").install("new", 3, LIFE));
    new.finish(Ok("new"));
    assert_eq!(loaded(after), Loaded::Value("new"));
    assert_eq!(tier.get("k"), Some("new"));
    assert_eq!(tier.counters().refused_loads, 1);
}

/// What an overtaken load returns may be newer than anything that is there or under way: it read the row late.
#[test]
fn nothing_that_may_be_older_is_given_after_the_value_of_an_overtaken_load() {
    let tier = linked();
    let overtaken = load(&tier);
    push(&tier, "k");
    let next = load(&tier);
    put(&tier, "l", "kept");
    let write = store(&next, "v1");
    let read = lead(tier.read("k"));
    overtaken.finish(Ok("v2"));
    let joiner = join_load(tier.load("k"));
    assert!(!read.fill_text("v1"));
    assert!(!write.install("v1", 2, LIFE));
    assert_eq!(tier.get("k"), None);
    next.finish(Ok("v1"));
    assert_eq!(loaded(joiner), Loaded::ElectAgain, "it began after v2 was returned");
    assert_eq!(tier.get("l"), Some("kept"));
}

#[test]
fn a_copy_goes_when_an_overtaken_load_returns_a_value() {
    let tier = linked();
    let overtaken = load(&tier);
    push(&tier, "k");
    put(&tier, "k", "v1");
    overtaken.finish(Ok("v2"));
    assert_eq!(tier.get("k"), None);
}

#[test]
fn a_copy_stays_when_an_overtaken_load_fails() {
    let tier = linked();
    for end in [|load: LoadTicket<_, _>| load.finish(Err(())), drop] {
        let overtaken = load(&tier);
        push(&tier, "k");
        put(&tier, "k", "v1");
        end(overtaken);
        assert_eq!(tier.get("k"), Some("v1"));
        tier.invalidate("k");
    }
}

#[test]
fn a_load_is_killed_by_a_reported_change() {
    is_killed_by(|tier| push(tier, "k"));
}

#[test]
fn a_load_is_killed_by_a_flush() {
    is_killed_by(|tier| tier.flushed(LinkId::ONLY));
}

#[test]
fn a_load_is_killed_by_a_link_that_was_lost_and_came_back() {
    is_killed_by(|tier| {
        tier.link_down(LinkId::ONLY);
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
    });
}

#[test]
fn a_load_is_killed_by_an_own_write_that_succeeds() {
    is_killed_by(|tier| {
        let _forgotten = tier.begin_write("k", of("w")).install("w", 1, None);
    });
}

#[test]
fn a_load_is_killed_by_an_own_write_that_fails() {
    is_killed_by(|tier| drop(tier.begin_write("k", of("w"))));
}

#[test]
fn a_load_is_killed_when_its_key_is_forgotten() {
    is_killed_by(|tier| _ = tier.invalidate("k"));
}

#[test]
fn a_load_is_killed_by_a_clear_of_the_tier() {
    is_killed_by(|tier| _ = tier.clear());
}

#[test]
fn a_load_is_killed_by_a_clear_of_the_backend() {
    is_killed_by(|tier| drop(tier.begin_clear()));
}

#[test]
fn a_load_is_killed_by_a_read_that_brought_something_else() {
    is_killed_by(|tier| {
        assert!(lead(tier.read("k")).fill("new", of("new"), 3, LIFE));
        // Evicted, say; where changes are not reported nothing else tells of the new value.
        push_out(tier);
    });
}

#[test]
fn a_load_is_killed_by_a_refused_read_that_brought_something_else() {
    let tier = linked();
    let read = lead(tier.read("k"));
    push(&tier, "k");
    let load = load(&tier);
    assert!(!read.fill_text("new"));
    assert!(!load.is_live(), "its row may be older than what was returned to somebody");
}

/// Lets the entry go without any news of the key.
fn push_out(tier: &Texts) {
    for other in 0..2000 {
        let name = format!("other-{other}");
        for _ in 0..3 {
            if tier.get(&name).is_none() {
                assert!(lead(tier.read(&name)).fill("x", of("x"), 1, LIFE));
            }
        }
    }
}

#[test]
fn a_load_is_killed_by_the_begin_of_an_own_write() {
    let tier = linked();
    let old = load(&tier);
    let write = tier.begin_write("k", of("w"));
    assert!(!old.is_live());
    let during = lead_load(tier.load("k"));
    assert!(during.is_live());
    drop(write);
}

#[test]
fn a_load_is_killed_by_the_end_of_an_own_write_that_it_began_during() {
    for succeeds in [true, false] {
        let tier = linked();
        let write = tier.begin_write("k", Digest::ABSENT);
        let during = load(&tier);
        if succeeds {
            assert!(!write.install("", 0, None));
        } else {
            drop(write);
        }
        assert!(!during.is_live());
        assert!(during.begin_store(of("old")).is_none());
        drop(lead_load(tier.load("k")));
    }
}

#[test]
fn a_load_is_killed_by_the_begin_and_by_the_end_of_a_clear() {
    let tier = linked();
    let before = load(&tier);
    let (clearing, _cleared) = tier.begin_clear();
    assert!(!before.is_live());
    let during = load(&tier);
    drop(join_load(tier.load("k")));
    drop(clearing);
    assert!(!during.is_live());
}

#[test]
fn nothing_is_stored_while_the_backend_is_being_cleared() {
    let tier = linked();
    let (clearing, _cleared) = tier.begin_clear();
    let during = load(&tier);
    assert!(during.begin_store(of("old")).is_none(), "its key may be removed before and after");
    drop(clearing);
}

#[test]
fn nothing_is_stored_while_an_own_write_is_under_way() {
    let tier = linked();
    let write = tier.begin_write("k", of("new"));
    let during = load(&tier);
    assert!(during.begin_store(of("old")).is_none());
    assert!(write.install("new", 3, LIFE), "a load that may not be stored does not disturb the write");
    assert_eq!(tier.get("k"), Some("new"));
    during.finish(Ok("old"));
    assert_eq!(tier.counters().refused_loads, 1);
}

#[test]
fn there_is_one_load_at_a_time_while_the_link_is_down() {
    let tier = linked();
    tier.link_down(LinkId::ONLY);
    let down = load(&tier);
    let joiner = join_load(tier.load("k"));
    assert!(down.is_live());
    assert!(down.begin_store(of("v")).is_none(), "there is no link to store it by");
    down.finish(Ok("v"));
    assert_eq!(loaded(joiner), Loaded::Value("v"));
    assert_eq!(tier.counters().refused_loads, 0, "it was never meant to be stored");
}

#[test]
fn a_load_from_before_the_link_came_up_is_not_joined_after_it() {
    let tier = linked();
    tier.link_down(LinkId::ONLY);
    let down = load(&tier);
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    assert!(!down.is_live());
    drop(lead_load(tier.load("k")));
}

#[test]
fn the_value_is_a_hit_once_it_is_stored_and_its_own_write_kills_no_load() {
    let tier = linked();
    let load = load(&tier);
    let write = store(&load, "v");
    assert!(load.is_live());
    let joiner = join_load(tier.load("k"));
    assert!(write.install("v", 1, LIFE));
    assert!(load.is_live());
    load.finish(Ok("v"));
    assert_eq!(loaded(joiner), Loaded::Value("v"));
    assert_eq!(tier.get("k"), Some("v"));
}

#[test]
fn a_store_that_fails_kills_no_load_and_leaves_nothing() {
    let tier = linked();
    let load = load(&tier);
    drop(store(&load, "v"));
    assert!(load.is_live());
    load.finish(Ok("v"));
    assert_eq!(tier.get("k"), None);
    drop(lead_load(tier.load("k")));
}

#[test]
fn an_own_write_that_overlaps_the_store_kills_the_load_and_neither_is_kept() {
    for store_ends_first in [true, false] {
        let tier = linked();
        let load = load(&tier);
        let stored = store(&load, "old");
        let write = tier.begin_write("k", of("new"));
        assert!(!load.is_live());
        let (first, last) =
            if store_ends_first { ((stored, "old"), (write, "new")) } else { ((write, "new"), (stored, "old")) };
        assert!(!first.0.install(first.1, 3, LIFE));
        assert!(!last.0.install(last.1, 3, LIFE), "which of them the server executed last is not known");
        assert!(!load.is_live());
        assert_eq!(tier.get("k"), None);
    }
}

#[test]
fn a_change_while_the_value_is_stored_kills_the_load_and_the_copy() {
    let tier = linked();
    let load = load(&tier);
    let write = store(&load, "old");
    push(&tier, "k");
    assert!(!load.is_live());
    assert!(!write.install("old", 3, LIFE));
    assert_eq!(tier.get("k"), None);
}

#[test]
fn a_load_that_was_lost_sight_of_does_not_store_over_the_one_that_followed() {
    let tier = linked();
    let old = load(&tier);
    let slow = store(&old, "old");
    push(&tier, "k");
    let new = load(&tier);
    assert!(new.begin_store(of("new")).is_none(), "the older one is under way and may be executed after it");
    drop(slow);
    assert!(!new.is_live());
}

#[test]
fn a_read_that_brings_the_same_again_lets_a_load_live() {
    let tier = linked();
    let load = load(&tier);
    assert!(!lead(tier.read("k")).fill("", Digest::ABSENT, 0, None));
    assert!(load.is_live());
    assert!(load.saw(Digest::ABSENT));
    assert!(!load.saw(of("foreign")), "what is there now is not what the load saw");
    assert!(!load.is_live());
}

#[test]
fn a_load_may_replace_what_it_saw() {
    let tier = linked();
    let load = lead_load(tier.load("k"));
    assert!(load.saw(of("bytes that nobody can decode")));
    assert!(store(&load, "v").install("v", 1, LIFE));
    assert!(load.is_live());
}

#[test]
fn a_load_is_not_killed_by_a_read_that_saw_its_own_value() {
    let tier = linked();
    let load = load(&tier);
    let write = store(&load, "v");
    assert!(!lead(tier.read("k")).fill("v", of("v"), 1, LIFE), "the write is under way");
    assert!(load.is_live());
    assert!(write.install("v", 1, LIFE));
    // What was there before it is news now: somebody removed the value.
    assert!(!load.saw(Digest::ABSENT));
}

#[test]
fn a_load_is_killed_by_a_read_that_missed_the_value_it_has_stored() {
    let tier = linked();
    let load = load(&tier);
    assert!(store(&load, "v").install("v", 1, LIFE));
    assert!(!lead(tier.read("l")).fill("", Digest::ABSENT, 0, None));
    assert!(load.is_live(), "another key");
    push_out(&tier);
    assert!(!lead(tier.read("k")).fill("", Digest::ABSENT, 0, None));
    assert!(!load.is_live());
}

/// Two reads at once, of which the leader goes by the one that was executed first and answered last.
#[test]
fn whoever_joins_a_load_after_something_newer_was_read_is_not_given_its_value() {
    let tier = linked();
    let late = lead(tier.read("k"));
    push(&tier, "k");
    let load = lead_load(tier.load("k"));
    let leaders = lead(tier.read("k"));
    let before = join_load(tier.load("k"));
    assert!(!late.fill_text("v3"));
    let after = join_load(tier.load("k"));
    assert!(!leaders.fill_text("v2"));
    assert!(!load.is_live());
    load.finish(Ok("v2"));
    assert_eq!(loaded(before), Loaded::Value("v2"));
    assert_eq!(loaded(after), Loaded::ElectAgain, "v3 was returned before it began");
}

#[test]
fn a_leader_that_goes_away_leaves_the_load_to_those_who_wait() {
    let tier = linked();
    let load = load(&tier);
    let joiner = join_load(tier.load("k"));
    drop(load);
    assert_eq!(loaded(joiner), Loaded::ElectAgain);
    assert_eq!(tier.counters().refused_loads, 0);
    drop(lead_load(tier.load("k")));
}

#[test]
fn a_loader_that_panics_leaves_the_load_to_those_who_wait() {
    let tier = linked();
    let mut joiner = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _load = load(&tier);
        joiner = Some(join_load(tier.load("k")));
        resume_unwind(Box::new("the loader dies"));
    }));
    assert!(panicked.is_err());
    assert_eq!(loaded(joiner.unwrap()), Loaded::ElectAgain);
    drop(lead_load(tier.load("k")));
}

#[test]
fn a_loaders_error_is_given_to_those_who_joined_and_to_nobody_else() {
    let tier = linked();
    let failing = load(&tier);
    let joiner = join_load(tier.load("k"));
    push(&tier, "k");
    failing.finish(Err(()));
    assert_eq!(loaded(joiner), Loaded::Failed(()));
    assert_eq!(tier.counters().refused_loads, 0, "there was no value to refuse");
    drop(lead_load(tier.load("k")));
}

#[test]
fn whoever_has_waited_for_a_load_long_enough_leads_the_next() {
    let tier = linked();
    let hanging = load(&tier);
    let (impatient, patient, late) =
        (join_load(tier.load("k")), join_load(tier.load("k")), join_load(tier.load("k")));
    let next = lead_load(tier.load_again("k", &impatient));
    assert!(!hanging.is_live());
    assert!(hanging.begin_store(of("old")).is_none());
    // The next one is joined, by those as well who waited for the one before it.
    let joiner = join_load(tier.load_again("k", &late));
    assert!(next.is_live());
    next.finish(Ok("new"));
    assert_eq!(loaded(joiner), Loaded::Value("new"));
    let after = lead_load(tier.load_again("k", &late));
    hanging.finish(Ok("old"));
    assert_eq!(loaded(patient), Loaded::Value("old"));
    assert!(after.is_live());
}

#[test]
fn loads_of_different_keys_are_strangers() {
    let tier = linked();
    let (k, l) = (lead_load(tier.load("k")), lead_load(tier.load("l")));
    push(&tier, "l");
    assert!(k.is_live() && !l.is_live());
    assert!(lead(tier.read("l")).fill("v", of("v"), 1, LIFE));
    assert!(k.is_live());
}

#[test]
fn a_tier_that_keeps_nothing_has_every_rule_of_loads() {
    let options = LocalOptions::keep_nothing(Duration::from_secs(2)).eviction(EVICTION);
    let tier = Texts::new(namespace(), options, Arc::new(ManualClock::new()));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    let first = load(&tier);
    let joiner = join_load(tier.load("k"));
    assert!(!store(&first, "v").install("v", 1, LIFE), "stored in the backend, and not here");
    assert!(first.is_live());
    first.finish(Ok("v"));
    assert_eq!(loaded(joiner), Loaded::Value("v"));
    let second = load(&tier);
    assert!(!lead(tier.read("k")).fill_text("new"));
    assert!(!second.is_live(), "somebody was given something newer");
}
