//! Many keys at once.

use std::time::Duration;

use bytes::Bytes;
use twotier_core::RemainingTtl;

use super::{
    Fixture,
    scope::{Scope, put_many, ready, remove_many, ttl, value, values, write},
};

/// Results come in the order of the items, absent keys among them.
pub async fn batches_keep_length_and_order(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let keys = scope.keys(20);
    let number = |index: usize| Bytes::from(index.to_string());
    // Written backwards and only every other one, so that neither the order of writing nor a gap hides a mistake.
    let writes: Vec<_> = (0..20).rev().step_by(2).map(|index| write(&keys[index], number(index), None)).collect();
    put_many(&backend, &writes).await;

    let expected: Vec<_> = (0..20).map(|index| (index % 2 == 1).then(|| number(index))).collect();
    assert_eq!(values(&backend, &keys).await, expected);
    let there: Vec<bool> = expected.iter().map(Option::is_some).collect();
    assert_eq!(remove_many(&backend, &keys).await, there);
    assert_eq!(values(&backend, &keys).await, vec![None; 20]);
}

/// A batch of nothing is nothing, not an error.
pub async fn batches_may_be_empty(fixture: &dyn Fixture) {
    let backend = ready(fixture).await;
    assert!(backend.get_many(&[]).await.is_empty());
    assert!(backend.set_many(&[]).await.is_empty());
    assert!(backend.delete_many(&[]).await.is_empty());
}

/// A key may be in a batch twice: both reads see it, the later write wins, the first delete finds it.
pub async fn batches_may_repeat_keys(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let (a, b) = (scope.key("a"), scope.key("b"));
    let minute = Some(Duration::from_secs(60));
    put_many(&backend, &[write(&a, "old", minute), write(&b, "b", None), write(&a, "new", None)]).await;
    assert_eq!(value(&backend, &a).await.as_deref(), Some(&b"new"[..]), "the later write wins");
    assert_eq!(ttl(&backend, &a).await, Some(RemainingTtl::Persistent), "with its time to live");

    let repeated = [a.clone(), b.clone(), a.clone()];
    assert_eq!(values(&backend, &repeated).await, [Some("new".into()), Some("b".into()), Some("new".into())]);
    assert_eq!(remove_many(&backend, &repeated).await, [true, true, false]);
}

/// A batch has no limit that its caller would have to know of.
pub async fn batches_may_be_of_ten_thousand_keys(fixture: &dyn Fixture) {
    const MANY: usize = 10_000;
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let keys = scope.keys(MANY);
    let writes: Vec<_> = keys.iter().enumerate().map(|(number, key)| write(key, number.to_string(), None)).collect();
    put_many(&backend, &writes).await;
    let found = values(&backend, &keys).await;
    let wrong = found.iter().zip(&writes).filter(|(found, write)| found.as_ref() != Some(&write.value)).count();
    assert_eq!(wrong, 0, "values of {MANY} that are not what was written");
    assert_eq!(remove_many(&backend, &keys).await.iter().filter(|found| **found).count(), MANY);
}
