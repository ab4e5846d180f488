//! What simulators reach on a trace.

use twotier_testkit::trace::Reference;

use super::Score;

/// Exact LRU by a simulator.
pub(super) const SIM_LRU: &str = "sim LRU";
/// Exact FIFO by a simulator.
pub(super) const SIM_FIFO: &str = "sim FIFO";
/// Belady's optimum: evicts what is needed latest.
pub(super) const SIM_OPTIMUM: &str = "sim OPT";

const COLUMNS: [(&str, &str); 3] = [(SIM_LRU, "LRU"), (SIM_FIFO, "FIFO"), (SIM_OPTIMUM, "OPT")];
const SOURCE: &str = "own-sim";

/// The rows about one trace.
#[derive(Debug)]
pub(super) struct Known<'r>(Vec<&'r Reference>);

impl<'r> Known<'r> {
    pub(super) fn of(trace: &str, all: &'r [Reference]) -> Self {
        Self(all.iter().filter(|row| row.trace == trace && row.source == SOURCE).collect())
    }

    /// Returns what the simulators reach at a capacity.
    #[allow(clippy::cast_precision_loss, reason = "counts of accesses")]
    pub(super) fn at(&self, capacity: usize) -> Vec<Score> {
        let score = |(name, policy): &(&str, &str)| {
            let row = self.0.iter().find(|row| row.capacity == capacity && row.policy == *policy)?;
            Some(Score { name: (*name).to_owned(), hit_ratio: row.hits as f64 / row.accesses as f64 })
        };
        COLUMNS.iter().filter_map(score).collect()
    }
}
