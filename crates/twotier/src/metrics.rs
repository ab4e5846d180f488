//! Figures by way of the facade [`metrics`](https://docs.rs/metrics), to whichever recorder a program has installed.
//! Feature `metrics`.
//!
//! What each metric means, its unit, and which to alert on: `docs/observability.md` in the repository.

use std::{sync::Arc, time::Duration};

use metrics::{Label, Unit as RecorderUnit};
use parking_lot::Mutex;
use twotier_core::{
    LatencySnapshot,
    export::{FAMILIES, FamilyKind, SampleValue, Unit},
};

use crate::{Cache, blocking, registered::Registered};

/// Hands the figures of caches to the recorder of the crate `metrics`, each time it is asked to.
///
/// Nothing is counted for it while a cache is used: [`collect`](Self::collect) reads
/// [`stats`](crate::Cache::stats) and sets counters and gauges to what it finds. Histograms are given what came since
/// the last call, each duration as the middle of its bucket, within 1.6 %. Call it before each scrape, or every few
/// seconds.
///
/// A cache is not kept alive by it. Once its last clone is gone its figures are not set any more; a recorder that
/// forgets what is idle forgets them. One recorder takes one collector: a second one records histograms twice.
///
/// # Examples
///
/// ```
/// use twotier::{Cache, MemoryBackend, metrics::Collector};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), twotier::Error> {
/// let collector = Collector::new();
/// let users: Cache<String> = Cache::builder().namespace("users").build(MemoryBackend::new()).await?;
/// collector.register(&users);
///
/// users.set(42, "Ada").await?;
/// collector.collect();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Collector {
    caches: Arc<Registered<Histograms>>,
}

/// What was recorded of each histogram by the last collection.
type Histograms = Mutex<Vec<LatencySnapshot>>;

impl Collector {
    /// Makes a collector without caches.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a cache under its namespace, the value of the label `namespace`. One that is registered under the same is
    /// no longer shown.
    pub fn register<V: Send + Sync + 'static>(&self, cache: &Cache<V>) {
        self.caches.add(None, cache);
    }

    /// Adds a cache under a name of its own, where two caches of a process have the same namespace in different
    /// backends.
    pub fn register_as<V: Send + Sync + 'static>(&self, name: &str, cache: &Cache<V>) {
        self.caches.add(Some(name), cache);
    }

    /// Does what [`register`](Self::register) does with a blocking cache.
    pub fn register_blocking<V: Send + Sync + 'static>(&self, cache: &blocking::Cache<V>) {
        self.register(cache.inner());
    }

    /// Describes the metrics, and sets them to what the caches show now. No round trip.
    pub fn collect(&self) {
        describe();
        for shown in self.caches.all() {
            let stats = shown.source.stats();
            let mut new = since_last(&shown.memory, shown.source.histograms()).into_iter();
            for family in FAMILIES {
                for sample in family.samples(&stats) {
                    let named = Label::new("namespace", shown.name.to_string());
                    let others = sample.labels.into_iter().map(|(label, value)| Label::from_static_parts(label, value));
                    let labels: Vec<_> = std::iter::once(named).chain(others).collect();
                    match sample.value {
                        SampleValue::Count(count) => metrics::counter!(family.name, labels).absolute(count),
                        SampleValue::Gauge(value) => metrics::gauge!(family.name, labels).set(value),
                        SampleValue::Latency(_) => {
                            let histogram = metrics::histogram!(family.name, labels);
                            for (took, times) in new.next().unwrap_or_default() {
                                histogram.record_many(took.as_secs_f64(), usize::try_from(times).unwrap_or(usize::MAX));
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

/// Returns what came to each histogram since it was last asked for. Handed to the recorder afterwards: that is not
/// ours, and runs under no lock.
fn since_last(last: &Histograms, recorded: Vec<LatencySnapshot>) -> Vec<Vec<(Duration, u64)>> {
    let mut last = last.lock();
    let new = recorded.iter().enumerate().map(|(index, now)| now.since(last.get(index)).collect()).collect();
    *last = recorded;
    new
}

fn describe() {
    for family in FAMILIES {
        let unit = match family.unit {
            Unit::Seconds => RecorderUnit::Seconds,
            Unit::Bytes => RecorderUnit::Bytes,
            _ => RecorderUnit::Count,
        };
        match family.kind {
            FamilyKind::Counter => metrics::describe_counter!(family.name, unit, family.help),
            FamilyKind::Gauge => metrics::describe_gauge!(family.name, unit, family.help),
            FamilyKind::Histogram => metrics::describe_histogram!(family.name, unit, family.help),
            _ => {}
        }
    }
}
