//! What the tests share.

use std::{future::Future, time::Duration};

use tokio::time::timeout;
use twotier::{Cache, CacheBuilder, MemoryBackend, RedisBackend, codec::Text};
use twotier_testkit::RedisServer;

/// The commands that read a value.
pub(crate) const READS: [&str; 4] = ["get", "mget", "pttl", "getrange"];
/// The commands that write or delete one.
pub(crate) const WRITES: [&str; 6] = ["set", "psetex", "del", "unlink", "eval", "evalsha"];

/// Starts building a cache of text in the namespace `t`, so that values in the backend are readable.
pub(crate) fn text() -> CacheBuilder<String, Text> {
    Cache::<String>::builder().namespace("t").codec(Text)
}

pub(crate) fn redis(server: &RedisServer) -> RedisBackend {
    RedisBackend::new(server.url()).unwrap()
}

pub(crate) async fn over_redis(server: &RedisServer) -> Cache<String> {
    text().build(redis(server)).await.unwrap()
}

pub(crate) async fn over_memory(store: &MemoryBackend) -> Cache<String> {
    text().build(store.clone()).await.unwrap()
}

/// Reads a key as an owned string.
pub(crate) async fn read(cache: &Cache<String>, key: &str) -> Option<String> {
    cache.get(key).await.unwrap().map(|value| (*value).clone())
}

/// Fails instead of hanging.
pub(crate) async fn ends<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("the call ends")
}

/// Polls until the condition holds; for what a server does in its own time.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    for _ in 0..2000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not happen within 10 s");
}

/// Runs a command by another client, and waits until the cache has received the change it makes.
///
/// A read that begins before the report arrives answers rightly, but keeps nothing.
pub(crate) async fn foreign(server: &RedisServer, cache: &Cache<String>, command: &[&str]) {
    let before = cache.stats().coherence.invalidations;
    server.command(command);
    eventually("the change is reported", async || cache.stats().coherence.invalidations > before).await;
}
