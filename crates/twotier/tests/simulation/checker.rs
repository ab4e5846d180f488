//! Judges every answer by the server's own history of the key.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use twotier_testkit::simulation::{Histories, Journal, Version, Writer};

use crate::{
    origin::{Origin, row_in},
    writes::Writes,
};

/// The namespace of every cache.
pub(crate) const NAMESPACE: &str = "n";

/// What one operation was: by whom, and from when to when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) cache: usize,
    pub(crate) start: Duration,
    pub(crate) end: Duration,
}

/// The version that a read must see at least, and why.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Floor {
    index: usize,
    written: bool,
    /// The row of an origin.
    row: usize,
}

/// Which tier answered, as far as that is known from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServedBy {
    Local,
    Remote,
    Either,
}

/// A loader that ran.
#[derive(Clone, Debug)]
struct Load {
    cache: usize,
    key: String,
    value: String,
    began: Duration,
    ended: Duration,
}

/// An own write that was acknowledged to its caller.
#[derive(Clone, Debug)]
struct Put {
    cache: usize,
    key: String,
    index: usize,
    returned: Duration,
}

#[derive(Default)]
struct Seen {
    floors: BTreeMap<(usize, String), Floor>,
    loads: Vec<Load>,
    puts: Vec<Put>,
    violations: Vec<String>,
    operations: usize,
    hits: usize,
}

/// What the promises are, and what was seen of them.
pub(crate) struct Checker {
    pub(crate) histories: Histories,
    pub(crate) journal: Journal,
    max_staleness: Duration,
    op_timeout: Duration,
    pub(crate) writes: Writes,
    pub(crate) origin: Origin,
    seen: Mutex<Seen>,
}

