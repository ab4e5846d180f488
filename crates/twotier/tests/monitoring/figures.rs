//! What a scrape ought to show, written down apart from the code that shows it.

use std::collections::BTreeMap;

use twotier::{CacheStats, ErrorKind, FailureCounts, LATENCY_BOUNDS, LatencyStats, LinkState};

/// A line: its name, then its labels in the order of their names.
pub(crate) type Line = (String, Vec<(String, String)>);

#[derive(Default)]
pub(crate) struct Figures(pub(crate) BTreeMap<Line, f64>);

impl Figures {
    pub(crate) fn add(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut labels: Vec<_> = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        labels.sort_unstable();
        assert_eq!(self.0.insert((name.to_owned(), labels), value), None, "`{name}` is there twice");
    }

    /// Adds every figure of a cache in the words of Prometheus.
    #[allow(clippy::cast_precision_loss, reason = "the counts are small")]
    pub(crate) fn expect(&mut self, namespace: &str, stats: &CacheStats) {
        let CacheStats { local, backend, coherence, .. } = stats;
        let mut one = |name: &str, labels: &[(&str, &str)], value: f64| {
            self.add(name, &[&[("namespace", namespace)], labels].concat(), value);
        };
        let mut count = |name: &str, label: (&str, &str), value: u64| one(name, &[label], value as f64);
        count("redis_client_csc_requests_total", ("result", "hit"), local.hits);
        count("redis_client_csc_requests_total", ("result", "miss"), local.misses);
        count("redis_client_csc_evictions_total", ("reason", "full"), local.evictions());
        count("redis_client_csc_evictions_total", ("reason", "ttl"), local.expired);
        count("redis_client_csc_evictions_total", ("reason", "invalidation"), local.invalidated);
        let causes = local.miss_causes;
        count("twotier_misses_total", ("cause", "cold"), causes.cold);
        count("twotier_misses_total", ("cause", "expired"), causes.expired);
        count("twotier_misses_total", ("cause", "evicted"), causes.evicted);
        count("twotier_misses_total", ("cause", "invalidated"), causes.invalidated);
        count("twotier_misses_total", ("cause", "outdated"), causes.outdated);
        count("twotier_misses_total", ("cause", "lease"), causes.lease);
        count("twotier_misses_total", ("cause", "oversized"), causes.oversized);
        count("twotier_fills_refused_total", ("reason", "read"), coherence.refused_fills);
        count("twotier_fills_refused_total", ("reason", "write"), coherence.refused_writes);
        count("twotier_fills_refused_total", ("reason", "load"), coherence.refused_loads);
        count("twotier_outage_loads_total", ("result", "kept"), backend.outage_kept);
        count("twotier_outage_loads_total", ("result", "refused"), backend.outage_refused);
        let returned = backend.outage_loads - backend.outage_kept - backend.outage_refused;
        count("twotier_outage_loads_total", ("result", "returned"), returned);
        one("redis_client_csc_items", &[], local.size as f64);
        one("twotier_bytes", &[], local.bytes as f64);
        one("twotier_stale_total", &[], local.stale as f64);
        one("twotier_breaker_state", &[], f64::from(backend.breaker.state as u8));
        one("twotier_breaker_opened_total", &[], backend.breaker.opened as f64);
        one("twotier_breaker_refused_total", &[], backend.breaker.refused as f64);
        one("twotier_loads_total", &[], backend.loads as f64);
        one("twotier_invalidations_queued", &[], backend.queued_invalidations as f64);
        one("twotier_link_state", &[], f64::from(u8::from(matches!(coherence.link, LinkState::Up(_)))));
        if let Some(remaining) = coherence.lease_remaining {
            one("twotier_lease_remaining_seconds", &[], remaining.as_secs_f64());
        }
        one("twotier_hit_staleness_bound_seconds", &[], coherence.max_staleness.unwrap().as_secs_f64());

        let failures = backend.failures;
        let mut failed = |operation: &str, counts: &FailureCounts| {
            for kind in ErrorKind::ALL {
                let labels = [("namespace", namespace), ("operation", operation), ("error_type", kind.name())];
                let seen = match kind {
                    ErrorKind::Invalid | ErrorKind::Forbidden => false,
                    ErrorKind::Load => operation == "load",
                    _ => true,
                };
                if seen {
                    self.add("twotier_errors_total", &labels, counts.of(kind) as f64);
                }
            }
        };
        failed("read", &failures.reads);
        failed("write", &failures.writes);
        failed("delete", &failures.deletes);
        failed("load", &failures.loads);

        let calls =
            [("read", backend.read_latency), ("write", backend.write_latency), ("delete", backend.delete_latency)];
        for (operation, latency) in calls {
            let labels =
                [("namespace", namespace), ("db_system_name", backend.system), ("db_operation_name", operation)];
            self.expect_histogram("db_client_operation_duration_seconds", &labels, &latency);
        }
        let labels = [("namespace", namespace)];
        self.expect_histogram("twotier_load_duration_seconds", &labels, &backend.load_latency);
        self.expect_histogram("twotier_invalidation_lag_seconds", &labels, &coherence.invalidation_lag);
    }

    #[allow(clippy::cast_precision_loss, reason = "the counts are small")]
    fn expect_histogram(&mut self, name: &str, labels: &[(&str, &str)], latency: &LatencyStats) {
        let bounds = LATENCY_BOUNDS.iter().map(|bound| bound.as_secs_f64().to_string());
        let within = latency.within.into_iter().chain([latency.count]);
        for (bound, within) in bounds.chain(["inf".to_owned()]).zip(within) {
            self.add(&format!("{name}_bucket"), &[labels, &[("le", &bound)]].concat(), within as f64);
        }
        self.add(&format!("{name}_sum"), labels, latency.total.as_secs_f64());
        self.add(&format!("{name}_count"), labels, latency.count as f64);
    }

    /// Reads a scrape by somebody else's parser.
    pub(crate) fn parse(text: &str) -> Self {
        let mut figures = Self::default();
        let scrape = prometheus_parse::Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
        for sample in scrape.samples {
            let labels: Vec<_> = sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            match sample.value {
                prometheus_parse::Value::Histogram(buckets) => {
                    for bucket in buckets {
                        let bound = ("le", &*bucket.less_than.to_string());
                        figures.add(
                            &format!("{}_bucket", sample.metric),
                            &[&labels, &[bound][..]].concat(),
                            bucket.count,
                        );
                    }
                }
                prometheus_parse::Value::Counter(value)
                | prometheus_parse::Value::Gauge(value)
                | prometheus_parse::Value::Untyped(value) => figures.add(&sample.metric, &labels, value),
                prometheus_parse::Value::Summary(_) => panic!("there is no summary"),
            }
        }
        figures
    }
}
