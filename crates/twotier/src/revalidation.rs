//! Copies that are read again before they are asked for, by a task that no call waits for.
//!
//! *Coming back*: copies whose link was lost are read again once it is up, the hottest first, so that a lost link costs
//! neither a flood of misses nor a cold cache. A copy counts again when the backend holds the same; what has changed
//! meanwhile is found out with it. Nothing is asked of the origin.
//!
//! *Reported changes*: where that is wanted, keys whose copies ended by a report.

use std::sync::{Arc, Weak, atomic::AtomicU64};

use smol_str::SmolStr;
use tokio::{
    sync::{
        Notify,
        mpsc::{Receiver, Sender, channel},
    },
    task::AbortHandle,
};
use twotier_core::Operation;
use twotier_local::Read;

use crate::remote::{BATCH, Local, Remote};

/// How many reported keys wait to be read again; more are left to whoever asks for them.
const WAITING: usize = 1024;

/// Takes what is to be read again. Waits for nothing.
pub(crate) struct Again {
    link_up: Arc<Notify>,
    reported: Option<Reported>,
}

pub(crate) struct Reported(Sender<SmolStr>);

/// What is to be read again.
pub(crate) struct Wanted {
    link_up: Arc<Notify>,
    reported: Option<Receiver<SmolStr>>,
}

impl Again {
    /// Makes both ends. Reported keys are read again if that is wanted.
    pub(crate) fn new(reported: bool) -> (Self, Wanted) {
        let link_up = Arc::<Notify>::default();
        let (sender, receiver) = reported.then(|| channel(WAITING)).unzip();
        (Self { link_up: Arc::clone(&link_up), reported: sender.map(Reported) }, Wanted { link_up, reported: receiver })
    }

    pub(crate) fn link_is_up(&self) {
        self.link_up.notify_one();
    }

    /// Returns what takes reported keys, where they are read again.
    pub(crate) fn reported(&self) -> Option<&Reported> {
        self.reported.as_ref()
    }
}

impl Reported {
    pub(crate) fn want(&self, key: &str) {
        let _full = self.0.try_send(key.into());
    }
}

impl Wanted {
    /// Waits for reported keys, for ever where none are wanted.
    async fn reported(&mut self, keys: &mut Vec<SmolStr>) {
        if let Some(reported) = &mut self.reported
            && reported.recv_many(keys, BATCH).await > 0
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// The task of one cache, which ends with this.
pub(crate) struct Revalidation(AbortHandle);

impl Drop for Revalidation {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Revalidation {
    /// Begins to wait. `most` copies are read again each time a link comes up.
    pub(crate) fn begin<V: Send + Sync + 'static>(
        most: usize,
        wanted: Wanted,
        local: &Local<V>,
        remote: &Arc<Remote<V>>,
    ) -> Self {
        Self(remote.runtime.spawn(revalidate(most, wanted, local.clone(), Arc::downgrade(remote))))
    }
}

async fn revalidate<V: Send + Sync + 'static>(
    most: usize,
    mut wanted: Wanted,
    local: Local<V>,
    remote: Weak<Remote<V>>,
) {
    let link_up = Arc::clone(&wanted.link_up);
    let mut reported = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = link_up.notified() => {
                let hottest = local.hottest(most);
                // One batch at a time: a live read never waits behind more than one.
                for keys in hottest.chunks(BATCH) {
                    let lost = keys.iter().map(String::as_str).filter(|key| local.is_lost(key));
                    match remote.upgrade() {
                        Some(remote) if read_again(&local, &remote, lost).await => {}
                        Some(_) => break,
                        None => return,
                    }
                }
            }
            () = wanted.reported(&mut reported) => {
                let Some(remote) = remote.upgrade() else { return };
                let _answered = read_again(&local, &remote, reported.iter().map(SmolStr::as_str)).await;
                reported.clear();
            }
        }
    }
}

/// Reads keys into the local tier, and returns whether the backend answered.
async fn read_again<V: Send + Sync + 'static>(
    local: &Local<V>,
    remote: &Arc<Remote<V>>,
    keys: impl Iterator<Item = &str>,
) -> bool {
    let (mut tickets, mut joiners) = (Vec::new(), Vec::new());
    for key in keys {
        // What is here, is being read already, or cannot be kept, need not be read for this.
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
        if !remote.is_answered(joiner).await {
            return false;
        }
    }
    true
}
