//! `cargo xtask test`: every test, doctest and example of the workspace.

mod examples;

use std::{env, ffi::OsString, io::IsTerminal, num::NonZero, thread};

use lexopt::prelude::*;

use crate::{
    command,
    failure::{Failure, Outcome},
    libtest::{self, Tested},
    server::{self, IfMissing},
    totals::Totals,
};

pub(crate) const USAGE: &str = "  test    every test, doctest and example, on private Redis or Valkey servers
            --no-install     without a server fail, instead of installing one
            --no-redis       leave out what needs a server, and say how much that was
            -- ARGS          passed on to `cargo test`; examples are not run then
";

/// How many tests of one programme run at a time.
const THREADS: &str = "RUST_TEST_THREADS";

/// Tests that need a server live in modules of this name, and no other module's name ends like it.
const LIVE: &str = "live::";

/// How to run the tests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) redis: bool,
    pub(crate) if_missing: IfMissing,
    pub(crate) cargo_args: Vec<OsString>,
}

impl Default for Options {
    fn default() -> Self {
        Self { redis: true, if_missing: IfMissing::Install, cargo_args: Vec::new() }
    }
}

impl Options {
    /// Reads the options; `None` when help is asked for.
    pub(crate) fn parse(parser: &mut lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self::default();
        loop {
            if let Some(mut rest) = parser.try_raw_args()
                && rest.next_if(|argument| argument == "--").is_some()
            {
                options.cargo_args = rest.collect();
            }
            match parser.next()? {
                None => return Ok(Some(options)),
                Some(Long("no-install")) => options.if_missing = IfMissing::Fail,
                Some(Long("no-redis")) => options.redis = false,
                Some(Short('h') | Long("help")) => return Ok(None),
                Some(Value(filter)) => {
                    let filter = filter.to_string_lossy();
                    return Err(format!("`{filter}` is for `cargo test`: cargo xtask test -- {filter}").into());
                }
                Some(other) => return Err(other.unexpected()),
            }
        }
    }
}

/// Runs the tests and returns what they come to.
pub(crate) fn run(options: &Options) -> Outcome<Totals> {
    let server = if options.redis { Some(server::ensure(options.if_missing)?) } else { None };

    command::heading("tests and doctests");
    let mut cargo = command::cargo("test");
    // Most tests wait for servers and clocks for most of their time.
    if env::var_os(THREADS).is_none() {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        cargo.env(THREADS, (2 * processors).to_string());
    }
    let Tested { mut totals, filtered_out } =
        libtest::run(cargo.args(arguments(options, std::io::stdout().is_terminal())))?;
    let everything = options.cargo_args.is_empty();
    if everything && totals == Totals::default() {
        return Err(Failure::Failed("no test ran".to_owned()));
    }

    let mut examples_left_out = 0;
    if everything {
        command::heading("examples");
        let examples = examples::run(server.as_deref())?;
        examples_left_out = examples.skipped;
        totals += examples;
    }

    eprintln!();
    if !options.redis {
        totals.skipped += filtered_out;
        eprintln!("!!! {}", left_out(filtered_out, examples_left_out, everything));
        eprintln!("!!! nothing was tested against a real Redis; `cargo xtask test` does that\n");
    }
    Ok(totals)
}

/// Returns the arguments of `cargo test`.
fn arguments(options: &Options, colour: bool) -> Vec<OsString> {
    let mut given = options.cargo_args.iter().cloned();
    let for_cargo: Vec<_> = given.by_ref().take_while(|argument| argument != "--").collect();
    let names_a_package = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument.starts_with("-p") || argument.starts_with("--package")
    };

    let mut arguments: Vec<OsString> = Vec::new();
    if !for_cargo.iter().any(names_a_package) {
        arguments.push("--workspace".into());
    }
    arguments.extend(["--all-features".into(), "--no-fail-fast".into()]);
    arguments.extend(for_cargo);

    let mut for_tests: Vec<OsString> = given.collect();
    if !options.redis {
        for_tests.extend(["--skip".into(), LIVE.into()]);
    }
    if colour {
        for_tests.push("--color=always".into());
    }
    if !for_tests.is_empty() {
        arguments.push("--".into());
        arguments.extend(for_tests);
    }
    arguments
}

fn left_out(tests: u64, examples: u64, everything: bool) -> String {
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    let live = if everything { "live " } else { "" };
    let mut text = format!("{tests} {live}test{}", plural(tests));
    if examples > 0 {
        text += &format!(" and {examples} example{}", plural(examples));
    }
    let verb = if tests + examples == 1 { "was" } else { "were" };
    let why = if everything { "--no-redis" } else { "--no-redis and the arguments given" };
    format!("{text} {verb} left out ({why})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Options {
        Options::parse(&mut lexopt::Parser::from_args(words)).unwrap().unwrap()
    }

    fn arguments_of(words: &[&str]) -> String {
        let arguments = arguments(&parsed(words), false);
        arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn everything_is_tested_by_default() {
        assert_eq!(parsed(&[]), Options::default());
        assert_eq!(arguments_of(&[]), "--workspace --all-features --no-fail-fast");
    }

    #[test]
    fn no_redis_skips_the_live_tests_and_keeps_the_callers_arguments() {
        assert_eq!(arguments_of(&["--no-redis"]), "--workspace --all-features --no-fail-fast -- --skip live::");
        assert_eq!(
            arguments_of(&["--no-redis", "--no-install", "--", "lru", "--", "--nocapture"]),
            "--workspace --all-features --no-fail-fast lru -- --nocapture --skip live::",
        );
    }

    #[test]
    fn what_follows_two_dashes_is_passed_on_even_if_it_looks_like_ours() {
        let options = parsed(&["--no-install", "--", "--no-redis"]);
        assert_eq!(options.if_missing, IfMissing::Fail);
        assert!(options.redis);
        assert_eq!(options.cargo_args, ["--no-redis"]);
    }

    #[test]
    fn naming_a_package_replaces_the_workspace() {
        assert_eq!(
            arguments_of(&["--", "-p", "twotier-core", "ttl"]),
            "--all-features --no-fail-fast -p twotier-core ttl"
        );
    }

    #[test]
    fn what_was_left_out_is_said_in_full() {
        assert_eq!(left_out(42, 2, true), "42 live tests and 2 examples were left out (--no-redis)");
        assert_eq!(left_out(1, 0, true), "1 live test was left out (--no-redis)");
        assert_eq!(left_out(7, 0, false), "7 tests were left out (--no-redis and the arguments given)");
    }
}
