//! What the size advisor says is what tiers of other sizes do; it says nothing it does not know, and costs nothing
//! where it is off.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic is how a test fails, and figures go to stderr")]

mod common;

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use twotier_core::{Advice, ChangeListener, CurvePoint, Eviction, LatencyStats, Lease, LinkId, ManualClock, SizeCurve};
use twotier_local::{Digest, LocalOptions};
use twotier_testkit::trace::{self, Zipf};

use crate::common::{LIFE, POLICIES, Tier, lead, lead_load, namespace, push};

const FACTORS: [f64; 6] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0];

struct Rig {
    tier: Tier<u64>,
    clock: ManualClock,
    life: Duration,
}

impl Rig {
    fn with(options: LocalOptions) -> Self {
        let mut options = options.size_advice(true);
        options.seed = Some(1);
        let clock = ManualClock::new();
        let tier = Tier::new(namespace(), options, Arc::new(clock.clone()));
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        Self { tier, clock, life: LIFE.unwrap() }
    }

    fn new(eviction: Eviction, entries: usize) -> Self {
        Self::with(LocalOptions::new(entries, 1 << 40, Duration::from_secs(2)).eviction(eviction))
    }

    /// Looks a key up and, on a miss, puts it in.
    fn through(&self, key: u64) {
        let key = key.to_string();
        if self.tier.get(&key).is_none() {
            assert!(lead(self.tier.read(&key)).fill(0, Digest::ABSENT, 1, Some(self.life)));
        }
    }

    fn curve(&self) -> SizeCurve {
        self.tier.size_curve().unwrap()
    }

    /// Returns the hit rates from a quarter to eight times the size.
    fn rates(&self) -> Vec<f64> {
        self.curve().points.iter().map(|point| point.hit_rate).collect()
    }

    fn hit_rate(&self) -> f64 {
        self.tier.stats().hit_rate()
    }
}

fn at(curve: &SizeCurve, factor: f64) -> CurvePoint {
    *curve.points.iter().find(|point| (point.factor - factor).abs() < 1e-9).unwrap()
}

#[track_caller]
fn is(value: f64, expected: f64) {
    assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
}

/// Replays a trace by an advised tier and by tiers of other sizes, and returns by how many points each prediction is
/// off that is made.
fn errors(name: &str, accesses: &[u64], eviction: Eviction, entries: usize) -> Vec<f64> {
    let replay = |entries: usize| {
        let rig = Rig::new(eviction, entries);
        accesses.iter().for_each(|key| rig.through(*key));
        rig
    };
    let curve = replay(entries).curve();
    let off = |factor: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand entries")]
        let real = replay((entries as f64 * factor) as usize).hit_rate();
        let point = at(&curve, factor);
        eprintln!("{name}, {eviction}, {entries} x {factor}: predicted {:.2}, real {real:.2}", point.hit_rate);
        point.is_known().then(|| (point.hit_rate - real).abs())
    };
    [0.5, 2.0, 4.0].into_iter().filter_map(off).collect()
}

/// The stored real traces; the bench `advice` replays every trace at hand, by tiers of many sizes.
#[test]
fn predictions_on_real_traces_are_within_two_points_of_a_replay() {
    let length = if cfg!(debug_assertions) { 40_000 } else { usize::MAX };
    let mut all = Vec::new();
    for (name, entries) in [("web12", 500), ("web12", 1376), ("orm-busy", 763), ("orm-busy", 3817)] {
        let trace = trace::load(&trace::folder().join(format!("{name}.u64.zst"))).unwrap();
        let accesses = &trace[..trace.len().min(length)];
        for eviction in [Eviction::Lru, Eviction::S3Fifo] {
            all.extend(errors(name, accesses, eviction, entries));
        }
    }
    assert!(all.len() >= 20, "of 24 predictions {} were made", all.len());
    let within = all.iter().filter(|error| **error <= 2.0).count();
    assert!(within * 100 >= all.len() * 95, "{within} of {} within two points: {all:?}", all.len());
}

#[test]
fn every_policy_is_stood_for_by_miniatures_of_its_own() {
    let mut zipf = Zipf::new(20_000, 0.9, 3);
    let accesses: Vec<u64> = (0..if cfg!(debug_assertions) { 30_000 } else { 200_000 }).map(|_| zipf.draw()).collect();
    for eviction in POLICIES {
        let errors = errors("zipf", &accesses, eviction, 1000);
        assert!(!errors.is_empty() && errors.iter().all(|error| *error <= 2.0), "{eviction}: {errors:?}");
    }
}

