//! What the server pushes: read inside the connection's reader, in wire order.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use redis::{PushInfo, PushKind, Value};
use twotier_core::{BackendError, BackendErrorKind, ChangeListener, LinkId};

use crate::redis::{
    command::{Channel, Message},
    wire::{Loss, not_resp},
};

use super::canary::Canary;

#[cfg(test)]
mod fuzz;

/// Applies pushes, each before the reply that follows it on the wire is handed to its caller.
pub(super) struct PushHandler {
    listener: Arc<dyn ChangeListener>,
    canary: Arc<Canary>,
    channel: Arc<Channel>,
    loss: Arc<Loss>,
}

impl PushHandler {
    pub(super) fn new(
        listener: Arc<dyn ChangeListener>,
        canary: Arc<Canary>,
        channel: Arc<Channel>,
        loss: Arc<Loss>,
    ) -> Self {
        Self { listener, canary, channel, loss }
    }

    /// Nothing here runs user code, and a panic declares the connection lost instead of killing its reader unseen.
    pub(super) fn apply(&self, push: &PushInfo) {
        let applied = catch_unwind(AssertUnwindSafe(|| match &push.kind {
            PushKind::Disconnection => disconnected(&self.loss),
            PushKind::Invalidate => match invalidation(&push.data) {
                Some(keys) => keys.into_iter().for_each(|key| self.changed(key)),
                None => self.listener.flushed(LinkId::ONLY),
            },
            PushKind::Message => self.message(&push.data),
            _ => {}
        }));
        if applied.is_err() {
            self.loss.declare(BackendError::new(BackendErrorKind::Protocol, "a push could not be applied"));
        }
    }

    fn changed(&self, key: &[u8]) {
        if !self.canary.matches(key) {
            self.listener.changed(key);
        }
    }

    fn message(&self, data: &[Value]) {
        let [_channel, Value::BulkString(message)] = data else { return self.listener.flushed(LinkId::ONLY) };
        match self.channel.read(message) {
            Message::Everything => self.listener.flushed(LinkId::ONLY),
            Message::Keys(keys) => keys.into_iter().for_each(|key| self.changed(key)),
            // The cache keeps track of its own writes: only the canary is waited for.
            Message::Own(keys) if self.canary.seen().is_none() => {
                for key in keys {
                    let _own = self.canary.matches(key);
                }
            }
            Message::Own(_) => {}
        }
    }
}

/// Declares the end of a connection's reader. Where the stream has ended the cause is known by now: what is left is a
/// stream that could not be parsed.
pub(super) fn disconnected(loss: &Loss) {
    loss.declare(not_resp());
}

/// Reads the payload of an invalidation: an array of keys, or nothing for "everything". Anything else is taken as
/// "everything", because it may be.
fn invalidation(data: &[Value]) -> Option<Vec<&[u8]>> {
    let [Value::Array(keys)] = data else { return None };
    let keys = keys.iter().map(|key| match key {
        Value::BulkString(key) => Some(&key[..]),
        _ => None,
    });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use twotier_core::{Lease, Mark, Namespace, Timestamp};

    use super::*;

    #[derive(Default)]
    struct Recorded(Mutex<Vec<String>>);

    impl Recorded {
        fn after(kind: PushKind, data: Vec<Value>) -> (Vec<String>, bool) {
            let (handler, seen) = handler(&Arc::new(Canary::new(&Namespace::new("n").unwrap())));
            handler.apply(&PushInfo { kind, data });
            let received = seen.0.lock().unwrap().clone();
            (received, handler.loss.is_declared())
        }
    }

    impl ChangeListener for Recorded {
        fn mark(&self, link: LinkId) -> Mark {
            Mark::new(link, 0, Timestamp::ZERO)
        }
        fn proof_of_life(&self, _mark: Mark) {}
        fn changed(&self, key: &[u8]) {
            assert!(key != b"boom", "a listener with a defect");
            self.0.lock().unwrap().push(String::from_utf8_lossy(key).into_owned());
        }
        fn flushed(&self, _link: LinkId) {
            self.0.lock().unwrap().push("FLUSHED".to_owned());
        }
        fn link_up(&self, _link: LinkId, _lease: Lease) {}
        fn link_down(&self, _link: LinkId) {}
    }

    fn handler(canary: &Arc<Canary>) -> (PushHandler, Arc<Recorded>) {
        let namespace = Namespace::new("n").unwrap();
        let seen = Arc::new(Recorded::default());
        let listener: Arc<dyn ChangeListener> = Arc::<Recorded>::clone(&seen);
        let channel = Arc::new(Channel::new(&namespace));
        (PushHandler::new(listener, Arc::clone(canary), channel, Arc::default()), seen)
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn keys_are_reported_in_order() {
        let data = vec![Value::Array(vec![bulk("n:a"), bulk("n:b")])];
        assert_eq!(Recorded::after(PushKind::Invalidate, data), (vec!["n:a".to_owned(), "n:b".to_owned()], false));
    }

    #[test]
    fn canaries_are_seen_and_not_reported() {
        let namespace = Namespace::new("n").unwrap();
        let [own, other] = [Canary::new(&namespace), Canary::new(&namespace)].map(Arc::new);
        let (handler, seen) = handler(&own);
        let names = [own.key(), other.key(), b"n:a"].map(|key| Value::BulkString(key.to_vec()));
        handler.apply(&PushInfo { kind: PushKind::Invalidate, data: vec![Value::Array(names.to_vec())] });
        assert_eq!(*seen.0.lock().unwrap(), ["n:a"]);
        assert!(own.seen().is_some() && other.seen().is_none());
    }

    #[test]
    fn the_canary_in_a_message_of_our_own_is_seen_and_other_messages_of_our_own_are_passed_over() {
        let canary = Arc::new(Canary::new(&Namespace::new("n").unwrap()));
        let (handler, seen) = handler(&canary);
        let invalidation = |keys: [&[u8]; 1]| PushInfo {
            kind: PushKind::Message,
            data: vec![bulk("channel"), Value::BulkString(handler.channel.keys(keys))],
        };
        handler.apply(&invalidation([b"n:own"]));
        assert!(canary.seen().is_none());
        handler.apply(&invalidation([canary.key()]));
        assert!(canary.seen().is_some() && seen.0.lock().unwrap().is_empty());
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
            assert_eq!(Recorded::after(PushKind::Invalidate, data), (vec!["FLUSHED".to_owned()], false));
        }
    }

    #[test]
    fn a_disconnection_declares_the_loss() {
        assert_eq!(Recorded::after(PushKind::Disconnection, vec![]), (vec![], true));
    }

    #[test]
    fn a_panic_while_applying_a_push_declares_the_loss_instead_of_killing_the_reader() {
        let data = vec![Value::Array(vec![bulk("boom")])];
        assert_eq!(Recorded::after(PushKind::Invalidate, data), (vec![], true));
    }
}
