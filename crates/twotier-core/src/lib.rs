//! Core types shared by every layer of [twotier](https://docs.rs/twotier), a two-tier cache for Redis and Valkey.
//!
//! This crate holds what the local tier and the backends must agree on and nothing that does any work of its own:
//!
//! - [`CacheConfig`] and [`RedisConfig`], validated into a [`ConfigError`] that names the field;
//! - [`Error`] and [`BackendError`], which name the operation and the cause and never print a value or a credential;
//! - [`Clock`] and [`Timestamp`]: all expiry runs on a monotonic clock that tests can move by hand;
//! - [`Namespace`] and the rules for keys; [`AccessTier`], by which a shared memory says who may write;
//! - [`RemainingTtl`]: what the backend reports about how long a value still lives;
//! - [`ChangeListener`]: how a backend reports to the local tier what changed, and until when;
//! - the statistics types, and [`export`]: under which names they leave the process.
//!
//! Applications depend on the facade crate `twotier`, which re-exports what they need.

mod access;
mod advice;
mod audit;
mod breaker;
mod clock;
mod coherence;
mod config;
mod error;
mod expiry;
pub mod export;
mod failures;
mod latency;
mod namespace;
mod removal;
mod stats;

pub use access::AccessTier;
pub use advice::{Advice, CurvePoint, SizeAdvice, SizeCurve};
pub use audit::AuditStats;
pub use breaker::{BreakerState, BreakerStats};
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use coherence::{ChangeListener, Coherence, IgnoreChanges, Lease, LinkId, LinkState, LinkStatus, LinkUp, Mark};
pub use config::{
    CacheConfig, CacheLayer, ConfigError, Eviction, MAX_TIME_TO_LIVE, OnUndecodable, RedisConfig, RedisLayer, RedisUrl,
    check_time_to_live,
};
pub use error::{BackendError, BackendErrorKind, CodecError, Error, ErrorKind, Operation, SharedError};
pub use expiry::RemainingTtl;
pub use failures::{FailureCounts, FailureStats};
pub use latency::{LATENCY_BOUNDS, LatencyRecorder, LatencySnapshot, LatencyStats};
pub use namespace::{KeyError, MAX_KEY_BYTES, MAX_NAMESPACE_BYTES, Namespace, check_key};
pub use removal::RemovalCause;
pub use stats::{BackendStats, CacheStats, CoherenceStats, LocalStats, MissCauses};
