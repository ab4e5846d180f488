//! The end of a handle.

use bytes::Bytes;
use twotier_core::{BackendErrorKind, LinkState};

use super::{
    Event, Fixture, Recorder,
    changes::{Listening, attach},
    scope::{Scope, put, ready, value, write},
};
use crate::BackendResult;

/// The listener of a closed handle knows that nothing is reported any more.
pub async fn closing_takes_the_link_down(fixture: &dyn Fixture) {
    let scope = Scope::new();
    let Some(ours) = Listening::to(&scope, fixture).await else { return };
    if !fixture.can_close() {
        return;
    }
    ours.backend.close().await;
    let events = ours.recorder.events();
    for event in &events {
        if let Event::LinkUp(link, _) = event {
            let down = events.iter().filter(|event| **event == Event::LinkDown(*link)).count();
            assert_eq!(down, 1, "link {link}: {events:?}");
        }
    }
    assert_eq!(ours.recorder.lease(), None, "{events:?}");
}

/// After `close` every call is an error of kind `Closed`, in a batch one for each item. Closing again is fine.
pub async fn a_closed_handle_refuses_every_call(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let keys = scope.keys(3);
    put(&backend, &keys[0], "v", None).await;
    backend.close().await;
    backend.close().await;
    if !fixture.can_close() {
        return;
    }

    let writes: Vec<_> = keys.iter().map(|key| write(key, "v", None)).collect();
    let attached = attach(&*backend, &scope.namespace, &Recorder::new(), None).await;
    assert_closed("attach", [attached]);
    assert_closed("get", [backend.get(&keys[0]).await]);
    assert_closed("set", [backend.set(&keys[0], Bytes::from_static(b"v"), None).await]);
    assert_closed("delete", [backend.delete(&keys[0]).await]);
    assert_closed("increment", [backend.increment(&keys[0], 1, None).await]);
    assert_closed("touch", [backend.touch(&keys[0], std::time::Duration::from_secs(1)).await]);
    assert_closed("clear", [backend.clear(&keys[0]).await]);
    assert_eq!(assert_closed("get_many", backend.get_many(&keys).await), 3);
    assert_eq!(assert_closed("set_many", backend.set_many(&writes).await), 3);
    assert_eq!(assert_closed("delete_many", backend.delete_many(&keys).await), 3);
    assert!(matches!(backend.link(), LinkState::Closed), "{}", backend.link());
}

/// Closing one handle closes no other, and takes nothing out of the store.
pub async fn a_closed_handle_leaves_the_others_alone(fixture: &dyn Fixture) {
    let (scope, first, second) = (Scope::new(), ready(fixture).await, ready(fixture).await);
    let key = scope.key("k");
    put(&first, &key, "v", None).await;
    put(&second, &key, "v", None).await;
    first.close().await;
    assert_eq!(value(&second, &key).await, Some(Bytes::from_static(b"v")));
    assert_eq!(value(&ready(fixture).await, &key).await, Some(Bytes::from_static(b"v")));
}

/// Fails unless all of these are errors of kind `Closed`, and returns how many there were.
fn assert_closed<T>(call: &str, results: impl IntoIterator<Item = BackendResult<T>>) -> usize {
    let kinds: Vec<_> = results.into_iter().map(|result| result.err().map(|error| error.kind())).collect();
    assert!(kinds.iter().all(|kind| *kind == Some(BackendErrorKind::Closed)), "{call} on a closed handle: {kinds:?}");
    kinds.len()
}
