//! A hit allocates nothing, and the bytes the tier tells agree with the heap.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic is how a test fails, and figures go to stderr")]

mod common;

use std::{hint::black_box, sync::Arc, time::Duration};

use twotier_core::{ChangeListener, Eviction, Lease, LinkId, ManualClock};
use twotier_local::{Digest, FillTicket, Joined, LocalOptions, LocalTier};

use crate::common::{
    LIFE, POLICIES, join, join_load, lead, lead_and_join, lead_load, linked, linked_by, namespace, outcome,
};

/// What the facade keeps: a decoded value, or the knowledge that there is none.
type CachedBytes = Option<Arc<[u8]>>;

fn put(tier: &LocalTier<CachedBytes, ()>, key: &str, bytes: usize) -> bool {
    lead(tier.read(key)).fill(Some(vec![b'x'; bytes].into()), Digest::of(key.as_bytes()), bytes, LIFE)
}

#[test]
fn a_hit_allocates_nothing() {
    let tier = linked::<CachedBytes>(500);
    assert!(put(&tier, "k", 1000));
    let hit = allocation_counter::measure(|| {
        for _ in 0..1000 {
            assert!(black_box(tier.get("k")).is_some());
            assert!(black_box(tier.get_with_age("k")).is_some());
        }
    });
    assert_eq!((hit.count_total, hit.bytes_total), (0, 0));
    assert_eq!(tier.stats().hits, 2000);
}

#[test]
fn a_miss_without_an_entry_allocates_nothing() {
    let tier = linked::<CachedBytes>(500);
    let miss = allocation_counter::measure(|| assert!(tier.get("k").is_none()));
    assert_eq!((miss.count_total, miss.bytes_total), (0, 0));
}

/// What a miss costs beside the request itself: one thing to wait at, and one more for a raw answer that is handed
/// over.
#[test]
fn a_read_allocates_what_it_is_waited_for_at_and_its_raw_answer() {
    let tier = linked::<CachedBytes>(500);
    let read = |hands_over: bool| {
        let (ticket, joiner) = lead_and_join(tier.read("k"));
        let fill = |ticket: FillTicket<CachedBytes, ()>| assert!(!ticket.fill(None, Digest::ABSENT, 0, None));
        if hands_over {
            ticket.arrived(fill);
        } else {
            fill(ticket);
        }
        assert_eq!(outcome(joiner), Joined::Value(None));
    };
    // Tables grow once.
    read(false);
    assert_eq!(allocation_counter::measure(|| read(false)).count_total, 1);
    assert_eq!(allocation_counter::measure(|| read(true)).count_total, 2);
}

#[test]
fn nothing_is_left_of_answers_that_nobody_was_polled_for() {
    let tier = linked::<CachedBytes>(500);
    let read = || {
        for round in 0..1000 {
            let raw = vec![b'x'; 1000];
            let (ticket, first) = lead_and_join(tier.read("k"));
            let second = join(tier.read("k"));
            if round % 3 == 0 {
                tier.invalidate("k");
            }
            ticket.arrived(move |_ticket| panic!("decoded for nobody: {}", raw.len()));
            drop((first, second));
        }
    };
    read();
    assert_eq!(allocation_counter::measure(read).bytes_current, 0);
}

#[test]
fn nothing_is_left_of_loads_that_have_ended_in_whatever_way() {
    let tier = linked::<CachedBytes>(500);
    let load = || {
        for round in 0..1000 {
            let load = lead_load(tier.load("k"));
            let joiner = join_load(tier.load("k"));
            let write = load.begin_store(Digest::ABSENT).filter(|_| round % 2 == 0);
            if round % 3 == 0 {
                tier.changed(b"n:k");
            }
            drop(write);
            match round % 5 {
                0 => load.finish(Err(())),
                1 => drop(load),
                _ => load.finish(Ok(Some(vec![b'x'; 1000].into()))),
            }
            drop(joiner);
        }
    };
    load();
    assert_eq!(allocation_counter::measure(load).bytes_current, 0);
}

#[test]
fn a_tier_that_keeps_nothing_takes_no_room_for_what_it_does_not_keep() {
    let mut tier = None;
    let made = allocation_counter::measure(|| {
        let options = LocalOptions::keep_nothing(Duration::from_secs(2)).eviction(Eviction::WTinyLfu);
        tier = Some(LocalTier::<CachedBytes, ()>::new(namespace(), options, Arc::new(ManualClock::new())));
    });
    assert!(made.bytes_current < 64 * 1024, "{} bytes for nothing", made.bytes_current);
    let tier = tier.unwrap();
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    let read = |keys: std::ops::Range<u32>| {
        for key in keys {
            assert!(!put(&tier, &key.to_string(), 1000));
        }
    };
    read(0..1000);
    assert_eq!(allocation_counter::measure(|| read(1000..2000)).bytes_current, 0);
}

/// The heap as the allocator is asked for it lies between 0.9 and 1.05 times the tracked bytes for a tier filled to its
/// default of 500 entries. Tracked bytes also cover the allocator's own headers, which no program can see, so a little
/// less is expected.
#[test]
fn tracked_bytes_agree_with_the_heap_within_a_tenth() {
    for (eviction, bytes) in POLICIES.into_iter().flat_map(|eviction| [(eviction, 100), (eviction, 1000)]) {
        let mut tier = None;
        let heap = allocation_counter::measure(|| {
            let filled = tier.insert(linked_by::<CachedBytes>(eviction, 500));
            // Twice as many as there is room for: what a policy remembers of the others counts too.
            for key in 0..1000 {
                assert!(put(filled, &format!("user:{key:06}"), bytes));
            }
        });
        let tracked = tier.unwrap().stats().bytes;
        let factor = heap.bytes_current as f64 / tracked as f64;
        eprintln!(
            "{eviction}, {bytes}-byte values: {} bytes on the heap, {tracked} tracked, factor {factor:.3}",
            heap.bytes_current
        );
        assert!((0.9..=1.05).contains(&factor), "{eviction}: factor {factor:.3}");
    }
}

/// Evicting, overwriting, changing and clearing give back what they take out.
#[test]
fn the_heap_does_not_grow_with_use_and_is_given_back_by_a_clear() {
    let tier = linked::<CachedBytes>(500);
    let mut filled = 0;
    let use_it = |from: u32| {
        for key in from..from + 2000 {
            let key = (key % 3000).to_string();
            if tier.get(&key).is_none() {
                assert!(put(&tier, &key, 1000));
            }
            if key.ends_with('7') {
                tier.changed(format!("n:{key}").as_bytes());
            }
        }
    };
    use_it(0);
    for round in 0..5 {
        filled += allocation_counter::measure(|| use_it(round * 777)).bytes_current;
    }
    assert!(filled.abs() < 100_000, "{filled} bytes more after 10,000 more reads");
    let before = tier.stats().bytes;
    let cleared = allocation_counter::measure(|| assert!(tier.clear() > 400));
    assert_eq!(tier.stats().bytes, 0);
    assert!(cleared.bytes_current < -(i64::try_from(before).unwrap() * 9 / 10), "{cleared:?} of {before}");
}
