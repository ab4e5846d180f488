//! How large the tier is, and into how many shards it is split.

use std::time::Duration;

use twotier_core::Eviction;

use crate::entry::HEAVIEST;

/// What one entry costs beside the bytes of its key and its value, when the least recently used goes; see
/// [`entry_overhead`] for the other policies.
///
/// On a 64-bit machine: 72 for the node (links, key of up to 23 bytes, value pointer, digest, epoch, times, weight), 10
/// to 21 for its slot in the table depending on how full that is, 16 for the reference counts of the value's `Arc`, 4
/// for the memory of what became of an entry, and the rest for the headers and rounding of the allocations. A test
/// holds the sum against the real heap.
pub const ENTRY_OVERHEAD: usize = 116;

/// Returns what one entry costs beside the bytes of its key and its value: [`ENTRY_OVERHEAD`] and what the policy keeps
/// for each.
#[must_use]
pub const fn entry_overhead(eviction: Eviction) -> usize {
    ENTRY_OVERHEAD
        + match eviction {
            // The hash, its links and its level, and a place in the order.
            Eviction::Lfu => 40,
            // The hash in the row, and the place in it.
            Eviction::Random { .. } => 20,
            // Fingerprints of those that went.
            Eviction::S3Fifo => 12,
            // Counters of those that were asked for.
            Eviction::WTinyLfu => 8,
            _ => 0,
        }
}

/// From this many entries on a tier is split; below, it is one exact list.
const SPLIT_FROM: usize = 2048;
/// A shard holds at least this many entries, so that an uneven spread of keys costs little of the hit ratio.
const ENTRIES_PER_SHARD: usize = 128;
/// A shard's part of the bytes is at least this many, so that values of ordinary size leave room for others.
const BYTES_PER_SHARD: usize = 256 * 1024;
/// A value of up to this part of the bytes is kept, however many shards there are.
const LARGEST_PART: usize = 8;
/// Into how many shards a tier is split that keeps nothing: they hold what is under way.
const SHARDS_KEEPING_NOTHING: usize = 16;
/// More shards than this gain nothing for threads that hit.
const MOST_SHARDS: usize = 64;
/// But a shard holds at most about twice as many entries as this: a table that is filled with the marks of removals is
/// hashed anew as a whole while its shard is locked, at 0.1 us for each entry. That is rare: a mark is left only
/// between sixteen neighbours.
const ENTRIES_MOVED_AT_ONCE: usize = 1024;
/// Tables of at most so many entries have their full size from the start, 10 to 20 bytes for each entry. One that grows
/// is moved and allocates while its shard is locked, and an allocator may use that to sort out all that was freed.
const RESERVED: usize = 1 << 22;

/// The bounds of a [`LocalTier`](crate::LocalTier).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalOptions {
    /// The most entries held, known-absent keys included. 0 is taken as 1.
    pub max_entries: usize,
    /// The most bytes held: keys, values as weighed, and [`entry_overhead`] for each entry.
    pub max_bytes: usize,
    /// How long a [renewed](twotier_core::Lease::Renewed) lease lasts after the last proof of life.
    pub max_staleness: Duration,
    /// For how long after it began a read is joined by others; see [`joinable`](Self::joinable).
    pub joinable: Duration,
    /// Which entry goes when a shard is full.
    pub eviction: Eviction,
    /// Into how many shards the tier is split; `None` chooses from `max_entries`. For tests and benchmarks.
    /// Rounded down to a power of two, and to at most one shard for each entry.
    pub shards: Option<usize>,
    /// From what the hash of keys is made, and with it who shares a shard; `None` draws it once per process. For tests
    /// and benchmarks that are to come out alike each time.
    pub seed: Option<u64>,
    /// Whether nothing is ever kept; see [`keep_nothing`](Self::keep_nothing).
    pub keeps_nothing: bool,
    /// Whether miniatures of the tier say what other sizes would bring; see [`size_advice`](Self::size_advice).
    pub size_advice: bool,
    /// Whether copies are kept whose link was lost; see [`keep_lost`](Self::keep_lost).
    pub keeps_lost: bool,
}

impl LocalOptions {
    /// Makes options with the number of shards left to the tier: one below 2048 entries, so that small tiers are exact,
    /// then one for every 128 entries and every 256 KiB rounded down to a power of two, 64 at most or one for every
    /// 1024 entries, so that nothing that concerns a whole shard takes long.
    #[must_use]
    pub fn new(max_entries: usize, max_bytes: usize, max_staleness: Duration) -> Self {
        Self {
            max_entries,
            max_bytes,
            max_staleness,
            joinable: max_staleness,
            eviction: Eviction::Lru,
            shards: None,
            seed: None,
            keeps_nothing: false,
            size_advice: false,
            keeps_lost: false,
        }
    }

    /// Sets for how long after it began a read is joined by others. An answer is as old as its read, so whoever joins
    /// is served nothing staler than that. Default, and at most, the staleness bound.
    #[must_use]
    pub fn joinable(mut self, age: Duration) -> Self {
        self.joinable = age.min(self.max_staleness);
        self
    }

    /// Makes the options of a tier that keeps nothing: it has tickets, joined reads, loads and a link as any tier has,
    /// but every lookup is a miss and its statistics are those of a tier that is not there.
    #[must_use]
    pub fn keep_nothing(max_staleness: Duration) -> Self {
        Self { shards: Some(SHARDS_KEEPING_NOTHING), keeps_nothing: true, ..Self::new(0, 0, max_staleness) }
    }

