//! What every byte passes: the faults that are switched on, and the connections that are open.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, atomic::AtomicU64},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::timer::Timer;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Request,
    Reply,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Reset,
    Finish,
}

/// The faults in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Each way.
    pub(super) delay: Duration,
    pub(super) requests_stopped: bool,
    pub(super) replies_stopped: bool,
    pub(super) refuse: bool,
    pub(super) max_piece: Option<usize>,
    pub(super) corrupt_next: bool,
    pub(super) requests: Wire,
    pub(super) replies: Wire,
}

/// One way of all connections together.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// In bytes a second.
    pub(super) bandwidth: Option<u32>,
    /// When the last of what was taken will have passed.
    free: Option<Instant>,
}

impl Faults {
    /// Takes the time that so many bytes need, after those that are under way; returns when they will have passed.
    pub(super) fn occupy(&mut self, way: Way, length: usize) -> Option<Instant> {
        let wire = match way {
            Way::Request => &mut self.requests,
            Way::Reply => &mut self.replies,
        };
        let bandwidth = wire.bandwidth?;
        let now = Instant::now();
        let start = wire.free.map_or(now, |free| free.max(now));
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let passed = start + Duration::from_secs_f64(f64::from(length) / f64::from(bandwidth));
        wire.free = Some(passed);
        Some(passed)
    }

    pub(super) fn stopped(&self, way: Way) -> bool {
        match way {
            Way::Request => self.requests_stopped,
            Way::Reply => self.replies_stopped,
        }
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) connections: AtomicU64,
    pub(super) request_bytes: AtomicU64,
    pub(super) reply_bytes: AtomicU64,
    pub(super) round_trips: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    faults: Faults,
    next_id: u64,
    /// The open connections, and how each of them is to end if it is.
    open: BTreeMap<u64, Option<Cut>>,
}

/// Faults are changed and bytes are written under one lock: nothing passes once a fault is switched on.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
    closed: Condvar,
    changed: watch::Sender<()>,
    timer: Timer,
    pub(super) traffic: Traffic,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            closed: Condvar::new(),
            changed: watch::Sender::new(()),
            timer: Timer::start(),
            traffic: Traffic::default(),
        }
    }
}

impl Gate {
    /// Switches faults.
    pub(super) fn change(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
        self.changed.send_replace(());
    }

    /// Ends every connection that is open and waits until they are gone.
    pub(super) fn cut(&self, how: Cut) {
        let mut state = self.lock();
        for end in state.open.values_mut() {
            end.get_or_insert(how);
        }
        self.changed.send_replace(());
        let gone = self.closed.wait_while(state, |state| state.open.values().any(Option::is_some));
        drop(gone.expect("no connection panics"));
    }

    pub(super) fn open_connections(&self) -> usize {
        self.lock().open.len()
    }

    /// Registers a connection, or returns `None` when it is refused.
    pub(super) fn open(self: &Arc<Self>) -> Option<Pass> {
        let mut state = self.lock();
        if state.faults.refuse {
            return None;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.open.insert(id, None);
        Some(Pass { id, gate: Arc::clone(self) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

/// One connection's right to pass; it counts as open until this is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    id: u64,
    gate: Arc<Gate>,
}

impl Pass {
    pub(super) fn traffic(&self) -> &Traffic {
        &self.gate.traffic
    }

    /// Returns the delay, each way.
    pub(super) fn delay(&self) -> Duration {
        self.gate.lock().faults.delay
    }

    /// Waits until then.
    pub(super) async fn until(&self, due: Instant) {
        self.gate.timer.until(due).await;
    }

    /// Waits until this connection is to end.
    pub(super) async fn cut(&self) -> Cut {
        self.wait(|state| state.open.get(&self.id).copied().flatten()).await
    }

    /// Runs this with the faults in force as soon as bytes may go that way.
    pub(super) async fn through<T>(&self, way: Way, mut run: impl FnMut(&mut Faults) -> T) -> T {
        self.wait(|state| {
            let cut = state.open.get(&self.id).is_none_or(Option::is_some);
            (!cut && !state.faults.stopped(way)).then(|| run(&mut state.faults))
        })
        .await
    }

    async fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changes = self.gate.changed.subscribe();
        loop {
            // Marked as seen before looking: a change after the look wakes us.
            changes.borrow_and_update();
            if let Some(found) = look(&mut self.gate.lock()) {
                return found;
            }
            changes.changed().await.expect("the gate outlives its passes");
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // Not a place for a second panic.
        if let Ok(mut state) = self.gate.state.lock() {
            state.open.remove(&self.id);
        }
        self.gate.closed.notify_all();
    }
}
