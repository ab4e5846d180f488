//! The source behind the caches: rows with versions, whose writers change the row and then the key.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::OwnedMutexGuard;
use twotier_testkit::{
    history::WriteOutcome,
    simulation::{Histories, Version},
};

use crate::{
    checker::{Span, qualified},
    writes::{Tried, made},
};

/// Which writes follow a change of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Following {
    /// The new row is set under its key, which is never removed. Every cache loads.
    Sets,
    /// Sets and deletions. Of each key only the cache that writes it loads it: what somebody else loads after a
    /// deletion is for a lease at the server to order. In return the server may evict and flush.
    OwnDeletions,
}

/// The rows, and what was seen of them.
#[derive(Default)]
pub(crate) struct Origin(Mutex<State>);

#[derive(Default)]
struct State {
    keys: BTreeMap<String, Rows>,
    /// The row that a cache has seen, by key.
    floors: BTreeMap<(usize, String), usize>,
    loads: usize,
}

#[derive(Default)]
struct Rows {
    /// Whoever writes the row does it alone, until the write of the key has ended too.
    permit: Arc<tokio::sync::Mutex<()>>,
    /// The writes that followed the rows from the second on, as far as they have ended. There always is a first row.
    followed: Vec<Option<Tried>>,
}

impl Rows {
    fn newest(&self) -> usize {
        self.followed.len() + 1
    }

    /// Returns the acknowledged writes with their rows.
    fn acknowledged(&self) -> impl DoubleEndedIterator<Item = (usize, &Tried)> {
        let rows = self.followed.iter().enumerate().filter_map(|(index, write)| Some((index + 2, write.as_ref()?)));
        rows.filter(|(_, write)| write.outcome == WriteOutcome::Acknowledged)
    }
}

impl Origin {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Waits for the right to write a row and its key.
    pub(crate) async fn acquire(&self, key: &str) -> OwnedMutexGuard<()> {
        let permit = Arc::clone(&self.state().keys.entry(key.to_owned()).or_default().permit);
        permit.lock_owned().await
    }

    /// Writes the next row.
    pub(crate) fn write(&self, key: &str) -> usize {
        let mut state = self.state();
        let rows = state.keys.entry(key.to_owned()).or_default();
        rows.followed.push(None);
        rows.newest()
    }

    /// Reads the row, for a loader.
    pub(crate) fn load(&self, key: &str) -> usize {
        let mut state = self.state();
        state.loads += 1;
        state.keys.entry(key.to_owned()).or_default().newest()
    }

    pub(crate) fn newest(&self, key: &str) -> usize {
        self.state().keys.entry(key.to_owned()).or_default().newest()
    }

    pub(crate) fn loads(&self) -> usize {
        self.state().loads
    }

    /// Takes note of how the write of a key ended that followed its row.
    pub(crate) fn followed(&self, row: usize, write: Tried) {
        let mut state = self.state();
        if write.outcome == WriteOutcome::Acknowledged {
            let floor = state.floors.entry((write.cache, write.key.clone())).or_default();
            *floor = (*floor).max(row);
        }
        let rows = state.keys.entry(write.key.clone()).or_default();
        rows.followed[row - 2] = Some(write);
    }

    /// Returns the row that a read which starts now must see at least.
    pub(crate) fn floor(&self, cache: usize, key: &str) -> usize {
        self.state().floors.get(&(cache, key.to_owned())).copied().unwrap_or_default()
    }

    /// Judges the row that a read returned.
    pub(crate) fn read(
        &self,
        span: Span,
        key: &str,
        floor: usize,
        row: usize,
        bound: Duration,
        loads: bool,
    ) -> Result<(), (&'static str, String)> {
        let mut state = self.state();
        let rows = state.keys.entry(key.to_owned()).or_default();
        if row > rows.newest() {
            return Err(("never written", format!("row {row} of {}", rows.newest())));
        }
        if row < floor {
            return Err(("monotonic reads with loads", format!("row {row}, but row {floor} was seen before")));
        }
        let next = rows.acknowledged().filter(|(later, _)| *later > row).map(|(_, write)| write.to).min();
        if let Some(next) = next.filter(|next| span.start > *next + bound) {
            let stale = span.start - next;
            return Err((
                "bounded staleness with loads",
                format!("row {row} is stale since {stale:?}, bound {bound:?}"),
            ));
        }
        let complete = rows.acknowledged().next_back().map_or(1, |(row, _)| row);
        // A loader may be ahead of the key: until the write that follows the row has ended, the key may go on holding
        // less.
        let seen = if loads { row.min(complete) } else { row };
        let floor = state.floors.entry((span.cache, key.to_owned())).or_default();
        *floor = (*floor).max(seen);
        Ok(())
    }

    /// Judges, at the end, whether any key ever went back behind a row that it had held or that was acknowledged.
    pub(crate) fn judge(&self, histories: &Histories, mut violation: impl FnMut(&str, String)) {
        for (key, rows) in &self.state().keys {
            let history = histories.history(&qualified(key));
            // From which version on no older row may be there.
            let mut least: BTreeMap<usize, usize> = BTreeMap::new();
            for (index, version) in history.iter().enumerate() {
                if let Some(row) = row_of(version) {
                    least.insert(index, row);
                }
            }
            for (row, write) in rows.acknowledged() {
                if let Some(index) = made(histories, &history, write) {
                    let least = least.entry(index).or_default();
                    *least = (*least).max(row);
                }
            }
            for (index, version) in history.iter().enumerate() {
                let Some(row) = row_of(version) else { continue };
                if let Some((&before, &newer)) = least.range(..index).find(|(_, least)| **least > row) {
                    violation(
                        "no loaded value over a newer one",
                        format!(
                            "{key} held row {row} as version {index} by {:?}, after row {newer} as version {before}",
                            version.by
                        ),
                    );
                    break;
                }
            }
        }
    }
}

/// What is stored of a row.
pub(crate) fn value_of(row: usize) -> String {
    format!("row-{row}")
}

/// Returns which row a value is.
pub(crate) fn row_in(value: &str) -> Option<usize> {
    value.strip_prefix("row-")?.parse().ok()
}

fn row_of(version: &Version) -> Option<usize> {
    row_in(version.value.as_deref()?)
}
