//! `cargo xtask prop`: the property tests of eviction, and the replay of real traces.

use std::path::{Path, PathBuf};

use lexopt::prelude::*;

use crate::{
    command,
    failure::{Failure, Outcome},
    libtest,
    totals::Totals,
};

pub(crate) const USAGE: &str =
    "  prop    eviction against a plain reference model, and on real traces against simulators
            --cases N        cases of each property (default 10000)
            --traces DIR     every trace of this folder too, against its reference.csv
";

/// How to run the property tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) cases: u32,
    pub(crate) traces: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { cases: 10_000, traces: None }
    }
}

impl Options {
    /// Reads the options; `None` when help is asked for.
    pub(crate) fn parse(parser: &mut lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("cases") => {
                    options.cases = parser.value()?.parse()?;
                    if options.cases == 0 {
                        return Err("--cases must be at least 1: no case proves nothing".into());
                    }
                }
                Long("traces") => options.traces = Some(parser.value()?.into()),
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

/// Runs the property tests and returns what they come to.
pub(crate) fn run(options: &Options) -> Outcome<Totals> {
    let mut cargo = command::cargo("test");
    cargo.args(["--release", "--package", "twotier-local", "--no-fail-fast", "--test", "model", "--test", "traces"]);
    cargo.env("PROPTEST_CASES", options.cases.to_string());
    if let Some(folder) = &options.traces {
        cargo.env("TWOTIER_TEST_TRACES", traces_folder(folder)?);
    }
    command::heading(&format!("eviction: {} cases a property, then traces", options.cases));
    let totals = libtest::run(&mut cargo)?.totals;
    eprintln!();
    if totals == Totals::default() { Err(Failure::Failed("no property ran".to_owned())) } else { Ok(totals) }
}

fn traces_folder(given: &Path) -> Outcome<PathBuf> {
    let folder = command::absolute(given)?;
    if folder.join("reference.csv").is_file() {
        Ok(folder)
    } else {
        Err(Failure::Failed(format!("there is no reference.csv in {}", folder.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Options {
        Options::parse(&mut lexopt::Parser::from_args(words)).unwrap().unwrap()
    }

    #[test]
    fn options_are_read() {
        assert_eq!(parsed(&[]), Options { cases: 10_000, traces: None });
        assert_eq!(parsed(&["--cases", "7", "--traces=x"]), Options { cases: 7, traces: Some("x".into()) });
    }

    #[test]
    fn a_folder_without_reference_is_an_error_before_anything_is_built() {
        let Err(Failure::Failed(message)) = traces_folder(Path::new("no-such-folder")) else { panic!("it is taken") };
        assert!(message.contains("reference.csv"), "{message}");
    }
}
