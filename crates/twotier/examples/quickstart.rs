//! The example of the README, word for word.
//!
//! Run with `cargo run --example quickstart` and a Redis at `redis://127.0.0.1:6379` or `TWOTIER_REDIS_URL`.
// xtask: needs redis

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use twotier::{Cache, RedisBackend};

#[derive(Serialize, Deserialize)]
struct User {
    name: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("TWOTIER_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let users: Cache<User> = Cache::builder()
        .namespace("users") // every key lives under this prefix: users:42
        .max_entries(10_000) // in the local tier; the default is 500
        .time_to_live(Duration::from_secs(300)) // in Redis; a local copy never outlives it
        .build(RedisBackend::new(url)?)
        .await?;

    users.set(42, User { name: "Ada".into() }).await?; // Redis first, then the local tier
    let user: Option<Arc<User>> = users.get(42).await?; // a local hit: no round trip
    println!("{}", user.expect("just written").name);

    let other: Arc<User> = users.get_or_load(43, from_database).await?; // loaded once, whoever asks
    println!("{}\n{}", other.name, users.stats());
    Ok(())
}

async fn from_database(id: u64) -> std::io::Result<User> {
    Ok(User { name: format!("user {id}") })
}
