//! What a tier of another size would bring: the curve as it was estimated, and what a person can do about it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::LatencyStats;

/// A size is not spoken of before so many of its sampled requests were seen.
const SAMPLES: u64 = 1000;
/// Nor while chance may still move its hit rate by twice this, in points.
const UNCERTAIN: f64 = 1.0;
/// What is less than this many points of the hit rate is no reason to change anything.
const WORTHWHILE: f64 = 1.0;

/// How often a tier would hit if it were smaller or larger, estimated while it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SizeCurve {
    /// How often the tier was asked for a key.
    pub requests: u64,
    /// How many of these the curve is about: a tier that hits nearly every time is not followed all of the time.
    pub followed: u64,
    /// How long the tier has been there.
    pub elapsed: Duration,
    /// The sizes, the smallest first.
    pub points: Vec<CurvePoint>,
}

/// A size of the tier, and what is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CurvePoint {
    /// This size divided by the tier's.
    pub factor: f64,
    /// The most entries it holds.
    pub entries: usize,
    /// The most bytes it holds.
    pub max_bytes: usize,
    /// How many bytes its entries would take now.
    pub bytes: usize,
    /// The share of requests answered locally, in percent, since the tier was made.
    pub hit_rate: f64,
    /// How far chance moves that, in points: in one case of three by more than this, in one of twenty by twice as much.
    pub standard_error: f64,
    /// How many requests were seen of the sampled keys.
    pub samples: u64,
}

impl SizeCurve {
    /// Puts the parts together.
    #[must_use]
    pub fn new(requests: u64, followed: u64, elapsed: Duration, points: Vec<CurvePoint>) -> Self {
        Self { requests, followed, elapsed, points }
    }
}

impl CurvePoint {
    /// Returns whether enough was seen for the hit rate to be believed: 1000 samples, and a standard error of a point.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.samples >= SAMPLES && self.standard_error <= UNCERTAIN
    }
}

/// What other sizes of the local tier would bring.
///
/// [`Display`](fmt::Display) writes the sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Advice {
    /// How often the tier was asked for a key since it was made.
    pub requests: u64,
    /// How many of these were followed by the advisor, which rests while nearly all of them hit.
    pub followed: u64,
    /// Requests per second since the tier was made, idle times included.
    pub requests_per_second: f64,
    /// The backend latency that milliseconds are reckoned by: the mean of all calls, waiting not included.
    pub latency: Duration,
    /// The sizes about which enough is known, the smallest first; empty while too few requests were seen.
    pub sizes: Vec<SizeAdvice>,
    /// What to do, in one sentence.
    pub sentence: String,
}

/// What the local tier would bring at one size.
///
/// A round trip is saved by each hit; misses that would share one are counted one each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SizeAdvice {
    /// This size divided by the present one.
    pub factor: f64,
    /// The most entries (`max_entries`).
    pub entries: usize,
    /// The most bytes (`max_bytes`): what the size is allowed to take.
    pub max_bytes: usize,
    /// How many bytes its entries would take now, overhead included.
    pub bytes: usize,
    /// The share of requests answered locally, in percent, as [`LocalStats::hit_rate`](crate::LocalStats::hit_rate) has
    /// it.
    pub hit_rate: f64,
    /// How far chance moves that, in points.
    pub standard_error: f64,
    /// Round trips saved each second, compared with no local tier at all.
    pub round_trips_saved: f64,
    /// Milliseconds of waiting for the backend saved each second, all callers together, compared with no local tier.
    pub milliseconds_saved: f64,
    /// Round trips saved each second more than by the present size; negative where it is fewer.
    pub round_trips_gained: f64,
    /// Milliseconds of waiting saved each second more than by the present size; negative where it is fewer.
    pub milliseconds_gained: f64,
}

