//! What a hit costs: through the local tier alone, beside other caches in the process; and through the whole cache,
//! beside other ways to put a cache in front of a server.

mod bare;
mod bars;
mod latency;
mod load;
mod whole;

use serde::Serialize;

pub use self::{
    bare::{Cell, Row},
    bars::Bar,
    latency::Latency,
    load::{Kind, Load},
    whole::Way,
};
use crate::{Result, contestant::QUICK_CACHE, machine::Machine, progress::Progress, sheet::Findings};

/// What the suite found.
#[derive(Clone, Debug, Serialize)]
pub struct Hits {
    /// What the numbers are in.
    pub units: &'static str,
    /// Whether counts were tiny.
    pub smoke: bool,
    /// What it ran on.
    pub machine: Machine,
    /// Throughput of the caches in the process.
    pub cells: Vec<Cell>,
    /// The time of a single hit among eight threads.
    pub latencies: Vec<Latency>,
    /// A hit through the whole cache.
    pub ways: Vec<Way>,
    /// What did not run, and why.
    pub left_out: Vec<String>,
    /// What is asked for, and what was measured.
    pub bars: Vec<Bar>,
}

/// Measures.
///
/// # Errors
///
/// When a cache cannot be built, or a read that must hit does not.
pub async fn measure(smoke: bool, progress: &Progress) -> Result<Hits> {
    let mut left_out = Vec::new();
    // First, while the heap is small and nothing else has run.
    let ways = whole::measure(smoke, progress, &mut left_out).await?;
    let cells = bare::measure(smoke, progress);
    let latencies = latency::measure(smoke, progress);
    if cfg!(not(feature = "peers")) {
        left_out.push("the peers: this was built without the feature `peers`".to_owned());
    }
    let bars = bars::read(&cells, &ways);
    Ok(Hits {
        units: "seconds; ratios of throughputs within one repetition, each spread over n repetitions",
        smoke,
        machine: Machine::here(),
        cells,
        latencies,
        ways,
        left_out,
        bars,
    })
}

impl Hits {
    /// Returns the sheets for a person.
    #[must_use]
    pub fn findings(&self) -> Findings {
        let mut sheets = vec![bars::sheet(&self.bars), whole::sheet(&self.ways), latency::sheet(&self.latencies)];
        sheets.push(bare::sheet(&self.cells));
        if let Some(first) = sheets.first_mut() {
            first.notes.extend(self.left_out.iter().map(|what| format!("Left out: {what}.")));
        }
        Findings {
            suite: "hits",
            title: "what a hit costs",
            command: "cargo xtask bench --suite hits".to_owned(),
            machine: self.machine.clone(),
            sheets,
        }
    }
}

/// What every sheet of throughputs says.
fn notes() -> Vec<String> {
    vec![
        format!("Ratios are throughputs divided by {QUICK_CACHE}'s in the same repetition; candidates take turns."),
        "Figures are median (least..greatest); repetitions that lost the processor were measured again and are counted."
            .to_owned(),
    ]
}
