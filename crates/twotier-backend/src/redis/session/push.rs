//! What the server pushes: read inside the connection's reader, in wire order.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use redis::{PushInfo, PushKind, Value};
use twotier_core::{BackendError, BackendErrorKind};

use crate::redis::{
    command::{Channels, Message},
    listeners::Listeners,
    wire::{Loss, not_resp},
};

use super::canary::Canary;

#[cfg(test)]
mod fuzz;

/// More keys than this in one report are as good as everything, and do not hold up the reader: a node of a cluster
/// reports all keys of a slot that left it at once.
const MANY: usize = 4096;

/// Applies pushes, each before the reply that follows it on the wire is handed to its caller.
pub(super) struct PushHandler {
    listeners: Arc<Listeners>,
    canary: Arc<Canary>,
    channels: Arc<Channels>,
    loss: Arc<Loss>,
}

impl PushHandler {
    pub(super) fn new(
        listeners: Arc<Listeners>,
        canary: Arc<Canary>,
        channels: Arc<Channels>,
        loss: Arc<Loss>,
    ) -> Self {
        Self { listeners, canary, channels, loss }
    }

    /// Nothing here runs user code, and a panic declares the connection lost instead of killing its reader unseen.
    pub(super) fn apply(&self, push: &PushInfo) {
        let applied = catch_unwind(AssertUnwindSafe(|| match &push.kind {
            PushKind::Disconnection => disconnected(&self.loss),
            PushKind::Invalidate => match invalidation(&push.data) {
                Some(keys) if keys.len() <= MANY => keys.into_iter().for_each(|key| self.changed(key)),
                _ => self.flushed(),
            },
            PushKind::Message => self.message(&push.data),
            _ => {}
        }));
        if applied.is_err() {
            self.loss.declare(BackendError::new(BackendErrorKind::Protocol, "a push could not be applied"));
        }
    }

    fn changed(&self, key: &[u8]) {
        // Under a prefix of many namespaces, those of other processes too are reported.
        let Some(member) = self.listeners.of(key).filter(|member| member.is_reported()) else { return };
        if !self.canary.takes(member.namespace(), key) {
            member.changed(key);
        }
    }

    fn flushed(&self) {
        for member in self.listeners.all().iter().filter(|member| member.is_reported()) {
            member.flushed();
        }
    }