impl Advice {
    /// Reckons what the sizes of a curve bring where a call of the backend takes so long.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    pub fn new(curve: &SizeCurve, latency: LatencyStats) -> Self {
        let seconds = curve.elapsed.as_secs_f64();
        let requests_per_second = if seconds > 0.0 { curve.requests as f64 / seconds } else { 0.0 };
        let latency = latency.mean();
        let known = || curve.points.iter().filter(|point| point.is_known());
        let present = known().find(|point| is_present(point.factor)).copied();
        // What the others are compared with: without it none says anything.
        let points = present.map(|present| (known(), present));
        let sizes = points.map_or_else(Vec::new, |(known, present)| {
            let advise = |point: &CurvePoint| {
                let saved = point.hit_rate / 100.0 * requests_per_second;
                let gained = (point.hit_rate - present.hit_rate) / 100.0 * requests_per_second;
                let millis = latency.as_secs_f64() * 1e3;
                SizeAdvice {
                    factor: point.factor,
                    entries: point.entries,
                    max_bytes: point.max_bytes,
                    bytes: point.bytes,
                    hit_rate: point.hit_rate,
                    standard_error: point.standard_error,
                    round_trips_saved: saved,
                    milliseconds_saved: saved * millis,
                    round_trips_gained: gained,
                    milliseconds_gained: gained * millis,
                }
            };
            known.map(advise).collect()
        });
        let sentence = sentence(curve, &sizes);
        let SizeCurve { requests, followed, .. } = *curve;
        Self { requests, followed, requests_per_second, latency, sizes, sentence }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

fn is_present(factor: f64) -> bool {
    (factor - 1.0).abs() < f64::EPSILON
}

/// Says what to do.
///
/// The size that is recommended is the smallest beyond which no known size gains a point of the hit rate.
fn sentence(curve: &SizeCurve, sizes: &[SizeAdvice]) -> String {
    let Some(present) = sizes.iter().find(|size| is_present(size.factor)) else {
        return format!(
            "too few requests so far: {} were seen, which says nothing of other sizes",
            thousands(curve.followed)
        );
    };
    let best = sizes.iter().map(|size| size.hit_rate).fold(0.0, f64::max);
    let Some(chosen) = sizes.iter().find(|size| size.hit_rate > best - WORTHWHILE) else {
        return String::new();
    };
    let last = sizes.last().is_some_and(|last| last.entries == chosen.entries);
    let (now, then) = (entries(present), entries(chosen));
    if best < WORTHWHILE {
        return format!(
            "no size helps: up to {} would be hit less than once in a hundred requests",
            sizes.last().map_or_else(String::new, entries)
        );
    }
    if chosen.entries > present.entries {
        let rest = match last {
            true if chosen.factor >= 8.0 => "; the curve still rises there, and more may gain more".to_owned(),
            true => "; of larger sizes too little is known yet".to_owned(),
            false => "; more gains less than a point".to_owned(),
        };
        return format!("{then} instead of {} would {}{rest}", number(present), difference(present, chosen));
    }
    if chosen.entries < present.entries {
        return format!(
            "{then} instead of {} would do: a hit rate of {:.1} instead of {:.1} %; more gains less than a point",
            number(present),
            chosen.hit_rate,
            present.hit_rate,
        );
    }
    let less = sizes.iter().rev().find(|size| size.entries < present.entries);
    let less = less.map_or_else(String::new, |less| format!(", {} would {}", entries(less), difference(present, less)));
    let more = if last { "of more too little is known yet" } else { "more gains less than a point" };
    format!("{now} are right: {more}{less}")
}

/// Says what a size changes.
fn difference(present: &SizeAdvice, other: &SizeAdvice) -> String {
    let (raise, save) = if other.hit_rate >= present.hit_rate { ("raise", "save") } else { ("lower", "cost") };
    let mut text = format!("{raise} the hit rate from {:.1} to {:.1} %", present.hit_rate, other.hit_rate);
    let trips = other.round_trips_gained.abs();
    if trips >= 0.05 {
        text += &format!(" and {save} {} round trips a second", rate(trips));
    }
    let millis = other.milliseconds_gained.abs();
    if trips >= 0.05 && millis >= 0.05 {
        text += &format!(", {} ms of waiting", rate(millis));
    }
    text
}

fn entries(size: &SizeAdvice) -> String {
    format!("{} {}", number(size), if size.entries == 1 { "entry" } else { "entries" })
}

fn number(size: &SizeAdvice) -> String {
    thousands(size.entries as u64)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for a person")]
fn rate(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}") } else { thousands(rate.round() as u64) }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A curve of a tier of 1,000 entries: hit rates from a quarter of that to eight times as much, a million requests
    /// in a thousand seconds.
    fn curve(rates: [f64; 6]) -> SizeCurve {
        let point = |(hit_rate, factor): (f64, f64)| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole")]
            let entries = (factor * 1000.0) as usize;
            let (max_bytes, bytes) = (entries * 2000, entries * 500);
            CurvePoint { factor, entries, max_bytes, bytes, hit_rate, standard_error: 0.2, samples: 50_000 }
        };
        let points = rates.into_iter().zip([0.25, 0.5, 1.0, 2.0, 4.0, 8.0]).map(point).collect();
        SizeCurve::new(1_000_000, 1_000_000, Duration::from_secs(1000), points)
    }

