//! Many threads in hundreds of thousands of orders: all that a tier has to do at once, on a few keys in too little
//! room.
//!
//! The files under test are the crate's own, built here once more with a [`sync`] whose locks and atomics are those of
//! [shuttle](https://docs.rs/shuttle), which draws who runs next at each of them. What `tests/exhaustive` shows for two
//! threads and every order, this makes likely for five threads and many steps.
//!
//! - `TWOTIER_TEST_SCHEDULES=2000000 cargo test -p twotier-local --test schedules` draws more of them for each test.
//! - A failure prints its seed; `SHUTTLE_RANDOM_SEED=… cargo test -p twotier-local --test schedules NAME` repeats it.
//!
//! Which rule of the protocol which test defends is tried out by `cargo xtask ablate --net schedules`.
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
#[path = "../common/notify.rs"]
mod notify;
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

mod digest {
    pub(crate) use twotier_local::Digest;
}
mod orders;
mod origin;
#[path = "../common/origin.rs"]
mod rows;
mod sync;
mod world;

use self::origin::kit;
