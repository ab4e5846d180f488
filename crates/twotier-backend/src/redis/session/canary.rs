//! The canary: a change of our own making that must be reported to us, before anything is kept on the link's word.

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};
use twotier_core::Namespace;

/// What the names of all canaries begin with, within their namespace: a control character that people do not type.
const NAME: &str = "\u{1}canary-";
/// How many hexadecimal digits follow.
const DIGITS: usize = 32;

/// The key of one link's test, and whether the report of it came.
pub(super) struct Canary {
    key: Bytes,
    /// How long the part is that all canaries of the namespace have in common.
    common: usize,
    seen: watch::Sender<Option<Instant>>,
}

impl Canary {
    /// Chooses a key that nobody else uses: 128 random bits.
    pub(super) fn new(namespace: &Namespace) -> Self {
        let common = namespace.qualify(NAME);
        let key = [&common[..], format!("{:0DIGITS$x}", fastrand::u128(..)).as_bytes()].concat();
        Self { key: key.into(), common: common.len(), seen: watch::Sender::new(None) }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Takes the report if it is that of a canary: of this one, or of another link, which concerns nobody else. Called
    /// in the connection's reader.
    pub(super) fn matches(&self, key: &[u8]) -> bool {
        if key == self.key {
            self.seen.send_if_modified(|seen| seen.replace(Instant::now()).is_none());
            return true;
        }
        let Some(digits) = key.strip_prefix(&self.key[..self.common]) else { return false };
        digits.len() == DIGITS && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// Returns when the report came, if it did.
    pub(super) fn seen(&self) -> Option<Instant> {
        *self.seen.borrow()
    }

    /// Waits for the report.
    pub(super) async fn report(&self) {
        // The sender is this one's own: it is not dropped meanwhile.
        let _ = self.seen.subscribe().wait_for(Option::is_some).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_of_the_namespace_are_no_keys_and_only_the_own_one_is_seen() {
        let namespace = Namespace::new("n").unwrap();
        let (own, other) = (Canary::new(&namespace), Canary::new(&namespace));
        assert!(own.matches(other.key()) && own.seen().is_none());
        for key in ["n:k", "n:\u{1}canary-", "n:\u{1}canary-0123", "n:canary-00000000000000000000000000000000"] {
            assert!(!own.matches(key.as_bytes()), "{key}");
        }
        for other in ["m", "n:m"] {
            assert!(!own.matches(Canary::new(&Namespace::new(other).unwrap()).key()), "{other}");
        }
        let inner = Canary::new(&Namespace::new("n:m").unwrap());
        assert!(!inner.matches(own.key()) && inner.matches(inner.key()));
        assert!(own.matches(own.key()) && own.seen().is_some());
    }
}
