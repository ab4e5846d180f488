//! Signs of life: how a slow connection is distinguished from a dead one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

/// Less than this many bytes are no progress of a batch: a heartbeat takes some dozens.
const UNIT: u64 = 4096;

/// The signs of life of all connections of a handle, those that are being made included.
#[derive(Debug)]
pub(in crate::redis) struct Progress {
    born: Instant,
    /// When the last sign came, in microseconds since `born`.
    last: AtomicU64,
    /// What moved, in bytes.
    moved: AtomicU64,
    /// What a connection that is being made waits for.
    step: Mutex<&'static str>,
}

impl Progress {
    pub(in crate::redis) fn new() -> Self {
        let (last, moved) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { born: Instant::now(), last, moved, step: Mutex::new("the connection") }
    }

    /// Returns how much moved so far, in units that heartbeats do not fill within many seconds.
    pub(in crate::redis) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed) / UNIT
    }

    /// Records what is waited for next. Having come so far is a sign of life itself.
    pub(in crate::redis) fn begin(&self, step: &'static str) {
        *self.step.lock() = step;
        self.sign(Instant::now(), 0);
    }

    pub(in crate::redis) fn step(&self) -> &'static str {
        *self.step.lock()
    }

    /// Waits for as long as signs come: returns `None` after a silence of this length.
    pub(in crate::redis) async fn while_alive<T>(
        &self,
        silence: Duration,
        asked: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(asked);
        let since = Instant::now();
        loop {
            let last = since.max(self.last());
            match timeout_at(last + silence, &mut asked).await {
                Ok(answer) => return Some(answer),
                Err(_elapsed) if self.last() > last => {}
                Err(_elapsed) => return None,
            }
        }
    }

    pub(in crate::redis) fn last(&self) -> Instant {
        self.born + Duration::from_micros(self.last.load(Ordering::Relaxed))
    }

    fn sign(&self, now: Instant, bytes: usize) {
        let micros = u64::try_from(now.saturating_duration_since(self.born).as_micros()).unwrap_or(u64::MAX);
        self.last.fetch_max(micros, Ordering::Relaxed);
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// What passed over one connection.
#[derive(Debug)]
pub(super) struct Traffic {
    own: Progress,
    all: Arc<Progress>,
    /// How many replies were asked for.
    asked: AtomicU64,
}

impl Traffic {
    pub(super) fn new(all: Arc<Progress>) -> Self {
        Self { own: Progress::new(), all, asked: AtomicU64::new(0) }
    }

    /// Something arrived, or was taken by a peer that had not taken any more: the peer lives. What the operating system
    /// merely keeps for it proves nothing.
    pub(super) fn sign(&self, bytes: usize) {
        let now = Instant::now();
        self.own.sign(now, bytes);
        self.all.sign(now, bytes);
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.own
    }

    /// So many replies were asked for. Counted as requests are written: one that was queued may never be.
    pub(super) fn asked(&self, replies: u64) {
        self.asked.fetch_add(replies, Ordering::Relaxed);
    }

    /// One reply that was asked for does not come.
    pub(super) fn spare_one(&self) {
        self.asked.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns whether so many replies were asked for so far.
    pub(super) fn has_asked(&self, replies: u64) -> bool {
        replies <= self.asked.load(Ordering::Relaxed)
    }
}