#[test]
fn a_sample_without_its_share_of_requests_is_adjusted_by_those_that_were_expected() {
    // One key has half of all requests. In sizes whose sample has it and in those whose sample has it not, the others
    // miss, and nobody counts them twice or not at all.
    for seed in 0..8 {
        let mut options = LocalOptions::new(2000, 1 << 40, Duration::from_secs(2));
        options.seed = Some(seed);
        let tier = Tier::<u64>::new(namespace(), options.size_advice(true), Arc::new(ManualClock::new()));
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        let mut misses = 0;
        for round in 0..40_000_u64 {
            let key = if round % 2 == 0 { 0 } else { 1 + round };
            if tier.get(&key.to_string()).is_none() {
                misses += 1;
                assert!(lead(tier.read(&key.to_string())).fill(0, Digest::ABSENT, 1, LIFE));
            }
        }
        assert_eq!(misses, 20_001);
        for point in tier.size_curve().unwrap().points {
            let off = (point.hit_rate - 50.0).abs();
            // Beside the hot one, keys are asked for once each: chance has nothing but their number.
            assert!(off < 4.0, "seed {seed}: {point:?}");
        }
    }
}

#[test]
fn a_copy_that_expires_is_a_miss_in_every_size() {
    let mut rig = Rig::new(Eviction::Lru, 64);
    rig.life = Duration::from_secs(10);
    for _round in 0..20 {
        (0..32).for_each(|key| rig.through(key));
        rig.clock.advance(Duration::from_secs(11));
    }
    // Larger sizes hold every key, and none of the copies for long enough.
    rig.rates().into_iter().for_each(|rate| is(rate, 0.0));
    (0..32).for_each(|key| rig.through(key));
    (0..32).for_each(|key| rig.through(key));
    let hits = 32.0 / (22.0 * 32.0) * 100.0;
    rig.rates().into_iter().zip([0.0, hits, hits, hits, hits, hits]).for_each(|(rate, expected)| is(rate, expected));
}

/// What ends the copies of a key, in a tier that can hold all and is asked for all of them again.
fn after(end: impl Fn(&Rig, &str)) -> Vec<f64> {
    // Every key is followed by every size.
    let rig = Rig::new(Eviction::S3Fifo, 64);
    (0..32).for_each(|key| rig.through(key));
    (0..32).for_each(|key| end(&rig, &key.to_string()));
    (0..32).for_each(|key| rig.through(key));
    assert!(rig.hit_rate() < 1.0, "the tier itself had them");
    rig.rates()
}

#[test]
fn a_copy_that_was_reported_written_invalidated_or_flushed_is_a_miss_in_every_size() {
    let none = vec![0.0; 6];
    assert_eq!(after(|rig, key| push(&rig.tier, key)), none, "reported");
    assert_eq!(after(|rig, key| assert!(rig.tier.invalidate(key))), none, "invalidated");
    assert_eq!(after(|rig, key| drop(rig.tier.begin_write(key, Digest::ABSENT))), none, "written");
    let stored = |rig: &Rig, key: &str| {
        let load = lead_load(rig.tier.load(key));
        drop(load.begin_store(Digest::ABSENT).unwrap());
        load.finish(Ok(0));
    };
    assert_eq!(after(stored), none, "loaded and stored");
    assert_eq!(after(|rig, _| rig.tier.flushed(LinkId::ONLY)), none, "flushed");
    assert_eq!(after(|rig, _| _ = rig.tier.clear()), none, "cleared");
    let lost = |rig: &Rig, _: &str| {
        rig.tier.link_down(LinkId::ONLY);
        rig.tier.link_up(LinkId::ONLY, Lease::Unlimited);
    };
    assert_eq!(after(lost), none, "of another link");
}

#[test]
fn a_copy_is_a_miss_in_every_size_while_its_key_is_written() {
    let rig = Rig::new(Eviction::Lru, 64);
    rig.through(1);
    rig.through(2);
    let write = rig.tier.begin_write("1", Digest::ABSENT);
    let load = lead_load(rig.tier.load("2"));
    let store = load.begin_store(Digest::ABSENT).unwrap();
    assert_eq!((rig.tier.get("1"), rig.tier.get("2")), (None, None));
    rig.rates().into_iter().for_each(|rate| is(rate, 0.0));
    drop((write, store, load));
}

