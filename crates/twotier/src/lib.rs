#![doc = include_str!("../README.md")]
//!
//! # Map of this crate
//!
//! - [`Cache`] is the cache, [`CacheBuilder`] builds it, [`blocking`] is the same without a runtime of your own.
//! - [`CacheConfig`] and [`RedisConfig`] configure it from TOML, JSON or the environment.
//! - [`Backend`] is the trait behind it, with `RedisBackend` (feature `redis`), [`MemoryBackend`] and
//!   [`FaultyBackend`].
//! - [`codec`] turns values into bytes; JSON is the default.
//! - [`short_term`] is a memory that agents share over one cache, with credentials.
//! - [`CacheStats`] and [`Health`] report what it does; [`Error`] reports what failed. They leave the process by
//!   `prometheus` and `metrics`, modules of the features `prometheus-text` and `metrics`.

mod attach;
mod audit;
pub mod blocking;
mod builder;
mod bulkhead;
mod cache;
mod change;
pub mod codec;
mod counter;
mod entry;
mod events;
mod get;
mod health;
mod invalidate;
mod key;
mod load;
mod loaded;
mod log;
mod lookup;
mod meter;
#[cfg(feature = "metrics")]
pub mod metrics;
mod miss;
#[cfg(feature = "prometheus-text")]
pub mod prometheus;
mod read;
mod refreshed;
#[cfg(any(feature = "metrics", feature = "prometheus-text"))]
mod registered;
mod remote;
mod revalidation;
pub mod short_term;
mod sliding;
mod spans;
mod stale;
mod tiers;
mod touch;
mod turns;
mod update;
mod value;
mod warm;
mod write;

#[cfg(feature = "mock")]
pub use twotier_backend::MockBackend;
pub use twotier_backend::{
    AnswerSink, AnswerTaker, Attachment, Backend, BackendResult, Counted, FaultPoint, Faults, FaultyBackend, GetReply,
    MemoryBackend, MemoryCluster, MemoryClusterBackend, MemoryLink, OperationCounts, Stored, Watch, Write,
    WriteCondition, async_trait,
};
#[cfg(feature = "redis")]
pub use twotier_backend::{CredentialsProvider, RedisBackend, RedisCredentials};
#[cfg(feature = "conformance")]
pub use twotier_backend::{conformance, conformance_tests};
pub use twotier_core::{
    Advice, AuditStats, BackendError, BackendErrorKind, BackendStats, BreakerState, BreakerStats, CacheConfig,
    CacheLayer, CacheStats, ChangeListener, Clock, CodecError, Coherence, CoherenceStats, ConfigError, Error,
    ErrorKind, Eviction, FailureCounts, FailureStats, KeyError, LATENCY_BOUNDS, LatencyStats, Lease, LinkId, LinkState,
    LinkStatus, LinkUp, LocalStats, MAX_KEY_BYTES, MAX_NAMESPACE_BYTES, ManualClock, Mark, MissCauses, Namespace,
    OnUndecodable, Operation, RedisConfig, RedisLayer, RedisUrl, RemainingTtl, RemovalCause, SharedError, SizeAdvice,
    SystemClock, Timestamp,
};

pub use crate::{
    builder::CacheBuilder,
    cache::Cache,
    change::{Change, IntoChange},
    codec::Codec,
    entry::{Entry, LoadOptions, Prior},
    events::{Event, Events},
    get::Get,
    health::{Health, Reason, Status},
    invalidate::Invalidated,
    key::{Key, KeyText},
    loaded::{Loaded, LoaderError, LoaderOutput},
    lookup::{Freshness, Lookup, Tier},
    value::IntoValue,
    write::SetOptions,
};

/// What every operation of a cache returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
