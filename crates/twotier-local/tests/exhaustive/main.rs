//! A few threads in every order, and with every value that the memory model lets an atomic load return.
//!
//! The files under test are the crate's own, built here a second time with a [`sync`] whose locks and atomics are those
//! of [loom](https://docs.rs/loom). Nothing is swapped by a feature or a flag, which the other crates of the workspace
//! would then be built with too; and these tests run wherever the crate's tests run.
//!
//! Each test is one small race, explored to the end: when it passes there is no order in which the guarantee it is
//! named after does not hold. How many executions that took is printed. Of four threads or many steps there are too
//! many orders; those are for `tests/schedules`.
//!
//! A failing execution is repeated, with its steps, by
//! `LOOM_LOG=trace LOOM_LOCATION=1 cargo test -p twotier-local --test exhaustive NAME`: the order of exploration never
//! changes.
//!
//! Which rule of the protocol which test defends is tried out by `cargo xtask ablate --net exhaustive`.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "the files are those of a library, a panic is how a test fails, and figures go to stderr"
)]

#[path = "../../src/advisor.rs"]
mod advisor;
#[path = "../../src/budget.rs"]
mod budget;
#[path = "../../src/clearing.rs"]
mod clearing;
#[path = "../../src/completion.rs"]
mod completion;
#[path = "../../src/counters.rs"]
mod counters;
#[path = "../../src/entry.rs"]
mod entry;
#[path = "../../src/fates.rs"]
mod fates;
#[path = "../../src/flight.rs"]
mod flight;
#[path = "../../src/hash.rs"]
mod hash;
#[path = "../../src/inner.rs"]
mod inner;
#[path = "../../src/link.rs"]
mod link;
#[path = "../../src/load.rs"]
mod load;
#[path = "../../src/loads.rs"]
mod loads;
#[path = "../../src/lost.rs"]
mod lost;
#[path = "../../src/options.rs"]
mod options;
#[path = "../../src/policy/mod.rs"]
mod policy;
#[path = "../../src/register.rs"]
mod register;
#[path = "../../src/removal.rs"]
mod removal;
#[path = "../../src/room.rs"]
mod room;
#[path = "../../src/shard.rs"]
mod shard;
#[path = "../../src/ticket.rs"]
mod ticket;
#[path = "../../src/tier.rs"]
mod tier;
#[path = "../../src/touches.rs"]
mod touches;

#[path = "../common/notify.rs"]
mod notify;

mod digest {
    pub(crate) use twotier_local::Digest;
}
mod arrivals;
mod joiners;
mod lease;
mod links;
mod one_key;
mod origin;
mod setting;
mod stale;
mod sync;
