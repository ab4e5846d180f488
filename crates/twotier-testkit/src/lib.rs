//! What the tests and benchmarks of twotier stand on. Never published.
//!
//! - [`RedisServer`]: a private `redis-server` or `valkey-server` for one test, with a client of its own that shares no
//!   code with the library under test, so that it can be a witness. Commands are counted by the server.
//! - [`SentinelGroup`]: a primary, its replicas, and the sentinels that watch them.
//! - [`Proxy`]: a TCP proxy in front of a server, with latency and every way a network can fail.
//! - [`history`]: what several caches were seen to do, and the check of what they promise.
//! - [`trace`]: recorded access traces of real systems.
//! - [`model`]: reference models to compare with.
//! - [`protocol`]: a model of the coherence protocol, explored exhaustively.
//! - [`simulation`]: a server, a network and a clock inside the process, every run a function of its seed.
//!
//! Tests that need a server are in modules named `live`, so that `--skip live::` leaves them out and can count them.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "only tests use this crate, and a panic with a message is how a test fails"
)]
#![allow(clippy::disallowed_methods, reason = "real servers and real latencies run on real time")]

pub mod history;
pub mod model;
pub mod protocol;
mod proxy;
mod resp;
mod server;
pub mod simulation;
pub mod trace;

pub use proxy::Proxy;
pub use resp::{Client, Reply};
pub use server::{Builder, ClusterClient, RedisCluster, RedisServer, Sentinel, SentinelGroup};