    fn two_ms() -> LatencyStats {
        LatencyStats { count: 10, total: Duration::from_millis(20), ..LatencyStats::default() }
    }

    fn said(curve: &SizeCurve) -> String {
        Advice::new(curve, two_ms()).to_string()
    }

    #[test]
    fn a_larger_size_is_recommended_up_to_where_more_gains_less_than_a_point() {
        assert_eq!(
            said(&curve([20.0, 35.0, 50.0, 60.0, 80.0, 80.5])),
            "4,000 entries instead of 1,000 would raise the hit rate from 50.0 to 80.0 % and save 300 round trips a \
             second, 600 ms of waiting; more gains less than a point"
        );
        assert_eq!(
            said(&curve([20.0, 35.0, 50.0, 60.0, 70.0, 80.0])),
            "8,000 entries instead of 1,000 would raise the hit rate from 50.0 to 80.0 % and save 300 round trips a \
             second, 600 ms of waiting; the curve still rises there, and more may gain more"
        );
    }

    #[test]
    fn a_smaller_size_is_recommended_where_it_loses_less_than_a_point() {
        assert_eq!(
            said(&curve([40.0, 79.5, 80.0, 80.1, 80.2, 80.3])),
            "500 entries instead of 1,000 would do: a hit rate of 79.5 instead of 80.0 %; more gains less than a point"
        );
    }

    #[test]
    fn a_size_that_is_right_is_said_to_be() {
        assert_eq!(
            said(&curve([40.0, 70.0, 80.0, 80.1, 80.2, 80.3])),
            "1,000 entries are right: more gains less than a point, 500 entries would lower the hit rate from 80.0 to \
             70.0 % and cost 100 round trips a second, 200 ms of waiting"
        );
    }

    #[test]
    fn where_no_size_hits_none_is_recommended() {
        assert_eq!(
            said(&curve([0.0, 0.0, 0.1, 0.1, 0.2, 0.3])),
            "no size helps: up to 8,000 entries would be hit less than once in a hundred requests"
        );
    }

    #[test]
    fn nothing_is_said_of_a_size_before_enough_is_known_of_it() {
        let mut few = curve([20.0, 35.0, 50.0, 60.0, 70.0, 80.0]);
        few.points[5].samples = 999;
        few.points[4].standard_error = 1.1;
        assert_eq!(Advice::new(&few, two_ms()).sizes.len(), 4);
        assert!(said(&few).ends_with("; of larger sizes too little is known yet"), "{}", said(&few));
        few.points[2].samples = 999;
        few.followed = 12_345;
        let advice = Advice::new(&few, two_ms());
        assert_eq!(advice.sizes, [], "what it is compared with is not known");
        assert_eq!(advice.sentence, "too few requests so far: 12,345 were seen, which says nothing of other sizes");
    }

    #[test]
    fn savings_are_hits_a_second_at_the_latency_of_the_backend() {
        let advice = Advice::new(&curve([20.0, 35.0, 50.0, 60.0, 80.0, 80.5]), two_ms());
        let [quarter, .., four, _] = advice.sizes[..] else { panic!("all sizes are known") };
        let is = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
        is(advice.requests_per_second, 1000.0);
        is(four.round_trips_saved, 800.0);
        is(four.milliseconds_saved, 1600.0);
        is(four.round_trips_gained, 300.0);
        is(quarter.milliseconds_gained, -600.0);
        // A clock that stands still, and a backend that was never asked, are no reason to divide by zero.
        let still = SizeCurve { elapsed: Duration::ZERO, ..curve([20.0, 35.0, 50.0, 60.0, 80.0, 80.5]) };
        let advice = Advice::new(&still, LatencyStats::default());
        assert!(advice.sizes.iter().all(|size| size.milliseconds_saved == 0.0), "{advice:?}");
        assert_eq!(
            advice.sentence,
            "4,000 entries instead of 1,000 would raise the hit rate from 50.0 to 80.0 %; more gains less than a point"
        );
    }

    #[test]
    fn advice_survives_being_written_and_read() {
        let advice = Advice::new(&curve([20.0, 35.0, 50.0, 60.0, 80.0, 80.5]), two_ms());
        let text = serde_json::to_string(&advice).unwrap();
        assert_eq!(serde_json::from_str::<Advice>(&text).unwrap(), advice);
    }
}
