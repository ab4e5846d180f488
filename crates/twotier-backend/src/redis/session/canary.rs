//! The canary: a change of our own making that must be reported to us, before anything is kept on the link's word, and
//! again and again while it is.

use tokio::{sync::watch, time::Instant};
use twotier_core::Namespace;

use crate::redis::{census::Place, listeners::Member};

/// What the names of all canaries begin with, within their namespace: a control character that people do not type.
const NAME: &str = "\u{1}canary-";
/// How many hexadecimal digits follow.
const DIGITS: usize = 32;
/// How many names are tried for one that lies in a slot of a node. One slot of all is found in a sixty-fourth of that.
const TRIES: u128 = 1 << 20;

/// What a link sends to test itself: a key in each namespace that is tested, of a name that nobody else uses.
pub(super) struct Canary(watch::Sender<Flight>);

/// One test: which keys there are, and where a report of them was seen.
#[derive(Default)]
struct Flight {
    keys: Vec<(Namespace, Vec<u8>)>,
    seen: Vec<(Namespace, Instant)>,
}

/// Returns the key of a canary in a namespace, where it can lie.
pub(super) fn canary(namespace: &Namespace, place: &Place) -> Option<Vec<u8>> {
    let first = fastrand::u128(..);
    let name = |number: u128| namespace.qualify(&format!("{NAME}{:0DIGITS$x}", first.wrapping_add(number)));
    if place.takes(namespace) { place.first_of((0..TRIES).map(name)) } else { None }
}

impl Canary {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Flight::default()))
    }

    /// Begins a test of these namespaces, and returns the keys: a report that is still on its way is of an earlier
    /// test, and counts for nothing.
    pub(super) fn set_free<'n>(
        &self,
        namespaces: impl Iterator<Item = &'n Namespace>,
        place: &Place,
    ) -> Vec<Option<Vec<u8>>> {
        let namespaces: Vec<_> = namespaces.collect();
        let keys: Vec<_> = namespaces.iter().map(|namespace| canary(namespace, place)).collect();
        let named = namespaces.into_iter().zip(&keys).filter_map(|(name, key)| Some((name.clone(), key.clone()?)));
        self.0.send_replace(Flight { keys: named.collect(), seen: Vec::new() });
        keys
    }

    /// Takes the report if it is that of a canary: of this test, or of another link or time, which concerns nobody
    /// else. Called in the connection's reader.
    pub(super) fn takes(&self, namespace: &Namespace, key: &[u8]) -> bool {
        let Some(digits) = namespace.strip(key).and_then(|key| key.strip_prefix(NAME.as_bytes())) else { return false };
        if digits.len() != DIGITS || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return false;
        }
        self.0.send_if_modified(|flight| {
            let sent = flight.keys.iter().any(|(tested, sent)| tested == namespace && sent == key);
            let new = sent && flight.seen_in(namespace).is_none();
            if new {
                flight.seen.push((namespace.clone(), Instant::now()));
            }
            new
        });
        true
    }

    /// Returns when the report from a namespace came, if it did.
    pub(super) fn seen_in(&self, namespace: &Namespace) -> Option<Instant> {
        self.0.borrow().seen_in(namespace)
    }

    /// Waits for the reports from the namespaces of all of these.
    pub(super) async fn reports<'m>(&self, from: impl Iterator<Item = &'m Member> + Clone) {
        let all = |flight: &Flight| from.clone().all(|member| flight.seen_in(member.namespace()).is_some());
        // The sender is this one's own: it is not dropped meanwhile.
        let _ = self.0.subscribe().wait_for(all).await;
    }
}

impl Flight {
    fn seen_in(&self, namespace: &Namespace) -> Option<Instant> {
        self.seen.iter().find(|(seen, _)| seen == namespace).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_of_the_namespace_are_no_keys_and_only_those_of_the_current_test_are_seen() {
        let [n, m, inner] = ["n", "m", "n:m"].map(|name| Namespace::new(name).unwrap());
        let (own, other) = (Canary::new(), Canary::new());
        let free =
            |canary: &Canary, namespace| canary.set_free([namespace].into_iter(), &Place::Anywhere).remove(0).unwrap();
        assert!(own.takes(&n, &free(&other, &n)) && own.seen_in(&n).is_none());
        for key in ["n:k", "n:\u{1}canary-", "n:\u{1}canary-0123", "n:canary-00000000000000000000000000000000"] {
            assert!(!own.takes(&n, key.as_bytes()), "{key}");
        }
        for other in [&m, &inner] {
            assert!(!own.takes(&n, &free(&own, other)), "{other}");
        }
        let both = own.set_free([&n, &inner].into_iter(), &Place::Anywhere);
        let [Some(key), Some(key_inside)] = &both[..] else { panic!("a key for each") };
        assert!(own.takes(&n, key) && own.seen_in(&n).is_some() && own.seen_in(&m).is_none());
        assert!(own.takes(&inner, key_inside) && own.seen_in(&inner).is_some());
        free(&own, &n);
        assert!(own.takes(&n, key) && own.seen_in(&n).is_none(), "a report of an earlier test");
    }

    #[test]
    fn a_canary_is_sent_where_a_node_takes_it_also_with_one_slot_of_all() {
        let namespace = Namespace::new("n").unwrap();
        let place = Place::In(parking_lot::RwLock::new([7_u16].into_iter().collect()));
        let key = canary(&namespace, &place).unwrap();
        assert_eq!(crate::slot::slot_of(&key), 7);
        assert!(Canary::new().takes(&namespace, &key), "it is known for one");
        place.put(std::iter::empty().collect());
        assert!(canary(&namespace, &place).is_none());
    }
}
