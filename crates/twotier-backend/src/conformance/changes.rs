//! Reports of changes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{join, time::sleep};
use twotier_core::{BackendErrorKind, Coherence, Lease, Namespace};

use super::{
    Event, Fixture, Recorder,
    scope::{Scope, put, put_many, ready, remove, remove_many, value, write},
};
use crate::{Attachment, Backend, BackendResult, Watch};

/// A handle with a recorder attached.
pub(super) struct Listening {
    pub(super) backend: Box<dyn Backend>,
    pub(super) recorder: Arc<Recorder>,
}

impl Listening {
    /// Attaches a recorder. `None` when the backend reports nothing, after a check that it says so.
    pub(super) async fn to(scope: &Scope, fixture: &dyn Fixture) -> Option<Self> {
        let (backend, recorder) = (fixture.backend().await, Recorder::new());
        if fixture.coherence() == Coherence::None {
            let refused = attach(&*backend, &scope.namespace, &recorder, Some(Coherence::Broadcast)).await;
            let kind = refused.expect_err("reports were promised by a backend that has none").kind();
            assert_eq!(kind, BackendErrorKind::Unsupported);
            return None;
        }
        let attached = attach(&*backend, &scope.namespace, &recorder, None).await.expect("a listener can be attached");
        assert_eq!(attached, Attachment::new(fixture.coherence()));
        Some(Self { backend, recorder })
    }

    /// Fails unless the key was reported since that point, by when it has to be.
    ///
    /// A link whose word does not run out reports before the write returns. Any other reports before a proof of life
    /// whose mark was taken after the write was acknowledged: the second one from now on is certain to be such.
    pub(super) async fn must_have_received(&self, key: &[u8], since: usize, what: &str) {
        if self.recorder.lease() != Some(Lease::Unlimited) {
            let proved = self.recorder.proofs() + 2;
            while !self.recorder.invalidated(key, since) && self.recorder.proofs() < proved {
                sleep(Duration::from_millis(1)).await;
            }
        }
        let events = self.recorder.events();
        assert!(self.recorder.invalidated(key, since), "{what} was not reported; since then: {:?}", &events[since..]);
    }
}

pub(super) async fn attach(
    backend: &dyn Backend,
    namespace: &Namespace,
    recorder: &Arc<Recorder>,
    coherence: Option<Coherence>,
) -> BackendResult<Attachment> {
    let listener = Arc::<Recorder>::clone(recorder);
    backend.attach(Watch::new(namespace.clone(), listener).coherence(coherence)).await
}

/// When `attach` returns, the link is up and its listener knows.
pub async fn attaching_brings_the_link_up(fixture: &dyn Fixture) {
    let Some(listening) = Listening::to(&Scope::new(), fixture).await else { return };
    let events = listening.recorder.events();
    assert!(matches!(events.first(), Some(Event::LinkUp(..))), "{events:?}");
    assert!(listening.recorder.lease().is_some(), "{events:?}");
    assert!(listening.backend.link().is_up(), "{}", listening.backend.link());
}

/// A new key, a changed one, one that is written with the same value: each write is reported.
pub async fn every_foreign_write_is_reported(fixture: &dyn Fixture) {
    let scope = Scope::new();
    let Some(ours) = Listening::to(&scope, fixture).await else { return };
    let theirs = ready(fixture).await;
    let key = scope.key("k");
    for round in 0..100 {
        for (written, what) in [(round, "a change"), (round, "the same value again")] {
            // Read or not, it is reported.
            if round % 2 == 0 {
                value(&ours.backend, &key).await;
            }
            let since = ours.recorder.position();
            put(&theirs, &key, written.to_string(), None).await;
            ours.must_have_received(&key, since, what).await;
        }
    }
}

/// A delete is reported.
pub async fn every_foreign_delete_is_reported(fixture: &dyn Fixture) {
    let scope = Scope::new();
    let Some(ours) = Listening::to(&scope, fixture).await else { return };
    let theirs = ready(fixture).await;
    let key = scope.key("k");
    for _ in 0..20 {
        put(&ours.backend, &key, "v", None).await;
        let since = ours.recorder.position();
        assert!(remove(&theirs, &key).await, "it was written by the other handle");
        ours.must_have_received(&key, since, "a delete").await;
    }
}

/// Each key that a clear removes is reported.
pub async fn every_foreign_clear_is_reported(fixture: &dyn Fixture) {
    let scope = Scope::new();
    let Some(ours) = Listening::to(&scope, fixture).await else { return };
    let theirs = ready(fixture).await;
    let keys = scope.keys(50);
    for key in &keys {
        put(&ours.backend, key, "v", None).await;
    }
    let since = ours.recorder.position();
    theirs.clear(scope.namespace.prefix().as_bytes()).await.expect("a prefix can be cleared");
    for key in &keys {
        ours.must_have_received(key, since, "a cleared key").await;
    }
}

