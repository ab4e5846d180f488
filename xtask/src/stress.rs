//! `cargo xtask stress`: caches under load and faults on real servers, every operation checked.

use std::env;

use lexopt::prelude::*;

use crate::{
    command,
    failure::{Failure, Outcome},
    libtest,
    server::{self, IfMissing},
    totals::Totals,
};

pub(crate) const USAGE: &str =
    "  stress  caches on private servers under load and faults; every read is checked, every violation printed
            --seconds N      how long the load lasts (default 60)
            --minutes N      the same in minutes
            --faults LIST    `all` (default), `none`, or names with commas between; a wrong name lists them
            --seed S         repeats the script of faults of an earlier run (default: another one each time)
";

/// Long enough for hundreds of faults and for hits on a link that hangs for longer than the staleness bound.
const SECONDS: u64 = 60;

/// How to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) seconds: u64,
    pub(crate) faults: String,
    pub(crate) seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { seconds: SECONDS, faults: "all".to_owned(), seed: None }
    }
}

impl Options {
    /// Reads the options; `None` when help is asked for.
    pub(crate) fn parse(parser: &mut lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("seconds") => options.seconds = at_least_one("--seconds", parser.value()?.parse()?)?,
                Long("minutes") => options.seconds = 60 * at_least_one("--minutes", parser.value()?.parse()?)?,
                Long("faults") => options.faults = parser.value()?.string()?,
                Long("seed") => options.seed = Some(parser.value()?.parse()?),
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

fn at_least_one(name: &str, number: u64) -> Result<u64, lexopt::Error> {
    if number == 0 { Err(format!("{name} must be at least 1: no load proves nothing").into()) } else { Ok(number) }
}

/// Runs the stress test with optimisations and returns what it comes to.
pub(crate) fn run(options: &Options) -> Outcome<Totals> {
    server::ensure(IfMissing::Install)?;
    command::heading(&format!("stress: {} s of load", options.seconds));
    let mut cargo = command::cargo("test");
    cargo.args(["--release", "--package", "twotier", "--test", "stress", "--", "--nocapture"]);
    cargo.env("TWOTIER_TEST_STRESS_SECONDS", options.seconds.to_string());
    cargo.env("TWOTIER_TEST_STRESS_FAULTS", &options.faults);
    // Always named, so that the command that is shown is the one to repeat.
    let seed = options.seed.map_or_else(inherited_or_new_seed, |seed| seed.to_string());
    cargo.env("TWOTIER_TEST_STRESS_SEED", seed);
    let totals = libtest::run(&mut cargo)?.totals;
    eprintln!();
    if totals == Totals::default() { Err(Failure::Failed("no stress test ran".to_owned())) } else { Ok(totals) }
}

fn inherited_or_new_seed() -> String {
    use std::hash::{BuildHasher, RandomState};

    env::var("TWOTIER_TEST_STRESS_SEED").unwrap_or_else(|_unset| RandomState::new().hash_one(0).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Options {
        Options::parse(&mut lexopt::Parser::from_args(words)).unwrap().unwrap()
    }

    #[test]
    fn options_are_read() {
        assert_eq!(parsed(&[]), Options::default());
        let options = parsed(&["--minutes", "5", "--faults=kill,stop", "--seed", "7"]);
        assert_eq!(options, Options { seconds: 300, faults: "kill,stop".to_owned(), seed: Some(7) });
        assert_eq!(parsed(&["--seconds", "90"]).seconds, 90);
    }
}
