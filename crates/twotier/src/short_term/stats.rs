//! The statistics of the local tier under the names that dashboards of the first system have.

use serde::Serialize;
use twotier_core::LocalStats;

/// Counters of the local tier since the memory was built. Serialized, each field has its own name.
///
/// Clearing resets none of them, and while there is no local tier all are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LocalCacheStats {
    /// Whether there is a local tier.
    pub enabled: bool,
    /// Entries held now, known-absent keys included.
    pub size: usize,
    /// The most entries that may be held.
    pub max_size: usize,
    /// Reads answered from the local tier, known-absent answers included.
    pub hits: u64,
    /// Reads that were not answered from the local tier.
    pub misses: u64,
    /// The share of reads answered locally, in percent; 0 when nothing was read yet.
    pub hit_rate: f64,
    /// Hits and misses together.
    pub total_requests: u64,
}

impl From<LocalStats> for LocalCacheStats {
    fn from(local: LocalStats) -> Self {
        Self {
            enabled: local.enabled,
            size: local.size,
            max_size: local.max_size,
            hits: local.hits,
            misses: local.misses,
            hit_rate: local.hit_rate(),
            total_requests: local.total_requests(),
        }
    }
}
