//! Invalidations that the backend could not be given: the keys wait here, and are deleted when it answers again.
//!
//! What the backend holds under a key that waits is not to be believed: no read of it is sent. Nothing is lost: when
//! more keys wait than there is room for, the whole namespace waits to be cleared.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use smol_str::SmolStr;
use tokio::sync::Notify;

/// The keys that wait.
pub(crate) struct Invalidations {
    state: Mutex<State>,
    /// How many wait, for a look without the lock.
    count: AtomicUsize,
    /// The most keys that wait; 0 is none.
    room: usize,
    /// Whether a task drains.
    draining: AtomicBool,
    /// Wakes it when the backend may answer again.
    pub(crate) retry: Notify,
}

#[derive(Default)]
struct State {
    keys: HashMap<SmolStr, Waiting>,
    /// The whole namespace waits, since then.
    everything: Option<u64>,
    /// Tells one invalidation of a key from a later one.
    last: u64,
}

struct Waiting {
    number: u64,
    /// Own writes of the key under way: each is newer than the invalidation, and it would be undone by it.
    writes: usize,
}

/// An own write under way, of a key that may wait. Dropped, it has failed, or nobody knows.
#[must_use = "the write has failed once this is dropped"]
pub(crate) struct OwnWrite(Option<(Arc<Invalidations>, Queued)>);

impl OwnWrite {
    /// The write has ended. With success, what was to be deleted is gone.
    pub(crate) fn ended(mut self, succeeded: bool) {
        if let Some((invalidations, queued)) = self.0.take() {
            invalidations.written(&queued, succeeded);
        }
    }
}

impl Drop for OwnWrite {
    fn drop(&mut self) {
        if let Some((invalidations, queued)) = self.0.take() {
            invalidations.written(&queued, false);
        }
    }
}

/// A key or the namespace as it waited at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queued {
    pub(crate) key: SmolStr,
    number: u64,
}

impl Queued {
    /// Returns whether it stands for the whole namespace.
    pub(crate) fn is_everything(&self) -> bool {
        self.key.is_empty()
    }
}

impl Invalidations {
    pub(crate) fn new(room: usize) -> Self {
        Self {
            state: Mutex::default(),
            count: AtomicUsize::new(0),
            room,
            draining: AtomicBool::new(false),
            retry: Notify::new(),
        }
    }

    /// Returns whether invalidations wait at all.
    pub(crate) fn is_on(&self) -> bool {
        self.room > 0
    }

    /// Returns how many keys wait; the whole namespace counts as one.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Has a key wait, or all of them where there is no more room.
    ///
    /// The local copy goes *after* this: a read that was registered before dies of that, and one that is registered
    /// later finds the key here.
    pub(crate) fn add(&self, key: &str) {
        let mut state = self.state.lock();
        state.last += 1;
        let number = state.last;
        if state.everything.is_none() {
            let full = state.keys.len() >= self.room;
            match state.keys.get_mut(key) {
                Some(waiting) => waiting.number = number,
                None if full => {
                    state.keys.clear();
                    state.everything = Some(number);
                }
                None => _ = state.keys.insert(key.into(), Waiting { number, writes: 0 }),
            }
        } else {
            state.everything = Some(number);
        }
        self.counted(&state);
    }

    /// Returns whether what the backend holds under a key is not to be believed.
    #[inline]
    pub(crate) fn holds(&self, key: &str) -> bool {
        self.waiting(key).is_some()
    }

    /// Returns the invalidation for which a key waits. While none waits that is one load of a counter.
    #[inline]
    pub(crate) fn waiting(&self, key: &str) -> Option<Queued> {
        if self.len() == 0 { None } else { self.find(key) }
    }

    #[cold]
    fn find(&self, key: &str) -> Option<Queued> {
        let state = self.state.lock();
        match state.everything {
            Some(number) => Some(Queued { key: SmolStr::default(), number }),
            None => state.keys.get(key).map(|waiting| Queued { key: key.into(), number: waiting.number }),
        }
    }

    /// An own write of the key is sent now. Until it has ended the key is not deleted.
    pub(crate) fn writes(self: &Arc<Self>, key: &str) -> OwnWrite {
        if self.len() == 0 {
            return OwnWrite(None);
        }
        let mut state = self.state.lock();
        OwnWrite(state.keys.get_mut(key).map(|waiting| {
            waiting.writes += 1;
            (Arc::clone(self), Queued { key: key.into(), number: waiting.number })
        }))
    }

