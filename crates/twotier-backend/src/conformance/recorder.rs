//! A listener that records what it receives.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use twotier_core::{ChangeListener, Clock, Lease, Mark, SystemClock};

/// Something a listener received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A key changed.
    Changed(Bytes),
    /// Everything may have changed.
    Flushed,
    /// Changes are reported from now on.
    LinkUp(Lease),
    /// Changes are not reported any more.
    LinkDown,
}

/// Writes down, in order, what a backend reports.
#[derive(Debug)]
pub struct Recorder {
    clock: SystemClock,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    epoch: u64,
    events: Vec<Event>,
    proofs: u64,
}

impl Recorder {
    /// Makes a recorder without events.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { clock: SystemClock::new(), log: Mutex::default() })
    }

    /// Returns everything it received so far, proofs of life left out.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.log.lock().events.clone()
    }

    /// Returns how many events there were, as a point to look back to.
    #[must_use]
    pub fn position(&self) -> usize {
        self.log.lock().events.len()
    }

    /// Returns whether, since that point, something was reported that makes a copy of the key invalid.
    #[must_use]
    pub fn invalidated(&self, key: &[u8], since: usize) -> bool {
        self.log.lock().events[since..].iter().any(|event| match event {
            Event::Changed(changed) => changed == key,
            Event::Flushed | Event::LinkUp(_) | Event::LinkDown => true,
        })
    }

    /// Returns the lease of the link, `None` while it is not up.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.log.lock().events.iter().rev().find_map(|event| match event {
            Event::LinkUp(lease) => Some(Some(*lease)),
            Event::LinkDown => Some(None),
            Event::Changed(_) | Event::Flushed => None,
        })?
    }

    /// Returns how many valid proofs of life there were.
    #[must_use]
    pub fn proofs(&self) -> u64 {
        self.log.lock().proofs
    }

    fn record(&self, event: Event, epochs: u64) {
        let mut log = self.log.lock();
        log.epoch += epochs;
        log.events.push(event);
    }
}

impl ChangeListener for Recorder {
    fn mark(&self) -> Mark {
        Mark::new(self.log.lock().epoch, self.clock.now())
    }

    fn proof_of_life(&self, mark: Mark) {
        let mut log = self.log.lock();
        log.proofs += u64::from(log.epoch == mark.epoch);
    }

    fn changed(&self, key: &[u8]) {
        self.record(Event::Changed(Bytes::copy_from_slice(key)), 0);
    }

    fn flushed(&self) {
        self.record(Event::Flushed, 2);
    }

    fn link_up(&self, lease: Lease) {
        self.record(Event::LinkUp(lease), 1);
    }

    fn link_down(&self) {
        self.record(Event::LinkDown, 1);
    }
}
