//! What became of every own write, by the server's history and in the order of the calls.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use twotier_testkit::{
    history::WriteOutcome,
    simulation::{Histories, Version, Writer},
};

use crate::{checker::qualified, origin::row_in};

/// One key of an own write.
#[derive(Clone, Debug)]
pub(crate) struct Tried {
    pub(crate) cache: usize,
    pub(crate) key: String,
    /// `None` for a deletion.
    pub(crate) value: Option<String>,
    /// Where the call is in the order of all calls and ends.
    pub(crate) called: u64,
    pub(crate) ended: u64,
    /// The same in virtual time, in which many things happen at once.
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) outcome: WriteOutcome,
}

/// Every own write of a run.
#[derive(Default)]
pub(crate) struct Writes {
    order: AtomicU64,
    tried: Mutex<Vec<Tried>>,
}

impl Writes {
    /// Takes a place in the order of all calls and ends.
    pub(crate) fn place(&self) -> u64 {
        self.order.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn add(&self, tried: Tried) {
        self.tried.lock().unwrap().push(tried);
    }

    /// Finds writes that took effect although they were not sent, and such that undid a later one.
    pub(crate) fn judge(&self, histories: &Histories, mut violation: impl FnMut(&str, String)) {
        let tried = self.tried.lock().unwrap();
        let mut times: HashMap<(&str, &str), usize> = HashMap::new();
        for Tried { key, value, .. } in &*tried {
            if let Some(value) = value {
                *times.entry((key.as_str(), value.as_str())).or_default() += 1;
            }
        }
        for write in &*tried {
            // Of a value that was written more than once nobody knows which write made a version; a row may have been
            // loaded.
            let Some(value) = write.value.as_deref() else { continue };
            if times[&(write.key.as_str(), value)] > 1 || row_in(value).is_some() {
                continue;
            }
            let history = histories.history(&qualified(&write.key));
            let Some(last) = history.iter().rposition(|version| is_of(version, write)) else { continue };
            // The value of an earlier load may be written again, and then not be sent.
            if write.outcome == WriteOutcome::NotSent && history[last].at >= write.from {
                violation("what was not sent has no effect", format!("{write:?} made version {last}"));
            }
            if history[last].lost.is_some() {
                continue;
            }
            let undone = tried.iter().find(|later| {
                later.cache == write.cache
                    && later.key == write.key
                    && later.called > write.ended
                    && later.outcome == WriteOutcome::Acknowledged
                    && made(histories, &history, later)
                        .is_some_and(|index| index < last && history[index].lost.is_none())
            });
            if let Some(later) = undone {
                violation(
                    "nothing acknowledged is undone",
                    format!("{write:?} made version {last}, after a later one: {later:?}"),
                );
            }
        }
    }
}

fn is_of(version: &Version, write: &Tried) -> bool {
    version.value == write.value && version.by == Writer::Link(write.cache)
}

/// Returns which version a write that was acknowledged made.
pub(crate) fn made(histories: &Histories, history: &[Version], write: &Tried) -> Option<usize> {
    if write.value.is_some() {
        let within = |version: &Version| (write.from..=write.to).contains(&version.at);
        return history.iter().rposition(|version| is_of(version, write) && within(version));
    }
    let deletions = histories.deletions(&qualified(&write.key), write.cache, write.from, write.to);
    // One of an earlier write may have come late in between.
    deletions.iter().rfind(|deletion| !deletion.is_lost).map(|deletion| deletion.index)
}
