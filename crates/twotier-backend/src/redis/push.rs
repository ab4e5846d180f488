//! What the server pushes: read inside the connection's reader, in wire order.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use redis::{PushInfo, PushKind, Value};
use twotier_core::{BackendError, BackendErrorKind, ChangeListener, IgnoreChanges};

use super::{canary::Canary, connection::Loss};

/// Applies one push, before the reply that follows it on the wire is handed to its caller.
///
/// Nothing here runs user code, and a panic declares the connection lost instead of killing its reader unseen.
pub(super) fn apply(push: &PushInfo, listener: &dyn ChangeListener, canary: Option<&Canary>, loss: &Loss) {
    let applied = catch_unwind(AssertUnwindSafe(|| match push.kind {
        PushKind::Invalidate => invalidate(&push.data, listener, canary),
        PushKind::Disconnection => {
            loss.declare(BackendError::new(BackendErrorKind::Unavailable, "the connection was lost"));
        }
        _ => {}
    }));
    if applied.is_err() {
        loss.declare(BackendError::new(BackendErrorKind::Protocol, "a push could not be applied"));
    }
}

/// Reads the payload of an invalidation: an array of keys, or nothing for "everything". Anything else is taken as
/// "everything", because it may be.
fn invalidate(data: &[Value], listener: &dyn ChangeListener, canary: Option<&Canary>) {
    let keys = match data {
        [Value::Array(keys)] if keys.iter().all(|key| matches!(key, Value::BulkString(_))) => keys,
        _ => return listener.flushed(),
    };
    for key in keys {
        if let Value::BulkString(key) = key
            && !canary.is_some_and(|canary| canary.is_it(key))
        {
            listener.changed(key);
        }
    }
}

/// The closure for the connection's reader.
pub(super) fn sender(
    listener: Option<Arc<dyn ChangeListener>>,
    canary: Option<Arc<Canary>>,
    loss: Arc<Loss>,
) -> impl Fn(PushInfo) -> Result<(), std::convert::Infallible> + Send + Sync + 'static {
    let listener = listener.unwrap_or_else(|| Arc::new(IgnoreChanges));
    move |push| {
        apply(&push, &*listener, canary.as_deref(), &loss);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use twotier_core::{Lease, Mark, Timestamp};

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Heard {
        fn after(kind: PushKind, data: Vec<Value>) -> (Vec<String>, bool) {
            let heard = Self::default();
            let loss = Loss::default();
            apply(&PushInfo { kind, data }, &heard, None, &loss);
            (heard.0.into_inner().unwrap(), loss.is_declared())
        }
    }

    impl ChangeListener for Heard {
        fn mark(&self) -> Mark {
            Mark { epoch: 0, at: Timestamp::ZERO }
        }
        fn proof_of_life(&self, _mark: Mark) {}
        fn changed(&self, key: &[u8]) {
            assert!(key != b"boom", "a listener with a defect");
            self.0.lock().unwrap().push(String::from_utf8_lossy(key).into_owned());
        }
        fn flushed(&self) {
            self.0.lock().unwrap().push("FLUSHED".to_owned());
        }
        fn link_up(&self, _lease: Lease) {}
        fn link_down(&self) {}
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn keys_are_reported_in_order() {
        let data = vec![Value::Array(vec![bulk("n:a"), bulk("n:b")])];
        assert_eq!(Heard::after(PushKind::Invalidate, data), (vec!["n:a".to_owned(), "n:b".to_owned()], false));
    }

    #[test]
    fn a_canary_is_heard_and_not_reported() {
        let canary = Canary::new(&twotier_core::Namespace::new("n").unwrap());
        let heard = Heard::default();
        assert!(!canary.is_it(b"n:a"));
        apply(
            &PushInfo { kind: PushKind::Invalidate, data: vec![Value::Array(vec![bulk("n:a")])] },
            &heard,
            Some(&canary),
            &Loss::default(),
        );
        assert_eq!(heard.0.into_inner().unwrap(), ["n:a"]);
    }

    #[test]
    fn a_null_push_and_every_malformed_one_is_a_flush() {
        for data in [
            vec![Value::Nil],
            vec![],
            vec![Value::Int(7)],
            vec![Value::Array(vec![bulk("n:a"), Value::Int(1)])],
            vec![Value::Array(vec![bulk("n:a")]), Value::Nil],
        ] {
            assert_eq!(Heard::after(PushKind::Invalidate, data), (vec!["FLUSHED".to_owned()], false));
        }
    }

    #[test]
    fn a_disconnection_declares_the_loss() {
        assert_eq!(Heard::after(PushKind::Disconnection, vec![]), (vec![], true));
    }

    #[test]
    fn a_panic_while_applying_a_push_declares_the_loss_instead_of_killing_the_reader() {
        let data = vec![Value::Array(vec![bulk("boom")])];
        assert_eq!(Heard::after(PushKind::Invalidate, data), (vec![], true));
    }
}
