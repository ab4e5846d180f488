//! The peers, each with the settings it has by default but for the number of entries.

use std::{cell::RefCell, hint::black_box, sync::Arc};

use foyer_memory::{EvictionConfig, LruConfig, S3FifoConfig};
use mini_moka::sync::ConcurrentCacheExt;

use super::{Contestant, FOYER, MOKA, QUICK_CACHE, Value, Visitor};

/// Shows every peer.
pub(super) fn each(visitor: &mut impl Visitor) {
    visitor.visit(QUICK_CACHE, QuickCache::new);
    visitor.visit(MOKA, |entries| moka::sync::Cache::<Box<str>, Value>::new(entries as u64));
    visitor.visit("mini-moka", |entries| mini_moka::sync::Cache::<String, Value>::new(entries as u64));
    visitor.visit(FOYER, |entries| foyer(entries, LruConfig::default()));
    visitor.visit("foyer s3-fifo", |entries| foyer(entries, S3FifoConfig::default()));
}

type QuickCache = quick_cache::sync::Cache<Box<str>, Value>;

impl Contestant for QuickCache {
    fn get(&self, key: &str) -> bool {
        black_box(self.get(key)).is_some()
    }

    fn insert(&self, key: &str, value: &Value) {
        self.insert(key.into(), Arc::clone(value));
    }

    fn entries(&self) -> usize {
        self.len()
    }
}

impl Contestant for moka::sync::Cache<Box<str>, Value> {
    fn get(&self, key: &str) -> bool {
        black_box(self.get(key)).is_some()
    }

    fn insert(&self, key: &str, value: &Value) {
        self.insert(key.into(), Arc::clone(value));
    }

    fn settle(&self) {
        self.run_pending_tasks();
    }

    fn entries(&self) -> usize {
        usize::try_from(self.entry_count()).unwrap_or(usize::MAX)
    }
}

thread_local! {
    /// mini-moka looks up by the type of the key it owns: a careful user keeps one and writes over it.
    static LOOKED_UP: RefCell<String> = const { RefCell::new(String::new()) };
}

impl Contestant for mini_moka::sync::Cache<String, Value> {
    fn get(&self, key: &str) -> bool {
        LOOKED_UP.with_borrow_mut(|owned| {
            owned.clear();
            owned.push_str(key);
            black_box(self.get(owned)).is_some()
        })
    }

    fn insert(&self, key: &str, value: &Value) {
        self.insert(key.into(), Arc::clone(value));
    }

    fn settle(&self) {
        self.sync();
    }

    fn entries(&self) -> usize {
        usize::try_from(self.entry_count()).unwrap_or(usize::MAX)
    }
}

type Foyer = foyer_memory::Cache<Box<str>, Value>;

fn foyer(entries: usize, policy: impl Into<EvictionConfig>) -> Foyer {
    foyer_memory::CacheBuilder::new(entries).with_eviction_config(policy).build()
}

impl Contestant for Foyer {
    fn get(&self, key: &str) -> bool {
        // Its hit is a counted reference to the entry, in which the value is.
        black_box(self.get(key)).is_some()
    }

    fn insert(&self, key: &str, value: &Value) {
        black_box(self.insert(key.into(), Arc::clone(value)));
    }

    fn entries(&self) -> usize {
        self.entries()
    }
}