#[test]
fn a_copy_that_was_written_here_is_a_hit_in_every_size() {
    let rig = Rig::new(Eviction::Lru, 64);
    for key in 0..16_u64 {
        assert!(rig.tier.begin_write(&key.to_string(), Digest::ABSENT).install(0, 1, LIFE));
    }
    (0..16).for_each(|key| rig.through(key));
    rig.rates().into_iter().for_each(|rate| is(rate, 100.0));
}

#[test]
fn what_may_not_be_kept_is_no_hit_in_any_size() {
    let rig = Rig::new(Eviction::Lru, 64);
    for _round in 0..4 {
        for key in 0..16_u64 {
            assert_eq!(rig.tier.get(&key.to_string()), None);
            assert!(!lead(rig.tier.read(&key.to_string())).fill(0, Digest::ABSENT, 1, None));
        }
    }
    rig.rates().into_iter().for_each(|rate| is(rate, 0.0));
}

/// Asks for these keys in turn.
fn loop_over(rig: &Rig, keys: u64, rounds: u64, bytes: usize) {
    for key in (0..rounds).flat_map(|_| 0..keys) {
        let key = key.to_string();
        if rig.tier.get(&key).is_none() {
            assert!(lead(rig.tier.read(&key)).fill(0, Digest::ABSENT, bytes, LIFE));
        }
    }
}

#[test]
fn where_bytes_are_the_bound_they_grow_with_the_size() {
    // Room for 900 copies, where entries would do for a hundred thousand; asked for in a loop of 1500.
    let mut options = LocalOptions::new(100_000, 1_000_000, Duration::from_secs(2));
    options.shards = Some(1);
    let rig = Rig::with(options);
    loop_over(&rig, 1500, 20, 1000);
    is(rig.hit_rate(), 0.0);
    let curve = rig.curve();
    assert_eq!((at(&curve, 4.0).max_bytes, at(&curve, 4.0).entries), (4_000_000, 400_000));
    assert!(at(&curve, 1.0).hit_rate < 2.0 && at(&curve, 2.0).hit_rate > 93.0, "{curve:?}");
    let bytes = at(&curve, 2.0).bytes;
    assert!((1_500_000..1_900_000).contains(&bytes), "1500 copies of 1116 bytes take {bytes}");
}

#[test]
fn a_size_whose_miniature_has_room_for_a_few_heavy_copies_is_not_spoken_of() {
    let mut options = LocalOptions::new(100_000, 20_000_000, Duration::from_secs(2));
    options.shards = Some(1);
    let rig = Rig::with(options);
    loop_over(&rig, 1000, 20, 100_000);
    let curve = rig.curve();
    assert!(curve.points.iter().all(|point| !point.is_known()), "{curve:?}");
    // Not for want of requests: of larger sizes no copy has had to go yet.
    assert!(curve.points[..4].iter().all(|point| point.standard_error >= 100.0), "{curve:?}");
}

#[test]
fn without_the_option_there_is_no_advice_and_nothing_is_followed() {
    let options = LocalOptions::new(500, 1 << 30, Duration::from_secs(2));
    assert!(!options.size_advice);
    let tier = Tier::<u64>::new(namespace(), options, Arc::new(ManualClock::new()));
    assert_eq!(tier.size_curve(), None);
    let options = LocalOptions::keep_nothing(Duration::from_secs(2)).size_advice(true);
    let tier = Tier::<u64>::new(namespace(), options, Arc::new(ManualClock::new()));
    assert_eq!(tier.size_curve(), None, "a tier that keeps nothing has no size");
}

