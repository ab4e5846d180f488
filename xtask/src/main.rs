//! The tasks of this repository: `cargo xtask --help`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task runner talks to a person at a terminal")]

mod ablate;
mod bench;
mod check;
mod ci;
mod cli;
mod command;
mod diagnostics;
mod failure;
mod libtest;
mod package;
mod prop;
mod server;
mod stopwatch;
mod stress;
mod test;
mod tidy;
mod totals;

use std::process::ExitCode;

use cli::Task;
use failure::{Failure, Outcome};
use totals::Totals;

fn main() -> ExitCode {
    let outcome = match cli::parse(lexopt::Parser::from_env()) {
        Ok(task) => run(task),
        Err(error) => Err(Failure::Usage(error.to_string())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

fn run(task: Task) -> Outcome {
    match task {
        Task::Help(text) => {
            println!("{text}");
            Ok(())
        }
        Task::Test(options) => close(test::run(&options)?),
        Task::Prop(options) => close(prop::run(&options)?),
        Task::Stress(options) => close(stress::run(&options)?),
        Task::Check => check::run(),
        Task::Package => close(package::run()?),
        Task::Ci => close(ci::run()?),
        Task::Bench(options) => bench::run(&options),
        Task::Ablate(options) => ablate::run(&options),
    }
}

/// Prints the closing line of a task that ran tests. Nothing is printed after it.
fn close(totals: Totals) -> Outcome {
    println!("{totals}");
    if totals.failed == 0 { Ok(()) } else { Err(Failure::Counted) }
}
