//! Under which names statistics leave the process: one list, from which every exporter takes name, meaning and figure.
//!
//! The names are those of others where there are any: of OpenTelemetry for calls of a database, of redis-py, go-redis
//! and node-redis for a cache on the client's side. Everything is read from [`CacheStats`] when somebody asks: nothing
//! is counted for an exporter.

#[cfg(feature = "prometheus-text")]
mod text;

#[cfg(feature = "prometheus-text")]
pub use self::text::write_prometheus;
use crate::{BreakerState, CacheStats, ErrorKind, LatencyStats, LinkState};

/// What kind of figure a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FamilyKind {
    /// Counts up from 0 since the cache was built.
    Counter,
    /// What is now.
    Gauge,
    /// How long something took, each time.
    Histogram,
}

/// In what a family is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Things are counted.
    Count,
    /// Seconds, as a float.
    Seconds,
    /// Bytes.
    Bytes,
}

/// Metrics of one name, which differ in their labels.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Family {
    /// The name as OpenTelemetry writes it, with dots, and without its unit.
    pub name: &'static str,
    /// What kind of figure it has.
    pub kind: FamilyKind,
    /// In what it is measured.
    pub unit: Unit,
    /// What it means, in one sentence without the full stop.
    pub help: &'static str,
    samples: fn(&CacheStats, &mut Samples),
}

/// One figure of a family.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// Names and values of its labels, beside the namespace. Names are written with dots.
    pub labels: Vec<(&'static str, &'static str)>,
    /// The figure.
    pub value: SampleValue,
}

/// The figure of a sample.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SampleValue {
    /// Of a counter.
    Count(u64),
    /// Of a gauge, in the unit of the family.
    Gauge(f64),
    /// Of a histogram.
    Latency(Box<LatencyStats>),
}

#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn count(&mut self, labels: &[(&'static str, &'static str)], count: u64) {
        self.0.push(Sample { labels: labels.to_vec(), value: SampleValue::Count(count) });
    }

    fn gauge(&mut self, value: f64) {
        self.0.push(Sample { labels: Vec::new(), value: SampleValue::Gauge(value) });
    }

    fn latency(&mut self, labels: &[(&'static str, &'static str)], latency: LatencyStats) {
        self.0.push(Sample { labels: labels.to_vec(), value: SampleValue::Latency(Box::new(latency)) });
    }
}

impl Family {
    /// Returns the figures of one cache; none where the cache has nothing of the kind, such as a local tier or a lease.
    #[must_use]
    pub fn samples(&self, stats: &CacheStats) -> Vec<Sample> {
        let mut samples = Samples::default();
        (self.samples)(stats, &mut samples);
        samples.0
    }

    /// Returns the name as Prometheus writes it: underscores for dots, the unit, and `_total` of a counter.
    #[must_use]
    pub fn prometheus_name(&self) -> String {
        let mut name = self.name.replace('.', "_");
        let unit = match self.unit {
            Unit::Count => "",
            Unit::Seconds => "_seconds",
            Unit::Bytes => "_bytes",
        };
        if !name.ends_with(unit) {
            name.push_str(unit);
        }
        if self.kind == FamilyKind::Counter {
            name.push_str("_total");
        }
        name
    }
}

