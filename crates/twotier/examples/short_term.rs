//! The memory that agents share: the scripts of the system that this crate comes from, line for line.
//!
//! Run with `cargo run --example short_term` and a Redis at `redis://127.0.0.1:6379` or `TWOTIER_REDIS_URL`.
// xtask: needs redis

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Instant;

use serde_json::{Value, json};
use twotier::{
    CacheConfig, Error, RedisBackend,
    short_term::{AccessTier, Credentials, ShortTermMemory},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("TWOTIER_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let credentials = Credentials::new("agent-1", AccessTier::Contributor)?;

    // Enable two-tier caching (default).
    let config = CacheConfig::new("short_term")
        .local_enabled(true) // the local tier (default)
        .max_entries(500); // the most cached keys (default)
    let memory = ShortTermMemory::build(config.clone(), RedisBackend::new(&url)?).await?;

    // Use memory operations...
    memory.stash("key1", &json!({"data": "value"}), &credentials).await?;
    let found = memory.retrieve::<Value>("key1", &credentials).await?;
    assert_eq!(found.as_deref(), Some(&json!({"data": "value"})));

    // Get cache statistics.
    let stats = memory.local_cache_stats();
    println!("Hit Rate: {:.1}%", stats.hit_rate);
    println!("Cache Size: {}/{}", stats.size, stats.max_size);
    println!("Hits: {}, Misses: {}", stats.hits, stats.misses);

    // Clear the local cache without affecting Redis.
    let cleared_count = memory.clear_local_cache();
    println!("Cleared {cleared_count} cached entries");
    assert!(memory.retrieve::<Value>("key1", &credentials).await?.is_some());

    // The measurement: 100 writes and twice 100 reads, without the local cache and with it.
    memory.clear(&credentials).await?;
    memory.close().await;
    for (title, enabled) in [("WITHOUT", false), ("WITH", true)] {
        println!("{title} local cache");
        let memory = ShortTermMemory::build(config.clone().local_enabled(enabled), RedisBackend::new(&url)?).await?;
        measure(&memory, &credentials).await?;
        memory.clear(&credentials).await?;
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "an example measures real time")]
async fn measure(memory: &ShortTermMemory, credentials: &Credentials) -> Result<(), Error> {
    let start = Instant::now();
    for item in 0..100 {
        memory.stash(item, &json!({"data": item}), credentials).await?;
    }
    println!("  Write (100 items): {:?}", start.elapsed());
    for pass in 1..=2 {
        let start = Instant::now();
        for item in 0..100 {
            memory.retrieve::<Value>(item, credentials).await?;
        }
        println!("  Read Pass {pass}: {:?}", start.elapsed());
    }
    println!("  {}", serde_json::to_string(&memory.local_cache_stats()).unwrap_or_default());
    Ok(())
}
