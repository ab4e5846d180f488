//! One key at a time.

use bytes::Bytes;
use twotier_core::RemainingTtl;

use super::{
    Fixture,
    scope::{Scope, put, put_many, read, ready, remove, remove_many, value, values, write},
};

/// A key that was never written is `None`, not an error and not an empty value.
pub async fn an_absent_key_is_none(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    assert_eq!(read(&backend, &scope.key("absent")).await, None);
}

/// What was written is read back, by the same handle and by another.
pub async fn a_written_value_is_read_back(fixture: &dyn Fixture) {
    let (scope, backend, other) = (Scope::new(), ready(fixture).await, ready(fixture).await);
    let key = scope.key("k");
    put(&backend, &key, "v", None).await;
    assert_eq!(value(&backend, &key).await.as_deref(), Some(&b"v"[..]));
    assert_eq!(value(&other, &key).await.as_deref(), Some(&b"v"[..]));
}

/// An empty value is there: it is read, in a batch too, and can be deleted.
pub async fn an_empty_value_is_a_value(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let key = scope.key("empty");
    put(&backend, &key, "", None).await;
    assert_eq!(value(&backend, &key).await, Some(Bytes::new()));
    assert_eq!(values(&backend, std::slice::from_ref(&key)).await, [Some(Bytes::new())]);
    assert!(remove(&backend, &key).await, "an empty value can be deleted");
}

/// Neither keys nor values are text: every byte may be in them.
pub async fn keys_and_values_may_hold_any_bytes(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let every_byte: Vec<u8> = (0..=255).collect();
    let names: [&[u8]; 8] =
        [b"\0", b"\r\n", b"$3\r\nfoo\r\n", b"\xff\xfe", b" ", "é{tag}*?[a]".as_bytes(), &every_byte, &[0x80; 1024]];
    let keys: Vec<Bytes> = names.iter().map(|name| scope.key(name)).collect();
    // The value is the name reversed, so that no two are mixed up unseen.
    let reversed = |name: &[u8]| Bytes::from_iter(name.iter().rev().copied());

    for (key, name) in keys.iter().zip(names) {
        put(&backend, key, reversed(name), None).await;
    }
    let expected: Vec<Option<Bytes>> = names.iter().map(|name| Some(reversed(name))).collect();
    for (key, expected) in keys.iter().zip(&expected) {
        assert_eq!(value(&backend, key).await, *expected, "{key:?}");
    }
    assert_eq!(values(&backend, &keys).await, expected);
    assert_eq!(remove_many(&backend, &keys).await, [true; 8]);

    let writes: Vec<_> = keys.iter().zip(names).map(|(key, name)| write(key, reversed(name), None)).collect();
    put_many(&backend, &writes).await;
    assert_eq!(values(&backend, &keys).await, expected);
    for key in &keys {
        assert!(remove(&backend, key).await, "{key:?}");
    }
}

/// A second write replaces the first, whatever their lengths.
pub async fn overwriting_replaces_the_value(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let key = scope.key("k");
    for written in ["a long first value", "short", "", "again a longer one"] {
        put(&backend, &key, written, None).await;
        assert_eq!(value(&backend, &key).await.as_deref(), Some(written.as_bytes()));
    }
}

/// `delete` is true exactly when it removed something.
pub async fn deleting_says_whether_the_key_was_there(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let key = scope.key("k");
    assert!(!remove(&backend, &key).await, "nothing was there");
    put(&backend, &key, "v", None).await;
    assert!(remove(&backend, &key).await, "a value was there");
    assert_eq!(value(&backend, &key).await, None);
    assert!(!remove(&backend, &key).await, "it was deleted before");
}

/// A value of 1 MiB comes back byte by byte, alone and in a batch with small ones.
pub async fn a_large_value_is_kept_whole(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let large: Bytes = (0..1 << 20).map(|index: u32| index.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let keys = scope.keys(3);
    put(&backend, &keys[0], &large, None).await;
    // Not `assert_eq`: nobody wants to read the difference.
    assert!(value(&backend, &keys[0]).await.is_some_and(|found| found == large), "the value came back changed");

    put_many(&backend, &[write(&keys[1], "small", None), write(&keys[2], large.clone(), None)]).await;
    let found = values(&backend, &keys).await;
    assert_eq!(found[1].as_deref(), Some(&b"small"[..]));
    assert!(found[0].as_ref() == Some(&large) && found[2].as_ref() == Some(&large), "the values came back changed");
}

/// A value is replaced only if what is there is what was expected, with the time to live that was given, and nothing
/// changes otherwise. A backend that has no such operation says so.
pub async fn compare_and_set_writes_only_over_what_was_expected(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let key = scope.key("k");
    let some = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let minute = Some(std::time::Duration::from_secs(60));
    match backend.compare_and_set(&key, None, some("1"), minute).await {
        Err(error) if error.kind() == twotier_core::BackendErrorKind::Unsupported => return,
        first => assert!(first.expect("an absent key can be written"), "it was absent"),
    }
    assert!(matches!(read(&backend, &key).await.map(|stored| stored.ttl), Some(RemainingTtl::Expires(_))));
    let set =
        async |expected, new, ttl| backend.compare_and_set(&key, expected, new, ttl).await.expect("it is answered");
    assert!(!set(None, some("2"), None).await, "it is not absent any more");
    assert!(!set(some("0"), some("2"), None).await, "it is not this");
    assert!(!set(some(""), some("2"), None).await, "nor is it empty");
    assert_eq!(value(&backend, &key).await, some("1"), "nothing was changed");
    assert!(set(some("1"), some(""), None).await);
    let stored = read(&backend, &key).await.expect("an empty value is a value");
    assert_eq!((stored.value, stored.ttl), (Bytes::new(), RemainingTtl::Persistent));
    assert!(!set(None, some("2"), None).await, "empty is not absent");
    assert!(!set(some("1"), None, None).await, "a removal is bound by what is expected too");
    assert!(set(some(""), None, None).await);
    assert_eq!(value(&backend, &key).await, None);
    assert!(set(None, None, None).await, "nothing was there, and nothing was asked for");
}
