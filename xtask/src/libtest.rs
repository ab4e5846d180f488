//! Running `cargo test` and counting by libtest's summary lines.

use std::{
    io::{self, Write},
    process::Command,
};

use crate::{command, failure::Outcome, totals::Totals};

/// What a run of `cargo test` comes to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tested {
    pub(crate) totals: Totals,
    /// Tests that the arguments kept from running.
    pub(crate) filtered_out: u64,
}

/// Runs a `cargo test` command; its output is passed on as it comes.
///
/// If it fails though every test that was counted passed, something did not build or a test binary broke down without
/// a summary: that counts as one failure.
pub(crate) fn run(cargo_test: &mut Command) -> Outcome<Tested> {
    run_on(&mut io::stdout().lock(), cargo_test)
}

/// Returns how many tests passed, by what `cargo test` printed.
pub(crate) fn passed(printed: &str) -> u64 {
    printed.lines().filter_map(Summary::parse).map(|summary| summary.passed).sum()
}

fn run_on(terminal: &mut impl Write, cargo_test: &mut Command) -> Outcome<Tested> {
    let mut tested = Tested::default();
    let status = command::stream(cargo_test, terminal, |line| {
        if let Some(summary) = Summary::parse(line) {
            tested.totals += Totals { passed: summary.passed, failed: summary.failed, skipped: summary.ignored };
            tested.filtered_out += summary.filtered_out;
        }
    })?;
    if !status.success() && tested.totals.failed == 0 {
        eprintln!("\nerror: something did not build or broke down; this counts as one failure");
        tested.totals += Totals::FAILED;
    }
    Ok(tested)
}

/// The line that closes the run of one test binary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Summary {
    passed: u64,
    failed: u64,
    ignored: u64,
    filtered_out: u64,
}

impl Summary {
    /// Reads a line of libtest's output; `None` if it is not a summary.
    fn parse(line: &str) -> Option<Self> {
        let line = without_colour(line);
        let (verdict, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        if !matches!(verdict, "ok" | "FAILED") {
            return None;
        }
        let mut summary = Self::default();
        for part in counts.split("; ") {
            let Some((count, what)) = part.split_once(' ') else { continue };
            let field = match what {
                "passed" => &mut summary.passed,
                "failed" => &mut summary.failed,
                "ignored" => &mut summary.ignored,
                "filtered out" => &mut summary.filtered_out,
                _ => continue,
            };
            *field = count.parse().ok()?;
        }
        Some(summary)
    }
}

/// Takes the terminal's colour sequences (`ESC [ … m`) and charset switches (`ESC ( B`) out of a line.
fn without_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(next) = rest.next() {
        match next {
            '\u{1b}' if rest.next() == Some('[') => {
                rest.by_ref().find(char::is_ascii_alphabetic);
            }
            '\u{1b}' => {
                rest.next();
            }
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_line_is_read() {
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        assert_eq!(Summary::parse(line), Some(Summary { passed: 12, failed: 0, ignored: 1, filtered_out: 3 }));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s";
        assert_eq!(Summary::parse(line), Some(Summary { passed: 1, failed: 2, ignored: 0, filtered_out: 0 }));
    }

    #[test]
    fn colour_does_not_matter() {
        let line =
            "test result: \u{1b}[32mok\u{1b}(B\u{1b}[m. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(Summary::parse(line), Some(Summary { passed: 2, ..Summary::default() }));
    }

    #[test]
    fn other_lines_are_no_summaries() {
        for line in ["", "running 3 tests", "test live::result: ok ... ok", "test result: maybe. 1 passed", "2 passed"]
        {
            assert_eq!(Summary::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_run_that_breaks_down_before_any_summary_is_one_failure() {
        // Not on the real terminal: the `cargo xtask test` around this test would count the summary as well.
        let terminal = &mut io::sink();
        assert_eq!(run_on(terminal, &mut Command::new("false")).unwrap().totals, Totals::FAILED);
        let mut ends_well = Command::new("echo");
        ends_well.arg("test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 5 filtered out");
        let tested = run_on(terminal, &mut ends_well).unwrap();
        assert_eq!(tested.totals, Totals { passed: 4, failed: 0, skipped: 1 });
        assert_eq!(tested.filtered_out, 5);
    }
}
