//! How long a value still lives in the backend.

use std::time::Duration;

/// What a backend reports about the remaining life of a value, read in the same round trip as the value.
///
/// In Redis terms this is the reply of [`PTTL`](https://redis.io/docs/latest/commands/pttl/).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemainingTtl {
    /// The value has no expiry (`PTTL` −1).
    Persistent,
    /// The value expires after this long. Zero means it is expiring now and must not be kept locally.
    Expires(Duration),
    /// The backend does not know (`PTTL` −2: the key went away between value and TTL).
    /// The value answers the read that fetched it, and is not kept locally.
    Unknown,
}

impl RemainingTtl {
    /// Reads a reply of `PTTL`, in milliseconds.
    #[must_use]
    pub fn from_pttl(reply: i64) -> Self {
        match u64::try_from(reply) {
            Ok(millis) => Self::Expires(Duration::from_millis(millis)),
            Err(_negative) if reply == -1 => Self::Persistent,
            Err(_negative) => Self::Unknown,
        }
    }

    /// Returns how long a local copy may live: the shorter of this and `local`, or `None` when it may not be kept.
    #[must_use]
    pub fn cap(self, local: Duration) -> Option<Duration> {
        match self {
            Self::Persistent => Some(local),
            Self::Expires(left) if !left.is_zero() => Some(left.min(local)),
            Self::Expires(_) | Self::Unknown => None,
        }
    }
}

impl From<Option<Duration>> for RemainingTtl {
    /// The life of a value that is just being written with this TTL; `None` is no expiry.
    fn from(ttl: Option<Duration>) -> Self {
        ttl.map_or(Self::Persistent, Self::Expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pttl_replies_are_read_as_the_command_reference_says() {
        assert_eq!(RemainingTtl::from_pttl(-1), RemainingTtl::Persistent);
        assert_eq!(RemainingTtl::from_pttl(-2), RemainingTtl::Unknown);
        assert_eq!(RemainingTtl::from_pttl(i64::MIN), RemainingTtl::Unknown);
        assert_eq!(RemainingTtl::from_pttl(1500), RemainingTtl::Expires(Duration::from_millis(1500)));
    }

    #[test]
    fn a_local_copy_never_outlives_either_ttl() {
        let local = Duration::from_secs(60);
        assert_eq!(RemainingTtl::Persistent.cap(local), Some(local));
        assert_eq!(RemainingTtl::Expires(Duration::from_secs(1)).cap(local), Some(Duration::from_secs(1)));
        assert_eq!(RemainingTtl::Expires(Duration::from_secs(600)).cap(local), Some(local));
        assert_eq!(RemainingTtl::Expires(Duration::ZERO).cap(local), None);
        assert_eq!(RemainingTtl::Unknown.cap(local), None);
    }
}
