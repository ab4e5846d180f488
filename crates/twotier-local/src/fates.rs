//! Remembers what became of keys that are not here any more, so that a miss can say why it is one.

use std::hash::BuildHasher;

use twotier_core::{MissCauses, RemovalCause};

use crate::hash::KeyHasher;

/// Why a read was not answered from the tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissCause {
    /// Nothing is known of the key.
    Cold,
    /// A copy is here, or nothing is known, and there is no lease.
    Lease,
    /// The last copy is gone.
    Gone(Fate),
}

impl MissCause {
    pub(crate) fn count(self, causes: &mut MissCauses) {
        *match self {
            Self::Cold => &mut causes.cold,
            Self::Lease => &mut causes.lease,
            Self::Gone(Fate::Expired) => &mut causes.expired,
            Self::Gone(Fate::Evicted) => &mut causes.evicted,
            Self::Gone(Fate::Invalidated) => &mut causes.invalidated,
            Self::Gone(Fate::Outdated) => &mut causes.outdated,
            Self::Gone(Fate::Oversized) => &mut causes.oversized,
        } += 1;
    }
}

/// What became of the last copy of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Expired,
    Evicted,
    Invalidated,
    Outdated,
    Oversized,
}

impl Fate {
    /// Returns what becomes of a copy that goes for this cause.
    pub(crate) fn of(cause: RemovalCause) -> Self {
        match cause {
            RemovalCause::EvictedForEntries | RemovalCause::EvictedForBytes => Self::Evicted,
            RemovalCause::Expired => Self::Expired,
            RemovalCause::Outdated => Self::Outdated,
            _ => Self::Invalidated,
        }
    }
}

const FATES: [Fate; 5] = [Fate::Expired, Fate::Evicted, Fate::Invalidated, Fate::Outdated, Fate::Oversized];
/// How many fates lie together, the newest first: a quarter of a cache line, read at once.
const WAYS: usize = 4;
/// The lowest bits of what is remembered are the fate, from 1 on, so that 0 is nothing; the others are of the hash.
const FATE_BITS: u32 = 3;

/// The fates of as many keys as there is room for: 4 bytes each, allocated when the shard is made.
///
/// Each key has a place for four, which are forgotten in the order in which they came; a hash decides which keys share
/// one. The fate of a key that has come in again stays until it goes again, and is replaced then: nobody asks for it in
/// between, and an insertion has one thing less to do. No list of all is kept, because one that is searched takes the
/// longer the more it remembers, and one with an index takes four times the memory.
#[derive(Debug)]
pub(crate) struct Fates {
    places: Box<[[u32; WAYS]]>,
    hasher: KeyHasher,
}

impl Fates {
    /// Makes room for so many fates, rounded up to a multiple of four.
    pub(crate) fn new(remembered: usize, hasher: KeyHasher) -> Self {
        Self { places: vec![[0; WAYS]; remembered.div_ceil(WAYS)].into(), hasher }
    }

    pub(crate) fn of(&self, hash: u64) -> Option<Fate> {
        let place = self.places.get(self.index(hash))?;
        let found = place.iter().find(|slot| is_of(**slot, hash))?;
        FATES.get((found & ((1 << FATE_BITS) - 1)) as usize - 1).copied()
    }

    pub(crate) fn remember(&mut self, hash: u64, fate: Fate) {
        let index = self.index(hash);
        let Some(place) = self.places.get_mut(index) else { return };
        let known = place.iter().position(|slot| is_of(*slot, hash));
        // Those before the key's own older fate, or all but the oldest, move on. Three at most: a loop is less than a
        // call that could move more.
        for slot in (0..known.unwrap_or(WAYS - 1)).rev() {
            place[slot + 1] = place[slot];
        }
        place[0] = fingerprint(hash) | (fate as u32 + 1);
    }

    pub(crate) fn remember_key(&mut self, key: &str, fate: Fate) {
        self.remember(self.hasher.hash_one(key), fate);
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.places.fill([0; WAYS]);
    }

    /// Returns the place of a hash by bits that neither the choice of the shard nor the fingerprint depends on, as far
    /// as a shard has fewer than 2¹¹ places: the product's highest bits are those of the first factor.
    #[allow(clippy::cast_possible_truncation, reason = "the product is less than the number of places, a usize")]
    fn index(&self, hash: u64) -> usize {
        let chosen = (hash << 24) >> 32;
        ((chosen * self.places.len() as u64) >> 32) as usize
    }
}

/// Returns the part of a hash that is remembered of it.
#[allow(clippy::cast_possible_truncation, reason = "a part of the hash is what is wanted")]
fn fingerprint(hash: u64) -> u32 {
    (hash as u32) << FATE_BITS
}

fn is_of(slot: u32, hash: u64) -> bool {
    slot != 0 && slot >> FATE_BITS == fingerprint(hash) >> FATE_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::key_hasher;

    #[test]
    fn the_last_fate_of_a_key_is_remembered_until_all_are_forgotten() {
        let mut fates = Fates::new(8, key_hasher(Some(1)));
        for fate in FATES {
            fates.remember(7, fate);
            assert_eq!(fates.of(7), Some(fate));
        }
        assert_eq!(fates.of(8), None);
        fates.clear();
        assert_eq!(fates.of(7), None);
    }

    #[test]
    fn of_more_than_four_keys_in_one_place_the_first_are_forgotten() {
        let mut fates = Fates::new(4, key_hasher(Some(1)));
        for hash in 1..=6 {
            fates.remember(hash, Fate::Evicted);
        }
        assert_eq!(
            (1..=6).map(|hash| fates.of(hash).is_some()).collect::<Vec<_>>(),
            [false, false, true, true, true, true]
        );
        // One that is there already takes the place of none.
        fates.remember(3, Fate::Invalidated);
        fates.remember(7, Fate::Expired);
        let of = |hash| fates.of(hash);
        assert_eq!(
            [3, 4, 5, 6, 7].map(of),
            [Some(Fate::Invalidated), None, Some(Fate::Evicted), Some(Fate::Evicted), Some(Fate::Expired)]
        );
    }

    #[test]
    fn without_room_nothing_is_remembered_and_nothing_fails() {
        let mut fates = Fates::new(0, key_hasher(Some(1)));
        fates.remember(7, Fate::Evicted);
        fates.clear();
        assert_eq!(fates.of(7), None);
    }

    #[test]
    fn most_of_as_many_keys_as_there_is_room_for_are_remembered() {
        let mut fates = Fates::new(1024, key_hasher(Some(1)));
        let keys: Vec<String> = (0..1024).map(|number| format!("key:{number}")).collect();
        keys.iter().for_each(|key| fates.remember_key(key, Fate::Evicted));
        let hashes: Vec<u64> = keys.iter().map(|key| fates.hasher.hash_one(key.as_str())).collect();
        let known = hashes.iter().filter(|hash| fates.of(**hash).is_some()).count();
        assert!(known > 750, "{known} of 1024");
    }
}
