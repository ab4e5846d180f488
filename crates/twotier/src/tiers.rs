//! What all clones of a cache share: the two tiers.

use std::{
    future::poll_fn,
    sync::{Arc, OnceLock},
    task::Poll,
};

use twotier_core::{CacheStats, CoherenceStats};

use crate::attach::Attaching;
use crate::audit::Auditor;
use crate::bulkhead::Bulkhead;
use crate::events::EventSender;
use crate::refreshed::Refreshed;
use crate::remote::{Local, Remote};
use crate::revalidation::Revalidation;
use crate::sliding::Slider;
use crate::turns::Turns;

pub(crate) struct Tiers<V> {
    /// Never absent: without local copies it keeps nothing, and its tickets hold the same promises.
    pub(crate) local: Local<V>,
    pub(crate) remote: Arc<Remote<V>>,
    pub(crate) events: EventSender,
    /// Before the origin, while the backend does not answer.
    pub(crate) bulkhead: Bulkhead,
    /// While the first link is made in the background.
    pub(crate) attaching: Option<Attaching>,
    /// Where local hits are audited.
    pub(crate) auditor: Option<Auditor>,
    /// Where reads extend the life of what they find.
    pub(crate) slider: Option<Slider>,
    /// Whose reads go on for whoever comes next.
    pub(crate) refreshed: Refreshed,
    /// Where copies are read again after their link was lost.
    pub(crate) _revalidation: Revalidation,
    /// Who changes a key by a function, one after the other.
    pub(crate) updates: Turns,
    /// Whether numbers are decimal text in the backend, once that was asked.
    pub(crate) counts: OnceLock<bool>,
}

impl<V: Send + Sync + 'static> Tiers<V> {
    /// See [`Cache::stats`](crate::Cache::stats).
    pub(crate) fn stats(&self) -> CacheStats {
        let Self { local, remote, .. } = self;
        let settings = &remote.settings;
        let mut coherence =
            CoherenceStats::new(settings.coherence(), settings.staleness_bound(), remote.backend.link());
        let counters = local.counters();
        coherence.invalidations = counters.invalidations;
        coherence.refused_fills = counters.refused_fills;
        coherence.refused_writes = counters.refused_writes;
        coherence.refused_loads = counters.refused_loads;
        coherence.flushes = counters.flushes;
        coherence.links = counters.links;
        // The shortest of all: how soon some copy stops being served.
        let leases = remote.backend.links().into_iter();
        coherence.lease_remaining = leases.filter_map(|status| local.lease_remaining(status.link)).min();
        coherence.invalidation_lag = local.invalidation_lag();
        let mut backend = remote.meter.stats(remote.backend.system());
        backend.breaker = remote.breaker_stats();
        backend.queued_invalidations = remote.invalidations.len();
        let mut stats = CacheStats::new(remote.namespace.clone(), local.stats(), backend, coherence)
            .with_curve(local.size_curve().as_ref());
        stats.audit = self.auditor.as_ref().map(Auditor::stats).unwrap_or_default();
        stats
    }
}

/// Lets others run after so many steps of a loop that may be long, and has nothing to wait for by itself.
#[inline]
pub(crate) async fn yield_every(step: usize) {
    if step > 0 && step.is_multiple_of(crate::remote::BATCH) {
        yield_now().await;
    }
}

/// Lets others run, and goes on whoever polls.
///
/// tokio's own leaves the wake-up to the worker thread that it runs on, which may be waiting for this very future.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
