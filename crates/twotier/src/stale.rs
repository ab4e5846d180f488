//! Copies that may be stale: what they are for, while the backend does not answer or not soon enough.

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use smol_str::SmolStr;
use twotier_core::{CacheConfig, Error, ErrorKind, Operation};
use twotier_local::{Joined, Joiner, StaleCopy};

use crate::{
    Freshness, Lookup, Result, Tier,
    remote::{CachedValue, Remote},
    tiers::Tiers,
};

/// How many reads go on at most for nobody but the next caller.
const REFRESHED_AT_ONCE: usize = 1024;

/// For how long, and how soon, a read is answered by a copy that may be stale.
pub(crate) struct StaleOptions {
    /// The copy is known to have been current so long ago, or less.
    pub(crate) longest: Duration,
    /// The backend has so much time before a stale copy is returned; else all the time there is.
    pub(crate) soft_timeout: Option<Duration>,
}

impl StaleOptions {
    pub(crate) fn of(config: &CacheConfig) -> Option<Self> {
        Some(Self { longest: config.stale_if_error?, soft_timeout: config.soft_timeout })
    }
}

/// The keys whose reads go on although their callers were given stale copies.
#[derive(Default)]
pub(crate) struct Refreshed(Arc<Mutex<HashSet<SmolStr>>>);

/// One of them, until its read has ended.
struct Refreshing {
    keys: Arc<Mutex<HashSet<SmolStr>>>,
    key: SmolStr,
}

impl Refreshed {
    /// Takes a key on, unless it is there or too many are.
    fn begin(&self, key: &str) -> Option<Refreshing> {
        let (keys, key) = (Arc::clone(&self.0), SmolStr::from(key));
        let mut held = keys.lock();
        let began = held.len() < REFRESHED_AT_ONCE && held.insert(key.clone());
        drop(held);
        began.then_some(Refreshing { keys, key })
    }
}

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.keys.lock().remove(&self.key);
    }
}

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
            Operation::GetOrLoad | Operation::GetManyOrLoad => true,
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
            let _answered = wait_for(&remote, &joiner).await;
        });
    }
}

/// Waits for a read for as long as any caller would, and returns whether it was answered.
pub(crate) async fn wait_for<V: Send + Sync + 'static>(
    remote: &Remote<V>,
    joiner: &Joiner<CachedValue<V>, Error>,
) -> bool {
    let ended = remote.runtime.timeout(remote.settings.op_timeout, joiner.wait()).await;
    matches!(ended, Ok(Joined::Value(_) | Joined::ElectAgain))
}

/// Returns whether a stale copy may stand in for this failure: the backend could not say what it holds.
fn stands_in_for(failed: &Error) -> bool {
    use ErrorKind::{Overloaded, Rejected, Timeout, Unavailable};
    matches!(failed.kind(), Unavailable | Timeout | Rejected | Overloaded)
}
