//! `cargo xtask bench`: the benchmarks and their report.

use std::{ffi::OsString, path::PathBuf};

use lexopt::prelude::*;

use crate::{
    command,
    failure::{Failure, Outcome},
};

pub(crate) const USAGE: &str =
    "  bench   what a local tier saves: measured, asserted by counts, and printed as a table; under 2 minutes
            --json PATH      write the figures for machines too
            --smoke          the same with tiny counts, in seconds: shows that it works, not how fast
            --suite NAME     main (default), holds (how long a shard is locked), increments (beside a plain INCR),
                             advice (whether the size advisor is right), or beside other caches: hits, misses, policies, memory
            --markdown PATH  write the tables into their part of a Markdown file too (not for main)
            --traces DIR     every trace of this folder, with its reference.csv (for policies and advice)
";

/// What is built for each suite beyond the main one: the programme, and the features of its package.
const COMPARING: [(&str, &str, &str); 6] = [
    ("holds", "holds", ""),
    ("increments", "increments", ""),
    ("hits", "report", "peers"),
    ("misses", "report", "peers"),
    ("policies", "report", "peers"),
    // Its allocator counts, which would weigh on every other measurement.
    ("memory", "memory", "peers,count-allocations"),
];

/// How to run the benchmarks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) json: Option<PathBuf>,
    pub(crate) smoke: bool,
    pub(crate) suite: Option<OsString>,
    pub(crate) markdown: Option<PathBuf>,
    pub(crate) traces: Option<PathBuf>,
}

impl Options {
    /// Reads the options; `None` when help is asked for.
    pub(crate) fn parse(parser: &mut lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("json") => options.json = Some(parser.value()?.into()),
                Long("smoke") => options.smoke = true,
                Long("suite") => options.suite = Some(parser.value()?),
                Long("markdown") => options.markdown = Some(parser.value()?.into()),
                Long("traces") => options.traces = Some(parser.value()?.into()),
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }

    /// Returns the arguments of the report programme, which knows the suites.
    fn forwarded(&self) -> Outcome<Vec<OsString>> {
        let mut arguments: Vec<OsString> = Vec::new();
        for (option, path) in [("--json", &self.json), ("--markdown", &self.markdown), ("--traces", &self.traces)] {
            if let Some(path) = path {
                arguments.extend([option.into(), command::absolute(path)?.into()]);
            }
        }
        if self.smoke {
            arguments.push("--smoke".into());
        }
        if let Some(suite) = &self.suite {
            arguments.extend(["--suite".into(), suite.clone()]);
        }
        Ok(arguments)
    }

    /// Returns the programme that measures the suite, and the features it is built with. The peers are heavy to build:
    /// the main suite does without.
    fn program(&self) -> (&'static str, &'static str) {
        let comparing = COMPARING.iter().find(|(suite, ..)| self.suite.as_ref().is_some_and(|wanted| wanted == suite));
        comparing.map_or(("report", ""), |&(_, program, features)| (program, features))
    }
}

/// Builds the report programme with optimisations and runs it.
pub(crate) fn run(options: &Options) -> Outcome {
    let mut cargo = command::cargo("run");
    let (program, features) = options.program();
    // Counts and no times are read off a smoke run: it takes the profile that other tasks have built for already.
    let profile = if options.smoke { "release" } else { "bench" };
    cargo.args(["--profile", profile, "--package", "twotier-benches", "--bin", program]);
    if !features.is_empty() {
        cargo.args(["--features", features]);
    }
    cargo.arg("--").args(options.forwarded()?);
    let status = command::status(&mut cargo)?;
    match status.code() {
        Some(0) => Ok(()),
        // Its own word for a wrong command line, which it has explained.
        Some(2) => Err(Failure::Usage("the report programme did not accept its arguments".to_owned())),
        _ => Err(Failure::Failed("the benchmark did not end well; what failed is named above".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Options {
        Options::parse(&mut lexopt::Parser::from_args(words)).unwrap().unwrap()
    }

    #[test]
    fn options_are_forwarded_and_the_path_is_absolute() {
        assert_eq!(parsed(&[]).forwarded().unwrap(), Vec::<OsString>::new());
        let arguments = parsed(&["--smoke", "--json", "figures.json", "--suite", "main"]).forwarded().unwrap();
        let here = std::env::current_dir().unwrap().join("figures.json");
        assert_eq!(
            arguments,
            ["--json".into(), here.into_os_string(), "--smoke".into(), "--suite".into(), "main".into()]
        );
    }

    #[test]
    fn peers_are_built_for_the_suites_that_compare_and_for_no_other() {
        assert_eq!(parsed(&[]).program(), ("report", ""));
        assert_eq!(parsed(&["--suite", "main"]).program(), ("report", ""));
        assert_eq!(parsed(&["--suite", "policies"]).program(), ("report", "peers"));
        assert_eq!(parsed(&["--suite", "memory"]).program(), ("memory", "peers,count-allocations"));
        assert_eq!(parsed(&["--suite", "misses"]).program(), ("report", "peers"));
        assert_eq!(parsed(&["--suite", "holds"]).program(), ("holds", ""));
        // The report programme explains it.
        assert_eq!(parsed(&["--suite", "sips"]).program(), ("report", ""));
    }
}
