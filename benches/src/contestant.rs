//! Who is held against whom: one small trait over every cache, of which each is used as its documentation shows.

#[cfg(feature = "peers")]
mod peers;

use std::{hint::black_box, sync::Arc, time::Duration};

use twotier::{ChangeListener, Eviction, Lease, LinkId, Namespace, SystemClock};
use twotier_local::{Digest, LocalOptions, LocalTier, Read};

/// What is kept: 100 bytes behind a reference count.
pub type Value = Arc<[u8; 100]>;

/// An in-process cache of strings to [`Value`]s.
pub trait Contestant: Send + Sync + 'static {
    /// Looks a key up as a user would, and returns whether it was there.
    fn get(&self, key: &str) -> bool;

    /// Puts a value in, whether or not the key is there.
    fn insert(&self, key: &str, value: &Value);

    /// Puts in what a miss has fetched.
    fn fill(&self, key: &str, value: &Value) {
        self.insert(key, value);
    }

    /// Does what the cache has put off, such as evictions.
    fn settle(&self) {}

    /// Returns how many entries are held.
    fn entries(&self) -> usize;
}

/// Somebody to whom each contestant is shown with its type, so that what they measure calls it directly.
pub trait Visitor {
    /// Takes a contestant: its name, and how to make one of so many entries.
    fn visit<C: Contestant>(&mut self, name: &str, make: impl Fn(usize) -> C + Send + Sync + 'static);
}

/// The policies of the local tier.
pub const POLICIES: [Eviction; 6] =
    [Eviction::Lru, Eviction::Lfu, Eviction::Fifo, Eviction::Random { seed: 0 }, Eviction::S3Fifo, Eviction::WTinyLfu];

/// Shows every policy of the local tier, each as it is by default.
pub fn ours(visitor: &mut impl Visitor) {
    for policy in POLICIES {
        visitor.visit(&our_name(policy), move |entries| Local::new(entries, policy, None));
    }
}

/// Shows the local tier read without cloning what it holds: an exact policy, and one that only marks an entry.
pub fn borrowed(visitor: &mut impl Visitor) {
    for policy in [Eviction::Lru, Eviction::S3Fifo] {
        let name = our_name(policy) + BORROWED;
        visitor.visit(&name, move |entries| Borrowed(Local::new(entries, policy, None)));
    }
}

/// What the names of those end in.
pub const BORROWED: &str = ", get_with";

/// Names one of the local tier's policies.
#[must_use]
pub fn our_name(policy: Eviction) -> String {
    format!("twotier {policy}")
}

/// Shows every peer there is; none without the feature `peers`.
pub fn peers(visitor: &mut impl Visitor) {
    #[cfg(feature = "peers")]
    peers::each(visitor);
    #[cfg(not(feature = "peers"))]
    let _ = visitor;
}

/// The peer that ratios are taken to.
pub const QUICK_CACHE: &str = "quick_cache";
/// A peer.
pub const MOKA: &str = "moka::sync";
/// A peer, by its default policy.
pub const FOYER: &str = "foyer lru";

/// Long enough to be out of the way.
const LIFE: Option<Duration> = Some(Duration::from_secs(24 * 3600));

/// The local tier alone, linked to nothing that could change an entry.
#[derive(Debug)]
pub struct Local {
    tier: LocalTier<Value, ()>,
}

impl Local {
    /// Makes one. Bytes are bounded so widely that only the number of entries counts.
    ///
    /// # Panics
    ///
    /// Never: the namespace is a constant.
    #[must_use]
    pub fn new(entries: usize, policy: Eviction, shards: Option<usize>) -> Self {
        let mut options = LocalOptions::new(entries, usize::MAX / 2, Duration::from_secs(2)).eviction(policy);
        options.shards = shards;
        let namespace = Namespace::new("benches").expect("it is a word");
        let tier = LocalTier::new(namespace, options, Arc::new(SystemClock::new()));
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        Self { tier }
    }
}

impl Contestant for Local {
    fn get(&self, key: &str) -> bool {
        black_box(self.tier.get(key)).is_some()
    }

    fn insert(&self, key: &str, value: &Value) {
        let ticket = self.tier.begin_write(key, Digest::ABSENT);
        black_box(ticket.install(Arc::clone(value), value.len(), LIFE));
    }

    fn fill(&self, key: &str, value: &Value) {
        // Another thread may have filled it meanwhile, or be about to.
        if let Read::Lead(ticket, _) = self.tier.read(key) {
            black_box(ticket.fill(Arc::clone(value), Digest::ABSENT, value.len(), LIFE));
        }
    }

    fn entries(&self) -> usize {
        self.tier.stats().size
    }
}

/// The local tier, whose value is looked at where it lies.
#[derive(Debug)]
struct Borrowed(Local);

impl Contestant for Borrowed {
    fn get(&self, key: &str) -> bool {
        black_box(self.0.tier.get_with(key, |value| value[0])).is_some()
    }

    fn insert(&self, key: &str, value: &Value) {
        self.0.insert(key, value);
    }

    fn fill(&self, key: &str, value: &Value) {
        self.0.fill(key, value);
    }

    fn entries(&self) -> usize {
        self.0.entries()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Check(Vec<String>);

    impl Visitor for Check {
        fn visit<C: Contestant>(&mut self, name: &str, make: impl Fn(usize) -> C) {
            let (cache, value) = (make(1000), Value::new([0; 100]));
            assert!(!cache.get("a"), "{name}");
            cache.fill("a", &value);
            cache.insert("b", &value);
            cache.insert("b", &value);
            cache.settle();
            assert!(cache.get("a") && cache.get("b") && !cache.get("c"), "{name}");
            assert_eq!(cache.entries(), 2, "{name}");
            self.0.push(name.to_owned());
        }
    }

    #[test]
    fn every_contestant_is_a_cache_and_bears_a_name_of_its_own() {
        let mut check = Check(Vec::new());
        ours(&mut check);
        borrowed(&mut check);
        peers(&mut check);
        if cfg!(feature = "peers") {
            for name in [QUICK_CACHE, MOKA, FOYER] {
                assert!(check.0.iter().any(|there| there == name), "{name} is a name in the bars");
            }
        }
        let count = check.0.len();
        check.0.sort();
        check.0.dedup();
        assert_eq!(check.0.len(), count, "two of one name");
    }
}
