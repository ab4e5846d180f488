//! The Redis backend by itself: connection, tracking, TLS, roles, errors.

#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, reason = "a panic with a message is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "real servers run on real time")]

mod coalescing;
mod commands;
mod link;
mod tls;
