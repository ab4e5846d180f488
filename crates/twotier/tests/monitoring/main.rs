//! What leaves the process says what `stats` says: every figure, by every way out.

#![allow(clippy::unwrap_used, reason = "a panic with a message is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "another process runs on real time")]

mod figures;
mod process;
mod recorder;
mod registry;
mod script;