impl Checker {
    pub(crate) fn new(histories: Histories, journal: Journal, max_staleness: Duration, op_timeout: Duration) -> Self {
        let (writes, origin) = (Writes::default(), Origin::default());
        Self { histories, journal, max_staleness, op_timeout, writes, origin, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// Writes a broken promise down.
    pub(crate) fn violation(&self, promise: &str, what: impl Into<String>) {
        let what = format!("{promise}: {}", what.into());
        self.journal.note("CHECKER", || what.clone());
        self.seen().violations.push(what);
    }

    /// Returns the first broken promise.
    pub(crate) fn first_violation(&self) -> Option<String> {
        self.seen().violations.first().cloned()
    }

    pub(crate) fn count_operation(&self) {
        self.seen().operations += 1;
    }

    /// Returns how many operations there were, and how many of the reads were local hits.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let seen = self.seen();
        (seen.operations, seen.hits)
    }

    pub(crate) fn history(&self, key: &str) -> Vec<Version> {
        self.histories.history(&qualified(key))
    }

    /// Returns the value that a key has.
    pub(crate) fn present(&self, key: &str) -> Option<String> {
        self.histories.present(&qualified(key))
    }

    /// Returns what a read that starts now must see at least.
    pub(crate) fn floor(&self, cache: usize, key: &str) -> Floor {
        let row = self.origin.floor(cache, key);
        let floor = self.seen().floors.get(&(cache, key.to_owned())).copied().unwrap_or_default();
        Floor { row, ..floor }
    }

    fn raise(&self, cache: usize, key: &str, index: usize, written: bool) {
        let mut seen = self.seen();
        let floor = seen.floors.entry((cache, key.to_owned())).or_default();
        if floor.index < index {
            *floor = Floor { index, written, ..*floor };
        }
    }

    /// Judges the answer of a read.
    pub(crate) fn read(&self, span: Span, key: &str, floor: Floor, value: Option<&str>, answer: ServedBy) {
        self.seen().hits += usize::from(answer == ServedBy::Local);
        if let Some(value) = value {
            self.row_read(span, key, floor, value, None);
        }
        let history = self.history(key);
        let same = |version: &Version| version.value.as_deref() == value && version.at <= span.end;
        // A value may have been there more than once: the answer is right if it is right for one of these versions.
        let mut verdict = Err(("never written", format!("{key} never was {value:?}")));
        for (index, version) in history.iter().enumerate().filter(|(_, version)| same(version)) {
            let judged = self.judge(span, &history, index, version, floor, answer);
            if judged.is_ok() {
                verdict = Ok(index);
                break;
            }
            verdict = judged.map(|()| index);
        }
        match verdict {
            // What the cluster drops binds nobody.
            Ok(index) if history[index].lost.is_some() => {}
            Ok(index) => self.raise(span.cache, key, index, false),
            // A node that has lost a key without knowing it answers for as long as it is asked.
            Err(_) if answer != ServedBy::Local && self.is_deception(span, key, value) => {}
            Err((promise, what)) => self.violation(
                promise,
                format!(
                    "cache {} read {key} = {value:?} ({answer:?}) from {:?} to {:?}: {what}",
                    span.cache, span.start, span.end
                ),
            ),
        }
    }

    fn judge(
        &self,
        span: Span,
        history: &[Version],
        index: usize,
        version: &Version,
        floor: Floor,
        answer: ServedBy,
    ) -> Result<(), (&'static str, String)> {
        if index < floor.index {
            let promise = if floor.written { "read your writes" } else { "monotonic reads" };
            return Err((promise, format!("version {index}, but version {} was seen before", floor.index)));
        }
        let bound = match answer {
            ServedBy::Local => self.max_staleness,
            // A read may join one that was sent before it, but not one that is older than the bound.
            ServedBy::Remote | ServedBy::Either => self.max_staleness.max(self.op_timeout),
        };
        if let Some(stale) =
            overwritten(history, index).and_then(|overwritten| span.start.checked_sub(overwritten.checked_add(bound)?))
            && !stale.is_zero()
        {
            let stale = stale + bound;
            return Err(("bounded staleness", format!("version {index} is stale since {stale:?}, bound {bound:?}")));
        }
        if answer == ServedBy::Local && version.is_expired(span.start) {
            let promise = "time to live";
            return Err((promise, format!("version {index} expired at {:?}", version.expires.unwrap_or_default())));
        }
        Ok(())
    }

    /// Returns whether the answer came from a node that had lost the key without knowing it.
    fn is_deception(&self, span: Span, key: &str, value: Option<&str>) -> bool {
        // A read may join one that was sent before it.
        let from = span.start.saturating_sub(self.max_staleness.max(self.op_timeout));
        self.histories.is_deception(&qualified(key), span.cache, value, from, span.end)
    }

    /// Judges the row that a read of a key with an origin returned. One that loads may have waited for a loader of
    /// somebody else for so long.
    pub(crate) fn row_read(&self, span: Span, key: &str, floor: Floor, value: &str, loader: Option<Duration>) {
        let Some(row) = row_in(value) else { return };
        let bound = self.max_staleness.max(self.op_timeout) + loader.unwrap_or_default();
        if let Err((promise, what)) = self.origin.read(span, key, floor.row, row, bound, loader.is_some()) {
            let Span { cache, start, end } = span;
            self.violation(promise, format!("cache {cache} read {key} = {value:?} from {start:?} to {end:?}: {what}"));
        }
    }

    /// Judges, at the end, what became of every write.
    pub(crate) fn judge_writes(&self) {
        self.writes.judge(&self.histories, |promise, what| self.violation(promise, what));
        self.origin.judge(&self.histories, |promise, what| self.violation(promise, what));
    }

    /// Takes note of a write that was acknowledged to its caller.
    pub(crate) fn wrote(&self, span: Span, key: &str, value: &str) {
        let history = self.history(key);
        let mine = |version: &Version| {
            version.value.as_deref() == Some(value)
                && version.by == Writer::Link(span.cache)
                && (span.start..=span.end).contains(&version.at)
        };
        match history.iter().position(mine) {
            Some(index) if history[index].lost.is_some() => {}
            Some(index) => {
                self.raise(span.cache, key, index, true);
                let put = Put { cache: span.cache, key: key.to_owned(), index, returned: span.end };
                self.seen().puts.push(put);
            }
            None => {
                self.violation("no write is lost", format!("{key} = {value} of cache {} was acknowledged", span.cache));
            }
        }
    }

    /// Takes note of a deletion that was acknowledged to its caller; `certain` if every key must have been deleted.
    pub(crate) fn deleted(&self, span: Span, key: &str, certain: bool) {
        let deletions = self.histories.deletions(&qualified(key), span.cache, span.start, span.end);
        match deletions.first() {
            Some(deletion) if deletion.is_lost => {}
            Some(deletion) => self.raise(span.cache, key, deletion.index, true),
            None if certain => {
                self.violation(
                    "no write is lost",
                    format!("deletion of {key} by cache {} was acknowledged", span.cache),
                );
            }
            None => {}
        }
    }

    /// Takes note of a loader that ran.
    pub(crate) fn loaded(&self, span: Span, key: &str, value: &str) {
        let Span { cache, start: began, end: ended } = span;
        let load = Load { cache, key: key.to_owned(), value: value.to_owned(), began, ended };
        self.seen().loads.push(load);
    }

    /// Returns whether this value came from a loader.
    pub(crate) fn is_loaded(&self, value: &str) -> bool {
        self.seen().loads.iter().any(|load| load.value == value)
    }

    /// Judges, at the end, whether a loaded value was stored over a write that returned while it was loaded.
    pub(crate) fn judge_loads(&self) {
        let (loads, puts) = {
            let seen = self.seen();
            (seen.loads.clone(), seen.puts.clone())
        };
        for load in loads {
            let history = self.history(&load.key);
            let value = Some(load.value.as_str());
            let Some(stored) = history.iter().position(|version| version.value.as_deref() == value) else { continue };
            // The last absence that the load can have begun with.
            let seen_absent =
                history.iter().rposition(|version| version.value.is_none() && version.at <= load.began).unwrap_or(0);
            let overwritten = puts.iter().find(|put| {
                put.cache == load.cache
                    && put.key == load.key
                    // At one moment of virtual time it is not known which came first.
                    && put.returned < load.ended
                    && (seen_absent + 1..stored).contains(&put.index)
            });
            if let Some(put) = overwritten {
                let Load { cache, key, value, began, ended } = &load;
                self.violation(
                    "superseded load",
                    format!(
                        "{key} = {value}, loaded by cache {cache} from {began:?} to {ended:?}, was stored over version {} \
                         of the same cache, whose write returned at {:?}",
                        put.index, put.returned
                    ),
                );
            }
        }
    }
}

/// Returns when a version was overwritten by one that was acknowledged, as early as anybody could know.
fn overwritten(history: &[Version], index: usize) -> Option<Duration> {
    if let Some(since) = history[index].lost {
        let moved = history.iter().filter(|version| version.at == since).filter_map(|version| version.moved).max();
        return Some(moved.unwrap_or(since).max(since));
    }
    let later = history[index + 1..].iter().filter(|version| version.lost.is_none());
    let mut known = Duration::ZERO;
    later
        .filter_map(|version| {
            known = known.max(version.moved.unwrap_or_default());
            Some(version.acknowledged?.max(known))
        })
        .min()
}

/// The name of a key at the server.
pub(crate) fn qualified(key: &str) -> String {
    format!("{NAMESPACE}:{key}")
}
