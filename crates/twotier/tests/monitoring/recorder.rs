//! What the recorder of the crate `metrics` is given.

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use twotier::metrics::Collector;

use crate::{
    figures::{Figures, Line},
    script,
};

/// Returns what was recorded since the last call, in the words of Prometheus but for the counters' ending, and the
/// durations given to histograms.
#[allow(clippy::cast_precision_loss, reason = "the counts are small")]
fn recorded(snapshotter: &Snapshotter) -> (Figures, Vec<(Line, Vec<f64>)>) {
    let (mut figures, mut histograms) = (Figures::default(), Vec::new());
    for (key, _, help, value) in snapshotter.snapshot().into_vec() {
        assert!(help.is_some(), "{key:?} is not described");
        let name = key.key().name().replace('.', "_");
        let labels: Vec<_> = key.key().labels().map(|label| (label.key().replace('.', "_"), label.value())).collect();
        let labels: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        match value {
            DebugValue::Counter(count) => figures.add(&name, &labels, count as f64),
            DebugValue::Gauge(value) => figures.add(&name, &labels, value.into_inner()),
            DebugValue::Histogram(values) => {
                let mut labels: Vec<_> =
                    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                labels.sort_unstable();
                histograms.push(((name, labels), values.into_iter().map(f64::from).collect()));
            }
        }
    }
    (figures, histograms)
}

#[tokio::test]
async fn every_figure_of_a_collection_is_that_of_the_statistics_and_a_duration_is_handed_over_once() {
    let run = script::run("n").await;
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let collector = Collector::new();
    collector.register(&run.cache);
    metrics::with_local_recorder(&recorder, || collector.collect());
    let stats = run.cache.stats();
    let (shown, histograms) = recorded(&snapshotter);

    let mut expected = Figures::default();
    expected.expect("n", &stats);
    let (mut counts, mut sums) = (Vec::new(), Vec::new());
    let mut rest = Figures::default();
    for ((name, labels), value) in expected.0 {
        let base = |ending| name.strip_suffix(ending).and_then(|name: &str| name.strip_suffix("_seconds"));
        if let Some(name) = base("_count") {
            counts.push(((name.to_owned(), labels), value));
        } else if let Some(name) = base("_sum") {
            sums.push(((name.to_owned(), labels), value));
        } else if base("_bucket").is_none() {
            let name = name.strip_suffix("_total").or_else(|| name.strip_suffix("_seconds")).unwrap_or(&name);
            rest.0.insert((name.to_owned(), labels), value);
        }
    }
    assert_eq!(shown.0, rest.0);
    for ((line, count), (_, sum)) in counts.into_iter().zip(sums) {
        let durations = histograms.iter().find(|(other, _)| *other == line).map(|(_, values)| values.clone()).unwrap();
        assert!((durations.len() as f64 - count).abs() < f64::EPSILON, "{line:?}");
        let shown: f64 = durations.iter().sum();
        assert!((shown - sum).abs() <= 0.016 * sum, "{line:?}: {shown} of {sum}");
    }

    run.cache.get("once more").await.unwrap();
    metrics::with_local_recorder(&recorder, || collector.collect());
    let (_, histograms) = recorded(&snapshotter);
    let durations: usize = histograms.iter().map(|(_, durations)| durations.len()).sum();
    assert_eq!(durations, 1, "those from before were handed over");
}
