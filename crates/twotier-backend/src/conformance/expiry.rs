//! Time to live.

use std::time::Duration;

use twotier_core::RemainingTtl;

use super::{
    Fixture,
    scope::{Scope, put, put_many, ready, remove, remove_many, ttl, value, values, write},
};

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
/// A store may count time in whole milliseconds, and so keep a value for up to one more.
const GRAIN: Duration = Duration::from_millis(2);

/// A value written without a time to live says that it has none.
pub async fn without_a_ttl_a_value_is_persistent(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let keys = scope.keys(2);
    put(&backend, &keys[0], "v", None).await;
    put_many(&backend, &[write(&keys[1], "v", None)]).await;
    for key in &keys {
        assert_eq!(ttl(&backend, key).await, Some(RemainingTtl::Persistent));
    }
}

/// The remaining time to live is positive, at most what was set, and shrinks as time passes; a batch says the same.
pub async fn the_remaining_ttl_is_true(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let key = scope.key("k");
    put(&backend, &key, "v", Some(MINUTE)).await;
    let mut passed = Duration::ZERO;
    for _ in 0..3 {
        let batch = backend.get_many(std::slice::from_ref(&key)).await;
        let in_batch = batch[0].as_ref().expect("the key can be read").as_ref().map(|stored| stored.ttl);
        for returned in [ttl(&backend, &key).await, in_batch] {
            let Some(RemainingTtl::Expires(left)) = returned else {
                panic!("after {passed:?} of a minute: {returned:?}")
            };
            assert!(!left.is_zero(), "it lives for a minute");
            assert!(left <= MINUTE - passed + MILLISECOND, "{left:?} left of a minute after {passed:?}");
        }
        fixture.pass_time(Duration::from_millis(20)).await;
        passed += Duration::from_millis(20);
    }
}

/// After its time to live a value is not returned: not alone, not in a batch, to no handle.
pub async fn an_expired_value_is_never_returned(fixture: &dyn Fixture) {
    let (scope, backend, other) = (Scope::new(), ready(fixture).await, ready(fixture).await);
    for millis in [2, 3, 5, 10, 25] {
        let ttl = Duration::from_millis(millis);
        let keys = scope.keys(4);
        put(&backend, &keys[0], "v", Some(ttl)).await;
        put(&backend, &keys[1], "v", Some(MINUTE)).await;
        put_many(&backend, &[write(&keys[2], "v", Some(ttl)), write(&keys[3], "v", None)]).await;
        fixture.pass_time(ttl + GRAIN).await;
        for reader in [&backend, &other] {
            let found: Vec<bool> = values(reader, &keys).await.iter().map(Option::is_some).collect();
            assert_eq!(found, [false, true, false, true], "after {millis} ms");
            assert_eq!(value(reader, &keys[0]).await, None, "after {millis} ms");
            assert_eq!(value(reader, &keys[2]).await, None, "after {millis} ms");
        }
    }
}

/// The shortest time to live is neither refused nor for ever.
pub async fn one_millisecond_is_a_ttl(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let keys = scope.keys(2);
    put(&backend, &keys[0], "v", Some(MILLISECOND)).await;
    put_many(&backend, &[write(&keys[1], "v", Some(MILLISECOND))]).await;
    fixture.pass_time(MILLISECOND + GRAIN).await;
    assert_eq!(values(&backend, &keys).await, [None, None]);
}

/// A write sets the life of the value anew: a shorter one, a longer one, none at all.
pub async fn overwriting_replaces_the_ttl(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let short = Duration::from_millis(10);
    let lives = [Some(short), Some(MINUTE), None];
    for first in lives {
        for second in lives {
            let keys = scope.keys(2);
            put(&backend, &keys[0], "old", first).await;
            put(&backend, &keys[0], "new", second).await;
            put_many(&backend, &[write(&keys[1], "old", first)]).await;
            put_many(&backend, &[write(&keys[1], "new", second)]).await;
            if second != Some(short) {
                for key in &keys {
                    let returned = ttl(&backend, key).await;
                    assert_eq!(
                        returned == Some(RemainingTtl::Persistent),
                        second.is_none(),
                        "{first:?}, {second:?}: {returned:?}"
                    );
                }
            }
            fixture.pass_time(short + GRAIN).await;
            // A store may free what has expired when it is written to, and must not take the new value for the old one.
            put(&backend, &scope.key("later"), "v", None).await;
            for found in values(&backend, &keys).await {
                assert_eq!(found.is_none(), second == Some(short), "first {first:?}, then {second:?}");
                assert!(found.is_none_or(|found| found == "new"));
            }
        }
    }
}

/// What has expired is not there to be deleted.
pub async fn deleting_an_expired_key_finds_nothing(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let keys = scope.keys(3);
    for key in &keys {
        put(&backend, key, "v", Some(MILLISECOND)).await;
    }
    fixture.pass_time(MILLISECOND + GRAIN).await;
    assert!(!remove(&backend, &keys[0]).await);
    assert_eq!(remove_many(&backend, &keys[1..]).await, [false, false]);
}

/// The writes of one batch may differ in their time to live.
pub async fn each_write_of_a_batch_has_its_own_ttl(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let keys = scope.keys(3);
    let lives = [Some(MINUTE), None, Some(MINUTE * 2)];
    let writes: Vec<_> = keys.iter().zip(lives).map(|(key, life)| write(key, "v", life)).collect();
    put_many(&backend, &writes).await;
    for (key, life) in keys.iter().zip(lives) {
        match (ttl(&backend, key).await, life) {
            (Some(RemainingTtl::Persistent), None) => {}
            // Half of it is far more than any test takes.
            (Some(RemainingTtl::Expires(left)), Some(life)) => assert!(left <= life && left > life / 2 + MILLISECOND),
            (left, life) => panic!("written with {life:?}, returned {left:?}"),
        }
    }
}
