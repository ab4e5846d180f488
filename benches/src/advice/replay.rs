//! One trace, by a tier with the advisor at every capacity, and by tiers of the sizes it speaks of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde::Serialize;
use twotier::{ChangeListener, Eviction, Lease, Namespace, SystemClock};
use twotier_core::{LinkId, SizeCurve};
use twotier_local::{Digest, LocalOptions, LocalTier, Read};

use crate::policies::Trace;

/// The policies that are asked.
pub(super) const POLICIES: [Eviction; 2] = [Eviction::Lru, Eviction::S3Fifo];
/// The sizes that are held against a replay.
const FACTORS: [f64; 3] = [0.5, 2.0, 4.0];
const LIFE: Option<Duration> = Some(Duration::from_secs(24 * 3600));

/// A trace at a capacity by a policy.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The trace.
    pub trace: String,
    /// The policy.
    pub policy: String,
    /// How many entries the advised tier holds.
    pub capacity: usize,
    /// What it reaches.
    pub hit_rate: f64,
    /// What it says of other sizes, and what is true.
    pub predictions: Vec<Prediction>,
}

/// A size that was predicted.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Prediction {
    /// The size divided by the advised tier's.
    pub factor: f64,
    /// Whether the advisor says this, or not yet.
    pub known: bool,
    /// The hit rate by the advisor.
    pub predicted: f64,
    /// How sure it is, in points.
    pub standard_error: f64,
    /// How many accesses it saw.
    pub samples: u64,
    /// The hit rate by a replay.
    pub real: f64,
}

impl Prediction {
    /// Returns by how many points it is off.
    #[must_use]
    pub fn error(&self) -> f64 {
        (self.predicted - self.real).abs()
    }
}

/// What is replayed: a policy and a size, with the advisor or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Job {
    policy: usize,
    entries: usize,
    advised: bool,
}

/// Replays one trace, on as many threads as there are cores.
pub(super) fn cells(name: &str, accesses: &[u64], capacities: &[usize]) -> Vec<Cell> {
    let trace = Trace::new(accesses);
    let mut jobs = BTreeSet::new();
    for policy in 0..POLICIES.len() {
        for &entries in capacities {
            jobs.insert(Job { policy, entries, advised: true });
            let real = |factor| Job { policy, entries: scaled(entries, factor), advised: false };
            jobs.extend(FACTORS.map(real));
        }
    }
    let jobs: Vec<Job> = jobs.into_iter().collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((*job, replay(&trace, *job)));
        }
        done
    };
    let done: BTreeMap<Job, (f64, Option<SizeCurve>)> = thread::scope(|scope| {
        #[allow(clippy::needless_collect, reason = "all threads are started before the first is waited for")]
        let threads: Vec<_> =
            (0..thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no replay panics")).collect()
    });
    let mut cells = Vec::new();
    for (policy, eviction) in POLICIES.iter().enumerate() {
        for &entries in capacities {
            let (hit_rate, curve) = &done[&Job { policy, entries, advised: true }];
            let predict = |factor| {
                let points = curve.as_ref().map(|curve| &curve.points);
                let point = points.and_then(|points| points.iter().find(|point| point.factor == factor)).copied()?;
                let real = done[&Job { policy, entries: scaled(entries, factor), advised: false }].0;
                let (known, predicted) = (point.is_known(), point.hit_rate);
                let (standard_error, samples) = (point.standard_error, point.samples);
                Some(Prediction { factor, known, predicted, standard_error, samples, real })
            };
            let predictions = FACTORS.into_iter().filter_map(predict).collect();
            let (trace, policy) = (name.to_owned(), eviction.to_string());
            cells.push(Cell { trace, policy, capacity: entries, hit_rate: *hit_rate, predictions });
        }
    }
    cells
}

/// Looks every key up, and puts it in on a miss. Returns the hit rate in percent and what the advisor says.
fn replay(trace: &Trace, job: Job) -> (f64, Option<SizeCurve>) {
    let mut options = LocalOptions::new(job.entries, usize::MAX / 16, Duration::from_secs(2))
        .eviction(POLICIES[job.policy])
        .size_advice(job.advised);
    // The same sample each time.
    options.seed = Some(1);
    let namespace = Namespace::new("benches").expect("it is a word");
    let tier = LocalTier::<(), ()>::new(namespace, options, Arc::new(SystemClock::new()));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    for key in trace.keys() {
        if tier.get(key).is_none()
            && let Read::Lead(ticket, _) = tier.read(key)
        {
            ticket.fill((), Digest::ABSENT, 100, LIFE);
        }
    }
    (tier.stats().hit_rate(), tier.size_curve())
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "some thousands of entries by a power of two"
)]
fn scaled(entries: usize, factor: f64) -> usize {
    ((entries as f64 * factor) as usize).max(1)
}
