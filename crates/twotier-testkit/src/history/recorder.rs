//! What one task records.

use std::sync::Arc;

use super::{
    Change, History,
    event::{Event, HistoryTime, Outcome, WriteOutcome},
};

/// How many events a task remembers.
const REMEMBERED: usize = 4096;

/// A read under way: what it may not fall behind.
#[derive(Clone, Copy, Debug)]
#[must_use = "a read that is not ended is not checked"]
pub struct Reading {
    pub(super) key: usize,
    pub(super) start: HistoryTime,
    /// What the own party had acknowledged.
    pub(super) own: u64,
    /// What the handle had seen.
    pub(super) seen: u64,
}

/// A write under way.
#[derive(Clone, Copy, Debug)]
#[must_use = "a write that is not ended counts as one that may have been executed"]
pub struct Writing {
    /// The key, by number.
    pub key: usize,
    /// The version written.
    pub version: u64,
    start: HistoryTime,
    change: Change,
}

/// Records what one task does, in a ring of its own. When it is dropped after a violation, it leaves the events of the
/// keys concerned with the [`History`].
#[derive(Debug)]
pub struct Recorder {
    history: Arc<History>,
    name: String,
    handle: usize,
    events: Vec<Event>,
    count: usize,
}

impl Recorder {
    /// Starts recording for a task with this name that uses this handle.
    #[must_use]
    pub fn new(history: &Arc<History>, name: String, handle: usize) -> Self {
        Self { history: Arc::clone(history), name, handle, events: Vec::new(), count: 0 }
    }

    /// Returns how many events were recorded.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Begins a read.
    pub fn begin_read(&self, key: usize) -> Reading {
        self.history.begin_read(self.handle, key, self.history.now())
    }

    /// Ends a read, and checks it.
    pub fn end_read(&mut self, operation: &'static str, reading: Reading, version: Option<u64>, hit: bool) {
        self.push(Event {
            operation,
            key: reading.key,
            start: reading.start,
            end: self.history.now(),
            version,
            outcome: if hit { Outcome::Hit } else { Outcome::Ok },
        });
        self.history.end_read(self.handle, reading, version, hit);
    }

    /// Ends a read that may have been answered by the origin of its key, and checks it.
    pub fn end_load(&mut self, operation: &'static str, reading: Reading, version: u64) {
        let Reading { key, start, .. } = reading;
        let end = self.history.now();
        self.push(Event { operation, key, start, end, version: Some(version), outcome: Outcome::Ok });
        self.history.end_load(self.handle, reading, version);
    }

    /// Ends a read that brought nothing.
    pub fn fail_read(&mut self, operation: &'static str, reading: Reading) {
        let Reading { key, start, .. } = reading;
        let end = self.history.now();
        self.push(Event { operation, key, start, end, version: None, outcome: Outcome::Failed });
    }

    /// Begins a write.
    pub fn begin_write(&self, key: usize, change: Change) -> Writing {
        let start = self.history.now();
        Writing { key, version: self.history.begin_write(key, change, start), start, change }
    }

    /// Ends a write.
    pub fn end_write(&mut self, operation: &'static str, writing: Writing, outcome: WriteOutcome) {
        let Writing { key, version, start, change } = writing;
        let end = self.history.now();
        self.history.end_write(key, version, outcome, end);
        let version = (change == Change::Value).then_some(version);
        let outcome = match outcome {
            WriteOutcome::Acknowledged => Outcome::Ok,
            WriteOutcome::NotSent => Outcome::Failed,
            WriteOutcome::Unknown => Outcome::Open,
        };
        self.push(Event { operation, key, start, end, version, outcome });
    }

    fn push(&mut self, event: Event) {
        if self.events.len() < REMEMBERED {
            self.events.push(event);
        } else {
            self.events[self.count % REMEMBERED] = event;
        }
        self.count += 1;
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.history.is_broken() {
            self.history.keep(&self.name, self.events.iter().copied());
        }
    }
}
