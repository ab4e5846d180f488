//! How long a lookup waits, at the most, while something larger goes on in the local tier.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde::Serialize;
use twotier::{ChangeListener, Eviction, Lease, ManualClock, Namespace};
use twotier_local::{Digest, LocalOptions, LocalTier, Read};

use crate::{
    Result,
    format::thousands,
    machine::Machine,
    progress::Progress,
    sheet::{Findings, Sheet},
    spread::quantile,
    stopwatch::Stopwatch,
    table::Table,
};

type Tier = LocalTier<Arc<[u8]>, ()>;

/// What the suite found.
#[derive(Clone, Debug, Serialize)]
pub struct Holds {
    /// What the numbers are in.
    pub units: &'static str,
    /// Whether counts were tiny.
    pub smoke: bool,
    /// What it ran on.
    pub machine: Machine,
    /// How many entries the tiers were made for.
    pub entries: usize,
    /// The waits.
    pub waits: Vec<Waits>,
}

/// How long lookups took on another thread during an operation.
#[derive(Clone, Debug, Serialize)]
pub struct Waits {
    /// The policy.
    pub eviction: String,
    /// What went on meanwhile.
    pub during: &'static str,
    /// How many lookups were timed.
    pub lookups: usize,
    /// The longest.
    pub longest: f64,
    /// All but one in a thousand were shorter.
    pub p999: f64,
}

/// Measures.
///
/// # Errors
///
/// When the tier cannot be made.
pub fn measure(smoke: bool, progress: &Progress) -> Result<Holds> {
    let entries = if smoke { 5_000 } else { 1_000_000 };
    let keys: Vec<String> = (0..entries + entries / 4).map(|key| format!("key{key:08}")).collect();
    let mut waits = Vec::new();
    for eviction in [
        Eviction::Lru,
        Eviction::Fifo,
        Eviction::Lfu,
        Eviction::Random { seed: 1 },
        Eviction::S3Fifo,
        Eviction::WTinyLfu,
    ] {
        progress.step(&format!("waits by {eviction}"));
        waits.extend(of_policy(eviction, entries, &keys)?);
    }
    Ok(Holds { units: "seconds", smoke, machine: Machine::here(), entries, waits })
}

fn of_policy(eviction: Eviction, entries: usize, keys: &[String]) -> Result<Vec<Waits>> {
    let options = LocalOptions::new(entries, entries * 2000, Duration::from_secs(60)).eviction(eviction);
    let tier = Tier::new(Namespace::new("holds")?, options, Arc::new(ManualClock::new()));
    tier.link_up(Lease::Unlimited);
    let (first, fresh) = keys.split_at(entries);
    let mut waits = Vec::new();
    let mut during = |during, operation: &dyn Fn()| {
        let (longest, p999, lookups) = probe(&tier, first, operation);
        waits.push(Waits { eviction: eviction.to_string(), during, lookups, longest, p999 });
    };
    during("nothing", &|| thread::sleep(Duration::from_millis(50)));
    during("filling it", &|| first.iter().for_each(|key| fill(&tier, key, 100)));
    for key in first.iter().chain(first) {
        black_box(tier.get(key));
    }
    during("evicting, all hot", &|| fresh.iter().for_each(|key| fill(&tier, key, 100)));
    during("a value of an eighth", &|| fill(&tier, "large", entries * 2000 / 8 - 1000));
    during("hottest(1000)", &|| _ = black_box(tier.hottest(1000)));
    during("hottest of all", &|| _ = black_box(tier.hottest(usize::MAX)));
    during("keys", &|| _ = black_box(tier.keys()));
    during("stats and counters", &|| (0..1000).for_each(|_| _ = black_box((tier.stats(), tier.counters()))));
    during("flush", &|| tier.flush());
    during("take_all", &|| drop(black_box(tier.take_all())));
    Ok(waits)
}

fn fill(tier: &Tier, key: &str, bytes: usize) {
    if let Read::Lead(ticket, _joiner) = tier.read(key) {
        black_box(ticket.fill(Arc::from([0; 100]), Digest::ABSENT, bytes, Some(Duration::from_secs(60))));
    }
}

/// Looks keys up while the operation runs, and returns how long the longest lookup took, all but one in a thousand, and
/// how many there were.
fn probe(tier: &Tier, keys: &[String], operation: &dyn Fn()) -> (f64, f64, usize) {
    let (started, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut took = thread::scope(|scope| {
        let prober = scope.spawn(|| {
            let mut took = Vec::with_capacity(1 << 20);
            for key in keys.iter().cycle() {
                let watch = Stopwatch::start();
                black_box(tier.get(key));
                took.push(watch.seconds());
                started.store(true, Ordering::Release);
                if ended.load(Ordering::Acquire) {
                    break;
                }
            }
            took
        });
        while !started.load(Ordering::Acquire) {
            thread::yield_now();
        }
        operation();
        ended.store(true, Ordering::Release);
        prober.join().unwrap_or_default()
    });
    took.sort_by(f64::total_cmp);
    let at = |share| quantile(&took, share).unwrap_or_default();
    (at(1.0), at(0.999), took.len())
}

impl Holds {
    /// Returns the sheet for a person.
    #[must_use]
    pub fn findings(&self) -> Findings {
        let mut table = Table::new(&["<policy", "<meanwhile", "lookups", "longest", "p99.9"]);
        for waits in &self.waits {
            let micros = |seconds: f64| format!("{:.1} us", seconds * 1e6);
            let (longest, p999) = (micros(waits.longest), micros(waits.p999));
            table.row([
                waits.eviction.clone(),
                waits.during.to_owned(),
                thousands(waits.lookups as u64),
                longest,
                p999,
            ]);
        }
        let notes = vec![
            format!("A tier of {} entries; one thread looks keys up while another does the rest.", thousands(self.entries as u64)),
            "A lookup waits for its shard at the most as long as that is held. Where the processor is given to somebody else meanwhile it waits longer, so the longest says little on a machine that is busy: \"nothing\" is what it is then.".to_owned(),
        ];
        Findings {
            suite: "holds",
            title: "how long a lookup waits for its shard",
            command: "cargo xtask bench --suite holds".to_owned(),
            machine: self.machine.clone(),
            sheets: vec![Sheet { title: "the longest waits".to_owned(), notes, table }],
        }
    }
}
