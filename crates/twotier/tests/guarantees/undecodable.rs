//! Bytes that do not decode are an error, or an absent key, as it is configured; and they are replaced only knowingly.

use std::{cell::Cell, io};

use bytes::Bytes;
use twotier::{
    Cache, CacheBuilder, CacheConfig, Coherence, ErrorKind, MemoryBackend, OnUndecodable, Tier,
    codec::{Json, Raw, Sealed},
};

use crate::support::ends;

/// What JSON takes for no number.
const OTHER: Bytes = Bytes::from_static(b"\"of an older program\"");
const ANOTHER: Bytes = Bytes::from_static(b"\"of a newer program\"");

fn numbers(reaction: OnUndecodable) -> CacheBuilder<u32> {
    Cache::builder().namespace("t").on_undecodable(reaction)
}

async fn miss(store: &MemoryBackend) -> Cache<u32> {
    numbers(OnUndecodable::Miss).build(store.clone()).await.unwrap()
}

/// Reads and writes the bytes in the backend as they are.
async fn raw(store: &MemoryBackend) -> Cache<Bytes> {
    Cache::<Bytes>::builder().namespace("t").codec(Raw).without_local().build(store.clone()).await.unwrap()
}

async fn held(store: &MemoryBackend, key: &str) -> Option<Bytes> {
    raw(store).await.get(key).await.unwrap().as_deref().cloned()
}

#[tokio::test]
async fn by_default_they_are_an_error_of_every_operation_and_stay() {
    let store = MemoryBackend::new();
    let cache: Cache<u32> = Cache::builder().namespace("t").build(store.clone()).await.unwrap();
    raw(&store).await.set("k", OTHER).await.unwrap();
    let before = store.operations();
    let never = async || -> io::Result<u32> { panic!("nothing is loaded for a key that is there") };
    let errors = [
        cache.get("k").await.unwrap_err(),
        cache.lookup("k").await.unwrap_err(),
        cache.get_many(&["k"]).await.unwrap_err(),
        cache.get_or_load("k", |_| never()).await.unwrap_err(),
        cache.get_many_or_load(&["k"], async |_| -> io::Result<Vec<(String, u32)>> { panic!() }).await.unwrap_err(),
        ends(cache.update("k", |_| -> Option<u32> { panic!("an update sees no value that is not there") }))
            .await
            .unwrap_err(),
    ];
    for (count, error) in (1..).zip(&errors) {
        assert_eq!(error.kind(), ErrorKind::Codec, "{count}: {error}");
    }
    assert_eq!(cache.stats().backend.undecodable, errors.len() as u64);
    assert_eq!(store.operations().reads(), before.reads() + errors.len() as u64);
    assert_eq!(store.operations().total() - store.operations().reads(), before.total() - before.reads());
    assert_eq!(held(&store, "k").await, Some(OTHER));
}

#[tokio::test]
async fn as_a_miss_they_read_as_absent_are_counted_and_remembered_until_a_change() {
    let store = MemoryBackend::new();
    let (cache, raw) = (miss(&store).await, raw(&store).await);
    for key in ["get", "lookup", "many", "warm"] {
        raw.set(key, OTHER).await.unwrap();
    }
    for _ in 0..10 {
        assert_eq!(cache.get("get").await.unwrap(), None);
    }
    let undecodable = || (cache.stats().backend.undecodable, cache.stats().backend.reads, cache.stats().backend.errors);
    assert_eq!(undecodable(), (1, 1, 0), "a hot key is not read each time");
    let found = cache.lookup("lookup").await.unwrap();
    assert_eq!((found.value, found.tier), (None, Tier::Remote));
    assert_eq!(cache.get_many(&["many", "get", "absent"]).await.unwrap(), vec![None; 3]);
    assert_eq!(cache.warm(&["warm"]).await.unwrap(), 0);
    assert_eq!(undecodable(), (4, 4, 0));
    raw.set("get", ANOTHER).await.unwrap();
    assert_eq!(cache.get("get").await.unwrap(), None);
    assert_eq!(undecodable(), (5, 5, 0), "what changed is read again");
    raw.set("get", Bytes::from_static(b"7")).await.unwrap();
    assert_eq!(cache.get("get").await.unwrap().as_deref(), Some(&7));
    assert_eq!((cache.stats().backend.foreign, held(&store, "many").await), (0, Some(OTHER)));
}

#[tokio::test]
async fn as_a_miss_loads_and_batches_replace_them_once() {
    let store = MemoryBackend::new();
    let (cache, raw) = (miss(&store).await, raw(&store).await);
    for key in ["load", "batch"] {
        raw.set(key, OTHER).await.unwrap();
    }
    assert_eq!(cache.get("batch").await.unwrap(), None, "and is remembered as absent");
    let before = store.operations();
    assert_eq!(*cache.get_or_load("load", async |_| Ok::<_, io::Error>(1)).await.unwrap(), 1);
    let loader = async |keys: Vec<&'static str>| Ok::<_, io::Error>(keys.into_iter().map(|key| (key, 2)));
    assert_eq!(cache.get_many_or_load(&["batch"], loader).await.unwrap()[0].as_deref(), Some(&2));
    assert_eq!(store.operations().set_many - before.set_many, 4, "refused where they lie, then over these very bytes");
    let other = miss(&store).await;
    for (key, value) in [("load", 1), ("batch", 2)] {
        assert_eq!(held(&store, key).await, Some(Bytes::from(value.to_string())), "{key}");
        assert_eq!(cache.get_if_local(key).as_deref(), Some(&value), "kept by the one that loaded it");
        let never = async || -> io::Result<u32> { panic!("it is there") };
        assert_eq!(*other.get_or_load(key, |_| never()).await.unwrap(), value);
    }
    assert_eq!((cache.stats().backend.loads, cache.stats().backend.unstored), (2, 0));
}

