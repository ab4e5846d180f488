//! The command line of the report programme.

use std::path::PathBuf;

use lexopt::prelude::*;

/// The suites there are.
const SUITES: [&str; 1] = ["main"];

/// What to run, and where the figures go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
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
                    let suite = parser.value()?.string()?;
                    if !SUITES.contains(&suite.as_str()) {
                        return Err(format!("there is no suite `{suite}`; there is: {}", SUITES.join(", ")).into());
                    }
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
        let expected = Args { json: Some("x.json".into()), smoke: true };
        assert_eq!(parsed(&["--smoke", "--json", "x.json", "--suite", "main"]), Ok(expected));
    }

    #[test]
    fn an_unknown_suite_is_named_with_those_there_are() {
        assert_eq!(parsed(&["--suite", "hits"]), Err("there is no suite `hits`; there is: main".to_owned()));
    }
}
