//! The canary: a change of our own making that must be reported to us, before anything is kept on the link's word, and
//! again and again while it is.

use tokio::{sync::watch, time::Instant};
use twotier_core::Namespace;

use crate::redis::listeners::Member;

/// What the names of all canaries begin with, within their namespace: a control character that people do not type.
const NAME: &str = "\u{1}canary-";
/// How many hexadecimal digits follow.
const DIGITS: usize = 32;

/// What a link sends to test itself: a key in each namespace that is tested, of a name that nobody else uses.
pub(super) struct Canary(watch::Sender<Flight>);

/// One test: which name its keys have, and where a report of them was seen.
struct Flight {
    digits: String,
    seen: Vec<(Namespace, Instant)>,
}

impl Canary {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Flight::new()))
    }

    /// Begins a test: a report that is still on its way is of an earlier one, and counts for nothing.
    pub(super) fn set_free(&self) {
        self.0.send_replace(Flight::new());
    }

    /// Returns the key of the current test in a namespace.
    pub(super) fn key(&self, namespace: &Namespace) -> Vec<u8> {
        namespace.qualify(&format!("{NAME}{}", self.0.borrow().digits))
    }

    /// Takes the report if it is that of a canary: of this test, or of another link or time, which concerns nobody
    /// else. Called in the connection's reader.
    pub(super) fn takes(&self, namespace: &Namespace, key: &[u8]) -> bool {
        let Some(digits) = namespace.strip(key).and_then(|key| key.strip_prefix(NAME.as_bytes())) else { return false };
        if digits.len() != DIGITS || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return false;
        }
        self.0.send_if_modified(|flight| {
            let new = flight.digits.as_bytes() == digits && flight.seen_in(namespace).is_none();
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
    fn new() -> Self {
        Self { digits: format!("{:0DIGITS$x}", fastrand::u128(..)), seen: Vec::new() }
    }

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
        assert!(own.takes(&n, &other.key(&n)) && own.seen_in(&n).is_none());
        for key in ["n:k", "n:\u{1}canary-", "n:\u{1}canary-0123", "n:canary-00000000000000000000000000000000"] {
            assert!(!own.takes(&n, key.as_bytes()), "{key}");
        }
        for other in [&m, &inner] {
            assert!(!own.takes(&n, &own.key(other)), "{other}");
        }
        assert!(own.takes(&n, &own.key(&n)) && own.seen_in(&n).is_some() && own.seen_in(&m).is_none());
        assert!(own.takes(&inner, &own.key(&inner)) && own.seen_in(&inner).is_some());
        let late = own.key(&n);
        own.set_free();
        assert!(own.takes(&n, &late) && own.seen_in(&n).is_none(), "a report of an earlier test");
    }
}
