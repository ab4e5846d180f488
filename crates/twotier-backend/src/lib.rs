//! The storage backends of [twotier](https://docs.rs/twotier): what holds the truth behind the local tier.
//!
//! - [`Backend`] is the trait, with its contract; a backend of your own is under sixty lines
//!   (`examples/custom_backend.rs` of the facade crate).
//! - `RedisBackend` (feature `redis`) speaks to Redis and Valkey and reports every change by `CLIENT TRACKING`.
//! - [`MemoryBackend`] has the same semantics inside one process: real expiry, invalidation between caches.
//! - [`MemoryCluster`] plays a cluster inside one process: slots that move, promotions, a primary that is cut off.
//! - [`FaultyBackend`] wraps any of them and adds latency and errors.
//! - `MockBackend` (feature `mock`) is made by `mockall`.
//! - `conformance` (feature `conformance`) is the suite that every backend must pass.

#[cfg(feature = "conformance")]
pub mod conformance;
mod contract;
mod faulty;
mod memory;
#[cfg(feature = "mock")]
mod mock;
#[cfg(feature = "redis")]
mod redis;
mod slot;

pub use async_trait::async_trait;
pub use contract::{
    AnswerSink, AnswerTaker, Attachment, Backend, BackendResult, Counted, GetReply, Stored, Watch, Write,
    WriteCondition,
};
pub use faulty::{FaultPoint, Faults, FaultyBackend};
pub use memory::{MemoryBackend, MemoryCluster, MemoryClusterBackend, MemoryLink, OperationCounts};
#[cfg(feature = "mock")]
pub use mock::MockBackend;
#[cfg(feature = "redis")]
pub use redis::{CredentialsProvider, RedisBackend, RedisCredentials};
