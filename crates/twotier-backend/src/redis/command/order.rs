//! The order of writes that are accepted and not sent at once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// The keys with writes that were accepted and may not have been sent yet: large ones, and the later parts of batches.
/// A later write of such a key waits for them, so that writes of one key are executed in the order in which they were
/// accepted, whichever connection they go over.
#[derive(Debug, Default)]
pub(in crate::redis) struct WriteOrder {
    /// How many permits there are. Most of the time there are none, and then no lock is taken.
    permits: AtomicUsize,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    next_id: u64,
    /// The last permit of each key, and what is closed at its end.
    permits: HashMap<Bytes, (u64, Arc<Semaphore>)>,
}

/// The permit of one accepted write. Dropped, it lets the next ones of its keys go on.
#[derive(Debug)]
pub(in crate::redis) struct OrderPermit {
    order: Arc<WriteOrder>,
    id: u64,
    keys: Vec<Bytes>,
    before: Vec<Arc<Semaphore>>,
    /// Closed when this is dropped, which wakes those who wait in the order in which they came.
    ended: Arc<Semaphore>,
}

impl WriteOrder {
    /// Returns whether an accepted write of one of these keys may not have been sent yet.
    pub(super) fn holds<'k>(&self, keys: impl IntoIterator<Item = &'k Bytes>) -> bool {
        if self.permits.load(Ordering::Acquire) == 0 {
            return false;
        }
        let last = self.last.lock();
        keys.into_iter().any(|key| last.permits.contains_key(key))
    }

    /// Accepts a write of these keys, to be sent when it is its turn.
    pub(in crate::redis) fn accept(self: &Arc<Self>, keys: Vec<Bytes>) -> OrderPermit {
        let ended = Arc::new(Semaphore::new(0));
        let mut last = self.last.lock();
        self.permits.fetch_add(1, Ordering::AcqRel);
        let id = last.next_id;
        last.next_id += 1;
        let replaced = keys.iter().filter_map(|key| last.permits.insert(key.clone(), (id, Arc::clone(&ended))));
        // A key twice in one write waits for no other write.
        let before = replaced.filter(|(other, _)| *other != id).map(|(_, end)| end).collect();
        OrderPermit { order: Arc::clone(self), id, keys, before, ended }
    }
}

impl OrderPermit {
    /// Waits until every write of its keys that was accepted earlier has ended.
    pub(in crate::redis) async fn acquire(&mut self) {
        for end in self.before.drain(..) {
            // It has no permits: this is the end of the other write.
            let _ = end.acquire().await;
        }
    }
}

impl Drop for OrderPermit {
    fn drop(&mut self) {
        let mut last = self.order.last.lock();
        for key in &self.keys {
            if last.permits.get(key).is_some_and(|(id, _)| *id == self.id) {
                last.permits.remove(key);
            }
        }
        self.order.permits.fetch_sub(1, Ordering::AcqRel);
        drop(last);
        self.ended.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_of_one_key_come_in_the_order_of_their_acceptance() {
        let order = Arc::new(WriteOrder::default());
        let key = |name: &'static str| Bytes::from_static(name.as_bytes());
        assert!(!order.holds([&key("a")]));
        let mut first = order.accept(vec![key("a"), key("a"), key("b")]);
        let mut other = order.accept(vec![key("c")]);
        let mut second = order.accept(vec![key("b"), key("c")]);
        first.acquire().await;
        other.acquire().await;
        let waiting = tokio::spawn(async move {
            second.acquire().await;
            second
        });
        drop(other);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished() && order.holds([&key("b")]));
        drop(first);
        drop(waiting.await.unwrap());
        assert!(!order.holds([&key("a"), &key("b"), &key("c")]));
        assert!(order.last.lock().permits.is_empty());
    }
}
