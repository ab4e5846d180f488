//! Keys of one check's own, and short ways to write what a check does.

use std::time::Duration;

use bytes::Bytes;
use twotier_core::{Namespace, RemainingTtl};

use crate::{Backend, Stored, Write};

use super::Fixture;

/// A namespace that no other check uses, in this run or another.
pub(super) struct Scope {
    pub(super) namespace: Namespace,
}

impl Scope {
    pub(super) fn new() -> Self {
        let name = format!("conformance-{:016x}", fastrand::u64(..));
        Self { namespace: Namespace::new(&name).expect("the name is short and has no colon") }
    }

    /// Returns the full name of a key.
    pub(super) fn key(&self, name: impl AsRef<[u8]>) -> Bytes {
        let mut key = self.namespace.prefix().as_bytes().to_vec();
        key.extend_from_slice(name.as_ref());
        key.into()
    }

    /// Returns the full names of numbered keys.
    pub(super) fn keys(&self, count: usize) -> Vec<Bytes> {
        (0..count).map(|number| self.key(format!("{number}"))).collect()
    }
}

/// Opens a handle to which a command can be sent at once: writes do not wait.
pub(super) async fn ready(fixture: &dyn Fixture) -> Box<dyn Backend> {
    let backend = fixture.backend().await;
    backend.ready().await.expect("the backend can be reached");
    backend
}

pub(super) async fn put(backend: &dyn Backend, key: &[u8], value: impl AsRef<[u8]>, ttl: Option<Duration>) {
    let value = Bytes::copy_from_slice(value.as_ref());
    backend.set(key, value, ttl).await.expect("a value can be written");
}

pub(super) async fn read(backend: &dyn Backend, key: &[u8]) -> Option<Stored> {
    backend.get(key).await.expect("a key can be read")
}

pub(super) async fn value(backend: &dyn Backend, key: &[u8]) -> Option<Bytes> {
    read(backend, key).await.map(|stored| stored.value)
}

pub(super) async fn ttl(backend: &dyn Backend, key: &[u8]) -> Option<RemainingTtl> {
    read(backend, key).await.map(|stored| stored.ttl)
}

pub(super) async fn remove(backend: &dyn Backend, key: &[u8]) -> bool {
    backend.delete(key).await.expect("a key can be deleted")
}

/// Writes many values and returns nothing; every write must succeed.
pub(super) async fn put_many(backend: &dyn Backend, writes: &[Write]) {
    let results = backend.set_many(writes).await;
    assert_eq!(results.len(), writes.len(), "set_many returns one result for each write");
    assert!(results.iter().all(Result::is_ok), "every value of a batch can be written");
}

/// Reads many values, each of which must be readable.
pub(super) async fn values(backend: &dyn Backend, keys: &[Bytes]) -> Vec<Option<Bytes>> {
    let results = backend.get_many(keys).await;
    assert_eq!(results.len(), keys.len(), "get_many returns one result for each key");
    let values = results.into_iter().map(|result| result.expect("every key of a batch can be read"));
    values.map(|found| found.map(|stored| stored.value)).collect()
}

pub(super) async fn remove_many(backend: &dyn Backend, keys: &[Bytes]) -> Vec<bool> {
    let results = backend.delete_many(keys).await;
    assert_eq!(results.len(), keys.len(), "delete_many returns one result for each key");
    results.into_iter().map(|result| result.expect("every key of a batch can be deleted")).collect()
}

pub(super) fn write(key: &Bytes, value: impl Into<Bytes>, ttl: Option<Duration>) -> Write {
    Write::new(key.clone(), value, ttl)
}
