//! Access tiers: who may change a memory that agents share.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What somebody may do with a memory that agents share. Each tier may do what those below it may.
///
/// The tiers are ordered: `Observer < Contributor < Validator < Steward`. In TOML and JSON they are written in lower
/// case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessTier {
    /// Reads everybody's memory, and changes nothing.
    Observer,
    /// Writes and clears its own memory too.
    Contributor,
    /// May do what a contributor may. A tier of its own for those who act on it elsewhere.
    Validator,
    /// Clears the memory of other agents too.
    Steward,
}

impl fmt::Display for AccessTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observer => "observer",
            Self::Contributor => "contributor",
            Self::Validator => "validator",
            Self::Steward => "steward",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiers_are_ordered_and_written_in_lower_case() {
        let tiers = [AccessTier::Observer, AccessTier::Contributor, AccessTier::Validator, AccessTier::Steward];
        assert!(tiers.is_sorted());
        for tier in tiers {
            assert_eq!(serde_json::to_string(&tier).unwrap(), format!("\"{tier}\""));
        }
    }
}
