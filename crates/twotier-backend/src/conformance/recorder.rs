//! A listener that records what it receives.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use twotier_core::{ChangeListener, Clock, Lease, LinkId, Mark, SystemClock};

/// Something a listener received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A key changed.
    Changed(Bytes),
    /// Everything behind a link may have changed.
    Flushed(LinkId),
    /// Changes are reported over a link from now on.
    LinkUp(LinkId, Lease),
    /// Changes are not reported over a link any more.
    LinkDown(LinkId),
}

/// Writes down, in order, what a backend reports.
#[derive(Debug)]
pub struct Recorder {
    clock: SystemClock,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    epochs: BTreeMap<LinkId, u64>,
    events: Vec<Event>,
    proofs: u64,
}

impl Log {
    fn epoch(&self, link: LinkId) -> u64 {
        self.epochs.get(&link).copied().unwrap_or(0)
    }
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
            Event::Flushed(_) | Event::LinkUp(..) | Event::LinkDown(_) => true,
        })
    }

    /// Returns the lease of the link that came up last, `None` once one went down since.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.log.lock().events.iter().rev().find_map(|event| match event {
            Event::LinkUp(_, lease) => Some(Some(*lease)),
            Event::LinkDown(_) => Some(None),
            Event::Changed(_) | Event::Flushed(_) => None,
        })?
    }

    /// Returns how many valid proofs of life there were.
    #[must_use]
    pub fn proofs(&self) -> u64 {
        self.log.lock().proofs
    }

    /// Records what happened to a link, whose epoch goes so much further.
    fn record(&self, event: Event, link: LinkId, epochs: u64) {
        let mut log = self.log.lock();
        *log.epochs.entry(link).or_default() += epochs;
        log.events.push(event);
    }
}

impl ChangeListener for Recorder {
    fn mark(&self, link: LinkId) -> Mark {
        Mark::new(link, self.log.lock().epoch(link), self.clock.now())
    }

    fn proof_of_life(&self, mark: Mark) {
        let mut log = self.log.lock();
        log.proofs += u64::from(log.epoch(mark.link) == mark.epoch);
    }

    fn changed(&self, key: &[u8]) {
        self.log.lock().events.push(Event::Changed(Bytes::copy_from_slice(key)));
    }

    fn flushed(&self, link: LinkId) {
        self.record(Event::Flushed(link), link, 2);
    }

    fn link_up(&self, link: LinkId, lease: Lease) {
        self.record(Event::LinkUp(link, lease), link, 1);
    }

    fn link_down(&self, link: LinkId) {
        self.record(Event::LinkDown(link), link, 1);
    }
}
