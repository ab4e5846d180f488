//! The full form of a load, in blocking code.

use std::fmt;

use twotier_core::Operation;

use crate::{Key, LoadOptions, LoaderError, LoaderOutput, Lookup, Prior, Result};

use super::run;

/// One key of a cache, for a load with options: see [`Entry`](crate::Entry).
#[must_use = "an entry does nothing until it is loaded"]
pub struct Entry<'c, V, K> {
    entry: crate::Entry<'c, V, K>,
}

impl<'c, V, K> Entry<'c, V, K> {
    pub(super) fn new(entry: crate::Entry<'c, V, K>) -> Self {
        Self { entry }
    }

    /// Sets the options of the load.
    pub fn with(self, options: LoadOptions) -> Self {
        Self { entry: self.entry.with(options) }
    }
}

impl<V: Send + Sync + 'static, K: Key> Entry<'_, V, K> {
    /// See [`Entry::load_with`](crate::Entry::load_with). The loader is an ordinary function here; it runs on the
    /// calling thread, outside any runtime, to its end.
    ///
    /// # Errors
    ///
    /// As its twin.
    pub fn load_with<F, T, E>(self, loader: F) -> Result<Lookup<V>>
    where
        F: FnOnce(Prior<V>) -> Result<T, E>,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        run(Operation::GetOrLoad, self.entry.load_with(|prior| async { loader(prior) }))
    }
}

impl<V, K> fmt::Debug for Entry<'_, V, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}
