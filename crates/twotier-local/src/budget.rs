//! The bytes that all shards of a tier share.

use crate::sync::{AtomicU64, Ordering};

/// How many bytes a tier of several shards may still take in. What is taken here is either held by a shard or about to
/// be, so all shards together never hold more than there was at first.
///
/// On cache lines of its own: every insertion and removal writes to it, and no hit looks at it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Budget {
    left: AtomicU64,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { left: AtomicU64::new(bytes as u64) }
    }

    /// Takes so many bytes, or as many as there are left, and returns how many.
    pub(crate) fn take(&self, bytes: usize) -> usize {
        let taken = |left: u64| left.min(bytes as u64);
        let mut left = self.left.load(Ordering::Relaxed);
        loop {
            match self.left.compare_exchange_weak(left, left - taken(left), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return usize::try_from(taken(left)).unwrap_or(bytes),
                Err(now) => left = now,
            }
        }
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
