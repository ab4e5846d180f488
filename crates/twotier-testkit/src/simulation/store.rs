//! What the server keeps: the present, and every version there ever was.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::history::{Version, Writer};

/// Keys and their histories. A key that was never written has one version: absent from the start.
#[derive(Debug, Default)]
pub(super) struct Store {
    histories: BTreeMap<String, Vec<Version>>,
    /// What a crash can fall back to: for each key the version of the last snapshot.
    snapshot: BTreeMap<String, usize>,
}

impl Store {
    /// Returns all versions of a key, the present one last, after letting it expire if it is time.
    pub(super) fn history(&mut self, key: &str, now: Duration) -> &mut Vec<Version> {
        let history = self.histories.entry(key.to_owned()).or_insert_with(|| vec![Version::absent_from_the_start()]);
        if let Some(Version { value: Some(_), expires: Some(expires), .. }) = history.last()
            && now >= *expires
        {
            let at = *expires;
            history.push(Version { value: None, at, acknowledged: None, expires: None, by: Writer::Server });
        }
        history
    }

    /// Returns all versions of a key without letting anything happen.
    pub(super) fn raw(&self, key: &str) -> Vec<Version> {
        self.histories.get(key).cloned().unwrap_or_else(|| vec![Version::absent_from_the_start()])
    }

    pub(super) fn present(&mut self, key: &str, now: Duration) -> &Version {
        self.history(key, now).last().expect("a history is never empty")
    }

    /// Returns whether a key expired and nobody has touched it since.
    pub(super) fn is_expired(&self, key: &str, now: Duration) -> bool {
        let present = self.histories.get(key).and_then(|history| history.last());
        present.is_some_and(|version| version.is_expired(now))
    }

    /// Returns the keys that expired and that nobody has touched since.
    pub(super) fn expired(&self, now: Duration) -> Vec<String> {
        self.histories.keys().filter(|key| self.is_expired(key, now)).cloned().collect()
    }

    /// Makes a new version, and returns its index in the history.
    pub(super) fn change(
        &mut self,
        key: &str,
        value: Option<String>,
        expires: Option<Duration>,
        by: Writer,
        now: Duration,
    ) -> usize {
        let history = self.history(key, now);
        history.push(Version { value, at: now, acknowledged: None, expires, by });
        history.len() - 1
    }

    /// Records when the reply to the command that made a version left.
    pub(super) fn acknowledge(&mut self, key: &str, index: usize, now: Duration) {
        if let Some(version) = self.histories.get_mut(key).and_then(|history| history.get_mut(index)) {
            version.acknowledged = Some(now);
        }
    }

    /// Returns the keys there are that start with a prefix, in order, from after `cursor` on.
    pub(super) fn keys_after(&mut self, prefix: &str, cursor: Option<&str>, now: Duration) -> Vec<String> {
        let all: BTreeSet<String> = self.histories.keys().cloned().collect();
        let after = |key: &&String| cursor.is_none_or(|cursor| key.as_str() > cursor) && key.starts_with(prefix);
        all.iter().filter(after).filter(|key| self.present(key, now).value.is_some()).cloned().collect()
    }

    /// Remembers the present for [`fall_back`](Self::fall_back).
    pub(super) fn take_snapshot(&mut self) {
        self.snapshot = self.histories.iter().map(|(key, history)| (key.clone(), history.len() - 1)).collect();
    }

    /// Makes every key what it was at the last snapshot, or absent if `nothing` is left.
    pub(super) fn fall_back(&mut self, nothing: bool, now: Duration) {
        let keys: Vec<String> = self.histories.keys().cloned().collect();
        for key in keys {
            let snapshot = self.snapshot.get(&key).copied().unwrap_or(0);
            let history = self.history(&key, now);
            let old = &history[if nothing { 0 } else { snapshot }];
            let (value, expires) = if old.is_expired(now) { (None, None) } else { (old.value.clone(), old.expires) };
            let present = history.last().expect("a history is never empty");
            if (&present.value, present.expires) != (&value, expires) {
                // Nobody was notified, but nobody may be served the old value for longer than after a write at this
                // moment.
                let (acknowledged, by) = (Some(now), Writer::Server);
                history.push(Version { value, at: now, acknowledged, expires, by });
            }
        }
    }
}
