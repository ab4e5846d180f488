//! `invalidate`: a deletion that waits where the backend is away.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::timeout;
use twotier_core::{Error, ErrorKind, Operation};
use twotier_local::Digest;

use crate::{
    Result,
    meter::Call,
    remote::{Cost, Links, Local, Queued, Remote},
    tiers::Tiers,
    write::{clear_all, one_each},
};

/// The longest pause before a drain that failed is tried again. The backend's own word of its return ends it.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What became of an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Invalidated {
    /// The key is gone from both tiers: it was in the backend.
    Removed,
    /// The key is gone from both tiers: it was not in the backend.
    Absent,
    /// The backend is away. The local copy is gone; the key is deleted before this cache believes the backend about it
    /// again, and until then it counts as unavailable.
    Queued,
}

impl<V: Send + Sync + 'static> Tiers<V> {
    /// Deletes a key, or has it wait where the backend is away and that is wanted.
    pub(crate) async fn invalidate(&self, key: &str) -> Result<Invalidated> {
        match self.delete(key).await {
            Ok(true) => Ok(Invalidated::Removed),
            Ok(false) => Ok(Invalidated::Absent),
            Err(error) if self.remote.invalidations.is_on() && is_away(&error) => Ok(Invalidated::Queued),
            Err(error) => Err(error),
        }
    }

    /// Has a key wait whose deletion has just failed, where that is wanted.
    pub(crate) fn queue_if_away(&self, key: &str, error: &Error) {
        if self.remote.invalidations.is_on() && is_away(error) {
            self.remote.invalidations.add(key);
            // After it waits: see `add`.
            let _held = self.local.invalidate(key);
            self.drain();
        }
    }

    /// Drains in the background what waits, unless that is being done.
    fn drain(&self) {
        if self.remote.invalidations.begin_drain() {
            let drain = drain(self.local.clone(), Arc::downgrade(&self.remote));
            self.remote.runtime.spawn(drain);
        }
    }

    /// Deletes a key that waits before the backend is asked for it. Costs a round trip then, and else one load of a
    /// counter that nobody writes to. Where the whole namespace waits it is left to the one who drains.
    pub(crate) async fn settle(&self, operation: Operation, key: &str) -> Result<()> {
        match self.remote.invalidations.waiting(key) {
            Some(queued) if !queued.is_everything() => settle(&self.local, &self.remote, operation, vec![queued]).await,
            _ => Ok(()),
        }
    }

    /// As [`settle`](Self::settle), for many keys.
    pub(crate) async fn settle_many(&self, operation: Operation, keys: &[&str]) {
        let invalidations = &self.remote.invalidations;
        if invalidations.len() == 0 {
            return;
        }
        let waiting = keys.iter().filter_map(|key| invalidations.waiting(key)).filter(|queued| !queued.is_everything());
        let waiting: Vec<Queued> = waiting.collect();
        for part in waiting.chunks(self.remote.batch()) {
            // Those that fail are refused as they are read.
            let _settled = settle(&self.local, &self.remote, operation, part.to_vec()).await;
        }
    }
}

/// Deletes keys that wait, as far as they still do when the turn comes: an own write that was sent before is newer.
async fn settle<V: Send + Sync + 'static>(
    local: &Local<V>,
    remote: &Arc<Remote<V>>,
    operation: Operation,
    queued: Vec<Queued>,
) -> Result<()> {
    let links = Links::of(queued.iter().map(|queued| local.route(&queued.key)));
    let (local, remote, owner) = (local.clone(), Arc::clone(remote), Arc::clone(remote));
    let write = owner.write(operation, links, Cost::of_keys(queued.len()), true, move |permit| {
        let due: Vec<Queued> = queued.into_iter().filter(|queued| remote.invalidations.is_due(queued)).collect();
        let tickets: Vec<_> = due.iter().map(|queued| local.begin_write(&queued.key, Digest::ABSENT)).collect();
        let qualified: Vec<Bytes> = due.iter().map(|queued| remote.namespace.qualify(&queued.key).into()).collect();
        async move {
            if due.is_empty() {
                return Ok(());
            }
            let links: Vec<_> = tickets.iter().map(|ticket| ticket.mark().link).collect();
            let call = remote.backend.delete_many(&qualified);
            let results = one_each(due.len(), remote.call_for_many(Call::Delete, &links, call).await);
            drop(permit);
            let deleted = due.iter().zip(&results).filter_map(|(queued, result)| result.is_ok().then_some(queued));
            remote.invalidations.done(deleted);
            // Nothing is kept of it: the next read finds out.
            drop(tickets);
            match results.into_iter().find_map(Result::err) {
                Some(source) => Err(remote.backend_failed(operation, source)),
                None => Ok(()),
            }
        }
    });
    owner.part_written(write).await
}

/// Drains until nothing waits, or until the cache is gone.
async fn drain<V: Send + Sync + 'static>(local: Local<V>, remote: Weak<Remote<V>>) {
    let mut pause = FIRST_PAUSE;
    while let Some(remote) = remote.upgrade() {
        let invalidations = Arc::clone(&remote.invalidations);
        let some = invalidations.some(remote.batch());
        if invalidations.len() == 0 {
            if invalidations.end_drain() {
                return;
            }
            continue;
        }
        let settled = match &some[..] {
            [everything] if everything.is_everything() => {
                clear_all(&local, &remote, Operation::Invalidate, "").await.map(drop)
            }
            // Each is being written.
            [] => Ok(()),
            _ => settle(&local, &remote, Operation::Invalidate, some.clone()).await,
        };
        match settled {
            Err(error) if error.kind() == ErrorKind::Closed => {
                let keys = invalidations.len();
                tracing::warn!(namespace = %remote.namespace, keys, "closed while invalidations waited");
                return;
            }
            Ok(()) if !some.is_empty() => {
                pause = FIRST_PAUSE;
                if invalidations.len() == 0 {
                    tracing::info!(namespace = %remote.namespace, "no invalidation waits any more");
                }
                continue;
            }
            _ => {}
        }
        drop(remote);
        let _woken = timeout(pause.mul_f64(0.5 + 0.5 * fastrand::f64()), invalidations.retry.notified()).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

/// Whether a deletion failed for want of a backend.
fn is_away(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Overloaded)
}
