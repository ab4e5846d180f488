//! The command line of the report programme.

use std::path::PathBuf;

use lexopt::prelude::*;

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Suite {
    /// What the local tier saves.
    #[default]
    Main,
    /// What a hit costs, beside others.
    Hits,
    /// What a miss costs under load, beside others.
    Misses,
    /// How often each policy hits, beside others.
    Policies,
    /// Whether the size advisor is right, and what it costs.
    Advice,
    /// What an entry weighs, beside others; measured by a programme of its own.
    Memory,
    /// How long a shard is locked; measured by a programme of its own.
    Holds,
}

/// The suites there are.
const SUITES: [(&str, Suite); 7] = [
    ("main", Suite::Main),
    ("hits", Suite::Hits),
    ("misses", Suite::Misses),
    ("policies", Suite::Policies),
    ("advice", Suite::Advice),
    ("memory", Suite::Memory),
    ("holds", Suite::Holds),
];

/// What to run, and where the figures go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// What to measure.
    pub suite: Suite,
    /// A file for the figures, beside the tables on standard output.
    pub json: Option<PathBuf>,
    /// A Markdown file, a part of which becomes the tables; not for the main suite.
    pub markdown: Option<PathBuf>,
    /// A folder of traces with its reference, for the suites `policies` and `advice`.
    pub traces: Option<PathBuf>,
    /// Whether to run with tiny counts, to see that everything works.
    pub smoke: bool,
}

impl Args {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// When an option, or the suite, does not exist.
    pub fn parse(mut parser: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut args = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("json") => args.json = Some(parser.value()?.into()),
                Long("markdown") => args.markdown = Some(parser.value()?.into()),
                Long("traces") => args.traces = Some(parser.value()?.into()),
                Long("smoke") => args.smoke = true,
                Long("suite") => {
                    let wanted = parser.value()?.string()?;
                    let Some((_, suite)) = SUITES.iter().find(|(name, _)| *name == wanted) else {
                        let names = SUITES.map(|(name, _)| name).join(", ");
                        return Err(format!("there is no suite `{wanted}`; there is: {names}").into());
                    };
                    args.suite = *suite;
                }
                other => return Err(other.unexpected()),
            }
        }
        if args.suite == Suite::Main && args.markdown.is_some() {
            return Err("--markdown is for the other suites: hits, misses, policies, advice, memory, holds".into());
        }
        if !matches!(args.suite, Suite::Policies | Suite::Advice) && args.traces.is_some() {
            return Err("--traces is for the suites `policies` and `advice`".into());
        }
        Ok(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Args, String> {
        Args::parse(lexopt::Parser::from_args(words)).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read() {
        assert_eq!(parsed(&[]), Ok(Args::default()));
        let expected = Args { json: Some("x.json".into()), smoke: true, ..Args::default() };
        assert_eq!(parsed(&["--smoke", "--json", "x.json", "--suite", "main"]), Ok(expected));
    }

    #[test]
    fn an_unknown_suite_is_named_with_those_there_are() {
        let expected = "there is no suite `sips`; there is: main, hits, misses, policies, advice, memory, holds";
        assert_eq!(parsed(&["--suite", "sips"]), Err(expected.to_owned()));
        assert_eq!(parsed(&["--suite", "hits"]).map(|args| args.suite), Ok(Suite::Hits));
    }

    #[test]
    fn an_option_that_a_suite_does_not_know_is_an_error() {
        assert!(parsed(&["--markdown", "x.md"]).unwrap_err().contains("--markdown"));
        assert!(parsed(&["--suite", "hits", "--traces", "x"]).unwrap_err().contains("--traces"));
        let args = parsed(&["--suite", "policies", "--traces", "x", "--markdown", "y"]).expect("both are known");
        assert_eq!((args.traces, args.markdown), (Some("x".into()), Some("y".into())));
    }
}
