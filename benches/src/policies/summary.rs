//! Means over the cells, and the bars.

use serde::Serialize;

use super::{
    Cell, LOOP, MIX, Policies,
    reference::{SIM_FIFO, SIM_LRU},
    replay::ONE_SHARD,
};
use crate::{sheet::Sheet, table::Table};

/// One policy over all cells.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The policy.
    pub name: String,
    /// Mean over the cells of recorded traces but the loop.
    pub real: Option<f64>,
    /// Mean over the cells of made traces.
    pub made: Option<f64>,
    /// The greatest loss to exact LRU, in a cell of at least 100 entries of a recorded trace but the loop; negative if
    /// there is none.
    pub worst_to_lru: Option<f64>,
    /// On the trace that turns from recency to a loop and back, at 500 entries.
    pub mix: Option<f64>,
}

const LRU: &str = "twotier lru, 1 shard";

/// Returns whether a cell takes part in the mean over recorded traces.
pub(super) fn counts(cell: &Cell) -> bool {
    cell.real && cell.trace != LOOP
}

/// Returns all policies in the order of the first cell.
pub(super) fn names(cells: &[Cell]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for score in cells.iter().flat_map(|cell| &cell.hit_ratios) {
        if !names.contains(&score.name) {
            names.push(score.name.clone());
        }
    }
    names
}

/// Sums every policy up.
pub(super) fn of(cells: &[Cell]) -> Vec<Summary> {
    let sum_up = |name: String| {
        let ratios = |wanted: &dyn Fn(&Cell) -> bool| {
            mean(cells.iter().filter(|cell| wanted(cell)).map(|cell| cell.ratio(&name)))
        };
        let losses = cells.iter().filter(|cell| counts(cell) && cell.capacity >= 100);
        let losses = losses.filter_map(|cell| Some(cell.ratio(LRU)? - cell.ratio(&name)?));
        let mix = cells.iter().find(|cell| cell.trace == MIX && cell.capacity == 500);
        Summary {
            real: ratios(&counts),
            made: ratios(&|cell| !cell.real && cell.trace != MIX),
            worst_to_lru: losses.reduce(f64::max),
            mix: mix.and_then(|cell| cell.ratio(&name)),
            name,
        }
    };
    names(cells).into_iter().map(sum_up).collect()
}

/// Returns the mean; `None` if there is nothing, or anything is missing: a mean over other cells cannot be compared.
fn mean(ratios: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let ratios = ratios.collect::<Option<Vec<f64>>>()?;
    #[allow(clippy::cast_precision_loss, reason = "a count of cells")]
    let count = ratios.len() as f64;
    (!ratios.is_empty()).then(|| ratios.iter().sum::<f64>() / count)
}

pub(super) fn sheet(policies: &Policies) -> Sheet {
    let mut table = Table::new(&["<policy", "recorded", "made", "worst to LRU, points", "mix at 500"]);
    let shown = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0));
    for Summary { name, real, made, worst_to_lru, mix } in &policies.summaries {
        let worst = worst_to_lru.map_or_else(|| "-".to_owned(), |loss| format!("{:+.2}", -loss * 100.0));
        table.row([name.clone(), shown(*real), shown(*made), worst, shown(*mix)]);
    }
    let notes = vec![
        format!(
            "Mean hit ratio over n = {} cells of recorded traces (without `loop`), and over the made ones (zipf-*).",
            policies.real_cells
        ),
        "Ours without further words are split into shards as they are by default; moka and mini-moka do their pending tasks after each access."
            .to_owned(),
        "A moka that puts them off, as it does in earnest, holds more entries than it was made for and hits more often at small sizes."
            .to_owned(),
        "Worst to LRU: the least favourable cell of at least 100 entries of a recorded trace.".to_owned(),
    ];
    Sheet { title: "means over the cells".to_owned(), notes, table }
}

pub(super) fn bars(policies: &Policies) -> Sheet {
    let mut table = Table::new(&["<what", "bar", "measured", "<in this run"]);
    let mut row = |what: &str, bar: &str, measured: String, met: bool| {
        table.row([what, bar, &measured, if met { "met" } else { "not met" }].map(str::to_owned));
    };
    for ((_, name), simulator) in ONE_SHARD.iter().zip([SIM_LRU, SIM_FIFO]) {
        let pairs = policies.cells.iter().filter_map(|cell| Some((cell.ratio(name)?, cell.ratio(simulator)?)));
        let pairs: Vec<_> = pairs.collect();
        let equal = pairs.iter().filter(|(ours, theirs)| (ours - theirs).abs() < 1e-12).count();
        if !pairs.is_empty() {
            let measured = format!("{equal} of {} cells", pairs.len());
            row(&format!("{name}: equal to {simulator} hit for hit"), "all", measured, equal == pairs.len());
        }
    }
    let splits = policies.cells.iter().filter_map(|cell| Some(cell.ratio(LRU)? - cell.ratio("twotier lru")?));
    if let Some(cost) = splits.reduce(f64::max) {
        row(
            "twotier lru: cost of splitting, worst cell",
            "<= 0.6 points",
            format!("{:.2}", cost * 100.0),
            cost <= 0.006,
        );
    }
    // The means are asked for over all the recorded traces, which do not come with the repository.
    let comparable = policies.more_traces && !policies.smoke;
    let ours = policies.summaries.iter().filter(|summary| comparable && summary.name.starts_with("twotier"));
    for Summary { name, real, worst_to_lru, mix, .. } in ours {
        if !name.ends_with("s3-fifo") && !name.ends_with("w-tinylfu") {
            continue;
        }
        if let Some(real) = real {
            row(
                &format!("{name}: mean over recorded traces"),
                ">= 52.0 %",
                format!("{:.2} %", real * 100.0),
                *real >= 0.52,
            );
        }
        if let Some(worst) = worst_to_lru.filter(|_| name.ends_with("s3-fifo")) {
            let measured = format!("{:.2}", worst * 100.0);
            row(&format!("{name}: loss to LRU in the worst cell"), "<= 2 points", measured, worst <= 0.02);
        }
        if let Some(mix) = mix.filter(|_| name.ends_with("w-tinylfu")) {
            row(&format!("{name}: {MIX} at 500"), ">= 50 %", format!("{:.2} %", mix * 100.0), mix >= 0.5);
        }
    }
    let mut notes = Vec::new();
    if !comparable {
        notes.push("The bars of means are about nine recorded traces: give their folder by `--traces DIR`.".to_owned());
    }
    Sheet { title: "the bars".to_owned(), notes, table }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::Score;

    fn cell(trace: &str, capacity: usize, lru: f64, other: f64) -> Cell {
        let score = |name: &str, hit_ratio| Score { name: name.to_owned(), hit_ratio };
        let hit_ratios = vec![score(LRU, lru), score("x", other)];
        Cell { trace: trace.to_owned(), real: true, accesses: 1, unique: 1, capacity, hit_ratios }
    }

    #[test]
    fn the_loop_and_tiny_caches_are_left_out_where_it_is_said() {
        let cells = [cell("a", 500, 0.5, 0.25), cell("b", 50, 0.5, 0.0), cell(LOOP, 500, 0.0, 1.0)];
        let x = &of(&cells)[1];
        assert_eq!((x.real, x.worst_to_lru, x.made), (Some(0.125), Some(0.25), None));
    }

    #[test]
    fn a_mean_with_a_hole_is_none() {
        assert_eq!(mean([Some(1.0), None].into_iter()), None);
        assert_eq!(mean([].into_iter()), None);
    }
}
