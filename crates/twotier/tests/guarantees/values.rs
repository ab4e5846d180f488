//! Values of any kind survive both tiers, and are distinguished.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use twotier::{Cache, Codec, MemoryBackend, codec};

#[tokio::test]
async fn an_empty_value_a_stored_null_and_an_absent_key_are_three_different_things() {
    let store = MemoryBackend::new();
    let cache: Cache<Option<String>> = Cache::builder().build(store.clone()).await.unwrap();
    cache.set("null", None).await.unwrap();
    cache.set("empty", Some(String::new())).await.unwrap();
    for _ in ["from the backend", "from the local tier"] {
        assert_eq!(cache.get("null").await.unwrap().as_deref(), Some(&None));
        assert_eq!(cache.get("empty").await.unwrap().as_deref(), Some(&Some(String::new())));
        assert_eq!(cache.get("absent").await.unwrap(), None);
        cache.clear_local();
    }
    let raw: Cache<Bytes> = Cache::builder().namespace("raw").codec(codec::Raw).build(store).await.unwrap();
    raw.set("empty", Bytes::new()).await.unwrap();
    raw.clear_local();
    assert_eq!(raw.get("empty").await.unwrap().as_deref(), Some(&Bytes::new()));
    assert_eq!(raw.get("absent").await.unwrap(), None);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    tags: Vec<String>,
    age: Option<u8>,
}

async fn survives(codec: impl Codec<User>) {
    let cache: Cache<User> = Cache::builder().codec(codec).build(MemoryBackend::new()).await.unwrap();
    let user = || User { name: "Ada \"L\" \u{1F980}".to_owned(), tags: vec![String::new()], age: None };
    cache.set("k", user()).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&user()));
    cache.clear_local();
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&user()));
}

#[tokio::test]
async fn a_struct_survives_every_codec() {
    survives(codec::Json).await;
    survives(codec::MessagePack).await;
    survives(codec::Postcard).await;
}

#[tokio::test]
async fn keys_of_any_characters_are_kept_apart() {
    let cache: Cache<u32> = Cache::builder().build(MemoryBackend::new()).await.unwrap();
    let keys = [" ", "\n", "\0", "a:b", "a*", "[a]", "\u{1F980}", "a b", "a\r\nDEL x"];
    for (value, key) in (0..).zip(keys) {
        cache.set(key, value).await.unwrap();
    }
    cache.clear_local();
    for (value, key) in (0..).zip(keys) {
        assert_eq!(cache.get(key).await.unwrap().as_deref(), Some(&value), "{key:?}");
    }
}