    fn written(&self, Queued { key, number }: &Queued, succeeded: bool) {
        let mut state = self.state.lock();
        if let Some(waiting) = state.keys.get_mut(key) {
            waiting.writes = waiting.writes.saturating_sub(1);
            if succeeded && waiting.number == *number {
                state.keys.remove(key);
            }
        }
        self.counted(&state);
    }

    /// Returns some of the keys that wait and may be deleted now; the empty key, alone, stands for the namespace.
    pub(crate) fn some(&self, most: usize) -> Vec<Queued> {
        let state = self.state.lock();
        match state.everything {
            Some(number) => vec![Queued { key: SmolStr::default(), number }],
            None => {
                let free = state.keys.iter().filter(|(_, waiting)| waiting.writes == 0);
                free.take(most).map(|(key, waiting)| Queued { key: key.clone(), number: waiting.number }).collect()
            }
        }
    }

    /// Returns whether a key still waits since then and may be deleted now.
    pub(crate) fn is_due(&self, Queued { key, number }: &Queued) -> bool {
        let state = self.state.lock();
        state.keys.get(key).is_some_and(|waiting| waiting.number == *number && waiting.writes == 0)
    }

    /// Those were deleted, unless they were invalidated anew since.
    pub(crate) fn done<'q>(&self, deleted: impl IntoIterator<Item = &'q Queued>) {
        let mut state = self.state.lock();
        for Queued { key, number } in deleted {
            if key.is_empty() {
                state.everything = state.everything.filter(|waiting| waiting != number);
            } else if state.keys.get(key).is_some_and(|waiting| waiting.number == *number) {
                state.keys.remove(key);
            }
        }
        self.counted(&state);
    }

    /// Returns whether the caller is to drain from now on.
    pub(crate) fn begin_drain(&self) -> bool {
        !self.draining.swap(true, Ordering::AcqRel)
    }

    /// Returns whether the one who drains may end.
    pub(crate) fn end_drain(&self) -> bool {
        self.draining.store(false, Ordering::Release);
        // Something may have been added that left it to this one.
        self.len() == 0 || !self.begin_drain()
    }

    fn counted(&self, state: &State) {
        let waiting = if state.everything.is_some() { 1 } else { state.keys.len() };
        self.count.store(waiting, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(queue: &Invalidations) -> Vec<String> {
        let mut keys: Vec<_> = queue.some(100).into_iter().map(|queued| queued.key.to_string()).collect();
        keys.sort();
        keys
    }

    #[test]
    fn a_key_waits_once_and_is_done_unless_it_was_invalidated_anew() {
        let queue = Invalidations::new(2);
        queue.add("a");
        queue.add("a");
        assert_eq!((queue.len(), queue.holds("a"), queue.holds("b")), (1, true, false));
        let first = queue.some(100);
        queue.add("a");
        queue.done(&first);
        assert!(queue.holds("a"));
        queue.done(&queue.some(100));
        assert_eq!((queue.len(), queue.holds("a")), (0, false));
    }

    #[test]
    fn more_keys_than_there_is_room_for_are_the_whole_namespace_and_none_is_lost() {
        let queue = Invalidations::new(2);
        ["a", "b", "c"].iter().for_each(|key| queue.add(key));
        assert_eq!((queue.len(), keys(&queue)), (1, vec![String::new()]));
        assert!(["a", "b", "c", "never seen"].iter().all(|key| queue.holds(key)));
        let first = queue.some(100);
        queue.add("d");
        queue.done(&first);
        assert!(queue.holds("d"), "added while it was cleared");
        queue.done(&queue.some(100));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn an_own_write_takes_its_key_out_by_its_success_alone() {
        let queue = Arc::new(Invalidations::new(2));
        queue.add("a");
        let write = queue.writes("a");
        assert!(queue.holds("a") && queue.some(100).is_empty(), "it is not read, and not deleted");
        drop(write);
        assert_eq!(keys(&queue), ["a"]);
        queue.writes("a").ended(true);
        assert_eq!(queue.len(), 0);
        queue.add("a");
        let write = queue.writes("a");
        queue.add("a");
        write.ended(true);
        assert_eq!(keys(&queue), ["a"], "invalidated while it was written");
    }

    #[test]
    fn whoever_adds_while_the_drain_ends_is_drained() {
        let queue = Invalidations::new(2);
        queue.add("a");
        assert!(queue.begin_drain() && !queue.begin_drain());
        queue.done(&queue.some(100));
        queue.add("b");
        assert!(!queue.end_drain(), "it goes on");
        queue.done(&queue.some(100));
        assert!(queue.end_drain() && queue.begin_drain());
    }
}
