//! How large values are: an estimate that no single one can spoil.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What is believed before anything was read.
const FIRST: usize = 512;

/// An estimate of the size of values, in bytes. One observation at most doubles or halves it.
#[derive(Debug)]
pub(super) struct Sizes(AtomicUsize);

impl Default for Sizes {
    fn default() -> Self {
        Self(AtomicUsize::new(FIRST))
    }
}

impl Sizes {
    /// A round trip brought so many bytes of values, for so many keys.
    pub(super) fn observe(&self, bytes: usize, keys: usize) {
        let before = self.estimate();
        // A lost update of two at once does no harm: the next round trip makes up for it.
        self.0.store((bytes / keys.max(1)).clamp(before / 2, before.saturating_mul(2)).max(1), Ordering::Relaxed);
    }

    pub(super) fn estimate(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns how many keys are expected to bring so many bytes, at least one and at most `most`.
    pub(super) fn keys_within(&self, bytes: usize, most: usize) -> usize {
        (bytes / self.estimate()).clamp(1, most.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_large_value_changes_little_and_many_are_believed() {
        let sizes = Sizes::default();
        sizes.observe(1 << 20, 1);
        assert_eq!(sizes.estimate(), 2 * FIRST);
        for _ in 0..30 {
            sizes.observe(1 << 20, 1);
        }
        assert_eq!(sizes.estimate(), 1 << 20);
        assert_eq!(sizes.keys_within(16 << 20, 512), 16);
        sizes.observe(0, 100);
        assert_eq!(sizes.estimate(), 1 << 19);
        for _ in 0..30 {
            sizes.observe(0, 1);
        }
        assert_eq!(sizes.keys_within(1 << 20, 512), 512);
    }
}
