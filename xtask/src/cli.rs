//! The command line: which task, with which options.

use lexopt::prelude::*;

use crate::{ablate, bench, check, ci, package, prop, stress, test};

/// A task with its options.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Print this.
    Help(String),
    Test(test::Options),
    Prop(prop::Options),
    Stress(stress::Options),
    Check,
    Package,
    Ci,
    Bench(bench::Options),
    Ablate(ablate::Options),
}

/// Reads the command line.
pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Task, lexopt::Error> {
    let name = match parser.next()? {
        None | Some(Short('h') | Long("help")) => return Ok(Task::Help(help())),
        Some(Value(name)) => name.string()?,
        Some(other) => return Err(other.unexpected()),
    };
    let (task, usage) = match name.as_str() {
        "help" => return Ok(Task::Help(help())),
        "test" => (test::Options::parse(&mut parser)?.map(Task::Test), test::USAGE),
        "prop" => (prop::Options::parse(&mut parser)?.map(Task::Prop), prop::USAGE),
        "stress" => (stress::Options::parse(&mut parser)?.map(Task::Stress), stress::USAGE),
        "check" => (no_options(&mut parser)?.map(|()| Task::Check), check::USAGE),
        "package" => (no_options(&mut parser)?.map(|()| Task::Package), package::USAGE),
        "ci" => (no_options(&mut parser)?.map(|()| Task::Ci), ci::USAGE),
        "bench" => (bench::Options::parse(&mut parser)?.map(Task::Bench), bench::USAGE),
        "ablate" => (ablate::Options::parse(&mut parser)?.map(Task::Ablate), ablate::USAGE),
        unknown => return Err(format!("there is no task `{unknown}`").into()),
    };
    Ok(task.unwrap_or_else(|| Task::Help(format!("Usage: cargo xtask <task> [options]\n\n{}", usage.trim_end()))))
}

fn no_options(parser: &mut lexopt::Parser) -> Result<Option<()>, lexopt::Error> {
    match parser.next()? {
        None => Ok(Some(())),
        Some(Short('h') | Long("help")) => Ok(None),
        Some(other) => Err(other.unexpected()),
    }
}

fn help() -> String {
    let tasks =
        [test::USAGE, bench::USAGE, check::USAGE, package::USAGE, prop::USAGE, stress::USAGE, ablate::USAGE, ci::USAGE]
            .concat();
    format!("The tasks of this repository.\n\nUsage: cargo xtask <task> [options]\n\n{}", tasks.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task, String> {
        parse(lexopt::Parser::from_args(line.split_whitespace())).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_and_help_print_every_task() {
        for line in ["", "--help", "-h", "help"] {
            let Ok(Task::Help(text)) = parsed(line) else { panic!("`{line}` is no help") };
            for task in ["test", "prop", "stress", "check", "package", "ci", "bench", "ablate"] {
                assert!(text.contains(&format!("\n  {task} ")), "`{line}` does not name {task}");
            }
        }
    }

    #[test]
    fn help_of_one_task_is_about_that_task() {
        for task in ["test", "prop", "stress", "check", "package", "ci", "bench", "ablate"] {
            let Ok(Task::Help(text)) = parsed(&format!("{task} --help")) else { panic!("{task} has no help") };
            assert!(text.contains(&format!("\n  {task} ")), "{text}");
            assert_eq!(text.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")).count(), 1);
        }
    }

    #[test]
    fn an_unknown_task_or_option_is_named() {
        for (line, named) in [
            ("tset", "`tset`"),
            ("--verbose", "'--verbose'"),
            ("test --no-rdis", "'--no-rdis'"),
            ("test filter", "cargo xtask test -- filter"),
            ("check --fix", "'--fix'"),
            ("ci now", "\"now\""),
            ("package --no-verify", "'--no-verify'"),
            ("prop --cases", "'--cases'"),
            ("prop --cases many", "many"),
            ("prop --cases 0", "--cases"),
            ("stress --seconds 0", "--seconds"),
            ("stress --second 5", "'--second'"),
            ("bench --jsn x", "'--jsn'"),
            ("bench --json", "'--json'"),
        ] {
            let message = parsed(line).unwrap_err();
            assert!(message.contains(named), "`{line}`: {message}");
        }
    }
}
