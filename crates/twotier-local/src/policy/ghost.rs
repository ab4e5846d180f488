//! Remembers which keys went lately, without the keys.

use std::collections::{HashSet, VecDeque};

use crate::hash::KeyHasher;

/// The last so many keys that were let go, as 32 bits of the hash of each.
///
/// Two keys are mistaken for one another with a chance of 2⁻³² for each that is remembered; one of them is then kept a
/// little longer than it has earned.
#[derive(Debug)]
pub(super) struct Ghost {
    known: HashSet<u32, KeyHasher>,
    /// The oldest at the front.
    order: VecDeque<u32>,
}

impl Ghost {
    pub(super) fn new(reserved: usize, hasher: KeyHasher) -> Self {
        // One more than it remembers: the oldest goes after the newest has come.
        let reserved = reserved + 1;
        Self { known: HashSet::with_capacity_and_hasher(reserved, hasher), order: VecDeque::with_capacity(reserved) }
    }

    pub(super) fn contains(&self, hash: u64) -> bool {
        self.known.contains(&fingerprint(hash))
    }

    /// Remembers a key, and forgets the oldest until there are at most `most`. A key that is remembered already stays
    /// where it is.
    pub(super) fn remember(&mut self, hash: u64, most: usize) {
        if self.known.insert(fingerprint(hash)) {
            self.order.push_back(fingerprint(hash));
        }
        while self.order.len() > most
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a part of the hash is what is wanted")]
fn fingerprint(hash: u64) -> u32 {
    hash as u32
}
