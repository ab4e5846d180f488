//! When the server lost data on purpose.

use std::sync::{
    RwLock,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use super::event::HistoryTime;

/// The losses so far. One at a time.
#[derive(Default)]
pub(super) struct Losses {
    /// The end of the last loss; beyond all times while one is under way, zero when there was none.
    until: AtomicU64,
    /// When the last loss of everything began, in nanoseconds; zero when there was none.
    last_of_everything: AtomicU64,
    began: AtomicU64,
    /// Begin and end of each loss of everything.
    of_everything: RwLock<Vec<(HistoryTime, HistoryTime)>>,
}

impl Losses {
    pub(super) fn begin(&self, at: HistoryTime) {
        self.began.store(at.as_nanos(), SeqCst);
        self.until.store(u64::MAX, SeqCst);
    }

    pub(super) fn end(&self, everything: bool, at: HistoryTime) {
        self.until.store(at.as_nanos().max(1), SeqCst);
        if everything {
            let began = self.began.load(SeqCst);
            self.of_everything.write().unwrap().push((HistoryTime::from_nanos(began), at));
            self.last_of_everything.store(began, SeqCst);
        }
    }

    /// Returns whether something written from this moment on may have been lost since.
    pub(super) fn may_include(&self, began: HistoryTime) -> bool {
        let until = self.until.load(SeqCst);
        until > 0 && until >= began.as_nanos()
    }

    /// Returns the end of the first loss of everything that began after a time.
    pub(super) fn everything_after(&self, at: HistoryTime) -> Option<HistoryTime> {
        if self.last_of_everything.load(SeqCst) <= at.as_nanos() {
            return None;
        }
        let losses = self.of_everything.read().unwrap();
        losses.get(losses.partition_point(|(began, _)| *began <= at)).map(|(_, end)| *end)
    }
}
