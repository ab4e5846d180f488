//! The bytes that all shards of a tier share.
//!
//! A shard may hold as many bytes as it was granted. What its entries leave of that is its own to use again, so that an
//! insertion into a tier that is full of entries writes to nothing that other shards share; much of it goes back. All
//! grants and what is left of the budget add up to the tier's bytes at any time, so no shards together ever hold more.

use crate::sync::{AtomicU64, Ordering};

/// A shard keeps up to two of so many parts of its share unused, so that all of them keep a sixteenth at most.
const PARTS: usize = 32;

/// How many bytes a tier of several shards has not granted to any.
///
/// On cache lines of its own: no hit looks at it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Budget {
    left: AtomicU64,
    /// What each shard would have if all had the same.
    pub(crate) share: usize,
}

impl Budget {
    pub(crate) fn new(bytes: usize, shards: usize) -> Self {
        Self { left: AtomicU64::new(bytes as u64), share: bytes / shards }
    }

    /// Takes so many bytes, or as many as there are left, and returns how many.
    pub(crate) fn take(&self, bytes: usize) -> usize {
        let mut left = self.left.load(Ordering::Relaxed);
        loop {
            let taken = left.min(bytes as u64);
            if taken == 0 {
                return 0;
            }
            match self.left.compare_exchange_weak(left, left - taken, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return usize::try_from(taken).unwrap_or(bytes),
                Err(now) => left = now,
            }
        }
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns what a shard is granted beyond what it needs, and keeps of what it does not.
    pub(crate) fn part(&self) -> usize {
        self.share / PARTS
    }
}
