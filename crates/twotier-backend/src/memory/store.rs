//! The values, by key, and their deadlines, by time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use twotier_core::{RemainingTtl, Timestamp};

use crate::Stored;

/// An ordered map with expiry.
///
/// Ordered by key, so that clearing a prefix costs what it removes, and no choice of keys makes it slow.
/// Every deadline is in `deadlines` once, so freeing what has expired costs what it frees.
#[derive(Clone, Default)]
pub(super) struct Store {
    entries: BTreeMap<Bytes, Entry>,
    deadlines: BTreeSet<(Timestamp, Bytes)>,
}

#[derive(Clone)]
struct Entry {
    value: Bytes,
    deadline: Option<Timestamp>,
}

impl Store {
    /// Returns a value that lives at that time.
    pub(super) fn get(&self, key: &[u8], now: Timestamp) -> Option<Stored> {
        let entry = self.entries.get(key)?;
        let ttl = match entry.deadline {
            None => RemainingTtl::Persistent,
            Some(deadline) if now < deadline => RemainingTtl::Expires(deadline.since(now)),
            Some(_passed) => return None,
        };
        Some(Stored { value: entry.value.clone(), ttl })
    }

    /// Puts a value in, in place of any other with its deadline.
    pub(super) fn set(&mut self, key: Bytes, value: Bytes, deadline: Option<Timestamp>) {
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, key.clone()));
        }
        let old = self.entries.insert(key.clone(), Entry { value, deadline });
        if let Some(old) = old.and_then(|old| old.deadline).filter(|old| Some(*old) != deadline) {
            self.deadlines.remove(&(old, key));
        }
    }

    /// Returns the deadline of a value that is there. What has expired must have been freed before.
    pub(super) fn deadline(&self, key: &[u8]) -> Option<Option<Timestamp>> {
        self.entries.get(key).map(|entry| entry.deadline)
    }

    /// Sets the deadline of a value, and returns whether it was there. What has expired must have been freed before.
    pub(super) fn touch(&mut self, key: &Bytes, deadline: Timestamp) -> bool {
        let Some(entry) = self.entries.get(key) else { return false };
        self.set(key.clone(), entry.value.clone(), Some(deadline));
        true
    }

    /// Removes a value and returns its key if it was there. What has expired must have been freed before.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Bytes> {
        let (key, entry) = self.entries.remove_entry(key)?;
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, key.clone()));
        }
        Some(key)
    }

    /// Removes every value whose key starts like this and returns the keys.
    pub(super) fn remove_prefix(&mut self, prefix: &[u8]) -> Vec<Bytes> {
        let from = Bytes::copy_from_slice(prefix);
        let keys: Vec<Bytes> =
            self.entries.range(from..).map(|(key, _)| key.clone()).take_while(|key| key.starts_with(prefix)).collect();
        for key in &keys {
            self.remove(key);
        }
        keys
    }

    /// Removes every value whose key is meant, and returns them with their deadlines.
    pub(super) fn take_if(&mut self, is_meant: impl Fn(&[u8]) -> bool) -> Vec<(Bytes, Bytes, Option<Timestamp>)> {
        let keys: Vec<Bytes> = self.entries.keys().filter(|key| is_meant(key)).cloned().collect();
        let take = |key: Bytes| {
            let Entry { value, deadline } = self.entries.remove(&key)?;
            if let Some(deadline) = deadline {
                self.deadlines.remove(&(deadline, key.clone()));
            }
            Some((key, value, deadline))
        };
        keys.into_iter().filter_map(take).collect()
    }

    /// Frees what has expired by that time.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while self.deadlines.first().is_some_and(|(deadline, _)| *deadline <= now) {
            if let Some((_, key)) = self.deadlines.pop_first() {
                self.entries.remove(&key);
            }
        }
    }

    pub(super) fn flush(&mut self) {
        self.entries.clear();
        self.deadlines.clear();
    }

    /// Returns how many values live at that time.
    pub(super) fn len(&mut self, now: Timestamp) -> usize {
        self.expire(now);
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn a_value_lives_until_its_deadline_and_not_at_it() {
        let mut store = Store::default();
        store.set(key("k"), key("v"), Some(at(10)));
        assert_eq!(
            store.get(b"k", at(9)),
            Some(Stored { value: key("v"), ttl: RemainingTtl::Expires(std::time::Duration::from_nanos(1)) })
        );
        assert_eq!(store.get(b"k", at(10)), None);
        assert_eq!(store.len(at(9)), 1);
        assert_eq!(store.len(at(10)), 0);
    }

    #[test]
    fn an_overwritten_deadline_frees_nothing() {
        for (first, second) in [(Some(at(10)), Some(at(20))), (Some(at(10)), None), (Some(at(10)), Some(at(10)))] {
            let mut store = Store::default();
            store.set(key("k"), key("old"), first);
            store.set(key("k"), key("new"), second);
            assert_eq!(store.deadlines.len(), usize::from(second.is_some()));
            store.expire(at(9));
            assert_eq!(store.entries.len(), 1);
            store.expire(at(19));
            assert_eq!(store.entries.len(), usize::from(second != Some(at(10))), "{first:?} {second:?}");
        }
    }

    #[test]
    fn what_is_gone_leaves_no_deadline() {
        let mut store = Store::default();
        for name in ["a:1", "a:2", "b:1"] {
            store.set(key(name), key("v"), Some(at(10)));
        }
        assert_eq!(store.remove(b"a:1"), Some(key("a:1")));
        assert_eq!(store.remove(b"a:1"), None);
        assert_eq!(store.remove_prefix(b"a:"), [key("a:2")]);
        assert_eq!(store.deadlines.len(), 1);
        store.flush();
        assert_eq!((store.entries.len(), store.deadlines.len()), (0, 0));
    }
}
