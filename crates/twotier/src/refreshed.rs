//! The keys whose reads go on although their callers were given stale copies.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use smol_str::SmolStr;

/// How many there are at most: further reads end with their callers.
const AT_ONCE: usize = 1024;

#[derive(Default)]
pub(crate) struct Refreshed(Arc<Mutex<HashSet<SmolStr>>>);

/// One of them, until its read has ended.
pub(crate) struct Refreshing {
    keys: Arc<Mutex<HashSet<SmolStr>>>,
    key: SmolStr,
}

impl Refreshed {
    /// Takes a key on, unless it is there or too many are.
    pub(crate) fn begin(&self, key: &str) -> Option<Refreshing> {
        let (keys, key) = (Arc::clone(&self.0), SmolStr::from(key));
        let mut held = keys.lock();
        let began = held.len() < AT_ONCE && held.insert(key.clone());
        drop(held);
        began.then_some(Refreshing { keys, key })
    }
}

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.keys.lock().remove(&self.key);
    }
}
