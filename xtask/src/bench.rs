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
            --suite NAME     which suite to run (default main)
";

/// How to run the benchmarks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) json: Option<PathBuf>,
    pub(crate) smoke: bool,
    pub(crate) suite: Option<OsString>,
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
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }

    /// Returns the arguments of the report programme, which knows the suites.
    fn forwarded(&self) -> Outcome<Vec<OsString>> {
        let mut arguments: Vec<OsString> = Vec::new();
        if let Some(path) = &self.json {
            arguments.extend(["--json".into(), command::absolute(path)?.into()]);
        }
        if self.smoke {
            arguments.push("--smoke".into());
        }
        if let Some(suite) = &self.suite {
            arguments.extend(["--suite".into(), suite.clone()]);
        }
        Ok(arguments)
    }
}

/// Builds the report programme with optimisations and runs it.
pub(crate) fn run(options: &Options) -> Outcome {
    let mut cargo = command::cargo("run");
    cargo.args(["--profile", "bench", "--package", "twotier-benches", "--bin", "report"]);
    // Misses are measured beside other clients, which nothing else needs to be built with.
    if options.suite.as_deref().is_some_and(|suite| suite == "misses") {
        cargo.args(["--features", "peers"]);
    }
    cargo.arg("--");
    cargo.args(options.forwarded()?);
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
}
