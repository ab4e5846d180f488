//! What happened in a run, event by event.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

/// One event of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, since the run began.
    pub at: Duration,
    /// Who did it.
    pub who: String,
    /// What was done.
    pub what: String,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10.3} ms  {:<12} {}", self.at.as_secs_f64() * 1000.0, self.who, self.what)
    }
}

/// Collects the events of a run, and its time. Clones share the events.
#[derive(Clone, Debug)]
pub struct Journal {
    origin: Instant,
    events: Option<Arc<Mutex<Vec<Event>>>>,
}

impl Journal {
    /// Starts a journal; the run's time begins now. One that is not kept costs nothing.
    #[must_use]
    pub fn start(kept: bool) -> Self {
        Self { origin: Instant::now(), events: kept.then(Arc::default) }
    }

    /// Returns the time since the run began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Writes an event down; `what` is only asked for where the journal is kept.
    pub fn note(&self, who: impl fmt::Display, what: impl FnOnce() -> String) {
        if let Some(events) = &self.events {
            events.lock().unwrap().push(Event { at: self.now(), who: who.to_string(), what: what() });
        }
    }

    /// Takes the events so far.
    #[must_use]
    pub fn take(&self) -> Vec<Event> {
        self.events.as_ref().map(|events| std::mem::take(&mut *events.lock().unwrap())).unwrap_or_default()
    }
}
