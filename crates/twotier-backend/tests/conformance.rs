//! The conformance suite on every backend.
#![cfg(feature = "conformance")]

#[path = "conformance/cluster.rs"]
mod cluster;
#[path = "conformance/memory.rs"]
mod memory;
#[cfg(feature = "redis")]
#[path = "conformance/redis.rs"]
mod redis;
