//! A backend of your own: a map behind a lock, without change reports. Run with `cargo run --example custom_backend`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use twotier::{Backend, BackendResult, Cache, Stored, async_trait};

type Map = BTreeMap<Vec<u8>, (Bytes, Option<Instant>)>;

#[derive(Debug, Default)]
struct MapBackend(Mutex<Map>);

impl MapBackend {
    /// Runs an operation on what has not expired.
    fn live<T>(&self, operation: impl FnOnce(&mut Map) -> T) -> T {
        let mut map = self.0.lock().expect("nothing panics under this lock");
        map.retain(|_, (_, deadline)| deadline.is_none_or(|deadline| Instant::now() < deadline));
        operation(&mut map)
    }
}

#[async_trait]
impl Backend for MapBackend {
    async fn get(&self, key: &[u8]) -> BackendResult<Option<Stored>> {
        Ok(self.live(|map| map.get(key).cloned()).map(|(value, deadline)| {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            Stored::new(value, left)
        }))
    }

    async fn set(&self, key: &[u8], value: Bytes, ttl: Option<Duration>) -> BackendResult<()> {
        self.live(|map| map.insert(key.to_vec(), (value, ttl.map(|ttl| Instant::now() + ttl))));
        Ok(())
    }

    async fn delete(&self, key: &[u8]) -> BackendResult<bool> {
        Ok(self.live(|map| map.remove(key).is_some()))
    }

    async fn clear(&self, prefix: &[u8]) -> BackendResult<u64> {
        let of_prefix = |map: &mut Map| map.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
        let keys: Vec<_> = self.live(of_prefix);
        Ok(self.live(|map| keys.iter().filter_map(|key| map.remove(key)).count()) as u64)
    }
}

#[tokio::main]
async fn main() -> Result<(), twotier::Error> {
    let cache: Cache<String> = Cache::builder().namespace("demo").build(MapBackend::default()).await?;
    cache.set("k", "v".to_owned()).await?;
    assert_eq!(cache.get("k").await?.as_deref().map(String::as_str), Some("v"));
    println!("{}", cache.stats());
    Ok(())
}
