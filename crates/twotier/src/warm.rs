//! Warming: the local tier filled ahead of the reads, and what to fill it with.

use std::{collections::HashSet, num::NonZeroU32, time::Duration};

use twotier_core::Operation;

use crate::{
    Result,
    remote::BATCH,
    tiers::{Tiers, yield_now},
};

/// How often in a second a paced warm-up reads: often enough to be even, seldom enough to read in batches.
const BATCHES_PER_SECOND: u32 = 10;

impl<V: Send + Sync + 'static> Tiers<V> {
    /// Reads keys into the local tier, one batch at a time, and counts those that are there.
    ///
    /// The next batch is asked for when the last was answered, so a live read never waits behind more than one; between
    /// two of them other tasks run, for as long as the pace wants.
    pub(crate) async fn warm(&self, keys: &[&str], pace: Option<NonZeroU32>) -> Result<usize> {
        self.check_keys(Operation::Warm, keys).await?;
        let mut seen = HashSet::with_capacity(keys.len());
        let distinct: Vec<&str> = keys.iter().copied().filter(|key| seen.insert(*key)).collect();
        let (size, pause) = pace.map_or((BATCH, Duration::ZERO), batches);
        let mut present = 0;
        for (number, batch) in distinct.chunks(size).enumerate() {
            if number > 0 {
                yield_now().await;
                // Not for nothing: the timer rounds up to a millisecond.
                if !pause.is_zero() {
                    self.remote.runtime.sleep(pause).await;
                }
            }
            let values = self.read_many(batch, Operation::Warm, false).await?;
            present += values.iter().flatten().count();
        }
        self.remote.open(Operation::Warm).map(|()| present)
    }

    /// Returns up to `n` of the keys held locally, the hottest first.
    pub(crate) fn hot_keys(&self, n: usize) -> Vec<String> {
        self.local.hottest(n)
    }
}

/// How many keys a batch has at so many keys a second, and how long to pause after it.
fn batches(keys_per_second: NonZeroU32) -> (usize, Duration) {
    let size = (keys_per_second.get() / BATCHES_PER_SECOND).clamp(1, 512);
    (size as usize, Duration::from_secs(1) * size / keys_per_second.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_kept_by_small_batches_and_pauses() {
        let paced = |keys| batches(NonZeroU32::new(keys).unwrap());
        assert_eq!(paced(1000), (100, Duration::from_millis(100)));
        assert_eq!(paced(1), (1, Duration::from_secs(1)));
        assert_eq!(paced(10_240), (512, Duration::from_millis(50)), "never more than one batch");
        assert_eq!(paced(u32::MAX).0, 512);
    }
}
