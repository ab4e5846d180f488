//! Who wrote which key last in a cycle, and who is notified at its end.

use std::collections::BTreeMap;

use super::resp::Output;

/// Whose word a client asked for.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) prefix: String,
    pub(super) noloop: bool,
}

/// The keys changed in this cycle, each with the connection that changed it last, `None` for anyone not connected over
/// the network and for the server itself.
#[derive(Debug, Default)]
pub(super) struct Changed(BTreeMap<String, Option<u64>>);

impl Changed {
    pub(super) fn note(&mut self, key: &str, by: Option<u64>) {
        self.0.insert(key.to_owned(), by);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Writes the push that a client gets at the end of the cycle, and returns its keys.
    pub(super) fn tell(&self, client: u64, tracked: &Tracked, output: &mut Output) -> Vec<&str> {
        let own = |by: Option<u64>| tracked.noloop && by == Some(client);
        let keys: Vec<&str> = self
            .0
            .iter()
            .filter(|(key, by)| key.starts_with(&tracked.prefix) && !own(**by))
            .map(|(key, _)| key.as_str())
            .collect();
        if !keys.is_empty() {
            output.invalidate(Some(&keys));
        }
        keys
    }
}
