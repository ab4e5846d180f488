//! What a hit costs with the advisor and without, the two taking turns.

use std::{hint::black_box, sync::Arc, time::Duration};

use serde::Serialize;
use twotier::{ChangeListener, Eviction, Lease, LinkId, Namespace, SystemClock};
use twotier_local::{Digest, LocalOptions, LocalTier, Read};
use twotier_testkit::trace::Zipf;

use super::{replay::POLICIES, shown};
use crate::{
    cpu::Attention, format::thousands, progress::Progress, sheet::Sheet, spread::Spread, stopwatch::Stopwatch,
    table::Table,
};

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

    /// Returns seconds for one hit, or `None` if something else ran.
    #[allow(clippy::cast_precision_loss, reason = "a count of hits")]
    fn run(&self, draws: &[u32]) -> Option<f64> {
        let attention = Attention::start();
        let watch = Stopwatch::start();
        for &draw in draws {
            black_box(self.tier.get(&self.keys[draw as usize]));
        }
        let seconds = watch.seconds();
        (!attention.lost()).then_some(seconds / draws.len() as f64)
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
    let (repetitions, hits) = if smoke { (2, 20_000) } else { (21, 400_000) };
    let mut zipf = Zipf::new(entries as u64, 0.99, 7);
    let draws: Vec<u32> = (0..hits).map(|_| u32::try_from(zipf.draw()).unwrap_or_default()).collect();
    let off = Rig::new(entries, policy, false);
    let rests = Rig::new(entries, policy, true);
    // Until it rests, and to warm the other up as long.
    for _ in 0..if smoke { 1 } else { (100_000_000 / hits).min(16 * entries / 100 + 20) } {
        rests.run(&draws);
    }
    off.run(&draws);
    let (mut without, mut resting, mut following, mut added) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // Rounds that lost the processor are made up for, up to a point.
    for repetition in 0..6 * repetitions {
        if without.len() >= repetitions {
            break;
        }
        // One that was made just now follows what is sampled; not timed in its first round.
        let fresh = Rig::new(entries, policy, true);
        fresh.run(&draws[..hits / 8]);
        let pair = if repetition % 2 == 0 {
            let off = off.run(&draws);
            (off, rests.run(&draws))
        } else {
            let rests = rests.run(&draws);
            (off.run(&draws), rests)
        };
        if let (Some(off), Some(on)) = pair {
            without.push(off);
            resting.push(on);
            added.push(on / off - 1.0);
        }
        following.extend(fresh.run(&draws));
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
        "Seconds for one hit, by one thread; Zipf 0.99; the tier holds every key; off and on take turns, 21 rounds, medians."
            .to_owned(),
        "Where all hits the advisor uses its credit up and rests: that is what a tier pays that hits nearly every time."
            .to_owned(),
        "Following is what a hit costs while misses pay for it: each of them brings work of about 2 µs for the advisor at most."
            .to_owned(),
    ];
    Sheet { title: "what a hit costs".to_owned(), notes, table }
}
