//! Coming back: copies whose link was lost are read again once it is up, the hottest first, so that a lost link costs
//! neither a flood of misses nor a cold cache.
//!
//! A copy counts again when the backend holds the same: what a read brings takes its place. Nothing is asked of the
//! origin, and what has changed meanwhile is found out with it.

use std::sync::{Arc, Weak, atomic::AtomicU64};

use tokio::{sync::Notify, task::AbortHandle};
use twotier_core::Operation;
use twotier_local::Read;

use crate::{
    remote::{BATCH, Local, Remote},
    stale::wait_for,
};

/// The task of one cache, which ends with this.
pub(crate) struct Revalidation(AbortHandle);

impl Drop for Revalidation {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Revalidation {
    /// Begins to wait for links that come up. `most` copies are read again each time.
    pub(crate) fn begin<V: Send + Sync + 'static>(
        most: usize,
        link_up: Arc<Notify>,
        local: &Local<V>,
        remote: &Arc<Remote<V>>,
    ) -> Self {
        Self(remote.runtime.spawn(revalidate(most, link_up, local.clone(), Arc::downgrade(remote))))
    }
}

async fn revalidate<V: Send + Sync + 'static>(
    most: usize,
    link_up: Arc<Notify>,
    local: Local<V>,
    remote: Weak<Remote<V>>,
) {
    loop {
        link_up.notified().await;
        let hottest = local.hottest(most);
        // One batch at a time: a live read never waits behind more than one.
        for keys in hottest.chunks(BATCH) {
            let Some(remote) = remote.upgrade() else { return };
            if !read_again(&local, &remote, keys).await {
                break;
            }
        }
    }
}

/// Reads those of the keys again whose copies are from before a link was lost, and returns whether the backend
/// answered.
async fn read_again<V: Send + Sync + 'static>(local: &Local<V>, remote: &Arc<Remote<V>>, keys: &[String]) -> bool {
    let (mut tickets, mut joiners) = (Vec::new(), Vec::new());
    for key in keys.iter().filter(|key| local.is_lost(key)) {
        // What is being read already, or cannot be kept, need not be read for this.
        if let Read::Lead(ticket, joiner) = local.read(key) {
            tickets.push(ticket);
            joiners.push(joiner);
        }
    }
    if tickets.is_empty() {
        return true;
    }
    remote.start_reads(Operation::Warm, tickets, Arc::<AtomicU64>::default());
    for joiner in &joiners {
        if !wait_for(remote, joiner).await {
            return false;
        }
    }
    true
}
