//! Sealed values: what is not ours is a miss, and counted; never a wrong value, never an error.

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use twotier::{
    Cache, CacheBuilder, ErrorKind, MemoryBackend,
    codec::{Json, Raw, Sealed, Text},
};

use crate::support::{ends, over_memory, read, text};

fn sealed() -> CacheBuilder<String, Sealed<Text>> {
    text().codec(Sealed::new(Text))
}

/// Reads and writes the bytes in the backend as they are.
async fn raw(store: &MemoryBackend) -> Cache<Bytes> {
    Cache::<Bytes>::builder().namespace("t").codec(Raw).build(store.clone()).await.unwrap()
}

#[tokio::test]
async fn a_value_copied_under_another_key_or_damaged_is_a_miss_and_counted() {
    let store = MemoryBackend::new();
    let (cache, raw) = (sealed().build(store.clone()).await.unwrap(), raw(&store).await);
    cache.set("k", "v".to_owned()).await.unwrap();
    let envelope = raw.get("k").await.unwrap().unwrap();
    assert_eq!(envelope.len(), 21 + 1);
    let mut damaged = envelope.to_vec();
    damaged[21] ^= 1;
    raw.set("copied", (*envelope).clone()).await.unwrap();
    raw.set("damaged", Bytes::from(damaged)).await.unwrap();
    raw.set("cut", envelope.slice(..20)).await.unwrap();
    raw.set("plain", Bytes::from_static(b"v")).await.unwrap();
    raw.set("empty", Bytes::new()).await.unwrap();
    let foreign = ["copied", "damaged", "cut", "plain", "empty"];
    for (count, key) in (1..).zip(foreign) {
        assert_eq!(read(&cache, key).await, None, "{key}");
        assert_eq!(cache.stats().backend.foreign, count);
    }
    cache.clear_local();
    assert_eq!(cache.get_many(&foreign).await.unwrap(), vec![None; 5]);
    assert_eq!(cache.warm(&foreign).await.unwrap(), 0);
    assert_eq!((cache.stats().backend.foreign, cache.stats().backend.undecodable), (10, 0));
    assert_eq!(read(&cache, "k").await.as_deref(), Some("v"));
    assert_eq!(raw.get("plain").await.unwrap().as_deref(), Some(&Bytes::from_static(b"v")), "nothing is lost");
    assert!(cache.delete("plain").await.unwrap(), "it was there");
}

#[tokio::test]
async fn a_value_of_another_codec_namespace_or_schema_is_a_miss() {
    let store = MemoryBackend::new();
    sealed().build(store.clone()).await.unwrap().set("k", "7".to_owned()).await.unwrap();
    let numbers = || Cache::<u32>::builder().namespace("t");
    let other_codec = numbers().codec(Sealed::new(Json)).build(store.clone()).await.unwrap();
    assert_eq!(other_codec.get("k").await.unwrap(), None, "7 is valid JSON, but was written as text");
    let second = sealed().codec(Sealed::new(Text).schema(2)).build(store.clone()).await.unwrap();
    assert_eq!(read(&second, "k").await, None);
    let elsewhere = sealed().namespace("u").build(store.clone()).await.unwrap();
    let copied = raw(&store).await.get("k").await.unwrap().unwrap();
    let raw = Cache::<Bytes>::builder().namespace("u").codec(Raw).build(store.clone()).await.unwrap();
    raw.set("k", copied).await.unwrap();
    assert_eq!(read(&elsewhere, "k").await, None);
    for foreign in [second.stats(), elsewhere.stats()] {
        assert_eq!(foreign.backend.foreign, 1);
    }
    assert_eq!(read(&sealed().build(store).await.unwrap(), "k").await.as_deref(), Some("7"));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct New {
    name: String,
    email: String,
}

#[tokio::test]
async fn a_whole_envelope_whose_type_has_changed_is_a_miss_and_loading_replaces_it() {
    let store = MemoryBackend::new();
    let old: Cache<Old> = Cache::builder().codec(Sealed::new(Json)).build(store.clone()).await.unwrap();
    old.set("k", Old { name: "Ada".to_owned() }).await.unwrap();
    let cache: Cache<New> = Cache::builder().codec(Sealed::new(Json)).build(store.clone()).await.unwrap();
    let new = || New { name: "Ada".to_owned(), email: "ada@example.org".to_owned() };
    assert_eq!(cache.get("k").await.unwrap(), None);
    assert_eq!(*cache.get_or_load("k", async |_| Ok::<_, io::Error>(new())).await.unwrap(), new());
    cache.clear_local();
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&new()));
    assert_eq!(cache.stats().backend.foreign, 1);
}

