//! Estimates how often each of very many keys was asked for lately, in 8 bytes for each entry of the cache.

/// Counters of four bits in a row of a block.
const NIBBLES: u64 = 32;
/// Rows in which a key is counted; the smallest of its counters is the estimate.
const ROWS: usize = 4;
/// A block has 128 counters: 16 for each of so many entries, which keeps keys apart well enough at a tenth of what an
/// entry weighs.
const ENTRIES_PER_BLOCK: usize = 8;
/// After so many counts for each entry all counters are halved, so that what was popular once is forgotten. The value
/// of the paper: with counters up to 15 it sees differences of popularity, and a longer memory would saturate them.
const SAMPLE: usize = 10;
const MOST: u64 = 15;

/// A count-min sketch of four-bit counters: Cormode and Muthukrishnan, "An improved data stream summary", 2005, with
/// the aging of Einziger, Friedman and Manes, "TinyLFU", 2017. All counters of a key lie in one cache line.
#[derive(Debug)]
pub(super) struct Sketch {
    blocks: Vec<Block>,
    counted: usize,
}

/// One cache line; each row is two words.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
struct Block([u64; 2 * ROWS]);

impl Sketch {
    pub(super) fn new(entries: usize) -> Self {
        let blocks = entries.div_ceil(ENTRIES_PER_BLOCK).max(1).next_power_of_two();
        Self { blocks: vec![Block::default(); blocks], counted: 0 }
    }

    /// Grows until there is room for so many entries. Every key keeps its estimate: the half that is new begins as a
    /// copy of the other.
    pub(super) fn grow(&mut self, entries: usize) {
        while self.blocks.len() * ENTRIES_PER_BLOCK < entries {
            self.blocks.extend_from_within(..);
        }
    }

    /// Counts one use of a key.
    #[inline]
    pub(super) fn count(&mut self, hash: u64) {
        let index = self.block(hash);
        let block = &mut self.blocks[index].0;
        let mut any = 0;
        for (word, shift) in places(hash) {
            let below = u64::from((block[word] >> shift) & MOST < MOST);
            block[word] += below << shift;
            any |= below;
        }
        self.counted += usize::from(any == 1);
        if self.counted >= self.blocks.len() * ENTRIES_PER_BLOCK * SAMPLE {
            self.halve();
        }
    }

    /// Returns about how often a key was counted lately, at most 15.
    pub(super) fn estimate(&self, hash: u64) -> u64 {
        let block = &self.blocks[self.block(hash)].0;
        places(hash).map(|(word, shift)| (block[word] >> shift) & MOST).min().unwrap_or_default()
    }

    fn halve(&mut self) {
        for word in self.blocks.iter_mut().flat_map(|block| &mut block.0) {
            *word = (*word >> 1) & 0x7777_7777_7777_7777;
        }
        self.counted /= 2;
    }

    /// The shard is chosen by other bits of the hash, so these are not alike within one.
    #[allow(clippy::cast_possible_truncation, reason = "the mask keeps fewer bits")]
    fn block(&self, hash: u64) -> usize {
        hash as u32 as usize & (self.blocks.len() - 1)
    }
}

/// Returns word and shift of a key's counter in each row of its block.
#[inline]
fn places(hash: u64) -> impl Iterator<Item = (usize, u32)> {
    // Bits that depend on all others: those of the hash itself have chosen the block and the shard.
    let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    (0..ROWS).map(move |row| {
        let nibble = (mixed >> (5 * row)) & (NIBBLES - 1);
        (2 * row + usize::from(nibble >= 16), u32::try_from(nibble % 16 * 4).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: u64) -> u64 {
        (key + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29).wrapping_mul(0x94D0_49BB_1331_11EB)
    }

    #[test]
    fn an_estimate_is_never_too_low_and_seldom_too_high() {
        let mut sketch = Sketch::new(1);
        sketch.grow(1000);
        for key in 0..1000 {
            for _ in 0..key % 8 {
                sketch.count(hash(key));
            }
        }
        let excess: u64 = (0..1000).map(|key| sketch.estimate(hash(key)) - key % 8).sum();
        assert!(excess < 300, "{excess} too many in 3500");
    }

    #[test]
    fn growth_keeps_every_estimate() {
        let mut sketch = Sketch::new(1);
        for key in 0..8 {
            for _ in 0..key {
                sketch.count(hash(key));
            }
        }
        let before: Vec<_> = (0..8).map(|key| sketch.estimate(hash(key))).collect();
        sketch.grow(100);
        assert_eq!(sketch.blocks.len(), 16);
        assert_eq!((0..8).map(|key| sketch.estimate(hash(key))).collect::<Vec<_>>(), before);
    }

    #[test]
    fn what_was_popular_once_is_forgotten() {
        let mut sketch = Sketch::new(1);
        sketch.grow(1000);
        for _ in 0..100 {
            sketch.count(hash(0));
        }
        assert_eq!(sketch.estimate(hash(0)), MOST);
        for key in 1..100_000 {
            sketch.count(hash(key));
        }
        assert!(sketch.estimate(hash(0)) < MOST);
    }
}
