//! The text format of Prometheus, version 0.0.4.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

use super::{FAMILIES, FamilyKind, SampleValue};
use crate::{CacheStats, LATENCY_BOUNDS, LatencyStats};

/// Writes the metrics of several caches in the text format of Prometheus: each family once, with the figures of every
/// cache. Each cache comes with the value of its label `namespace`; no two may have the same.
///
/// # Errors
///
/// When `out` fails.
pub fn write_prometheus(out: &mut impl Write, caches: &[(&str, &CacheStats)]) -> fmt::Result {
    for family in FAMILIES {
        let samples: Vec<_> = caches.iter().map(|(namespace, stats)| (namespace, family.samples(stats))).collect();
        if samples.iter().all(|(_, samples)| samples.is_empty()) {
            continue;
        }
        let (name, kind) = (family.prometheus_name(), family.kind);
        let kind = match kind {
            FamilyKind::Counter => "counter",
            FamilyKind::Gauge => "gauge",
            FamilyKind::Histogram => "histogram",
        };
        writeln!(out, "# HELP {name} {}.\n# TYPE {name} {kind}", family.help)?;
        for (namespace, samples) in samples {
            for sample in samples {
                let mut labels = format!("namespace=\"{}\"", escaped(namespace));
                for (label, value) in sample.labels {
                    write!(labels, ",{}=\"{}\"", label.replace('.', "_"), escaped(value))?;
                }
                match sample.value {
                    SampleValue::Count(count) => writeln!(out, "{name}{{{labels}}} {count}")?,
                    SampleValue::Gauge(value) => writeln!(out, "{name}{{{labels}}} {value}")?,
                    SampleValue::Latency(latency) => write_histogram(out, &name, &labels, &latency)?,
                }
            }
        }
    }
    Ok(())
}

fn write_histogram(out: &mut impl Write, name: &str, labels: &str, latency: &LatencyStats) -> fmt::Result {
    for (bound, within) in LATENCY_BOUNDS.iter().zip(latency.within) {
        writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {within}", bound.as_secs_f64())?;
    }
    writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", latency.count)?;
    writeln!(out, "{name}_sum{{{labels}}} {}", latency.total.as_secs_f64())?;
    writeln!(out, "{name}_count{{{labels}}} {}", latency.count)
}

/// Writes the value of a label so that it is read back as it is.
fn escaped(value: &str) -> Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into()
    } else {
        value.into()
    }
}

impl CacheStats {
    /// Writes these figures in the text format of Prometheus, version 0.0.4, labelled with the namespace. For several
    /// caches of a process there is a registry in `twotier::prometheus`: each family may be written once only.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn write_prometheus(&self, out: &mut impl Write) -> fmt::Result {
        write_prometheus(out, &[(self.namespace.as_str(), self)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BackendStats, Coherence, CoherenceStats, LinkState, LocalStats, Namespace};

    #[test]
    fn the_value_of_a_label_is_escaped() {
        assert_eq!(escaped("users:v2"), "users:v2");
        assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
        let stats = CacheStats::new(
            Namespace::new("n").unwrap(),
            LocalStats::default(),
            BackendStats::default(),
            CoherenceStats::new(Coherence::None, None, LinkState::Unlinked),
        );
        let mut text = String::new();
        write_prometheus(&mut text, &[("a\"} 1\nb", &stats)]).unwrap();
        assert!(
            text.lines().all(|line| line.starts_with('#') || line.contains("{namespace=\"a\\\"} 1\\nb\"")),
            "{text}"
        );
    }
}
