//! The Redis backend by itself: connections, tracking, TLS, roles, errors.

#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, reason = "a panic with a message is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "real servers run on real time")]

mod batches;
mod cluster;
mod commands;
mod credentials;
mod link;
mod opening;
mod out_of_step;
mod refusals;
mod sentinel;
mod sharing;
mod supervisor;
mod support;
mod tls;
mod urls;
mod writes;
mod zombies;
