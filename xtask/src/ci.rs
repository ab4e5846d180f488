//! `cargo xtask ci`: everything a change must pass, as continuous integration runs it.

use std::time::Duration;

use crate::{
    bench, check, command,
    failure::Outcome,
    package,
    stopwatch::{Stopwatch, spoken},
    stress, test,
    totals::Totals,
};

pub(crate) const USAGE: &str = "  ci      check, test, package, a short stress and bench --smoke, with the time of each
";

/// Enough for a hundred faults; the nightly run takes its time.
const STRESS_SECONDS: u64 = 30;

type Step = fn() -> Outcome<Totals>;

/// Runs every step, also after one has failed. A step that fails without counting a test counts as one failure.
pub(crate) fn run() -> Outcome<Totals> {
    let steps: [(&str, Step); 5] = [
        ("check", || check::run().map(|()| Totals::default())),
        ("test", || test::run(&test::Options::default())),
        ("package", package::run),
        ("stress", || stress::run(&stress::Options { seconds: STRESS_SECONDS, ..Default::default() })),
        ("bench --smoke", || {
            bench::run(&bench::Options { smoke: true, ..Default::default() }).map(|()| Totals::default())
        }),
    ];
    let mut totals = Totals::default();
    let mut lines = Vec::new();
    for (name, step) in steps {
        eprintln!("\n======== {name} ========");
        let clock = Stopwatch::start();
        let outcome = step().unwrap_or_else(|failure| {
            failure.print();
            Totals::FAILED
        });
        lines.push(line(name, outcome, clock.elapsed()));
        totals += outcome;
    }
    command::heading("ci");
    for line in lines {
        eprintln!("{line}");
    }
    eprintln!();
    Ok(totals)
}

fn line(name: &str, outcome: Totals, time: Duration) -> String {
    let verdict = if outcome.failed == 0 { "ok" } else { "FAILED" };
    format!("{name:<14} {verdict:<7} {:>12}", spoken(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_with_a_failure_is_distinguished_from_one_without() {
        let time = Duration::from_secs(75);
        assert_eq!(line("test", Totals::PASSED, time), "test           ok        1 min 15 s");
        assert!(line("test", Totals::FAILED, time).contains("FAILED"));
    }
}
