//! Numbers.

use std::time::Duration;

use twotier_core::{BackendErrorKind, RemainingTtl};

use super::{
    Fixture,
    scope::{Scope, put, ready, ttl, value},
};
use crate::Counted;

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

/// An absent number counts as 0; it lives for as long as is said, and is plain decimal text.
pub async fn incrementing_an_absent_number_makes_it_with_its_ttl(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let keys = scope.keys(2);
    let counted = backend.increment(&keys[0], -7, None).await.expect("a number can be made");
    assert_eq!(counted, Counted::new(-7, RemainingTtl::Persistent));
    assert_eq!(value(&backend, &keys[0]).await.as_deref(), Some(&b"-7"[..]));
    let counted = backend.increment(&keys[1], i64::MAX, Some(MINUTE)).await.expect("a number can be made");
    assert_eq!(counted.value, i64::MAX);
    for left in [counted.ttl, ttl(&backend, &keys[1]).await.expect("it is there")] {
        assert!(matches!(left, RemainingTtl::Expires(left) if !left.is_zero() && left <= MINUTE), "{left:?}");
    }
}

/// A number that is there keeps its life, and says how long it is: none, or what is left.
pub async fn incrementing_keeps_the_ttl(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let keys = scope.keys(2);
    put(&backend, &keys[0], "1", None).await;
    put(&backend, &keys[1], "1", Some(MINUTE)).await;
    let passed = Duration::from_millis(20);
    fixture.pass_time(passed).await;
    for given in [None, Some(10 * MINUTE)] {
        let counted = backend.increment(&keys[0], 2, given).await.expect("a number can be incremented");
        assert_eq!(counted.ttl, RemainingTtl::Persistent);
        let counted = backend.increment(&keys[1], 2, given).await.expect("a number can be incremented");
        for left in [counted.ttl, ttl(&backend, &keys[1]).await.expect("it is there")] {
            let RemainingTtl::Expires(left) = left else { panic!("{left:?}") };
            assert!(!left.is_zero() && left <= MINUTE - passed + MILLISECOND, "{left:?}");
        }
    }
    assert_eq!(value(&backend, &keys[0]).await.as_deref(), Some(&b"5"[..]));
}

/// What is no decimal integer of 64 bits is refused, and so is a sum that would be none; nothing changes.
pub async fn what_is_no_integer_is_not_incremented(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    for (number, held) in
        ["", "x", "1.5", " 1", "+1", "01", "9223372036854775807", "9223372036854775808"].iter().enumerate()
    {
        let key = scope.key(format!("{number}"));
        for given in [None, Some(MINUTE)] {
            put(&backend, &key, held, None).await;
            let refused = backend.increment(&key, 1, given).await.expect_err("it is no integer");
            assert_eq!(refused.kind(), BackendErrorKind::Rejected, "{held:?}: {refused}");
            assert_eq!(value(&backend, &key).await.as_deref(), Some(held.as_bytes()), "{held:?}");
        }
    }
}

/// Increments are atomic, whoever makes them.
pub async fn concurrent_increments_lose_nothing(fixture: &dyn Fixture) {
    let (scope, first, second) = (Scope::new(), ready(fixture).await, ready(fixture).await);
    let key = scope.key("n");
    let count = async |backend: &dyn crate::Backend| {
        for _ in 0..50 {
            backend.increment(&key, 1, Some(MINUTE)).await.expect("a number can be incremented");
        }
    };
    tokio::join!(count(&*first), count(&*second), count(&*first));
    assert_eq!(value(&first, &key).await.as_deref(), Some(&b"150"[..]));
}
