//! What the servers keep: the present, and every version there ever was.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use super::{
    history::{Deletion, Version, Writer},
    journal::Journal,
};

/// When a majority knows of a move that it does not know of yet.
const UNKNOWN: Duration = Duration::MAX;

/// Every version that every key ever had, in the order in which they were made. Clones are the same, and the nodes of a
/// cluster share them.
#[derive(Clone, Debug)]
pub struct Histories {
    journal: Journal,
    store: Arc<Mutex<Store>>,
}

/// Keys and their histories. A key that was never written has one version: absent from the start.
#[derive(Debug, Default)]
pub(super) struct Store {
    histories: BTreeMap<String, Vec<Version>>,
    /// What a crash can fall back to: for each key the version of the last snapshot.
    snapshot: BTreeMap<String, usize>,
    pub(super) deletions: Vec<Deletion>,
    /// What a node of a cluster holds of keys that it has lost to another one without knowing it.
    forks: BTreeMap<(usize, String), usize>,
    /// What such nodes have answered, over which link.
    deceptions: Vec<(String, usize, Duration, Option<String>)>,
}

/// What the next owner of a key holds of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inherited {
    /// Everything: the slot was moved with its keys.
    Everything,
    /// Nothing: the slot was moved without them.
    Nothing,
    /// What there was so long ago: a replica lags behind.
    FromBefore(Duration),
}

impl Histories {
    pub(super) fn new(journal: Journal) -> Self {
        Self { journal, store: Arc::default() }
    }

    /// Returns every version of a key so far, the present one last but for those that are lost. There is always one.
    #[must_use]
    pub fn history(&self, key: &str) -> Vec<Version> {
        let (now, store) = (self.journal.now(), self.store());
        let mut history = store.raw(key);
        if store.is_expired(key, now) {
            // Looking must not change what the server does: it has yet to find this.
            let at = present_in(&history).and_then(|index| history[index].expires).unwrap_or(now);
            history.push(Version::by_itself(None, at));
        }
        history
    }

    /// Returns the value that a key has.
    #[must_use]
    pub fn present(&self, key: &str) -> Option<String> {
        let mut history = self.history(key);
        history.swap_remove(present_in(&history)?).value
    }

    /// Returns the deletions of a key over a link that were executed in this time, the earliest first.
    #[must_use]
    pub fn deletions(&self, key: &str, link: usize, from: Duration, to: Duration) -> Vec<Deletion> {
        let wanted = |it: &&Deletion| it.key == key && it.link == link && it.at >= from && it.at <= to;
        self.store().deletions.iter().filter(wanted).cloned().collect()
    }

    /// Returns whether a node that had lost a key has answered this over a link in this time.
    #[must_use]
    pub fn is_deception(&self, key: &str, link: usize, value: Option<&str>, from: Duration, to: Duration) -> bool {
        self.store().deceptions.iter().any(|(about, over, at, answered)| {
            (about.as_str(), *over, answered.as_deref()) == (key, link, value) && (from..=to).contains(at)
        })
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }
}

/// Returns which version is the present one: the last of those that are not lost.
fn present_in(history: &[Version]) -> Option<usize> {
    history.iter().rposition(|version| version.lost.is_none())
}

impl Store {
    /// Returns all versions of a key, after letting it expire if it is time.
    pub(super) fn history(&mut self, key: &str, now: Duration) -> &mut Vec<Version> {
        let expired = self.is_expired(key, now);
        let history = self.histories.entry(key.to_owned()).or_insert_with(|| vec![Version::absent_from_the_start()]);
        if expired && let Some(at) = present_in(history).and_then(|index| history[index].expires) {
            history.push(Version::by_itself(None, at));
        }
        history
    }

    /// Returns all versions of a key without letting anything happen.
    fn raw(&self, key: &str) -> Vec<Version> {
        self.histories.get(key).cloned().unwrap_or_else(|| vec![Version::absent_from_the_start()])
    }

    pub(super) fn present_index(&mut self, key: &str, now: Duration) -> usize {
        present_in(self.history(key, now)).expect("a key never has lost versions alone")
    }

    pub(super) fn present(&mut self, key: &str, now: Duration) -> &Version {
        let index = self.present_index(key, now);
        &self.histories[key][index]
    }

    /// Returns whether a key expired and nobody has touched it since.
    pub(super) fn is_expired(&self, key: &str, now: Duration) -> bool {
        let present = self.histories.get(key).and_then(|history| Some(&history[present_in(history)?]));
        present.is_some_and(|version| version.value.is_some() && version.is_expired(now))
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
        history.push(Version { value, at: now, acknowledged: None, expires, by, lost: None, moved: None });
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
        let all: Vec<String> = self.histories.keys().cloned().collect();
        let after = |key: &&String| cursor.is_none_or(|cursor| key.as_str() > cursor) && key.starts_with(prefix);
        all.iter().filter(after).filter(|key| self.present(key, now).value.is_some()).cloned().collect()
    }

