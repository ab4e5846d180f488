//! Measures how long a shard of the local tier is locked and prints it; `cargo xtask bench --suite holds` runs this.
//!
//! The files of the tier are the crate's own, built here a second time with a [`sync`] whose mutex measures how long it
//! is held, in the processor's time: what the processor does for others meanwhile is not the tier's.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::print_stderr,
    reason = "the files are those of a library, and the report is for a person at a terminal"
)]

#[path = "../../../../crates/twotier-local/src/advisor.rs"]
mod advisor;
#[path = "../../../../crates/twotier-local/src/budget.rs"]
mod budget;
#[path = "../../../../crates/twotier-local/src/clearing.rs"]
mod clearing;
#[path = "../../../../crates/twotier-local/src/completion.rs"]
mod completion;
#[path = "../../../../crates/twotier-local/src/counters.rs"]
mod counters;
#[path = "../../../../crates/twotier-local/src/entry.rs"]
mod entry;
#[path = "../../../../crates/twotier-local/src/fates.rs"]
mod fates;
#[path = "../../../../crates/twotier-local/src/flight.rs"]
mod flight;
#[path = "../../../../crates/twotier-local/src/hash.rs"]
mod hash;
#[path = "../../../../crates/twotier-local/src/inner.rs"]
mod inner;
#[path = "../../../../crates/twotier-local/src/link.rs"]
mod link;
#[path = "../../../../crates/twotier-local/src/load.rs"]
mod load;
#[path = "../../../../crates/twotier-local/src/loads.rs"]
mod loads;
#[path = "../../../../crates/twotier-local/src/lost.rs"]
mod lost;
#[path = "../../../../crates/twotier-local/src/options.rs"]
mod options;
#[path = "../../../../crates/twotier-local/src/policy/mod.rs"]
mod policy;
#[path = "../../../../crates/twotier-local/src/register.rs"]
mod register;
#[path = "../../../../crates/twotier-local/src/removal.rs"]
mod removal;
#[path = "../../../../crates/twotier-local/src/room.rs"]
mod room;
#[path = "../../../../crates/twotier-local/src/shard.rs"]
mod shard;
#[path = "../../../../crates/twotier-local/src/ticket.rs"]
mod ticket;
#[path = "../../../../crates/twotier-local/src/tier.rs"]
mod tier;
#[path = "../../../../crates/twotier-local/src/touch.rs"]
mod touch;
#[path = "../../../../crates/twotier-local/src/touches.rs"]
mod touches;

mod digest {
    pub(crate) use twotier_local::Digest;
}
mod holds;
mod sync;

use std::process::ExitCode;

use twotier_benches::{
    Result,
    cli::{Args, Suite},
    output,
    progress::Progress,
};

fn main() -> ExitCode {
    let args = match Args::parse(lexopt::Parser::from_env()) {
        Ok(args) if args.suite == Suite::Holds => args,
        Ok(_) => {
            eprintln!("error: this programme measures the suite `holds`, and `report` most others");
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
    let holds = holds::measure(args.smoke, &Progress::start())?;
    output::publish(args, &holds, &holds.findings())
}
