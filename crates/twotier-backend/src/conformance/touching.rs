//! The life of a value, apart from the value.

use std::time::Duration;

use bytes::Bytes;
use twotier_core::RemainingTtl;

use super::{
    Fixture,
    changes::Listening,
    scope::{Scope, put, ready, ttl, value, write},
};
use crate::WriteCondition;

const MINUTE: Duration = Duration::from_secs(60);
/// A store may count time in whole milliseconds, and so keep a value for up to one more.
const GRAIN: Duration = Duration::from_millis(2);

/// A value that is touched lives so long from then on, be it longer or shorter than before, and is the same value.
pub async fn touching_sets_the_ttl_and_says_whether_the_key_was_there(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let keys = scope.keys(3);
    assert!(!backend.touch(&keys[0], MINUTE).await.expect("a key can be touched"), "it is not there");
    assert_eq!(value(&backend, &keys[0]).await, None);
    put(&backend, &keys[0], "v", Some(Duration::from_millis(20))).await;
    put(&backend, &keys[1], "v", None).await;
    put(&backend, &keys[2], "", Some(MINUTE)).await;
    for (key, life) in keys.iter().zip([MINUTE, MINUTE, Duration::from_millis(20)]) {
        assert!(backend.touch(key, life).await.expect("a key can be touched"));
        let left = ttl(&backend, key).await;
        assert!(matches!(left, Some(RemainingTtl::Expires(left)) if !left.is_zero() && left <= life), "{left:?}");
    }
    fixture.pass_time(Duration::from_millis(20) + GRAIN).await;
    assert_eq!(value(&backend, &keys[0]).await.as_deref(), Some(&b"v"[..]), "it lives on");
    assert_eq!(value(&backend, &keys[1]).await.as_deref(), Some(&b"v"[..]));
    assert_eq!(value(&backend, &keys[2]).await, None, "its life was cut short");
}

/// A write that keeps the life of what is there, whatever its condition; a new value lives for as long as is said.
pub async fn a_write_that_keeps_the_ttl_replaces_the_value_alone(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let keys = scope.keys(6);
    for (key, life) in keys[..4].iter().zip([None, Some(MINUTE), None, Some(MINUTE)]) {
        put(&backend, key, "old", life).await;
    }
    let holds = |value: &'static str| WriteCondition::Holds(Bytes::from_static(value.as_bytes()));
    let keeping = |key: &Bytes, condition| write(key, "new", Some(10 * MINUTE)).keep_ttl().only_if(condition);
    let writes = [
        keeping(&keys[0], WriteCondition::Always),
        keeping(&keys[1], WriteCondition::Always),
        keeping(&keys[2], holds("old")),
        keeping(&keys[3], holds("old")),
        keeping(&keys[4], WriteCondition::Always),
        keeping(&keys[5], WriteCondition::Absent),
        keeping(&keys[3], holds("older")),
    ];
    let written = backend.set_many(&writes).await.into_iter().map(|result| result.expect("it can be written"));
    assert_eq!(written.collect::<Vec<_>>(), [true, true, true, true, true, true, false]);
    let minutes = [None, Some(1), None, Some(1), Some(10), Some(10)];
    for (key, minutes) in keys.iter().zip(minutes) {
        assert_eq!(value(&backend, key).await.as_deref(), Some(&b"new"[..]));
        match (ttl(&backend, key).await.expect("it is there"), minutes) {
            (RemainingTtl::Persistent, None) => {}
            (RemainingTtl::Expires(left), Some(minutes)) => {
                assert!(left <= minutes * MINUTE && left > (minutes - 1) * MINUTE, "{left:?} of {minutes}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Both are changes that others are notified of: a copy of the number is outdated, and one may outlive its value.
pub async fn every_foreign_increment_and_touch_is_reported(fixture: &dyn Fixture) {
    let scope = Scope::new();
    let Some(ours) = Listening::to(&scope, fixture).await else { return };
    let other = ready(fixture).await;
    for life in [None, Some(MINUTE)] {
        let key = scope.key(format!("{}", life.is_some()));
        for what in ["a new number", "a sum"] {
            let since = ours.recorder.position();
            other.increment(&key, 1, life).await.expect("a number can be incremented");
            ours.must_have_received(&key, since, what).await;
        }
        let since = ours.recorder.position();
        assert!(other.touch(&key, MINUTE).await.expect("a key can be touched"));
        ours.must_have_received(&key, since, "a touch").await;
    }
}