    /// Remembers the present for [`fall_back`](Self::fall_back).
    pub(super) fn take_snapshot(&mut self) {
        let present = |(key, history): (&String, &Vec<Version>)| Some((key.clone(), present_in(history)?));
        self.snapshot = self.histories.iter().filter_map(present).collect();
    }

    /// Makes every key what it was at the last snapshot, or absent if `nothing` is left.
    pub(super) fn fall_back(&mut self, nothing: bool, now: Duration) {
        let keys: Vec<String> = self.histories.keys().cloned().collect();
        for key in keys {
            let snapshot = self.snapshot.get(&key).copied().unwrap_or(0);
            self.falls_back(&key, if nothing { 0 } else { snapshot }, now);
        }
    }

    /// Makes a key what it was as this version.
    fn falls_back(&mut self, key: &str, index: usize, now: Duration) {
        let history = self.history(key, now);
        let old = &history[index];
        let (value, expires) = if old.is_expired(now) { (None, None) } else { (old.value.clone(), old.expires) };
        let present = self.present(key, now);
        if (&present.value, present.expires) != (&value, expires) {
            // Nobody was notified, but nobody may be served the old value for longer than after a write at this moment.
            let version = Version { acknowledged: Some(now), expires, ..Version::by_itself(value, now) };
            self.history(key, now).push(version);
        }
    }
}

/// What the nodes of a cluster do that have lost keys without knowing it.
impl Store {
    /// Has another node be the owner of these keys: the one before holds what it did until it [learns](Self::learn) of
    /// it.
    pub(super) fn hand_over(&mut self, from: usize, moves: impl Fn(&str) -> bool, inherited: Inherited, now: Duration) {
        let keys: Vec<String> = self.histories.keys().filter(|key| moves(key)).cloned().collect();
        for key in keys {
            let present = self.present_index(&key, now);
            self.forks.insert((from, key.clone()), present);
            let history = self.history(&key, now);
            let Inherited::FromBefore(lag) = inherited else {
                let Version { value, expires, .. } = history[present].clone();
                let (value, expires) = if inherited == Inherited::Everything { (value, expires) } else { (None, None) };
                let moved = Version {
                    acknowledged: Some(now),
                    expires,
                    moved: Some(UNKNOWN),
                    ..Version::by_itself(value, now)
                };
                history.push(moved);
                continue;
            };
            let old = |version: &Version| version.lost.is_none() && version.at + lag <= now;
            let index = history.iter().rposition(old).unwrap_or(0);
            self.falls_back(&key, index, now);
        }
    }

    /// A majority knows of every move of these keys.
    pub(super) fn known(&mut self, moved: impl Fn(&str) -> bool, now: Duration) {
        for (_, history) in self.histories.iter_mut().filter(|(key, _)| moved(key)) {
            history
                .iter_mut()
                .filter(|version| version.moved == Some(UNKNOWN))
                .for_each(|version| version.moved = Some(now));
        }
    }

    /// Has a node know that it has lost these keys. Returns those that it held.
    pub(super) fn learn(&mut self, node: usize, lost: impl Fn(&str) -> bool) -> Vec<String> {
        let known = |(of, key): &(usize, String)| *of == node && lost(key);
        let held = |((_, key), index): (&(usize, String), &usize)| {
            self.histories[key][*index].value.is_some().then(|| key.clone())
        };
        let vanish = self.forks.iter().filter(|(place, _)| known(place)).filter_map(held).collect();
        self.forks.retain(|place, _| !known(place));
        vanish
    }

    /// Returns what a node holds of a key that it has lost, after letting it expire there if it is time.
    pub(super) fn forked(&mut self, node: usize, key: &str, since: Duration, now: Duration) -> Version {
        let index = self.forks.get(&(node, key.to_owned())).copied().unwrap_or(0);
        let version = self.raw(key).swap_remove(index);
        match version.expires.filter(|at| version.value.is_some() && *at <= now) {
            Some(at) => {
                let expired = Version { lost: Some(since), ..Version::by_itself(None, at) };
                self.fork(node, key, expired.clone());
                expired
            }
            None => version,
        }
    }

    /// Makes a version that is lost: nobody else ever sees it.
    pub(super) fn fork(&mut self, node: usize, key: &str, version: Version) -> usize {
        let history = self.histories.entry(key.to_owned()).or_insert_with(|| vec![Version::absent_from_the_start()]);
        history.push(version);
        let index = history.len() - 1;
        self.forks.insert((node, key.to_owned()), index);
        index
    }

    pub(super) fn deceives(&mut self, key: &str, link: usize, at: Duration, value: Option<String>) {
        self.deceptions.push((key.to_owned(), link, at, value));
    }
}
