//! The hash by which keys are spread over shards and found in maps.

use std::sync::LazyLock;

use foldhash::{SharedSeed, fast::SeedableRandomState};

/// Hashes keys: foldhash by Orson Peters, the fastest at hand for short strings, with a seed.
///
/// Keys that were chosen without knowing the seed collide no more often than chance has it. Nothing more is promised:
/// foldhash is no keyed hash of cryptographic quality, and whoever can measure how long lookups take may learn the
/// seed. `SipHash` would be a defence; what it would cost a hit was not measured.
pub(crate) type KeyHasher = SeedableRandomState;

/// One seed per process.
static DRAWN: LazyLock<KeyHasher> = LazyLock::new(KeyHasher::random);

/// Makes the hasher of a seed, or that of the process.
pub(crate) fn key_hasher(seed: Option<u64>) -> KeyHasher {
    match seed {
        Some(seed) => KeyHasher::with_seed(seed, SharedSeed::global_fixed()),
        None => DRAWN.clone(),
    }
}
