//! How much a cache may ask of its backend at once: who is admitted, who waits, and who is refused.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;

use super::Remote;

/// The most bytes of written values under way at once. A connection that carries them also carries heartbeats and
/// reports, which wait behind them for a second at 8 Mbit/s.
const WRITTEN: usize = 1024 * 1024;
/// A larger value counts as one of this size: a backend sends such a value where it holds nobody up.
const LARGEST: usize = 256 * 1024;
const KIB: usize = 1024;

/// What a request weighs: its keys, and the bytes that it writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    keys: u32,
    kibibytes: u32,
}

impl Cost {
    /// That of one key that is read or deleted.
    pub(crate) const ONE: Self = Self { keys: 1, kibibytes: 0 };

    pub(crate) fn of_keys(keys: usize) -> Self {
        Self { keys: u32::try_from(keys).unwrap_or(u32::MAX), kibibytes: 0 }
    }

    pub(crate) fn of_writes(sizes: impl ExactSizeIterator<Item = usize>) -> Self {
        let keys = Self::of_keys(sizes.len());
        let bytes: usize = sizes.map(counted).sum();
        Self { kibibytes: u32::try_from(bytes.min(WRITTEN) / KIB).unwrap_or(u32::MAX), ..keys }
    }
}

/// Returns how many of the values that are still to be written go into one call: as many as are under way at once.
pub(crate) fn writes_at_once(sizes: impl Iterator<Item = usize>, most: usize) -> usize {
    let mut bytes = 0;
    let fits = |size: &usize| {
        bytes += counted(*size);
        bytes <= WRITTEN
    };
    sizes.take(most).take_while(fits).count().max(1)
}

fn counted(size: usize) -> usize {
    size.min(LARGEST)
}

/// The door between a cache and its backend. Keys are counted, so that a batch weighs what it asks for.
///
/// Whoever waits is let in in the order in which they came, batches and single keys alike, so neither starves the
/// other. A permit belongs to a request, and never to the future of a caller: a future that nobody polls would keep it.
#[repr(align(128))]
pub(crate) struct Admission {
    keys: Semaphore,
    kibibytes: Semaphore,
    max_in_flight: usize,
    waiting: Arc<AtomicUsize>,
    max_waiting: usize,
}

/// The right to have a request under way, until it is dropped.
///
/// It is also the request's handle to the backend: a second one would be two more writes to a counter that every thread
/// writes to.
#[must_use = "the request is no longer counted once this is dropped"]
pub(crate) struct Permit<V> {
    /// Until the permit is given back.
    remote: Option<Arc<Remote<V>>>,
    cost: Cost,
}

impl<V> Permit<V> {
    /// Gives the permit back and keeps the handle.
    pub(crate) fn give_back(mut self) -> Arc<Remote<V>> {
        let remote = self.remote.take().expect("it is taken here and when this is dropped");
        remote.admission.give_back(self.cost);
        remote
    }

    /// Gives back the part of one key, of which there is an answer.
    pub(crate) fn give_back_one(&mut self) {
        if let (Some(remote), Some(left)) = (&self.remote, self.cost.keys.checked_sub(1)) {
            self.cost.keys = left;
            remote.admission.give_back(Cost::ONE);
        }
    }
}

impl<V> Drop for Permit<V> {
    fn drop(&mut self) {
        if let Some(remote) = self.remote.take() {
            remote.admission.give_back(self.cost);
        }
    }
}

impl<V> Remote<V> {
    /// Admits a request at once, unless that takes a wait or somebody else waits already.
    pub(crate) fn try_admit(self: &Arc<Self>, cost: Cost) -> Option<Permit<V>> {
        self.admission.try_take(cost).then(|| self.permit(cost))
    }

    /// Waits for a permit; `None` when there never will be one.
    pub(crate) async fn admit(self: &Arc<Self>, cost: Cost) -> Option<Permit<V>> {
        self.admission.take(cost).await.then(|| self.permit(cost))
    }

    fn permit(self: &Arc<Self>, cost: Cost) -> Permit<V> {
        Permit { remote: Some(Arc::clone(self)), cost }
    }
}

/// Calls that wait for a permit, until this is dropped.
pub(crate) struct Waiting {
    all: Arc<AtomicUsize>,
    calls: usize,
}

impl Waiting {
    /// How many they are.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    fn leave(&mut self, calls: usize) {
        self.calls -= calls;
        self.all.fetch_sub(calls, Ordering::Relaxed);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.leave(self.calls);
    }
}

impl Admission {
    pub(crate) fn new(max_in_flight: usize, max_waiting: usize) -> Self {
        Self {
            keys: Semaphore::new(max_in_flight),
            kibibytes: Semaphore::new(WRITTEN / KIB),
            max_in_flight,
            waiting: Arc::default(),
            max_waiting,
        }
    }

    /// The most keys that can be under way at once.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    pub(crate) fn max_waiting(&self) -> usize {
        self.max_waiting
    }

    /// Returns how many keys are under way now.
    pub(super) fn under_way(&self) -> usize {
        self.max_in_flight.saturating_sub(self.keys.available_permits())
    }

    fn try_take(&self, cost: Cost) -> bool {
        let Ok(keys) = self.keys.try_acquire_many(cost.keys) else { return false };
        if cost.kibibytes > 0 {
            let Ok(kibibytes) = self.kibibytes.try_acquire_many(cost.kibibytes) else { return false };
            kibibytes.forget();
        }
        keys.forget();
        true
    }

    /// Returns whether so many keys would be admitted at once.
    pub(crate) fn has_room(&self, keys: usize) -> bool {
        self.keys.available_permits() >= keys
    }

    /// Joins those who wait; `None` when too many do.
    pub(crate) fn wait(&self) -> Option<Waiting> {
        let waiting = self.wait_together(1);
        (waiting.calls == 1).then_some(waiting)
    }

    /// Has several calls join those who wait, as far as not too many do.
    pub(super) fn wait_together(&self, calls: usize) -> Waiting {
        let before = self.waiting.fetch_add(calls, Ordering::Relaxed);
        let mut waiting = Waiting { all: Arc::clone(&self.waiting), calls };
        waiting.leave(calls - self.max_waiting.saturating_sub(before).min(calls));
        waiting
    }

    async fn take(&self, cost: Cost) -> bool {
        let Ok(keys) = self.keys.acquire_many(cost.keys).await else { return false };
        if cost.kibibytes > 0 {
            let Ok(kibibytes) = self.kibibytes.acquire_many(cost.kibibytes).await else { return false };
            kibibytes.forget();
        }
        keys.forget();
        true
    }

    fn give_back(&self, cost: Cost) {
        self.keys.add_permits(cost.keys as usize);
        if cost.kibibytes > 0 {
            self.kibibytes.add_permits(cost.kibibytes as usize);
        }
    }
}
