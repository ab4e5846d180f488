//! The conformance suite on every backend.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "a panic with a message is how a test fails")]

#[path = "conformance/cluster.rs"]
mod cluster;
#[cfg(feature = "redis")]
#[path = "conformance/cluster_of_servers.rs"]
mod cluster_of_servers;
#[path = "conformance/memory.rs"]
mod memory;
#[cfg(feature = "redis")]
#[path = "conformance/redis.rs"]
mod redis;
