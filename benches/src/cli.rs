//! The command line of the report programme.

use std::path::PathBuf;

use lexopt::prelude::*;

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Suite {
    /// What the local tier saves.
    #[default]
    Main,
    /// What the whole cache costs a hit.
    Hits,
    /// What a miss costs under load.
    Misses,
}

/// The suites there are.
const SUITES: [(&str, Suite); 3] = [("main", Suite::Main), ("hits", Suite::Hits), ("misses", Suite::Misses)];

/// What to run, and where the figures go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// What to measure.
    pub suite: Suite,
    /// A file for the figures, beside the tables on standard output.
    pub json: Option<PathBuf>,
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
        let expected = Args { json: Some("x.json".into()), smoke: true, suite: Suite::Main };
        assert_eq!(parsed(&["--smoke", "--json", "x.json", "--suite", "main"]), Ok(expected));
    }

    #[test]
    fn an_unknown_suite_is_named_with_those_there_are() {
        let expected = "there is no suite `sips`; there is: main, hits, misses";
        assert_eq!(parsed(&["--suite", "sips"]), Err(expected.to_owned()));
        assert_eq!(parsed(&["--suite", "hits"]).map(|args| args.suite), Ok(Suite::Hits));
    }
}
