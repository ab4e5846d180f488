//! What the server pushes: read inside the connection's reader, in wire order.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use redis::{PushInfo, PushKind, Value};
use twotier_core::{BackendError, BackendErrorKind, ChangeListener, IgnoreChanges};

use super::{canary::Canary, channel::Channel, connection::Loss};

#[cfg(test)]
mod fuzz;

/// What a push says.
pub(super) enum Report<'m> {
    /// Nothing that concerns us.
    Nothing,
    /// These keys changed.
    Keys(Vec<&'m [u8]>),
    /// Anything may have changed.
    Everything,
}

/// What a connection listens for beside the listener it tells.
#[derive(Clone, Default)]
pub(super) struct Ears {
    pub(super) canary: Option<Arc<Canary>>,
    pub(super) channel: Option<Arc<Channel>>,
}

/// Applies one push, before the reply that follows it on the wire is handed to its caller.
///
/// Nothing here runs user code, and a panic declares the connection lost instead of killing its reader unseen.
pub(super) fn apply(push: &PushInfo, listener: &dyn ChangeListener, ears: &Ears, loss: &Loss) {
    let applied = catch_unwind(AssertUnwindSafe(|| match (&push.kind, &ears.channel) {
        (PushKind::Disconnection, _) => {
            loss.declare(BackendError::new(BackendErrorKind::Unavailable, "the connection was lost"));
        }
        (PushKind::Invalidate, _) => tell(invalidation(&push.data), listener, ears.canary.as_deref()),
        (PushKind::Message, Some(channel)) => match &push.data[..] {
            [_channel, Value::BulkString(message)] => tell(channel.read(message), listener, None),
            _ => listener.flushed(),
        },
        _ => {}
    }));
    if applied.is_err() {
        loss.declare(BackendError::new(BackendErrorKind::Protocol, "a push could not be applied"));
    }
}

fn tell(report: Report<'_>, listener: &dyn ChangeListener, canary: Option<&Canary>) {
    match report {
        Report::Nothing => {}
        Report::Everything => listener.flushed(),
        Report::Keys(keys) => {
            let others = keys.into_iter().filter(|key| !canary.is_some_and(|canary| canary.is_it(key)));
            others.for_each(|key| listener.changed(key));
        }
    }
}

/// Reads the payload of an invalidation: an array of keys, or nothing for "everything". Anything else is taken as
/// "everything", because it may be.
fn invalidation(data: &[Value]) -> Report<'_> {
    let [Value::Array(keys)] = data else { return Report::Everything };
    let keys = keys.iter().map(|key| match key {
        Value::BulkString(key) => Some(&key[..]),
        _ => None,
    });
    keys.collect::<Option<Vec<_>>>().map_or(Report::Everything, Report::Keys)
}

/// The closure for the connection's reader.
pub(super) fn sender(
    listener: Option<Arc<dyn ChangeListener>>,
    ears: Ears,
    loss: Arc<Loss>,
) -> impl Fn(PushInfo) -> Result<(), std::convert::Infallible> + Send + Sync + 'static {
    let listener = listener.unwrap_or_else(|| Arc::new(IgnoreChanges));
    move |push| {
        apply(&push, &*listener, &ears, &loss);
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
            apply(&PushInfo { kind, data }, &heard, &Ears::default(), &loss);
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
        let own = String::from_utf8(canary.key().to_vec()).unwrap();
        apply(
            &PushInfo { kind: PushKind::Invalidate, data: vec![Value::Array(vec![bulk(&own), bulk("n:a")])] },
            &heard,
            &Ears { canary: Some(Arc::new(canary)), channel: None },
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