/// Each key that a batch writes or deletes is reported.
pub async fn every_foreign_batch_is_reported(fixture: &dyn Fixture) {
    let scope = Scope::new();
    let Some(ours) = Listening::to(&scope, fixture).await else { return };
    let theirs = ready(fixture).await;
    let keys = scope.keys(50);
    let writes: Vec<_> = keys.iter().map(|key| write(key, "v", None)).collect();
    let since = ours.recorder.position();
    put_many(&theirs, &writes).await;
    for key in &keys {
        ours.must_have_received(key, since, "a key of a batch").await;
    }
    let since = ours.recorder.position();
    remove_many(&theirs, &keys).await;
    for key in &keys {
        ours.must_have_received(key, since, "a deleted key of a batch").await;
    }
}

/// Whoever leaves out our own writes must not leave out what others did to the same key, before or after.
pub async fn a_foreign_change_after_our_own_is_reported(fixture: &dyn Fixture) {
    let scope = Scope::new();
    let Some(ours) = Listening::to(&scope, fixture).await else { return };
    let theirs = ready(fixture).await;
    let key = scope.key("k");
    for round in 0..50 {
        put(&ours.backend, &key, "ours", None).await;
        let since = ours.recorder.position();
        put(&theirs, &key, round.to_string(), None).await;
        ours.must_have_received(&key, since, "a write after our own").await;

        // Both at once: whichever was last, what we then hold must be what is there, or be reported.
        let since = ours.recorder.position();
        join!(put(&ours.backend, &key, "ours", None), put(&theirs, &key, "theirs", None));
        if value(&theirs, &key).await.as_deref() == Some(b"theirs") {
            ours.must_have_received(&key, since, "a write that overtook our own").await;
        }
    }
}

/// A write by a program that does not know of the cache is reported.
pub async fn a_write_from_outside_is_reported(fixture: &dyn Fixture) {
    let scope = Scope::new();
    let Some(ours) = Listening::to(&scope, fixture).await else { return };
    let key = scope.key("k");
    for round in 0..20 {
        let since = ours.recorder.position();
        fixture.write_outside(&key, round.to_string().as_bytes()).await;
        ours.must_have_received(&key, since, "a write from outside").await;
        assert_eq!(value(&ours.backend, &key).await, Some(Bytes::from(round.to_string())));
    }
}

/// A read that returns an old value because a write crossed it is followed by a report.
pub async fn a_fill_that_crosses_a_change_is_reported(fixture: &dyn Fixture) {
    let scope = Scope::new();
    let Some(ours) = Listening::to(&scope, fixture).await else { return };
    let theirs = ready(fixture).await;
    let keys = scope.keys(4);
    for round in 0..200 {
        let key = &keys[round % 4];
        let since = ours.recorder.position();
        let written = Bytes::from(round.to_string());
        let (filled, ()) = join!(value(&ours.backend, key), put(&theirs, key, &written, None));
        let what =
            if filled.as_ref() == Some(&written) { "a write before a fill" } else { "a write that crossed a fill" };
        ours.must_have_received(key, since, what).await;
    }
}

/// Only the namespace that was asked for is reported, also beside others with the same stem.
pub async fn keys_of_other_namespaces_are_not_reported(fixture: &dyn Fixture) {
    let scope = Scope::new();
    let Some(ours) = Listening::to(&scope, fixture).await else { return };
    let theirs = ready(fixture).await;
    let namespace = scope.namespace.as_str();
    let foreign =
        [format!("{namespace}2:k"), namespace.to_owned(), format!("{}:k", &namespace[..20]), format!("x{namespace}:k")];
    for key in &foreign {
        put(&theirs, key.as_bytes(), "v", None).await;
        assert!(remove(&theirs, key.as_bytes()).await);
    }
    let (since, last) = (ours.recorder.position(), scope.key("last"));
    put(&theirs, &last, "v", None).await;
    ours.must_have_received(&last, since, "a write").await;
    let events = ours.recorder.events();
    let received = |key: &String| events.iter().any(|event| *event == Event::Changed(Bytes::from(key.clone())));
    assert!(!foreign.iter().any(received), "{events:?}");
}

/// Whoever asks for [`Coherence::None`] gets it, and is not called.
pub async fn a_listener_that_asked_for_nothing_receives_nothing(fixture: &dyn Fixture) {
    let scope = Scope::new();
    let (ours, theirs, recorder) = (fixture.backend().await, ready(fixture).await, Recorder::new());
    let attached = attach(&*ours, &scope.namespace, &recorder, Some(Coherence::None)).await;
    assert_eq!(attached.expect("nothing can be asked for"), Attachment::new(Coherence::None));
    for key in scope.keys(10) {
        put(&theirs, &key, "v", None).await;
        value(&ours, &key).await;
        value(&ours, &key).await;
    }
    assert_eq!((recorder.events(), recorder.proofs()), (vec![], 0));
}

/// A second listener on the same handle is refused, and the first goes on.
pub async fn a_handle_serves_one_listener_only(fixture: &dyn Fixture) {
    let scope = Scope::new();
    let Some(ours) = Listening::to(&scope, fixture).await else { return };
    let second = Recorder::new();
    let refused = attach(&*ours.backend, &scope.namespace, &second, None).await;
    assert_eq!(refused.expect_err("a handle serves one cache").kind(), BackendErrorKind::Unsupported);

    let (since, key) = (ours.recorder.position(), scope.key("k"));
    put(&ready(fixture).await, &key, "v", None).await;
    ours.must_have_received(&key, since, "a write after a refused attachment").await;
    assert_eq!(second.events(), []);
}
