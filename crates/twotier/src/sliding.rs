//! Sliding expiry: reads extend the life of what they find, in the background.
//!
//! A read that finds that enough of a life has passed hands its key to a task, and waits for nothing. The task sends
//! one touch for each key and share of the time to live, however many reads ask for it.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use smol_str::SmolStr;
use tokio::{sync::mpsc::Receiver, task::AbortHandle, time::sleep};
use twotier_core::{ChangeListener, Coherence, LinkId, Operation, Timestamp};

use crate::{
    meter::Call,
    remote::{Cost, Links, Local, PendingWrite, Remote, SlideSender, Sliding},
};

/// How many touches are under way at once.
const AT_ONCE: usize = 64;
/// How many keys are remembered at least, before those are forgotten that may be touched again.
const REMEMBERED: usize = 4096;
/// After a touch that failed nothing is touched for so long: a backend that is away is not asked by every read.
const PAUSE: Duration = Duration::from_millis(500);

/// The task of one cache, which ends with this.
pub(crate) struct Slider {
    wanted: SlideSender,
    task: AbortHandle,
}

impl Drop for Slider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Slider {
    pub(crate) fn begin<V: Send + Sync + 'static>(
        wanted: SlideSender,
        keys: Receiver<SmolStr>,
        local: &Local<V>,
        remote: &Arc<Remote<V>>,
    ) -> Self {
        let task = remote.runtime.spawn(slide(keys, wanted.clone(), local.clone(), Arc::downgrade(remote)));
        Self { wanted, task }
    }

    pub(crate) fn want(&self, key: &str) {
        self.wanted.want(key);
    }
}

async fn slide<V: Send + Sync + 'static>(
    mut keys: Receiver<SmolStr>,
    wanted: SlideSender,
    local: Local<V>,
    remote: Weak<Remote<V>>,
) {
    let mut recent = Recent { touched: HashMap::new(), most: REMEMBERED };
    let mut waiting = Vec::with_capacity(AT_ONCE);
    while keys.recv_many(&mut waiting, AT_ONCE).await > 0 {
        // The cache goes without waiting for this.
        let Some(remote) = remote.upgrade() else { return };
        let Some(Sliding { ttl, after, .. }) = remote.settings.sliding else { return };
        let now = local.mark(LinkId::ONLY).at;
        let due: Vec<SmolStr> = waiting.drain(..).filter(|key| recent.is_due(key, now, after)).collect();
        let touch = |key: SmolStr| (start_touch(&local, &remote, Operation::Touch, key.clone(), ttl), key);
        let touching: Vec<_> = due.into_iter().map(touch).collect();
        let mut failed = false;
        for (touch, key) in touching {
            if remote.written(touch).await.is_err() {
                recent.touched.remove(&key);
                failed = true;
            }
        }
        drop(remote);
        if failed {
            wanted.pause(true);
            sleep(PAUSE).await;
            while keys.try_recv().is_ok() {}
            wanted.pause(false);
        }
    }
}

/// The keys that were touched of late.
struct Recent {
    touched: HashMap<SmolStr, Timestamp>,
    /// How many there are before those are forgotten that may be touched again.
    most: usize,
}

impl Recent {
    /// Returns whether a key is to be touched, and takes it for touched then.
    fn is_due(&mut self, key: &SmolStr, now: Timestamp, after: Duration) -> bool {
        if self.touched.get(key).is_some_and(|at| now.since(*at) < after) {
            return false;
        }
        if self.touched.len() >= self.most {
            self.touched.retain(|_, at| now.since(*at) < after);
            self.most = REMEMBERED.max(2 * self.touched.len());
        }
        self.touched.insert(key.clone(), now);
        true
    }
}

/// Sends a touch in its turn. Copies live on for as long only where nothing else bounds how stale they are.
pub(crate) fn start_touch<V: Send + Sync + 'static>(
    local: &Local<V>,
    remote: &Arc<Remote<V>>,
    operation: Operation,
    key: SmolStr,
    ttl: Duration,
) -> PendingWrite<bool> {
    let (local, taken, link) = (local.clone(), Arc::clone(remote), local.route(&key));
    remote.write(operation, Links::One(link), Cost::ONE, false, move |permit| {
        let remote = taken;
        let ticket = local.begin_touch(&key, ttl.min(remote.settings.local_ttl()));
        async move {
            let qualified = remote.namespace.qualify(&key);
            let result = remote.call(Call::Write, link, remote.backend.touch(&qualified, ttl)).await;
            drop(permit);
            match result {
                Ok(false) => ticket.missing(),
                Ok(true) if remote.settings.coherence() == Coherence::Broadcast => ticket.extend(),
                Ok(true) | Err(_) => ticket.keep_life(),
            }
            result.map_err(|source| remote.backend_failed(operation, source))
        }
    })
}
