//! Pushes of any shape: what is not understood is taken as "everything", and nothing panics in the connection's reader.

use std::sync::{Arc, Mutex};

use proptest::{collection::vec, prelude::*, test_runner::Config};
use redis::{PushInfo, PushKind, Value, VerbatimFormat};
use twotier_core::{ChangeListener, Lease, LinkId, Mark, Namespace, Timestamp};

use super::PushHandler;
use crate::{
    Watch,
    redis::{command::Channels, listeners::Listeners, session::canary::Canary},
};

/// What a listener received: keys, or `None` for a flush.
#[derive(Default)]
struct Recorded(Mutex<Vec<Option<Vec<u8>>>>);

impl ChangeListener for Recorded {
    fn mark(&self, link: LinkId) -> Mark {
        Mark::new(link, 0, Timestamp::ZERO)
    }
    fn proof_of_life(&self, _mark: Mark) {
        unreachable!("a push proves no life");
    }
    fn changed(&self, key: &[u8]) {
        self.0.lock().unwrap().push(Some(key.to_vec()));
    }
    fn flushed(&self, _link: LinkId) {
        self.0.lock().unwrap().push(None);
    }
    fn link_up(&self, _link: LinkId, _lease: Lease) {
        unreachable!("a push takes no link up");
    }
    fn link_down(&self, _link: LinkId) {
        unreachable!("a push takes no link down");
    }
}

fn namespace() -> Namespace {
    Namespace::new("n").unwrap()
}

/// Applies a push, and returns what the listener received and whether the connection was declared lost.
fn received(kind: PushKind, data: Vec<Value>) -> (Vec<Option<Vec<u8>>>, bool) {
    let seen = Arc::new(Recorded::default());
    let listener: Arc<dyn ChangeListener> = Arc::<Recorded>::clone(&seen);
    let listeners = Arc::<Listeners>::default();
    listeners.join(Watch::new(namespace(), listener), 0).unwrap();
    let channels = Arc::new(Channels::new(Arc::clone(&listeners)));
    let handler = PushHandler::new(listeners, Arc::new(Canary::new()), channels, Arc::default());
    handler.apply(&PushInfo { kind, data });
    let received = seen.0.lock().unwrap().clone();
    (received, handler.loss.is_declared())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..20), "n:[a-c]{0,3}".prop_map(String::into_bytes)]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        8 => bytes().prop_map(Value::BulkString),
        1 => Just(Value::Nil),
        1 => any::<i64>().prop_map(Value::Int),
        1 => ".{0,9}".prop_map(Value::SimpleString),
        1 => Just(Value::Okay),
        1 => any::<f64>().prop_map(Value::Double),
        1 => any::<bool>().prop_map(Value::Boolean),
        1 => ".{0,9}".prop_map(|text| Value::VerbatimString { format: VerbatimFormat::Text, text }),
    ];
    leaf.prop_recursive(3, 40, 8, |inner| {
        let pairs = || vec((inner.clone(), inner.clone()), 0..4);
        prop_oneof![
            4 => vec(inner.clone(), 0..8).prop_map(Value::Array),
            1 => vec(inner.clone(), 0..4).prop_map(Value::Set),
            1 => pairs().prop_map(Value::Map),
            1 => (inner.clone(), pairs())
                .prop_map(|(data, attributes)| Value::Attribute { data: Box::new(data), attributes }),
            1 => (kind(), vec(inner.clone(), 0..4)).prop_map(|(kind, data)| Value::Push { kind, data }),
        ]
    })
}

fn kind() -> impl Strategy<Value = PushKind> {
    prop_oneof![
        4 => Just(PushKind::Invalidate),
        4 => Just(PushKind::Message),
        1 => prop::sample::select(vec![PushKind::PMessage, PushKind::SMessage, PushKind::Subscribe]),
        1 => prop::sample::select(vec![PushKind::Unsubscribe, PushKind::Disconnection]),
        1 => ".{0,9}".prop_map(PushKind::Other),
    ]
}

/// Payloads that are right, nearly right, and anything at all.
fn data() -> impl Strategy<Value = Vec<Value>> {
    let keys = || vec(bytes().prop_map(Value::BulkString), 0..8).prop_map(Value::Array);
    prop_oneof![keys().prop_map(|keys| vec![keys]), vec(value(), 0..4), vec(keys(), 0..3)]
}

/// The keys of a payload that is an invalidation and nothing else, as far as they lie under the namespace.
fn keys_of(data: &[Value]) -> Option<Vec<Option<Vec<u8>>>> {
    let [Value::Array(keys)] = data else { return None };
    let keys: Option<Vec<_>> =
        keys.iter().map(|key| if let Value::BulkString(key) = key { Some(key.clone()) } else { None }).collect();
    keys.map(ours)
}

fn ours(keys: Vec<Vec<u8>>) -> Vec<Option<Vec<u8>>> {
    keys.into_iter().filter(|key| namespace().strip(key).is_some()).map(Some).collect()
}

fn cases() -> Config {
    match std::env::var("PROPTEST_CASES") {
        Ok(_) => Config::default(),
        Err(_) => Config::with_cases(64),
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn an_invalidation_is_its_keys_in_order_and_every_malformed_one_is_one_flush(data in data()) {
        let expected = keys_of(&data).unwrap_or_else(|| vec![None]);
        prop_assert_eq!(received(PushKind::Invalidate, data), (expected, false));
    }

    #[test]
    fn a_push_of_any_kind_and_shape_panics_nowhere_and_only_a_disconnection_is_a_loss(kind in kind(), data in data()) {
        let (received, lost) = received(kind.clone(), data.clone());
        prop_assert_eq!(lost, kind == PushKind::Disconnection);
        match kind {
            PushKind::Invalidate => {}
            // Sixteen bytes of a sender's name nobody guesses: never one of our own.
            PushKind::Message => prop_assert!(data.len() != 2 || !received.is_empty()),
            _ => prop_assert_eq!(received, vec![]),
        }
    }

    #[test]
    fn a_message_is_its_keys_and_one_that_is_cut_or_longer_is_a_flush(
        keys in vec(bytes(), 1..6), cut in any::<prop::sample::Index>(), more in vec(any::<u8>(), 0..4),
    ) {
        let message = Channels::new(Arc::default()).message(keys.iter().map(Vec::as_slice));
        let received = |message: &[u8]| {
            let data = vec![Value::BulkString(b"channel".to_vec()), Value::BulkString(message.to_vec())];
            received(PushKind::Message, data)
        };
        let expected = ours(keys);
        prop_assert_eq!(received(&message), (expected.clone(), false));
        let (cut, lost) = received(&message[..cut.index(message.len())]);
        // Cut between two keys it is a message still, of the keys before.
        prop_assert!(!lost && (cut == [None] || expected.starts_with(&cut)), "{:?}", cut);
        let longer = received(&[&message[..], &more].concat());
        prop_assert_eq!(longer, (if more.is_empty() { expected } else { vec![None] }, false));
    }
}
