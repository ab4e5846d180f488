//! How long something takes: recorded in fixed memory without a lock, shown as counts and quantiles.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use histogram::{AtomicHistogram, Config, Histogram};
use serde::Serialize;

/// Each power of two of nanoseconds is cut into 2⁵ buckets, so a bucket is at most 3.1 % wide and its middle at most
/// 1.6 % away from what was recorded; below 64 ns each nanosecond has a bucket. The last one ends at 2⁴² ns, 73
/// minutes: longer than any deadline that can be configured. 1216 buckets, 9.7 KB.
const BUCKETS: Config = match Config::new(5, 42) {
    Ok(config) => config,
    Err(_) => panic!("the first number is smaller than the second, and that at most 64"),
};
const LONGEST: u64 = (1 << 42) - 1;

/// The bounds of [`LatencyStats::within`]: the buckets that OpenTelemetry recommends for calls of databases, and
/// between them and below them those that tell a server next door from one far away.
pub const LATENCY_BOUNDS: [Duration; 16] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// How long something took.
///
/// The quantile *q* of *n* measurements is the one of rank ⌈*q* · *n*⌉ by size, the shortest having rank 1: no value
/// between two measurements is made up. It is known by the middle of its bucket, which is within 1.6 % of it, and is
/// never greater than [`max`](Self::max). Zero when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LatencyStats {
    /// How many times it was measured.
    pub count: u64,
    /// The sum of all.
    pub total: Duration,
    /// The longest.
    pub max: Duration,
    /// The median: half of all took no longer.
    pub p50: Duration,
    /// 99 of a hundred took no longer.
    pub p99: Duration,
    /// 999 of a thousand took no longer.
    pub p999: Duration,
    /// How many took no longer than each of [`LATENCY_BOUNDS`], those within a smaller bound included. What took up to
    /// 3.1 % less than a bound may be counted as longer.
    pub within: [u64; LATENCY_BOUNDS.len()],
}

impl LatencyStats {
    /// Returns the mean, zero when nothing was measured.
    #[must_use]
    pub fn mean(&self) -> Duration {
        match u128::from(self.count) {
            0 => Duration::ZERO,
            count => Duration::from_nanos(u64::try_from(self.total.as_nanos() / count).unwrap_or(u64::MAX)),
        }
    }
}

/// Records how long something takes: a few atomic steps each time, and 10 KB in all however much is recorded, which are
/// allocated by the first record.
#[derive(Default)]
pub struct LatencyRecorder {
    histogram: OnceLock<AtomicHistogram>,
    nanos: AtomicU64,
    longest: AtomicU64,
}

impl LatencyRecorder {
    /// Makes a recorder that has recorded nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records one. More than 73 minutes are counted as that, but in the sum and as the longest.
    #[inline]
    pub fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // The histogram comes last: whoever finds it there finds it as the longest too.
        self.nanos.fetch_add(nanos, Relaxed);
        if nanos > self.longest.load(Relaxed) {
            self.longest.fetch_max(nanos, Relaxed);
        }
        let histogram = self.histogram.get_or_init(|| AtomicHistogram::with_config(&BUCKETS));
        let recorded = histogram.increment(nanos.min(LONGEST));
        debug_assert!(recorded.is_ok(), "the longest has a bucket");
    }

    /// Returns all that was recorded until now.
    #[must_use]
    pub fn snapshot(&self) -> LatencySnapshot {
        LatencySnapshot {
            histogram: self.histogram.get().map_or_else(|| Histogram::with_config(&BUCKETS), AtomicHistogram::load),
            total: Duration::from_nanos(self.nanos.load(Relaxed)),
            longest: Duration::from_nanos(self.longest.load(Relaxed)),
        }
    }

    /// Returns what [`snapshot`](Self::snapshot) shows.
    #[must_use]
    pub fn stats(&self) -> LatencyStats {
        self.snapshot().stats()
    }
}

impl fmt::Debug for LatencyRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatencyRecorder").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// All that a [`LatencyRecorder`] had recorded at some time, bucket by bucket.
#[derive(Clone, Debug)]
pub struct LatencySnapshot {
    histogram: Histogram,
    total: Duration,
    longest: Duration,
}