#[tokio::test]
async fn a_foreign_value_is_remembered_as_absent_until_anybody_changes_the_key() {
    let store = MemoryBackend::new();
    let (cache, raw) = (sealed().build(store.clone()).await.unwrap(), raw(&store).await);
    raw.set("k", Bytes::from_static(b"foreign")).await.unwrap();
    for _ in 0..10 {
        assert_eq!(read(&cache, "k").await, None);
    }
    assert_eq!(cache.stats().backend.reads, 1, "a hot foreign key does not go to the backend each time");
    raw.set("k", Bytes::from_static(b"also foreign")).await.unwrap();
    assert_eq!(read(&cache, "k").await, None);
    assert_eq!(cache.stats().backend.foreign, 2);
    sealed().build(store).await.unwrap().set("k", "ours".to_owned()).await.unwrap();
    assert_eq!(read(&cache, "k").await.as_deref(), Some("ours"), "another instance's write is seen at once");
}

#[tokio::test]
async fn loading_batches_and_updates_replace_a_foreign_value() {
    let store = MemoryBackend::new();
    let (cache, raw) = (sealed().build(store.clone()).await.unwrap(), raw(&store).await);
    for key in ["load", "batch", "update", "kept"] {
        raw.set(key, Bytes::from_static(b"foreign")).await.unwrap();
    }
    cache.get_or_load("load", async |_| Ok::<_, io::Error>("v".to_owned())).await.unwrap();
    let loader = async |keys: Vec<&'static str>| Ok::<_, io::Error>(keys.into_iter().map(|key| (key, "v".to_owned())));
    cache.get_many_or_load(&["batch"], loader).await.unwrap();
    let seen = std::cell::Cell::new(None);
    let change = |held: Option<&String>| {
        seen.set(Some(held.is_some()));
        Some("v".to_owned())
    };
    ends(cache.update("update", change)).await.unwrap();
    assert_eq!(seen.get(), Some(false), "to an update it is absent");
    assert_eq!(ends(cache.update("kept", |_| None::<String>)).await.unwrap(), None);
    assert_eq!(raw.get("kept").await.unwrap().as_deref(), Some(&Bytes::from_static(b"foreign")));
    cache.clear_local();
    for key in ["load", "batch", "update"] {
        assert_eq!(read(&cache, key).await.as_deref(), Some("v"), "{key}");
    }
}

#[tokio::test]
async fn plain_values_are_the_default_and_a_plain_cache_refuses_an_envelope() {
    let store = MemoryBackend::new();
    over_memory(&store).await.set("k", "v".to_owned()).await.unwrap();
    assert_eq!(raw(&store).await.get("k").await.unwrap().as_deref(), Some(&Bytes::from_static(b"v")));
    sealed().build(store.clone()).await.unwrap().set("k", "v".to_owned()).await.unwrap();
    assert_eq!(over_memory(&store).await.get("k").await.unwrap_err().kind(), ErrorKind::Codec, "no text begins so");
}

