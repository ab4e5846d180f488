//! Measures memory and prints it; `cargo xtask bench --suite memory` runs this. A programme of its own, since its
//! allocator counts.
#![allow(clippy::print_stderr, reason = "the report is for a person at a terminal")]

use std::process::ExitCode;

use twotier_benches::{
    Result,
    cli::{Args, Suite},
    memory::{self, Heap},
    output,
    progress::Progress,
};

fn main() -> ExitCode {
    let args = match Args::parse(lexopt::Parser::from_env()) {
        Ok(args) if args.suite == Suite::Memory => args,
        Ok(_) => {
            eprintln!("error: this programme measures the suite `memory`, and `report` all others");
            return ExitCode::from(2);
        }
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match bench(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &Args) -> Result<()> {
    let memory = memory::measure(args.smoke, count, &Progress::start());
    output::publish(args, &memory, &memory.findings())
}

fn count(closure: &mut dyn FnMut()) -> Heap {
    let counted = allocation_counter::measure(closure);
    Heap { allocations: counted.count_total, bytes: counted.bytes_current }
}
