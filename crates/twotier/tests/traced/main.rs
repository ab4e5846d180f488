//! What is logged and traced. A programme of its own: what a line is written to is decided for the whole process, and
//! changes with every subscriber that comes or goes.

#![allow(clippy::unwrap_used, reason = "a panic with a message is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "real servers run on real time")]

mod audits;
mod lines;
mod logs;
mod secrets;
mod spans;
#[allow(dead_code, reason = "it is shared with `guarantees`, which uses all of it")]
#[path = "../guarantees/support.rs"]
mod support;

/// Held by each test while its subscriber is there.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
