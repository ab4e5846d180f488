//! What stands for a value's bytes when two values are compared.

use std::{
    hash::{BuildHasher, Hasher},
    sync::LazyLock,
};

use foldhash::quality::RandomState;

/// One seed per process: nobody outside can choose two values with the same digest.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// Stands for the encoded bytes of a value, so that a late answer can be compared with what is kept.
///
/// Equal bytes have equal digests within one process; different bytes have different ones but for a chance of about
/// 2⁻⁶⁴. Digests of different processes are not comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(u64);

impl Digest {
    /// Stands for a key that is known to be absent.
    pub const ABSENT: Self = Self(0);

    /// Stands for a key of which a loader said that the origin has nothing either: another version of the key than
    /// [`ABSENT`](Self::ABSENT), which says nothing of the origin.
    pub const LOADED_ABSENT: Self = Self(1);

    /// Stands for bytes that are not those of what the backend was seen to hold: of a write that it computes, or of a
    /// value that is kept here alone. Equal to those of no value.
    pub const UNKNOWN: Self = Self(2);

    /// Computes the digest of a value's encoded bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = SEED.build_hasher();
        hasher.write(bytes);
        // The length is part of it: a block hash alone may treat missing bytes as zeros.
        hasher.write_usize(bytes.len());
        // Those below are taken; an empty value is not an absent one.
        Self(hasher.finish().max(3))
    }

    /// Returns whether it stands for a key that is not there.
    #[must_use]
    pub fn is_absence(self) -> bool {
        self == Self::ABSENT || self == Self::LOADED_ABSENT
    }

    /// Returns a byte of it, evenly spread.
    #[allow(clippy::cast_possible_truncation, reason = "a part of the hash is what is wanted")]
    #[must_use]
    pub fn byte(self) -> u8 {
        (self.0 >> 32) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_have_equal_digests_and_others_do_not() {
        assert_eq!(Digest::of(b"value"), Digest::of(String::from("value").as_bytes()));
        assert_ne!(Digest::of(b"value"), Digest::of(b"valuf"));
        assert_ne!(Digest::of(b"\0"), Digest::of(b"\0\0"));
    }

    #[test]
    fn an_empty_value_is_not_an_absent_one() {
        assert_ne!(Digest::of(b""), Digest::ABSENT);
    }
}