    /// Sets which entry goes when a shard is full. Default [`Eviction::Lru`].
    #[must_use]
    pub fn eviction(mut self, eviction: Eviction) -> Self {
        self.eviction = eviction;
        self
    }

    /// Sets whether miniatures of the tier say what other sizes would bring: a quarter, a half, the same, two, four and
    /// eight times as much. Default false. They take up to 0.4 MB whatever the tier's size, and
    /// up to 5 MB where `max_bytes` is far less than 2000 for each of `max_entries`.
    #[must_use]
    pub fn size_advice(mut self, advice: bool) -> Self {
        self.size_advice = advice;
        self
    }

    /// Sets whether copies are kept whose link was lost, until they reach their deadline or are evicted: no hit is
    /// served from them, but [`LocalTier::stale`](crate::LocalTier::stale) returns them, and
    /// [`LocalTier::is_lost`](crate::LocalTier::is_lost) says which to read again. A flush ends them. Default false.
    #[must_use]
    pub fn keep_lost(mut self, keep: bool) -> Self {
        self.keeps_lost = keep;
        self
    }

    /// Returns the bounds of each shard, a power of two of them, which add up to exactly the bounds of the tier.
    pub(crate) fn split(&self) -> Vec<Share> {
        let max_entries = self.max_entries.max(if self.keeps_nothing { SHARDS_KEEPING_NOTHING } else { 1 });
        let wanted = self.shards.unwrap_or_else(|| match max_entries {
            ..SPLIT_FROM => 1,
            many => {
                let most = MOST_SHARDS.max(many / ENTRIES_MOVED_AT_ONCE);
                (many / ENTRIES_PER_SHARD).min(self.max_bytes / BYTES_PER_SHARD).min(most)
            }
        });
        let shards = previous_power_of_two(wanted.clamp(1, max_entries.min(1 << 16)));
        let lightest = entry_overhead(self.eviction);
        let room = if self.keeps_nothing { 0 } else { max_entries.min(self.max_bytes / lightest) };
        let reserved = if room <= RESERVED { room } else { 0 };
        let remembered = room.min(RESERVED);
        (0..shards)
            .map(|index| Share {
                max_entries: part(max_entries, shards, index),
                max_bytes: part(self.max_bytes, shards, index),
                granted: if shards == 1 { self.max_bytes } else { 0 },
                reserved: part(reserved, shards, index),
                remembered: part(remembered, shards, index),
            })
            .collect()
    }

    /// Returns what one entry may weigh in a tier of so many shards.
    pub(crate) fn heaviest(&self, shards: usize) -> usize {
        (self.max_bytes / shards.min(LARGEST_PART)).min(HEAVIEST)
    }
}

/// The bounds of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) max_entries: usize,
    /// Its part of the bytes, by which policies divide their queues.
    pub(crate) max_bytes: usize,
    /// What it may hold at first. Several shards are granted their bytes as they [need them](crate::budget).
    pub(crate) granted: usize,
    /// For how many entries it makes room at once.
    pub(crate) reserved: usize,
    /// Of how many keys it remembers what became of their entries.
    pub(crate) remembered: usize,
}

/// Returns part `index` of `total` cut into `parts`: the first ones get one more until the remainder is used up.
fn part(total: usize, parts: usize, index: usize) -> usize {
    total / parts + usize::from(index < total % parts)
}

/// Rounds a number from 1 on down to a power of two.
fn previous_power_of_two(number: usize) -> usize {
    1 << number.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(max_entries: usize) -> usize {
        LocalOptions::new(max_entries, max_entries * 2000, Duration::from_secs(2)).split().len()
    }

    #[test]
    fn a_small_tier_is_one_exact_list_and_no_shard_of_a_large_one_is_long_in_moving() {
        assert_eq!([1, 500, 2047].map(shards), [1, 1, 1]);
        assert_eq!([2048, 4095, 4096, 10_000, 16_384, 100_000].map(shards), [8, 16, 16, 64, 64, 64]);
        assert_eq!([200_000, 1_000_000, 10_000_000].map(shards), [128, 512, 8192]);
        assert!((2048..3_000_000).step_by(997).all(|entries| entries / shards(entries) <= 2 * ENTRIES_MOVED_AT_ONCE));
    }

    #[test]
    fn a_tier_of_few_bytes_is_not_split_into_shards_too_small_for_a_value() {
        let few = |max_bytes| LocalOptions::new(10_000, max_bytes, Duration::from_secs(2)).split();
        assert_eq!(few(100_000).len(), 1);
        assert_eq!(few(1_000_000).len(), 2);
        assert!(few(20_000_000).iter().all(|share| share.max_bytes >= BYTES_PER_SHARD));
    }

    #[test]
    fn the_bounds_of_the_shards_add_up_to_those_of_the_tier() {
        for (max_entries, max_bytes, wanted) in
            [(0, 0, None), (1, 7, Some(64)), (10, 101, Some(8)), (10_007, 999_999, None), (5, 5, Some(0))]
        {
            let options = LocalOptions { shards: wanted, ..LocalOptions::new(max_entries, max_bytes, Duration::ZERO) };
            let shares = options.split();
            assert!(shares.len().is_power_of_two());
            assert_eq!(shares.iter().map(|share| share.max_entries).sum::<usize>(), max_entries.max(1));
            assert_eq!(shares.iter().map(|share| share.max_bytes).sum::<usize>(), max_bytes);
            assert!(shares.iter().all(|share| share.max_entries > 0), "a shard that can hold nothing");
        }
    }
}
