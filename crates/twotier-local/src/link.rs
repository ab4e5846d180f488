//! The state of the link to the backend: its epoch, and until when its word is good.

use std::time::Duration;

use twotier_core::{Lease, Mark, Timestamp};

use crate::sync::{AtomicU64, Mutex, Ordering};

/// Epoch and lease, on a cache line of their own: every hit reads them, and hardly anything writes them.
///
/// The epoch is odd while the link is up. A flush adds 2; loss and return of the link add 1 each. An entry or a ticket
/// is good only in the epoch it was made in, so one addition outdates everything.
///
/// # Why epoch and lease may be two atomics
///
/// *A lease is never paired with an epoch older than itself.* [`link_up`](Self::link_up) stores the lease after
/// `link_down` made the epoch even and before it makes it odd, and [`proof`](Self::proof) extends the lease after it
/// has seen the epoch; readers load the lease (acquire) before the epoch. So whoever sees a lease sees at least the
/// epoch it was granted in, and an entry of an earlier epoch does not match.
///
/// *An old lease on a new epoch is harmless.* A proof may find its epoch unchanged, be parked while the link goes down
/// and comes up, and only then extend the lease to `mark.at + B`. The mark was taken before that check and the check
/// preceded the change, so `mark.at` precedes the new epoch. Entries of the new epoch were read from the backend after
/// it began; a hit at `t < mark.at + B` on one of them owes only the writes acknowledged before `t − B < mark.at`, and
/// an entry read after `mark.at` has them all. The same holds for a reader that loaded the lease, was parked, and then
/// loaded a newer epoch: its `now` is from before the lease, so from before the entry was read.
///
/// What would be harmful is an `Unlimited` lease left standing for the next link; `link_up` always stores anew.
#[repr(align(128))]
#[derive(Debug)]
pub(crate) struct LeaseState {
    epoch: AtomicU64,
    /// Nanoseconds on the tier's clock; hits are served before it.
    lease: AtomicU64,
    /// How long a lease lasts after a mark: the staleness bound less the clock's lag.
    term: Duration,
    /// How many clearings of the backend are under way: while there are any, nothing is kept.
    clearings: AtomicU64,
    /// Held by those who change the epoch, so that "if up, add" is one step. Nobody holds it for longer than that.
    changes: Mutex<Changes>,
}

/// How often the epoch changed, and why.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) flushes: u64,
    pub(crate) links: u64,
}

impl LeaseState {
    /// Makes a link that is down.
    pub(crate) fn new(max_staleness: Duration, resolution: Duration) -> Self {
        Self {
            epoch: AtomicU64::new(0),
            lease: AtomicU64::new(0),
            term: max_staleness.saturating_sub(resolution),
            clearings: AtomicU64::new(0),
            changes: Mutex::default(),
        }
    }

    /// Returns the epoch. To be read under the shard's lock where it is compared with that of an entry: it is then at
    /// least that of any entry of the shard.
    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Returns the epoch for somebody who wants to keep a value: an even one, in which nothing is kept, while the
    /// backend is being cleared. To be read under the shard's lock.
    #[inline]
    pub(crate) fn keeping_epoch(&self) -> u64 {
        let epoch = self.epoch();
        if self.clearings.load(Ordering::SeqCst) == 0 { epoch } else { 0 }
    }

    /// Keeps everything out until as many calls of [`end_clearing`](Self::end_clearing).
    pub(crate) fn begin_clearing(&self) {
        self.clearings.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn end_clearing(&self) {
        self.clearings.fetch_sub(1, Ordering::SeqCst);
    }

    /// Returns until when hits may be served. To be read before the epoch and after the clock.
    #[inline]
    pub(crate) fn lease(&self) -> Timestamp {
        Timestamp::from_nanos(self.lease.load(Ordering::Acquire))
    }

    pub(crate) fn up(&self, lease: Lease) {
        let mut changes = self.changes.lock();
        let epoch = self.epoch();
        if is_up(epoch) {
            return;
        }
        // That the link came up proves nothing yet: the first proof of life starts a renewed lease.
        let until = match lease {
            Lease::Unlimited => Timestamp::MAX,
            Lease::Renewed => Timestamp::ZERO,
        };
        self.lease.store(until.as_nanos(), Ordering::Release);
        self.epoch.store(epoch + 1, Ordering::Release);
        changes.links += 1;
    }

    pub(crate) fn down(&self) {
        let mut changes = self.changes.lock();
        let epoch = self.epoch();
        if is_up(epoch) {
            self.epoch.store(epoch + 1, Ordering::Release);
            changes.flushes += 1;
        }
    }

    pub(crate) fn flush(&self) {
        let mut changes = self.changes.lock();
        let epoch = self.epoch();
        if is_up(epoch) {
            self.epoch.store(epoch + 2, Ordering::Release);
            changes.flushes += 1;
        }
    }

    pub(crate) fn proof(&self, mark: Mark) {
        if is_up(mark.epoch) && self.epoch() == mark.epoch {
            let until = mark.at.saturating_add(self.term).as_nanos();
            // Most proofs within a tick of the clock say the same: they need not take the cache line from the readers.
            if self.lease.load(Ordering::Relaxed) < until {
                self.lease.fetch_max(until, Ordering::AcqRel);
            }
        }
    }

    pub(crate) fn changes(&self) -> Changes {
        *self.changes.lock()
    }
}

/// Returns whether the link is up in this epoch.
#[inline]
pub(crate) fn is_up(epoch: u64) -> bool {
    epoch % 2 == 1
}
