//! What a hit costs with the advisor and without, the two taking turns.

use std::{hint::black_box, sync::Arc, time::Duration};

use serde::Serialize;
use twotier::{ChangeListener, Eviction, Lease, LinkId, Namespace, SystemClock};
use twotier_local::{Digest, LocalOptions, LocalTier, Read};
use twotier_testkit::trace::Zipf;

use super::{replay::POLICIES, shown};
use crate::{cpu::cpu_time, format::thousands, progress::Progress, sheet::Sheet, spread::Spread, table::Table};

const SIZES: [usize; 3] = [500, 10_000, 100_000];
const LIFE: Option<Duration> = Some(Duration::from_secs(24 * 3600));

/// The cost of a hit in a tier that holds every key that is asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// The policy.
    pub policy: String,
    /// How many keys there are; the tier has room for twice as many.
    pub entries: usize,
    /// Seconds for a hit without the advisor.
    pub off: Option<Spread>,
    /// With it, while it follows all that is sampled.
    pub following: Option<Spread>,
    /// With it, when it rests because everything hits.
    pub resting: Option<Spread>,
    /// How much longer a hit takes then, as a share, repetition by repetition.
    pub added: Option<Spread>,
}

struct Rig {
    tier: LocalTier<Arc<[u8; 100]>, ()>,
    keys: Vec<String>,
}

impl Rig {
    fn is_resting(&self) -> bool {
        self.tier.size_curve().is_none_or(|curve| curve.followed < curve.requests)
    }

    fn new(entries: usize, policy: Eviction, advised: bool) -> Self {
        let options = LocalOptions::new(2 * entries, usize::MAX / 16, Duration::from_secs(2));
        let options = options.eviction(policy).size_advice(advised);
        let namespace = Namespace::new("benches").expect("it is a word");
        let tier = LocalTier::new(namespace, options, Arc::new(SystemClock::new()));
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        let keys: Vec<String> = (0..entries).map(|key| format!("key{key:08}")).collect();
        let value = Arc::new([0; 100]);
        for key in &keys {
            if let Read::Lead(ticket, _) = tier.read(key) {
                ticket.fill(Arc::clone(&value), Digest::ABSENT, 100, LIFE);
            }
        }
        Self { tier, keys }
    }

    /// Returns seconds of the processor for one hit: what it does for others meanwhile is nobody's.
    #[allow(clippy::cast_precision_loss, reason = "a count of hits")]
    fn run(&self, draws: &[u32]) -> f64 {
        let before = cpu_time();
        for &draw in draws {
            black_box(self.tier.get(&self.keys[draw as usize]));
        }
        cpu_time().saturating_sub(before).as_secs_f64() / draws.len() as f64
    }
}

/// Measures every policy at every size.
pub(super) fn measure(smoke: bool, progress: &Progress) -> Vec<Cost> {
    let sizes = if smoke { &SIZES[..1] } else { &SIZES };
    let each = |policy: Eviction| sizes.iter().map(move |&entries| (policy, entries));
    POLICIES.into_iter().flat_map(each).map(|(policy, entries)| cost(policy, entries, smoke, progress)).collect()
}

fn cost(policy: Eviction, entries: usize, smoke: bool, progress: &Progress) -> Cost {
    progress.step(&format!("what a hit costs: {policy}, {} keys", thousands(entries as u64)));
    // Where two tiers lie in memory tells more than what they do: each pair lies elsewhere.
    let (pairs, rounds, hits) = match (smoke, entries) {
        (true, _) => (1, 2, 20_000),
        // A hundred million hits until it rests.
        (false, 100_000..) => (3, 5, 200_000),
        (false, _) => (7, 5, 200_000),
    };
    let mut zipf = Zipf::new(entries as u64, 0.99, 7);
    let draws: Vec<u32> = (0..hits).map(|_| u32::try_from(zipf.draw()).unwrap_or_default()).collect();
    let (mut without, mut resting, mut following, mut added) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut kept = Vec::new();
    for pair in 0..pairs {
        let make = |advised| Rig::new(entries, policy, advised);
        let (off, rests, follows) = if pair % 2 == 0 {
            let (off, rests) = (make(false), make(true));
            (off, rests, make(true))
        } else {
            let (rests, off) = (make(true), make(false));
            (off, rests, make(true))
        };
        // Until it has used its credit up.
        while !smoke && !rests.is_resting() {
            rests.run(&draws);
        }
        for rig in [&off, &rests, &follows] {
            rig.run(&draws[..hits / 10]);
        }
        let (mut slow, mut fast) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let runs = if round % 2 == 0 { [&off, &rests] } else { [&rests, &off] };
            let times = runs.map(|rig| rig.run(&draws));
            let [off, rests] = if round % 2 == 0 { times } else { [times[1], times[0]] };
            fast.push(off);
            slow.push(rests);
        }
        let median = |times: Vec<f64>| Spread::of(times).map_or(f64::NAN, |spread| spread.median);
        let (off_took, rests_took) = (median(fast), median(slow));
        without.push(off_took);
        resting.push(rests_took);
        added.push(rests_took / off_took - 1.0);
        following.push(follows.run(&draws));
        // Not given back, so that the next pair lies elsewhere.
        kept.push((off, rests, follows));
    }
    Cost {
        policy: policy.to_string(),
        entries,
        off: Spread::of(without),
        following: Spread::of(following),
        resting: Spread::of(resting),
        added: Spread::of(added),
    }
}

pub(super) fn sheet(costs: &[Cost]) -> Sheet {
    let mut table = Table::new(&["<policy", "keys", "off", "resting", "added", "following"]);
    for cost in costs {
        let percent = |spread: &Spread| {
            format!("{:.1} % ({:.1}..{:.1})", spread.median * 100.0, spread.min * 100.0, spread.max * 100.0)
        };
        table.row([
            cost.policy.clone(),
            thousands(cost.entries as u64),
            shown(cost.off.as_ref()),
            shown(cost.resting.as_ref()),
            cost.added.as_ref().map_or_else(|| "-".to_owned(), percent),
            shown(cost.following.as_ref()),
        ]);
    }
    let notes = vec![
        "Seconds of the processor for one hit, by one thread; Zipf 0.99; the tier holds every key. Seven pairs of tiers (three at 100,000 keys), one with the advisor and one without, take turns five times each; medians of the pairs' medians."
            .to_owned(),
        "Where all hits the advisor uses its credit up and rests: that is what a tier pays that hits nearly every time."
            .to_owned(),
        "Following is what a hit costs while misses pay for it: each of them brings work of about 2 µs for the advisor at most."
            .to_owned(),
    ];
    Sheet { title: "what a hit costs".to_owned(), notes, table }
}
