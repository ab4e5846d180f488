//! Where the memory of an agent lies: under which keys of the cache.

use crate::{Key, KeyText};

/// A key of an agent: `<agent id>:<key>`, where `:` and `%` within the agent id are escaped as in a tuple.
///
/// So the first `:` ends the agent id: no two pairs of an agent and a key share a stored key, and everything that
/// begins with an agent's id and a `:` is that agent's. The key stands there as it is. Nothing is a pattern anywhere:
/// the backend is given the beginning to clear as plain bytes.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a, K: ?Sized> {
    pub(super) agent_id: &'a str,
    pub(super) key: &'a K,
}

impl<K: Key + ?Sized> Key for Place<'_, K> {
    #[inline]
    fn write(&self, text: &mut KeyText) {
        beginning(self.agent_id).write(text);
        self.key.write(text);
    }
}

/// Returns what the stored keys of an agent begin with, and nobody else's.
pub(super) fn beginning(agent_id: &str) -> impl Key {
    // The empty second part of a tuple leaves the escaped first one and the `:`.
    (agent_id, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(agent_id: &str, key: &str) -> String {
        Place { agent_id, key }.with_text(str::to_owned)
    }

    #[test]
    fn a_stored_key_is_readable_and_the_key_stands_in_it_as_it_is() {
        assert_eq!(stored("planner", "plan:step:1"), "planner:plan:step:1");
        assert_eq!(stored("a:b%", "c:%"), "a%3Ab%25:c:%");
        assert_eq!(Place { agent_id: "a", key: &("x:y", 7) }.with_text(str::to_owned), "a:x%3Ay:7");
    }

    proptest! {
        #[test]
        fn no_two_pairs_of_agent_and_key_share_a_stored_key(
            a in "[ab:%3A25*?\\[\\]\\\\é]{1,5}", key_a in "[ab:%3A25*?\\[\\]\\\\é]{1,5}",
            b in "[ab:%3A25*?\\[\\]\\\\é]{1,5}", key_b in "[ab:%3A25*?\\[\\]\\\\é]{1,5}",
        ) {
            prop_assert_eq!(stored(&a, &key_a) == stored(&b, &key_b), (&a, &key_a) == (&b, &key_b));
            let begins = beginning(&a).with_text(|beginning| stored(&b, &key_b).starts_with(beginning));
            prop_assert_eq!(begins, a == b);
        }

        /// Where the same text is cut into an agent and a key at two places, and where one is the escape of the other.
        #[test]
        fn nor_do_two_cuts_of_one_text(text in "[a:%3A25]{2,8}", at in 1..8_usize, other in 1..8_usize) {
            let (at, other) = (at.min(text.len() - 1), other.min(text.len() - 1));
            let cut = |at: usize| (&text[..at], text[at..].trim_start_matches(':'));
            let ((a, key_a), (b, key_b)) = (cut(at), cut(other));
            prop_assert_eq!(stored(a, key_a) == stored(b, key_b), (a, key_a) == (b, key_b));
        }
    }
}
