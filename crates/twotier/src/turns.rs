//! Who works on a key, one after the other, in the order in which they asked.
//!
//! Turns save work and decide nothing: whoever has one may be dropped, or never be polled again, and those behind go on
//! without it. What must not happen twice is prevented elsewhere.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use smol_str::SmolStr;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::remote::Home;

/// The queues of all keys that somebody works on.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    queues: Mutex<HashMap<SmolStr, Standing>>,
}

/// A queue, and how many stand in it or have their turn.
#[derive(Debug)]
struct Standing {
    queue: Arc<Queue>,
    places: usize,
}

#[derive(Debug)]
struct Queue {
    turn: Semaphore,
    /// How many turns have ended: whether anything moves.
    ended: AtomicU64,
}

/// One of those who work on a key, or wait for their turn.
#[derive(Debug)]
pub(crate) struct Place<'t> {
    turns: &'t Turns,
    key: SmolStr,
    queue: Arc<Queue>,
}

/// The turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct KeyPermit<'p> {
    queue: &'p Queue,
    _permit: SemaphorePermit<'p>,
}

impl Turns {
    /// Stands in line for a key.
    pub(crate) fn stand(&self, key: &str) -> Place<'_> {
        let key = SmolStr::new(key);
        let queue = {
            let mut queues = self.queues.lock();
            let standing = queues.entry(key.clone()).or_insert_with(|| Standing { queue: Queue::new(), places: 0 });
            standing.places += 1;
            Arc::clone(&standing.queue)
        };
        Place { turns: self, key, queue }
    }
}

impl Queue {
    fn new() -> Arc<Self> {
        Arc::new(Self { turn: Semaphore::new(1), ended: AtomicU64::new(0) })
    }
}

impl Place<'_> {
    /// Waits for the turn. When none ends within `patience`, whoever has it, or was given it and is not polled, is held
    /// for gone, and the line goes on without.
    pub(crate) async fn turn(&self, runtime: &Home, patience: Duration) -> Option<KeyPermit<'_>> {
        let queue = &*self.queue;
        let mut permit = pin!(queue.turn.acquire());
        let mut before = queue.ended.load(Ordering::Relaxed);
        loop {
            if let Ok(permit) = runtime.timeout(patience, permit.as_mut()).await {
                return permit.ok().map(|permit| KeyPermit { queue, _permit: permit });
            }
            // One of those who lost patience lets the next in line go on, who need not be this one.
            let ended = queue.ended.compare_exchange(before, before + 1, Ordering::Relaxed, Ordering::Relaxed);
            if ended.is_ok() {
                queue.turn.add_permits(1);
            }
            before = queue.ended.load(Ordering::Relaxed);
        }
    }
}

impl Drop for KeyPermit<'_> {
    fn drop(&mut self) {
        self.queue.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queues = self.turns.queues.lock();
        if let Some(standing) = queues.get_mut(&self.key) {
            standing.places -= 1;
            if standing.places == 0 {
                queues.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_in_which_nobody_stands_is_forgotten() {
        let turns = Turns::default();
        let (first, second, other) = (turns.stand("k"), turns.stand("k"), turns.stand("l"));
        assert!(Arc::ptr_eq(&first.queue, &second.queue) && !Arc::ptr_eq(&first.queue, &other.queue));
        drop((first, other));
        assert_eq!(turns.queues.lock().len(), 1);
        drop(second);
        assert!(turns.queues.lock().is_empty());
    }
}