#[test]
fn what_the_advisor_takes_does_not_grow_with_the_tier_or_its_use() {
    for eviction in POLICIES {
        let mut weighed = Vec::new();
        for entries in [500, 1_000_000] {
            let options = LocalOptions::new(entries, 1 << 40, Duration::from_secs(2)).eviction(eviction);
            let make = |advice| {
                let options = options.clone().size_advice(advice);
                let mut tier = None;
                let heap = allocation_counter::measure(|| {
                    let tier = tier.insert(Tier::<u64>::new(namespace(), options, Arc::new(ManualClock::new())));
                    tier.link_up(LinkId::ONLY, Lease::Unlimited);
                    for key in 0..20_000_u64 {
                        let key = key.to_string();
                        if tier.get(&key).is_none() {
                            assert!(lead(tier.read(&key)).fill(0, Digest::ABSENT, 1, LIFE));
                        }
                    }
                });
                heap.bytes_current
            };
            weighed.push(make(true) - make(false));
        }
        eprintln!("{eviction}: the advisor takes {weighed:?} bytes at 500 and at 1,000,000 entries");
        assert!(weighed.iter().all(|bytes| (50_000..400_000).contains(bytes)), "{eviction}: {weighed:?}");
    }
}

#[test]
fn nothing_is_said_before_enough_was_seen() {
    let rig = Rig::new(Eviction::Lru, 500);
    let mut zipf = Zipf::new(5000, 0.9, 3);
    let advice = |rig: &Rig| Advice::new(&rig.curve(), LatencyStats::default());
    (0..900).for_each(|_| rig.through(zipf.draw()));
    let first = advice(&rig);
    assert_eq!(first.sizes, []);
    assert_eq!(first.sentence, "too few requests so far: 900 were seen, which says nothing of other sizes");
    (0..100_000).for_each(|_| rig.through(zipf.draw()));
    let then = advice(&rig);
    assert!(then.sizes.len() >= 5, "{then:?}");
    assert!(then.sentence.contains("instead of 500 would raise the hit rate"), "{then}");
}

#[test]
fn an_advisor_whose_tier_goes_on_hitting_rests_until_misses_come_again() {
    let rig = Rig::new(Eviction::Lru, 100);
    rig.through(0);
    // One more than its credit: every key of so small a tier is followed.
    let hits = (1 << 20) + 1000;
    (0..hits).for_each(|_| assert!(rig.tier.get("0").is_some()));
    let curve = rig.curve();
    assert!(curve.requests > hits && curve.followed < curve.requests, "{} {}", curve.requests, curve.followed);
    let samples = at(&curve, 1.0).samples;
    (0..1000).for_each(|_| assert!(rig.tier.get("0").is_some()));
    assert_eq!(at(&rig.curve(), 1.0).samples, samples, "it followed while it was to rest");
    assert_eq!(rig.curve().followed, curve.followed, "what it did not follow was counted");
    (1..6000).for_each(|key| rig.through(key));
    assert!(at(&rig.curve(), 1.0).samples > samples, "misses did not wake it");
    // Of all that it followed, and of nothing else.
    let followed = rig.curve();
    let point = at(&followed, 1.0);
    assert_eq!(point.samples, followed.followed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Where every key is followed a miniature is the tier: whatever happens, both hit alike.
    #[test]
    fn a_miniature_of_the_tiers_own_size_hits_whenever_the_tier_does(
        policy in 0..POLICIES.len(),
        entries in 4..60_usize,
        steps in prop::collection::vec((0..120_u64, 0..12_u8), 1..1500),
    ) {
        let mut rig = Rig::new(POLICIES[policy], entries);
        rig.life = Duration::from_secs(100);
        for (number, what) in steps {
            let key = number.to_string();
            match what {
                0 => push(&rig.tier, &key),
                1 => drop(rig.tier.begin_write(&key, Digest::ABSENT)),
                2 => _ = rig.tier.begin_write(&key, Digest::ABSENT).install(0, 1, Some(rig.life)),
                3 => rig.clock.advance(Duration::from_secs(number % 10)),
                4 if number == 7 => rig.tier.flushed(LinkId::ONLY),
                5 if number == 8 => _ = rig.tier.clear(),
                _ => rig.through(number),
            }
            let (curve, real) = (rig.curve(), rig.hit_rate());
            if curve.requests > 0 && !matches!(POLICIES[policy], Eviction::WTinyLfu) {
                let same = at(&curve, 1.0).hit_rate;
                prop_assert!((same - real).abs() < 1e-6, "{} where the tier has {real}", same);
            }
            prop_assert!(FACTORS.iter().all(|factor| (0.0..=100.0).contains(&at(&curve, *factor).hit_rate)));
        }
    }
}
