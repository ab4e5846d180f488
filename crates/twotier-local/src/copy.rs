//! Which copy a tier would serve, for whoever wants to know whether it still is the same one later.

use twotier_core::{Mark, Timestamp};

use crate::{digest::Digest, link::OUTAGE, shard::LookupTime, tier::LocalTier};

/// Names a copy of a key: no other copy of that key has the same name.
///
/// Only one ticket of a key can be live at a time, and the time at which it was registered is part of the name. A copy
/// has none before the clock has gone on since, see [`LocalTier::served`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyId {
    /// Stands for the encoded bytes.
    pub digest: Digest,
    /// The epoch in which the copy was fetched or written. No two links have the same ones.
    pub epoch: u64,
    /// The time before the command that fetched or wrote it was sent, to the millisecond.
    pub fetched_at: Timestamp,
}

impl<T, E> LocalTier<T, E>
where
    T: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// Returns whether the copy of a key that would be served now stands for these bytes, or for this kind of absence.
    /// Counts nothing, and leaves everything as it is.
    #[must_use]
    pub fn serves(&self, key: &str, digest: Digest) -> bool {
        let inner = &**self.inner();
        let hash = inner.hash(key);
        let lookup = LookupTime { now: inner.clock.now(), links: &inner.links };
        inner.shard(hash).served(hash, key, lookup).is_some_and(|(served, _)| served == digest)
    }

    /// Returns which copy of a key would be served now, if any. Counts nothing, removes nothing, and leaves the order
    /// of eviction as it is.
    ///
    /// `None`, too, for a copy whose ticket was registered in this very millisecond, or tick of a coarser clock:
    /// another ticket of the key could still be registered at the same time; and for one that came from the origin
    /// while the backend did not answer.
    ///
    /// As long as the same copy is returned no report, own write, flush or change of the link has concerned the key
    /// since it was fetched.
    #[must_use]
    pub fn served(&self, key: &str) -> Option<CopyId> {
        let inner = &**self.inner();
        let hash = inner.hash(key);
        let now = inner.clock.now();
        let lookup = LookupTime { now, links: &inner.links };
        let (digest, Mark { link, epoch, at: fetched_at, .. }) = inner.shard(hash).served(hash, key, lookup)?;
        if link == OUTAGE {
            return None;
        }
        let millis = |time: Timestamp| time.as_nanos() / 1_000_000;
        (millis(now) > millis(fetched_at)).then_some(CopyId { digest, epoch, fetched_at })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use twotier_core::{ChangeListener, Lease, LinkId, ManualClock, Namespace};

    use super::*;
    use crate::{LocalOptions, Read};

    const BOUND: Duration = Duration::from_secs(2);
    const LIFE: Duration = Duration::from_secs(60);

    fn tier(clock: &ManualClock) -> LocalTier<u32, ()> {
        let options = LocalOptions::new(2, 1_000_000, BOUND);
        let tier = LocalTier::new(Namespace::new("n").unwrap(), options, Arc::new(clock.clone()));
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        tier
    }

    fn fill(tier: &LocalTier<u32, ()>, key: &str, value: u32) {
        let Read::Lead(ticket, _joiner) = tier.read(key) else { panic!("nobody else reads it") };
        assert!(ticket.fill(value, Digest::of(&value.to_le_bytes()), 4, Some(LIFE)));
    }

    #[test]
    fn a_copy_has_a_name_of_its_own_once_the_clock_has_gone_on() {
        let clock = ManualClock::new();
        let tier = tier(&clock);
        fill(&tier, "k", 1);
        clock.advance(Duration::from_micros(999));
        assert_eq!(tier.served("k"), None, "another ticket could have the same time");
        clock.advance(Duration::from_micros(1));
        let first = tier.served("k").unwrap();
        clock.advance(Duration::from_millis(1));
        assert_eq!(tier.served("k"), Some(first));
        tier.changed(b"n:k");
        assert_eq!(tier.served("k"), None);
        fill(&tier, "k", 1);
        clock.advance(Duration::from_millis(1));
        let second = tier.served("k").unwrap();
        assert!(second != first && second.digest == first.digest);
    }

    #[test]
    fn what_would_not_be_served_has_no_name_and_stays() {
        let clock = ManualClock::new();
        let tier = tier(&clock);
        fill(&tier, "k", 1);
        clock.advance(LIFE - Duration::from_nanos(1));
        assert!(tier.served("k").is_some());
        clock.advance(Duration::from_nanos(1));
        assert_eq!(tier.served("k"), None, "its life is over");
        assert_eq!((tier.stats().size, tier.stats().expired), (1, 0));
        fill(&tier, "k", 2);
        clock.advance(Duration::from_millis(1));
        assert!(tier.served("k").is_some());
        tier.flush();
        assert_eq!(tier.served("k"), None, "it is of another epoch");
        tier.link_down(LinkId::ONLY);
        tier.link_up(LinkId::ONLY, Lease::Renewed);
        tier.proof_of_life(tier.mark(LinkId::ONLY));
        fill(&tier, "k", 3);
        clock.advance(BOUND - Duration::from_nanos(1));
        assert!(tier.served("k").is_some());
        clock.advance(Duration::from_nanos(1));
        assert_eq!(tier.served("k"), None, "the lease has lapsed");
        tier.proof_of_life(tier.mark(LinkId::ONLY));
        assert!(tier.served("k").is_some());
    }

    #[test]
    fn to_ask_counts_nothing_and_leaves_the_order_of_eviction() {
        let clock = ManualClock::new();
        let tier = tier(&clock);
        fill(&tier, "a", 1);
        fill(&tier, "b", 1);
        clock.advance(Duration::from_millis(1));
        let before = tier.stats();
        assert!(tier.served("a").is_some());
        assert_eq!(tier.stats(), before);
        fill(&tier, "c", 1);
        assert_eq!(tier.keys(), ["b", "c"]);
    }
}
