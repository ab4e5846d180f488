//! The whole library over a simulated server and network, in virtual time: every run is a function of one seed.
//!
//! A run builds one to three caches on one server, has several tasks use each of them while other clients write and
//! everything fails that can, and checks each answer against the server's own history of each key, and what became of
//! each write against the order of the calls. In some runs there is an origin, whose rows are loaded late. Afterwards
//! everything is healed, and at rest every cache must agree with the server and serve hits again.
//!
//! - `TWOTIER_TEST_SEEDS=20000 cargo test -p twotier --all-features --test simulation` runs more seeds;
//! - `TWOTIER_TEST_SEED=7 cargo test -p twotier --all-features --test simulation replay -- --nocapture` runs one of
//!   them and prints every event.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a panic is how a test fails, and figures are printed")]

mod checker;
mod faults;
mod foreign;
mod loading;
mod origin;
mod party;

mod rest;
mod run;
mod scenario;
mod seeds;
mod stories;
mod topology;
mod world;
mod writes;
