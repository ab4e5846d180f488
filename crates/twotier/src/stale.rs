//! Copies that may be stale: what they are for, while the backend does not answer or not soon enough.

use std::{pin::pin, sync::Arc};

use twotier_core::{Error, ErrorKind, Operation};
use twotier_local::StaleCopy;

use crate::{
    Freshness, Lookup, Result, Tier,
    remote::{CachedValue, StaleOptions},
    tiers::Tiers,
};

impl<V: Send + Sync + 'static> Tiers<V> {
    /// Waits for a read, and returns a copy that may be stale instead where there is one: when the backend does not
    /// answer, or has not after the soft timeout. The read goes on then, for whoever comes next.
    pub(crate) async fn read_or_stale(
        &self,
        key: &str,
        operation: Operation,
        options: &StaleOptions,
        read: impl Future<Output = Result<Lookup<V>>>,
    ) -> Result<Lookup<V>> {
        let mut read = pin!(read);
        if let Some(after) = options.soft_timeout {
            match self.remote.runtime.timeout(after, read.as_mut()).await {
                Ok(Err(failed)) => return self.stale_instead(key, operation, options, failed),
                Ok(found) => return found,
                Err(_elapsed) => {
                    if let Some(stale) = self.stale_copy(key, operation, options) {
                        self.go_on_reading(key, operation);
                        return Ok(stale);
                    }
                }
            }
        }
        match read.await {
            Err(failed) => self.stale_instead(key, operation, options, failed),
            found => found,
        }
    }

    fn stale_instead(
        &self,
        key: &str,
        operation: Operation,
        options: &StaleOptions,
        failed: Error,
    ) -> Result<Lookup<V>> {
        if !stands_in_for(&failed) {
            return Err(failed);
        }
        self.stale_copy(key, operation, options).ok_or(failed)
    }

    /// Puts stale copies in the place of failures.
    pub(crate) fn stale_instead_of_each(
        &self,
        keys: &[&str],
        operation: Operation,
        found: &mut [Result<CachedValue<V>>],
    ) {
        let Some(options) = &self.remote.settings.stale else { return };
        for (key, found) in keys.iter().zip(found) {
            if let Err(failed) = found
                && stands_in_for(failed)
                && let Some(stale) = self.stale_copy(key, operation, options)
            {
                *found = Ok(stale.value);
            }
        }
    }

    /// Returns the copy of a key that may be stale, for a caller that loads what it does not get.
    pub(crate) fn stale_before_load(&self, key: &str) -> Option<Lookup<V>> {
        self.stale_copy(key, Operation::GetOrLoad, self.remote.settings.stale.as_ref()?)
    }

    fn stale_copy(&self, key: &str, operation: Operation, options: &StaleOptions) -> Option<Lookup<V>> {
        let loads = match operation {
            Operation::Get | Operation::GetMany => false,
            Operation::GetOrLoad => true,
            // A load of many keys looks for itself; the others want nothing but what the backend holds.
            _ => return None,
        };
        let is_there = |value: &CachedValue<V>| value.is_some() || !loads;
        let StaleCopy { value, at_most, .. } = self.local.stale(key, options.longest, is_there)?;
        Some(Lookup { value, tier: Tier::Local, age: at_most, freshness: Freshness::Stale { at_most } })
    }

    /// Has the read of a key go on for as long as anybody would wait for it.
    fn go_on_reading(&self, key: &str, operation: Operation) {
        let Some(refreshing) = self.refreshed.begin(key) else { return };
        let Some(joiner) = self.joined_now(key, operation) else { return };
        let remote = Arc::clone(&self.remote);
        let _task = self.remote.runtime.spawn(async move {
            let _refreshing = refreshing;
            let _answered = remote.is_answered(&joiner).await;
        });
    }
}

/// Returns whether a stale copy may stand in for this failure: the backend could not say what it holds.
fn stands_in_for(failed: &Error) -> bool {
    use ErrorKind::{Overloaded, Rejected, Timeout, Unavailable};
    matches!(failed.kind(), Unavailable | Timeout | Rejected | Overloaded)
}
