//! What an entry weighs beyond its key and its value, whether a hit allocates, and what evicting costs.

mod evicting;
mod weight;

use serde::Serialize;

pub use self::{
    evicting::{Evicting, Size},
    weight::Weight,
};
use crate::{
    machine::Machine,
    progress::Progress,
    sheet::{Findings, Sheet},
    table::Table,
};

/// What a closure did to the heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// How often it allocated.
    pub allocations: u64,
    /// How many bytes more are in use after it.
    pub bytes: i64,
}

/// Calls a closure and counts: by an allocator that only the programme of this suite has, since it would weigh on every
/// other measurement.
pub type Count = fn(&mut dyn FnMut()) -> Heap;

/// What the suite found.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// What the numbers are in.
    pub units: &'static str,
    /// Whether counts were tiny.
    pub smoke: bool,
    /// What it ran on.
    pub machine: Machine,
    /// How many entries the caches were made for that were weighed.
    pub entries: usize,
    /// The weights.
    pub weights: Vec<Weight>,
    /// The cost of evicting.
    pub evicting: Vec<Evicting>,
}

/// Measures.
#[must_use]
pub fn measure(smoke: bool, count: Count, progress: &Progress) -> Memory {
    let entries = if smoke { 2_000 } else { 100_000 };
    progress.step("bytes of an entry");
    let weights = weight::measure(entries, count);
    let evicting = evicting::measure(smoke, progress);
    let machine = Machine::here();
    Memory { units: "bytes, seconds, allocations", smoke, machine, entries, weights, evicting }
}

impl Memory {
    /// Returns the sheets for a person.
    #[must_use]
    pub fn findings(&self) -> Findings {
        Findings {
            suite: "memory",
            title: "what an entry weighs, and what evicting costs",
            command: "cargo xtask bench --suite memory".to_owned(),
            machine: self.machine.clone(),
            sheets: vec![self.bars(), weight::sheet(self), evicting::sheet(&self.evicting)],
        }
    }

    fn bars(&self) -> Sheet {
        let mut table = Table::new(&["<what", "bar", "measured", "<in this run"]);
        let mut row = |what: String, bar: &str, measured: String, met: bool| {
            table.row([what, bar.to_owned(), measured, if met { "met" } else { "not met" }.to_owned()]);
        };
        for own in self.weights.iter().filter(|weight| weight.is_ours()) {
            for (peer, most) in [(crate::contestant::QUICK_CACHE, 0.9), (crate::contestant::MOKA, 0.3)] {
                let Some(peer) = self.weights.iter().find(|weight| weight.name == peer) else { continue };
                // In the state that is worse for us.
                let ratio = (own.filled / peer.filled).max(own.churned / peer.churned);
                let what = format!("{}: bytes of an entry, to {}, the worse of two states", own.name, peer.name);
                row(what, &format!("<= {most:.2}"), format!("{ratio:.2}"), ratio <= most);
            }
            let per_hit = own.allocations_per_hit;
            row(format!("{}: allocations of a hit", own.name), "0", format!("{per_hit}"), per_hit == 0.0);
        }
        evicting::bars(&self.evicting, &mut row);
        Sheet { title: "the bars".to_owned(), notes: Vec::new(), table }
    }
}