#[tokio::test]
async fn a_limit_bounds_a_sealed_value_and_a_larger_one_changes_nothing() {
    let store = MemoryBackend::new();
    let small = sealed().max_value_bytes(100).build(store.clone()).await.unwrap();
    small.set("k", "x".repeat(79)).await.unwrap();
    assert_eq!(small.set("k", "y".repeat(80)).await.unwrap_err().kind(), ErrorKind::ValueTooLarge);
    assert_eq!(read(&small, "k").await, Some("x".repeat(79)));
    sealed().build(store).await.unwrap().set("k", "z".repeat(80)).await.unwrap();
    assert_eq!(small.get("k").await.unwrap_err().kind(), ErrorKind::ValueTooLarge, "as without an envelope");
}

#[cfg(feature = "compression")]
mod compressed {
    use super::*;

    fn compressing() -> CacheBuilder<String, Sealed<Text>> {
        text().codec(Sealed::new(Text).compress_from(100))
    }

    #[tokio::test]
    async fn a_value_from_the_threshold_on_is_small_in_the_backend_and_read_by_every_sealed_cache() {
        let store = MemoryBackend::new();
        let (cache, raw) = (compressing().build(store.clone()).await.unwrap(), raw(&store).await);
        cache.set("large", "x".repeat(10_000)).await.unwrap();
        cache.set("small", "x".repeat(99)).await.unwrap();
        assert!(raw.get("large").await.unwrap().unwrap().len() < 200);
        assert_eq!(raw.get("small").await.unwrap().unwrap().len(), 21 + 99);
        for reader in [compressing(), sealed()] {
            let reader = reader.build(store.clone()).await.unwrap();
            assert_eq!(read(&reader, "large").await, Some("x".repeat(10_000)));
            assert_eq!(read(&reader, "small").await, Some("x".repeat(99)));
        }
    }

    #[tokio::test]
    async fn a_compressed_value_weighs_in_memory_what_it_was_before() {
        let store = MemoryBackend::new();
        let cache = compressing().build(store).await.unwrap();
        cache.set("k", "x".repeat(10_000)).await.unwrap();
        let written = cache.stats().local.bytes;
        assert!(written >= 10_000, "{written}");
        cache.clear_local();
        read(&cache, "k").await.unwrap();
        assert_eq!(cache.stats().local.bytes, written);
    }

    #[tokio::test]
    async fn the_limit_holds_for_a_value_before_compression_too() {
        let store = MemoryBackend::new();
        let small = compressing().max_value_bytes(1000).build(store.clone()).await.unwrap();
        small.set("k", "x".repeat(1000)).await.unwrap();
        assert_eq!(small.set("k", "x".repeat(1001)).await.unwrap_err().kind(), ErrorKind::ValueTooLarge);
        assert_eq!(read(&small, "k").await, Some("x".repeat(1000)), "nothing was changed");
        compressing().build(store).await.unwrap().set("k", "x".repeat(1001)).await.unwrap();
        assert_eq!(read(&small, "k").await, None, "it has no room here, and none was made for it");
        assert_eq!(small.stats().backend.foreign, 1);
    }
}

mod live {
    use twotier_testkit::RedisServer;

    use super::sealed;
    use crate::support::{foreign, read, redis};

    #[tokio::test]
    async fn a_value_renamed_or_overwritten_by_another_client_is_never_served() {
        let server = RedisServer::start();
        let cache = sealed().build(redis(&server)).await.unwrap();
        cache.set("a", "value of a".to_owned()).await.unwrap();
        cache.set("b", "value of b".to_owned()).await.unwrap();
        foreign(&server, &cache, &["RENAME", "t:a", "t:b"]).await;
        assert_eq!(read(&cache, "b").await, None);
        assert_eq!(read(&cache, "a").await, None);
        foreign(&server, &cache, &["SET", "t:b", "\"plain\""]).await;
        assert_eq!(read(&cache, "b").await, None);
        assert_eq!(cache.stats().backend.foreign, 2);
        cache.set("b", "ours".to_owned()).await.unwrap();
        foreign(&server, &cache, &["RENAME", "t:b", "t:c"]).await;
        foreign(&server, &cache, &["RENAME", "t:c", "t:b"]).await;
        assert_eq!(read(&cache, "b").await.as_deref(), Some("ours"), "and back again it is ours");
    }
}
