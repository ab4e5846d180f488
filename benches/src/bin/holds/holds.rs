//! How long a shard is locked, at the most, by each operation.

use std::{hint::black_box, sync::Arc, time::Duration};

use serde::Serialize;
use twotier::{ChangeListener, Eviction, Lease, LinkId, ManualClock, Namespace};
use twotier_benches::{
    Result,
    format::thousands,
    machine::Machine,
    progress::Progress,
    sheet::{Findings, Sheet},
    spread::Spread,
    table::Table,
};

use crate::{
    digest::Digest,
    options::LocalOptions,
    sync,
    tier::{LocalTier, Read},
};

type Tier = LocalTier<Arc<[u8]>, ()>;

/// What the suite found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Holds {
    /// What the numbers are in.
    units: &'static str,
    /// Whether counts were tiny.
    smoke: bool,
    /// What it ran on.
    machine: Machine,
    /// How many entries the tiers were made for.
    entries: usize,
    /// The operations, by policy.
    operations: Vec<Operation>,
}

#[derive(Clone, Debug, Serialize)]
struct Operation {
    eviction: String,
    operation: &'static str,
    /// The longest of each round.
    longest: Vec<f64>,
}

/// Measures.
pub(crate) fn measure(smoke: bool, progress: &Progress) -> Result<Holds> {
    let (entries, rounds) = if smoke { (5_000, 2) } else { (1_000_000, 3) };
    let keys: Vec<String> = (0..entries + entries / 4).map(|key| format!("key{key:08}")).collect();
    let mut operations = Vec::new();
    for eviction in [
        Eviction::Lru,
        Eviction::Fifo,
        Eviction::Lfu,
        Eviction::Random { seed: 1 },
        Eviction::S3Fifo,
        Eviction::WTinyLfu,
    ] {
        progress.step(&format!("holds by {eviction}"));
        let mut of_policy: Vec<Operation> = Vec::new();
        for _ in 0..rounds {
            for (operation, longest) in round(eviction, entries, &keys)? {
                match of_policy.iter_mut().find(|known| known.operation == operation) {
                    Some(known) => known.longest.push(longest),
                    None => {
                        let eviction = eviction.to_string();
                        of_policy.push(Operation { eviction, operation, longest: vec![longest] });
                    }
                }
            }
        }
        operations.extend(of_policy);
    }
    Ok(Holds { units: "seconds", smoke, machine: Machine::here(), entries, operations })
}

fn round(eviction: Eviction, entries: usize, keys: &[String]) -> Result<Vec<(&'static str, f64)>> {
    let options = LocalOptions::new(entries, entries * 2000, Duration::from_secs(60)).eviction(eviction);
    let tier = Tier::new(Namespace::new("holds")?, options, Arc::new(ManualClock::new()));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    let (first, fresh) = keys.split_at(entries);
    let mut longest = Vec::new();
    let mut during = |operation, run: &dyn Fn()| {
        let _before = sync::longest();
        run();
        longest.push((operation, sync::longest().as_secs_f64()));
    };
    during("nothing there", &|| first.iter().for_each(|key| _ = black_box(tier.invalidate(key))));
    during("filling it", &|| first.iter().for_each(|key| fill(&tier, key, 100)));
    for key in first.iter().chain(first) {
        black_box(tier.get(key));
    }
    during("evicting, all hot", &|| fresh.iter().for_each(|key| fill(&tier, key, 100)));
    during("a value of an eighth", &|| fill(&tier, "large", entries * 2000 / 8 - 1000));
    during("hottest(1000)", &|| _ = black_box(tier.hottest(1000)));
    during("hottest of all", &|| _ = black_box(tier.hottest(usize::MAX)));
    during("keys", &|| _ = black_box(tier.keys()));
    during("stats and counters", &|| _ = black_box((tier.stats(), tier.counters())));
    during("flush", &|| tier.flush());
    during("lookups after it", &|| first.iter().for_each(|key| _ = black_box(tier.get(key))));
    during("take_all", &|| drop(black_box(tier.take_all())));
    Ok(longest)
}

fn fill(tier: &Tier, key: &str, bytes: usize) {
    if let Read::Lead(ticket, _joiner) = tier.read(key) {
        black_box(ticket.fill(Arc::from([0; 100]), Digest::ABSENT, bytes, Some(Duration::from_secs(60))));
    }
}

impl Holds {
    /// Returns the sheet for a person.
    pub(crate) fn findings(&self) -> Findings {
        let mut table = Table::new(&["<policy", "<operation", "longest hold", "of each round"]);
        for Operation { eviction, operation, longest } in &self.operations {
            let micros = |seconds: f64| format!("{:.1} us", seconds * 1e6);
            let least = Spread::of(longest.iter().copied()).map_or(0.0, |spread| spread.min);
            let rounds: Vec<String> = longest.iter().map(|seconds| format!("{:.1}", seconds * 1e6)).collect();
            table.row([eviction.clone(), (*operation).to_owned(), micros(least), rounds.join(" ")]);
        }
        let notes = vec![
            format!("A tier of {} entries. In the time of the processor, two readings of its clock included; of the least disturbed of the rounds, each with a tier of its own.", thousands(self.entries as u64)),
            "An interrupt counts as the time of whoever it falls upon: \"nothing there\" is a removal that finds nothing, and what it took longer than 0.3 us for was somebody else's.".to_owned(),
        ];
        Findings {
            suite: "holds",
            title: "how long a shard is locked",
            command: "cargo xtask bench --suite holds".to_owned(),
            machine: self.machine.clone(),
            sheets: vec![Sheet { title: "the longest holds".to_owned(), notes, table }],
        }
    }
}