/// Every family, in the order in which they are written.
pub const FAMILIES: &[Family] = &[
    counter("redis.client.csc.requests", "Reads of one key, by whether the local tier answered them", |stats, to| {
        if stats.local.enabled {
            to.count(&[("result", "hit")], stats.local.hits);
            to.count(&[("result", "miss")], stats.local.misses);
        }
    }),
    counter("twotier.misses", "Reads that the local tier did not answer, by the cause", |stats, to| {
        if stats.local.enabled {
            stats.local.miss_causes.iter().for_each(|(cause, misses)| to.count(&[("cause", cause)], misses));
        }
    }),
    counter("twotier.stale", "Misses that were answered by a copy that may be stale", |stats, to| {
        if stats.local.enabled {
            to.count(&[], stats.local.stale);
        }
    }),
    counter("redis.client.csc.evictions", "Entries that left the local tier, by the reason", |stats, to| {
        if stats.local.enabled {
            to.count(&[("reason", "full")], stats.local.evictions());
            to.count(&[("reason", "ttl")], stats.local.expired);
            to.count(&[("reason", "invalidation")], stats.local.invalidated);
        }
    }),
    gauge("redis.client.csc.items", Unit::Count, "Entries in the local tier", |stats, to| {
        if stats.local.enabled {
            to.gauge(number(stats.local.size));
        }
    }),
    gauge("twotier.bytes", Unit::Bytes, "Bytes that the entries of the local tier take", |stats, to| {
        if stats.local.enabled {
            to.gauge(number(stats.local.bytes));
        }
    }),
    histogram("db.client.operation.duration", "How long calls of the backend took", |stats, to| {
        let backend = &stats.backend;
        let calls =
            [("read", backend.read_latency), ("write", backend.write_latency), ("delete", backend.delete_latency)];
        for (operation, latency) in calls {
            to.latency(&[("db.system.name", backend.system), ("db.operation.name", operation)], latency);
        }
    }),
    counter("twotier.errors", "Failures, by what was done and by their kind", |stats, to| {
        let failures = &stats.backend.failures;
        let done = [
            ("read", &failures.reads),
            ("write", &failures.writes),
            ("delete", &failures.deletes),
            ("load", &failures.loads),
        ];
        for (operation, counts) in done {
            for (kind, failures) in counts.iter() {
                let never = match kind {
                    // Mistakes in a call, which the caller is given and nobody else.
                    ErrorKind::Invalid | ErrorKind::Forbidden => true,
                    ErrorKind::Load => operation != "load",
                    _ => false,
                };
                // The others are there before the first one fails, so that the first one is seen as an increase.
                if !never || failures > 0 {
                    to.count(&[("operation", operation), ("error.type", kind.name())], failures);
                }
            }
        }
    }),
    gauge(
        "twotier.breaker.state",
        Unit::Count,
        "Whether calls of the backend are made: 0 the breaker is closed, 1 one call is tried, 2 it is open",
        |stats, to| {
            to.gauge(match stats.backend.breaker.state {
                BreakerState::Closed => 0.0,
                BreakerState::HalfOpen => 1.0,
                BreakerState::Open => 2.0,
            });
        },
    ),
    counter("twotier.breaker.opened", "How often the breaker opened", |stats, to| {
        to.count(&[], stats.backend.breaker.opened);
    }),
    counter("twotier.breaker.refused", "Calls that failed at once because the breaker was open", |stats, to| {
        to.count(&[], stats.backend.breaker.refused);
    }),
    counter("twotier.loads", "Runs of loaders", |stats, to| to.count(&[], stats.backend.loads)),
    counter(
        "twotier.outage.loads",
        "Loads that the backend could say nothing of, by what became of them",
        |stats, to| {
            let backend = &stats.backend;
            to.count(&[("result", "kept")], backend.outage_kept);
            to.count(&[("result", "refused")], backend.outage_refused);
            let others =
                backend.outage_loads.saturating_sub(backend.outage_kept).saturating_sub(backend.outage_refused);
            to.count(&[("result", "returned")], others);
        },
    ),
    gauge("twotier.invalidations.queued", Unit::Count, "Keys that wait to be invalidated", |stats, to| {
        to.gauge(number(stats.backend.queued_invalidations));
    }),
    histogram("twotier.load.duration", "How long loaders ran", |stats, to| to.latency(&[], stats.backend.load_latency)),
    counter("twotier.fills.refused", "Values that were not kept or stored because their keys changed", |stats, to| {
        to.count(&[("reason", "read")], stats.coherence.refused_fills);
        to.count(&[("reason", "write")], stats.coherence.refused_writes);
        to.count(&[("reason", "load")], stats.coherence.refused_loads);
    }),
    gauge(
        "twotier.link.state",
        Unit::Count,
        "Whether the backend reports changes: 1 yes, 0 the link is down, 2 it is being made, 3 it was closed",
        |stats, to| match stats.coherence.link {
            LinkState::Down { .. } => to.gauge(0.0),
            LinkState::Up(_) => to.gauge(1.0),
            LinkState::Connecting => to.gauge(2.0),
            LinkState::Closed => to.gauge(3.0),
            LinkState::Unlinked => {}
        },
    ),
    gauge(
        "twotier.lease.remaining",
        Unit::Seconds,
        "For how long copies may be served without another proof of life",
        |stats, to| {
            if let Some(remaining) = stats.coherence.lease_remaining {
                to.gauge(remaining.as_secs_f64());
            }
        },
    ),
    gauge("twotier.hit.staleness_bound", Unit::Seconds, "The longest a hit may be stale", |stats, to| {
        if let Some(bound) = stats.coherence.max_staleness {
            to.gauge(bound.as_secs_f64());
        }
    }),
    histogram("twotier.invalidation.lag", "How long changes took from being sent to being reported", |stats, to| {
        to.latency(&[], stats.coherence.invalidation_lag);
    }),
];

const fn counter(name: &'static str, help: &'static str, samples: fn(&CacheStats, &mut Samples)) -> Family {
    Family { name, kind: FamilyKind::Counter, unit: Unit::Count, help, samples }
}

const fn gauge(name: &'static str, unit: Unit, help: &'static str, samples: fn(&CacheStats, &mut Samples)) -> Family {
    Family { name, kind: FamilyKind::Gauge, unit, help, samples }
}

const fn histogram(name: &'static str, help: &'static str, samples: fn(&CacheStats, &mut Samples)) -> Family {
    Family { name, kind: FamilyKind::Histogram, unit: Unit::Seconds, help, samples }
}

#[allow(clippy::cast_precision_loss, reason = "no tier holds 2^53 of anything")]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_name_follow_the_rules_of_their_standards() {
        let spelled: Vec<_> = FAMILIES.iter().map(|family| (family.name, family.prometheus_name())).collect();
        let expected = [
            ("redis.client.csc.requests", "redis_client_csc_requests_total"),
            ("twotier.misses", "twotier_misses_total"),
            ("twotier.stale", "twotier_stale_total"),
            ("redis.client.csc.evictions", "redis_client_csc_evictions_total"),
            ("redis.client.csc.items", "redis_client_csc_items"),
            ("twotier.bytes", "twotier_bytes"),
            ("db.client.operation.duration", "db_client_operation_duration_seconds"),
            ("twotier.errors", "twotier_errors_total"),
            ("twotier.breaker.state", "twotier_breaker_state"),
            ("twotier.breaker.opened", "twotier_breaker_opened_total"),
            ("twotier.breaker.refused", "twotier_breaker_refused_total"),
            ("twotier.loads", "twotier_loads_total"),
            ("twotier.outage.loads", "twotier_outage_loads_total"),
            ("twotier.invalidations.queued", "twotier_invalidations_queued"),
            ("twotier.load.duration", "twotier_load_duration_seconds"),
            ("twotier.fills.refused", "twotier_fills_refused_total"),
            ("twotier.link.state", "twotier_link_state"),
            ("twotier.lease.remaining", "twotier_lease_remaining_seconds"),
            ("twotier.hit.staleness_bound", "twotier_hit_staleness_bound_seconds"),
            ("twotier.invalidation.lag", "twotier_invalidation_lag_seconds"),
        ];
        assert_eq!(spelled, expected.map(|(name, prometheus)| (name, prometheus.to_owned())));
    }
}