#[tokio::test]
async fn what_came_in_their_place_while_the_loader_ran_stays_in_every_mode() {
    for coherence in [Coherence::Broadcast, Coherence::None] {
        for newer in [ANOTHER, Bytes::from_static(b"7")] {
            let store = MemoryBackend::new();
            let cache = numbers(OnUndecodable::Miss).coherence(coherence).build(store.clone()).await.unwrap();
            let raw = raw(&store).await;
            raw.set("k", OTHER).await.unwrap();
            let loader = async || {
                raw.set("k", newer.clone()).await.unwrap();
                Ok::<_, io::Error>(1)
            };
            assert_eq!(*cache.get_or_load("k", |_| loader()).await.unwrap(), 1);
            assert_eq!(held(&store, "k").await, Some(newer), "{coherence}");
            assert_eq!(cache.get_if_local("k"), None);
        }
    }
}

#[tokio::test]
async fn as_a_miss_an_update_sees_an_absent_key_and_replaces_these_very_bytes() {
    let store = MemoryBackend::new();
    let (cache, raw) = (miss(&store).await, raw(&store).await);
    for key in ["k", "left"] {
        raw.set(key, OTHER).await.unwrap();
    }
    let seen = Cell::new(None);
    let see = |held: Option<&u32>| {
        seen.set(Some(held.copied()));
        Some(1)
    };
    assert_eq!(ends(cache.update("k", see)).await.unwrap().as_deref(), Some(&1));
    assert_eq!((seen.get(), store.operations().compare_and_set), (Some(None), 1));
    assert_eq!(ends(cache.update("left", |_| None::<u32>)).await.unwrap(), None);
    assert_eq!((held(&store, "left").await, store.operations().compare_and_set), (Some(OTHER), 1), "nothing to do");
    assert_eq!((held(&store, "k").await, cache.stats().backend.undecodable), (Some(Bytes::from_static(b"1")), 2));
}

#[tokio::test]
async fn too_large_a_value_is_an_error_all_the_same_and_a_sealed_one_stays_foreign() {
    let store = MemoryBackend::new();
    raw(&store).await.set("k", OTHER).await.unwrap();
    let small = numbers(OnUndecodable::Miss).max_value_bytes(OTHER.len() - 1).build(store.clone()).await.unwrap();
    assert_eq!(small.get("k").await.unwrap_err().kind(), ErrorKind::ValueTooLarge);
    let sealed = numbers(OnUndecodable::Error).codec(Sealed::new(Json)).build(store).await.unwrap();
    assert_eq!(sealed.get("k").await.unwrap(), None);
    assert_eq!((sealed.stats().backend.foreign, sealed.stats().backend.undecodable), (1, 0));
}

#[tokio::test]
async fn it_is_one_word_of_the_configuration() {
    let store = MemoryBackend::new();
    raw(&store).await.set("k", OTHER).await.unwrap();
    for (word, found) in [("miss", Ok(None)), ("error", Err(ErrorKind::Codec))] {
        let text = format!(r#"{{ "namespace": "t", "on_undecodable": "{word}" }}"#);
        let config = CacheConfig::from_json(&text).unwrap();
        let cache: Cache<u32> = Cache::builder().defaults(&config).build(store.clone()).await.unwrap();
        assert_eq!(cache.get("k").await.map_err(|error| error.kind()), found, "{word}");
    }
}

mod live {
    use twotier_testkit::RedisServer;

    use super::*;
    use crate::support::{WRITES, redis};

    #[tokio::test]
    async fn over_redis_a_load_replaces_them_and_every_instance_reads_the_new_value() {
        let server = RedisServer::start();
        let build = async || numbers(OnUndecodable::Miss).build(redis(&server)).await.unwrap();
        let (cache, other) = (build().await, build().await);
        server.command(&["SET", "t:k", "null"]);
        server.command(&["SET", "t:left", "null"]);
        assert_eq!(other.get("k").await.unwrap(), None);
        server.reset_stats();
        assert_eq!(*cache.get_or_load("k", async |_| Ok::<_, io::Error>(1)).await.unwrap(), 1);
        assert_eq!(server.calls(&WRITES), 2 + 1, "two scripts, of which the second writes");
        assert_eq!(server.command(&["GET", "t:k"]).as_str(), "1");
        crate::support::eventually("the change is reported", async || {
            other.get("k").await.unwrap().as_deref() == Some(&1)
        })
        .await;
        ends(cache.update("left", |held| held.is_none().then_some(2))).await.unwrap();
        assert_eq!(server.command(&["GET", "t:left"]).as_str(), "2");
    }
}