    fn message(&self, data: &[Value]) {
        let [Value::BulkString(channel), Value::BulkString(message)] = data else { return self.flushed() };
        match self.channels.read(message) {
            // The name of a channel lies under its namespace.
            Message::Everything => match self.listeners.of(channel) {
                Some(member) => member.flushed(),
                None => self.flushed(),
            },
            Message::Keys(keys) => keys.into_iter().for_each(|key| self.changed(key)),
            // The cache keeps track of its own writes: only canaries are waited for.
            Message::Own(keys) => {
                for key in keys {
                    if let Some(member) = self.listeners.of(key) {
                        self.canary.takes(member.namespace(), key);
                    }
                }
            }
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

    use twotier_core::{ChangeListener, Lease, LinkId, Mark, Namespace, Timestamp};

    use super::*;
    use crate::{Watch, redis::census::Place};

    #[derive(Default)]
    struct Recorded(Mutex<Vec<String>>);

    impl Recorded {
        fn after(kind: PushKind, data: Vec<Value>) -> (Vec<String>, bool) {
            let (handler, seen) = handler(&Arc::new(Canary::new()));
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
            assert!(key != b"n:boom", "a listener with a defect");
            self.0.lock().unwrap().push(String::from_utf8_lossy(key).into_owned());
        }
        fn flushed(&self, _link: LinkId) {
            self.0.lock().unwrap().push("FLUSHED".to_owned());
        }
        fn link_up(&self, _link: LinkId, _lease: Lease) {}
        fn link_down(&self, _link: LinkId) {}
    }

    fn namespace() -> Namespace {
        Namespace::new("n").unwrap()
    }

    /// A handler of pushes for one cache, and what it is notified of.
    fn handler(canary: &Arc<Canary>) -> (PushHandler, Arc<Recorded>) {
        let (listeners, seen) = (Arc::<Listeners>::default(), Arc::new(Recorded::default()));
        let listener: Arc<dyn ChangeListener> = Arc::<Recorded>::clone(&seen);
        listeners.join(Watch::new(namespace(), listener), 0).unwrap();
        let channels = Arc::new(Channels::new(Arc::clone(&listeners)));
        (PushHandler::new(listeners, Arc::clone(canary), channels, Arc::default()), seen)
    }

    fn free(canary: &Canary) -> Vec<u8> {
        canary.set_free([&namespace()].into_iter(), &Place::Anywhere).remove(0).unwrap()
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
        let [own, other] = [Canary::new(), Canary::new()].map(Arc::new);
        let (handler, seen) = handler(&own);
        let names = [free(&own), free(&other), b"n:a".to_vec()].map(Value::BulkString);
        handler.apply(&PushInfo { kind: PushKind::Invalidate, data: vec![Value::Array(names.to_vec())] });
        assert_eq!(*seen.0.lock().unwrap(), ["n:a"]);
        assert!(own.seen_in(&namespace()).is_some() && other.seen_in(&namespace()).is_none());
    }

    #[test]
    fn the_canary_in_a_message_of_our_own_is_seen_and_other_messages_of_our_own_are_passed_over() {
        let canary = Arc::new(Canary::new());
        let (handler, seen) = handler(&canary);
        let invalidation = |keys: [&[u8]; 1]| PushInfo {
            kind: PushKind::Message,
            data: vec![
                Value::BulkString(Channels::name(&namespace())),
                Value::BulkString(handler.channels.message(keys)),
            ],
        };
        handler.apply(&invalidation([b"n:own"]));
        assert!(canary.seen_in(&namespace()).is_none());
        handler.apply(&invalidation([&free(&canary)]));
        assert!(canary.seen_in(&namespace()).is_some() && seen.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_change_is_reported_to_the_cache_it_belongs_to_and_to_no_other() {
        let listeners = Arc::<Listeners>::default();
        let seen = ["a", "b"].map(|namespace| {
            let seen = Arc::new(Recorded::default());
            let listener: Arc<dyn ChangeListener> = Arc::<Recorded>::clone(&seen);
            let handle = u64::from(namespace.as_bytes()[0]);
            listeners.join(Watch::new(Namespace::new(namespace).unwrap(), listener), handle).unwrap();
            seen
        });
        let [channels, foreign] = [(); 2].map(|()| Arc::new(Channels::new(Arc::clone(&listeners))));
        let handler = PushHandler::new(listeners, Arc::new(Canary::new()), channels, Arc::default());
        let received = || seen.each_ref().map(|seen| std::mem::take(&mut *seen.0.lock().unwrap()));
        let names = ["a:k", "b:k", "c:k", "k"].map(bulk);
        handler.apply(&PushInfo { kind: PushKind::Invalidate, data: vec![Value::Array(names.to_vec())] });
        assert_eq!(received(), [vec!["a:k"], vec!["b:k"]]);
        let channel = Value::BulkString(Channels::name(&Namespace::new("b").unwrap()));
        let message = Value::BulkString(foreign.message([&b"b:k"[..]]));
        handler.apply(&PushInfo { kind: PushKind::Message, data: vec![channel.clone(), message] });
        assert_eq!(received(), [vec![], vec!["b:k"]]);
        handler.apply(&PushInfo { kind: PushKind::Message, data: vec![channel, bulk("of another version")] });
        assert_eq!(received(), [vec![], vec!["FLUSHED"]]);
        handler.apply(&PushInfo { kind: PushKind::Invalidate, data: vec![Value::Nil] });
        assert_eq!(received(), [vec!["FLUSHED"], vec!["FLUSHED"]]);
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
    fn a_report_of_very_many_keys_is_a_flush() {
        let keys = |number: usize| (0..number).map(|number| bulk(&format!("n:{number}"))).collect();
        let (few, _) = Recorded::after(PushKind::Invalidate, vec![Value::Array(keys(MANY))]);
        assert_eq!((few.len(), &*few[0]), (MANY, "n:0"));
        let many = Recorded::after(PushKind::Invalidate, vec![Value::Array(keys(MANY + 1))]);
        assert_eq!(many, (vec!["FLUSHED".to_owned()], false));
    }

    #[test]
    fn a_disconnection_declares_the_loss() {
        assert_eq!(Recorded::after(PushKind::Disconnection, vec![]), (vec![], true));
    }

    #[test]
    fn a_panic_while_applying_a_push_declares_the_loss_instead_of_killing_the_reader() {
        let data = vec![Value::Array(vec![bulk("n:boom")])];
        assert_eq!(Recorded::after(PushKind::Invalidate, data), (vec![], true));
    }
}