impl LatencySnapshot {
    /// Adds what another recorder recorded.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        // All have the same buckets.
        if let Ok(sum) = self.histogram.wrapping_add(&other.histogram) {
            self.histogram = sum;
        }
        self.total = self.total.saturating_add(other.total);
        self.longest = self.longest.max(other.longest);
        self
    }

    /// Returns counts and quantiles.
    #[must_use]
    pub fn stats(&self) -> LatencyStats {
        let count: u64 = self.histogram.as_slice().iter().sum();
        let mut stats = LatencyStats { count, total: self.total, max: self.longest, ..LatencyStats::default() };
        if count == 0 {
            return stats;
        }
        let rank = |permille: u64| u64::try_from((u128::from(count) * u128::from(permille)).div_ceil(1000));
        let ranks = [500, 990, 999].map(|permille| rank(permille).unwrap_or(count));
        let mut bounds = LATENCY_BOUNDS.iter().enumerate().peekable();
        let mut quantiles = [Duration::ZERO; 3];
        let mut counted = 0;
        for bucket in self.histogram.iter() {
            while let Some((index, _)) = bounds.next_if(|(_, bound)| u128::from(bucket.end()) > bound.as_nanos()) {
                stats.within[index] = counted;
            }
            let before = counted;
            counted += bucket.count();
            for (quantile, rank) in quantiles.iter_mut().zip(ranks) {
                if (before + 1..=counted).contains(&rank) {
                    *quantile = middle(bucket.start(), bucket.end()).min(self.longest);
                }
            }
        }
        bounds.for_each(|(index, _)| stats.within[index] = counted);
        [stats.p50, stats.p99, stats.p999] = quantiles;
        stats
    }

    /// Returns what was recorded since an earlier snapshot of the same recorder: durations, known as in
    /// [`LatencyStats`], and how many times each.
    pub fn since(&self, earlier: Option<&Self>) -> impl Iterator<Item = (Duration, u64)> {
        let now = self.histogram.iter();
        now.enumerate().filter_map(move |(index, bucket)| {
            let before = earlier.and_then(|earlier| earlier.histogram.as_slice().get(index)).copied();
            let new = bucket.count().wrapping_sub(before.unwrap_or_default());
            (new > 0).then(|| (middle(bucket.start(), bucket.end()).min(self.longest), new))
        })
    }
}

fn middle(start: u64, end: u64) -> Duration {
    Duration::from_nanos(start.midpoint(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(all: impl IntoIterator<Item = Duration>) -> LatencyRecorder {
        let recorder = LatencyRecorder::new();
        all.into_iter().for_each(|took| recorder.record(took));
        recorder
    }

    #[test]
    fn nothing_recorded_is_zero_and_the_mean_is_that_of_all() {
        assert_eq!(LatencyRecorder::new().stats(), LatencyStats::default());
        assert_eq!(LatencyStats::default().mean(), Duration::ZERO);
        let two = recorded([1, 2].map(Duration::from_millis)).stats();
        assert_eq!((two.count, two.total, two.max), (2, Duration::from_millis(3), Duration::from_millis(2)));
        assert_eq!(two.mean(), Duration::from_micros(1500));
    }

    #[test]
    fn a_quantile_is_the_measurement_of_its_rank_within_three_percent() {
        for unit in [Duration::from_nanos(1), Duration::from_nanos(970), Duration::from_micros(7)] {
            for count in [1_u32, 2, 3, 10, 99, 100, 101, 999, 1000, 1001, 5000] {
                // From the longest to the shortest: the order of recording is nothing.
                let stats = recorded((1..=count).rev().map(|times| unit * times)).stats();
                for (shown, permille) in [(stats.p50, 500), (stats.p99, 990), (stats.p999, 999)] {
                    let exact = unit * (count * permille).div_ceil(1000);
                    let error = shown.abs_diff(exact).as_secs_f64() / exact.as_secs_f64();
                    assert!(error <= 0.016, "{permille} of {count} times {unit:?}: {shown:?}, not {exact:?}");
                    assert!(shown <= stats.max);
                }
            }
        }
    }

    #[test]
    fn each_bound_counts_what_took_no_longer_but_for_the_width_of_a_bucket() {
        let all: Vec<_> = (1..=20_000_u64).map(|step| Duration::from_nanos(step * 7919)).collect();
        let stats = recorded(all.iter().copied()).stats();
        for (bound, within) in LATENCY_BOUNDS.iter().zip(stats.within) {
            let no_longer = |bound: Duration| all.iter().filter(|took| **took <= bound).count() as u64;
            assert!(within <= no_longer(*bound), "{bound:?}: {within}");
            assert!(within >= no_longer(bound.mul_f64(1.0 - 0.032)), "{bound:?}: {within}");
        }
    }

    #[test]
    fn what_is_longer_than_the_last_bucket_is_counted_there_and_is_the_longest() {
        let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        let stats = recorded([century, Duration::MAX]).stats();
        assert_eq!((stats.count, stats.within), (2, [0; LATENCY_BOUNDS.len()]));
        assert!(stats.p50 >= Duration::from_secs(72 * 60) && stats.max >= century);
    }

    #[test]
    fn what_came_since_a_snapshot_is_all_that_came_since() {
        let recorder = recorded([3, 3, 70].map(Duration::from_millis));
        let before = recorder.snapshot();
        assert_eq!(before.since(None).map(|(_, times)| times).sum::<u64>(), 3);
        recorder.record(Duration::from_millis(3));
        recorder.record(Duration::from_secs(1));
        let since: Vec<_> = recorder.snapshot().since(Some(&before)).collect();
        assert_eq!(since.iter().map(|(_, times)| *times).collect::<Vec<_>>(), [1, 1]);
        assert!(since[0].0.abs_diff(Duration::from_millis(3)) < Duration::from_micros(50));
        let both = before.clone().and(&before).stats();
        assert_eq!((both.count, both.total, both.max), (6, Duration::from_millis(152), Duration::from_millis(70)));
    }
}
