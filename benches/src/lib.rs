//! What `cargo xtask bench` measures, one thing a file; the programme is `src/bin/report.rs`.
//!
//! - [`original`]: the measurement that the original system made, without and with the local tier, in three regimes.
//! - [`scenarios`]: what must hold, asserted by counts.
//! - [`replay`]: real access traces through the whole cache.
//! - [`hits`]: what a hit costs, through the local tier alone and through the whole cache, beside others.
//! - [`misses`]: what a miss costs under load, beside other clients.
//! - [`policies`]: how often each eviction policy hits, beside others.
//! - [`advice`]: whether the size advisor is right, and what it costs.
//! - [`memory`]: what an entry weighs, and whether evicting stays cheap; the programme is `src/bin/memory.rs`.
//! - `src/bin/increments.rs`: what `increment` costs beside a plain `INCR`.
//! - `src/bin/holds`: how long a shard of the local tier is locked.
//! - [`contestant`]: who is held against whom.
//! - [`stage`] and [`server`]: what they run on.
//! - [`report`] and [`sheet`]: the tables, and the same figures for machines.

pub mod advice;
pub mod cli;
pub mod commands;
pub mod contestant;
pub mod cpu;
pub mod format;
pub mod hits;
pub mod machine;
pub mod memory;
pub mod misses;
pub mod original;
pub mod output;
pub mod policies;
pub mod progress;
pub mod replay;
pub mod report;
pub mod scenarios;
pub mod server;
pub mod sheet;
pub mod spread;
pub mod stage;
pub mod stopwatch;
pub mod table;

/// What a measurement returns; the error is shown to a person.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
