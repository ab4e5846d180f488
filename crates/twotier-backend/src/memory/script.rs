//! A link in the hands of a test.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use twotier_core::{
    BackendError, BackendErrorKind, ChangeListener, Clock, Lease, LinkId, LinkState, LinkUp, Namespace, Timestamp,
};

/// Scripts the reports to one handle of a [`MemoryBackend`](crate::MemoryBackend): delays, repeats and loses them, cuts
/// the link and restores it. Made by [`scripted_link`](crate::MemoryBackend::scripted_link).
///
/// Reports keep their order whatever is done to them, as on a connection. A scripted link has a lease like a real one:
/// copies are served until the staleness bound has passed since the last [`heartbeat`](Self::heartbeat), which the test
/// makes, on the cache's own clock. Calls through the handle go on as if nothing was wrong;
/// [`FaultyBackend`](crate::FaultyBackend) is for breaking those.
///
/// ```
/// # use twotier_backend as twotier;
/// use twotier::MemoryBackend;
///
/// let backend = MemoryBackend::new();
/// let link = backend.scripted_link();
/// link.hold(); // give `backend` to a cache: no report reaches it before `link.release()`
/// ```
#[derive(Clone, Debug)]
pub struct MemoryLink {
    script: Arc<Script>,
}

/// What one report is about.
#[derive(Clone, Debug)]
pub(super) enum Report {
    Keys(Vec<Bytes>),
    Everything,
}

pub(super) struct Script {
    clock: Arc<dyn Clock>,
    /// Reports are delivered under this lock, one after the other.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listener: Option<(Namespace, Arc<dyn ChangeListener>)>,
    held: bool,
    repeated: bool,
    to_lose: u64,
    waiting: VecDeque<Report>,
    down_since: Option<Timestamp>,
    /// Whether the other end is gone, and nobody cut the link.
    is_lost: bool,
}

impl MemoryLink {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { script: Arc::new(Script { clock, state: Mutex::default() }) }
    }

    pub(super) fn script(&self) -> Arc<Script> {
        Arc::clone(&self.script)
    }

    /// Keeps every report back from now on, as a network that delivers nothing. Heartbeats are not answered.
    pub fn hold(&self) {
        self.script.state.lock().held = true;
    }

    /// Delivers the oldest reports that are kept back, and returns how many are left.
    pub fn deliver(&self, reports: usize) -> usize {
        let mut state = self.script.state.lock();
        for _ in 0..reports {
            state.deliver_oldest();
        }
        state.waiting.len()
    }

    /// Delivers everything that was kept back, in order, and lets reports through again.
    pub fn release(&self) {
        let mut state = self.script.state.lock();
        state.held = false;
        while state.deliver_oldest() {}
    }

    /// Delivers every report twice, or not any more.
    pub fn repeat(&self, repeat: bool) {
        self.script.state.lock().repeated = repeat;
    }

    /// Loses the next reports without a word, which no link that is up may do: a cache that receives nothing is stale
    /// until the time to live of its copies ends.
    pub fn lose(&self, reports: u64) {
        self.script.state.lock().to_lose = reports;
    }

    /// Makes a heartbeat, and returns whether it was answered: not while reports are kept back or the link is down.
    pub fn heartbeat(&self) -> bool {
        let state = self.script.state.lock();
        match &state.listener {
            Some((_, listener)) if !state.held && state.down_since.is_none() => {
                listener.proof_of_life(listener.mark(LinkId::ONLY));
                true
            }
            _ => false,
        }
    }

    /// Returns whether a heartbeat would be answered.
    pub(super) fn answers(&self) -> bool {
        let state = self.script.state.lock();
        !state.held && state.down_since.is_none()
    }

    /// The other end is gone: the link is lost, unless it is down anyway.
    pub(super) fn lose_link(&self) {
        let is_up = self.script.state.lock().down_since.is_none();
        if is_up {
            self.cut();
            self.script.state.lock().is_lost = true;
        }
    }

    /// The other end is there: a link that was lost is made anew, and one that was cut stays so.
    pub(super) fn restore_after_loss(&self) {
        let was_lost = std::mem::take(&mut self.script.state.lock().is_lost);
        if was_lost {
            self.restore();
        }
    }

    /// Cuts the link, and the cache notices: what was kept back is lost.
    pub fn cut(&self) {
        let mut state = self.script.state.lock();
        state.waiting.clear();
        state.down_since = Some(self.script.clock.now());
        if let Some((_, listener)) = &state.listener {
            listener.link_down(LinkId::ONLY);
        }
    }

    /// Makes the link anew, with a first heartbeat. Reports are let through.
    pub fn restore(&self) {
        let mut state = self.script.state.lock();
        state.held = false;
        if state.down_since.take().is_some()
            && let Some((_, listener)) = &state.listener
        {
            up(&**listener);
        }
    }
}

impl Script {
    /// Takes the listener of the handle, and notifies it that the link is up, unless it was cut.
    pub(super) fn attach(&self, namespace: Namespace, listener: Arc<dyn ChangeListener>) {
        let mut state = self.state.lock();
        if state.down_since.is_none() {
            up(&*listener);
        }
        state.listener = Some((namespace, listener));
    }

    /// Ends the link, and returns the listener to be dropped.
    pub(super) fn detach(&self) -> Option<Arc<dyn ChangeListener>> {
        let mut state = self.state.lock();
        state.waiting.clear();
        let (_, listener) = state.listener.take()?;
        listener.link_down(LinkId::ONLY);
        Some(listener)
    }

    pub(super) fn report(&self, report: Report) {
        let mut state = self.state.lock();
        if state.down_since.is_some() {
            return;
        }
        if state.to_lose > 0 {
            state.to_lose -= 1;
            return;
        }
        state.waiting.push_back(report);
        if !state.held {
            state.deliver_oldest();
        }
    }

    /// Returns the state of a link that has been up for this long unless it was cut.
    pub(super) fn link(&self, age: Duration) -> LinkState {
        match self.state.lock().down_since {
            None => LinkState::Up(LinkUp::new(age)),
            Some(since) => {
                let cause = BackendError::new(BackendErrorKind::Unavailable, "the link was cut");
                LinkState::down(self.clock.now().since(since), cause)
            }
        }
    }
}

impl State {
    fn deliver_oldest(&mut self) -> bool {
        let Some(report) = self.waiting.pop_front() else { return false };
        if let Some((namespace, listener)) = &self.listener {
            for _ in 0..=usize::from(self.repeated) {
                match &report {
                    Report::Everything => listener.flushed(LinkId::ONLY),
                    Report::Keys(keys) => {
                        let own = keys.iter().filter(|key| namespace.strip(key).is_some());
                        own.for_each(|key| listener.changed(key));
                    }
                }
            }
        }
        true
    }
}

fn up(listener: &dyn ChangeListener) {
    listener.link_up(LinkId::ONLY, Lease::Renewed);
    listener.proof_of_life(listener.mark(LinkId::ONLY));
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Script")
            .field("held", &state.held)
            .field("waiting", &state.waiting.len())
            .field("down", &state.down_since.is_some())
            .finish_non_exhaustive()
    }
}
