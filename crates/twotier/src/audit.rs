//! The auditor: a sample of local hits is read again from the backend.
//!
//! # What is proved, and how
//!
//! A hit on a copy is sampled, together with the name of the copy ([`CopyId`]). Then the backend is read. If it holds
//! the same bytes, the hit is confirmed. If it holds others, that is no violation yet: the report may be under way. But
//! when the *same* copy would still be served at a moment that is the staleness bound after the answer, the promise is
//! broken for certain:
//!
//! - the bytes that were read were there at the time of the answer, so the copy had been overwritten by then;
//! - a copy is served only before the lease, which is the bound after the mark of a proof of life. So that proof's mark
//!   is from after the answer, and everything acknowledged before it has been reported;
//! - every report, own write, flush and change of the link since the copy's ticket was registered would have taken the
//!   copy away, or its name.
//!
//! So a report was lost, or a rule of the protocol is broken. Everything else is inconclusive: a copy that went, for
//! whatever reason; a backend that could not be read; and a key that is absent where the copy has a value, since it may
//! have expired there, by a clock that was set forward, which is reported late or never.
//!
//! The read is not put off for the bound: equal bytes right after the hit say more than equal bytes later, and are to
//! be had of keys that change often. It is the verdict that waits.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use smol_str::SmolStr;
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{sleep, timeout},
};
use twotier_backend::Stored;
use twotier_core::{AuditStats, ChangeListener, LinkId, Timestamp};
use twotier_local::{CopyId, Digest};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    events::{AuditFailure, EventSender},
    log::Occasional,
    remote::{Local, Remote},
};

/// How many copies that differed are watched at once; then no hit is sampled until one was judged.
const WATCHED: usize = 4096;

/// The auditor of one cache. Its task ends with this.
pub(crate) struct Auditor {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for Auditor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Auditor {
    /// Begins to audit so many hits a second, at most.
    pub(crate) fn begin<V: Send + Sync + 'static>(
        hits_per_second: f64,
        local: &Local<V>,
        remote: &Arc<Remote<V>>,
        events: &EventSender,
    ) -> Self {
        let shared = Arc::<Shared>::default();
        let audit = Audit {
            pause: Duration::from_secs_f64(1.0 / hits_per_second),
            shared: Arc::clone(&shared),
            local: local.clone(),
            // The cache goes without waiting for its auditor.
            remote: Arc::downgrade(remote),
            events: events.clone(),
            differing: VecDeque::new(),
            violations: Occasional::default(),
        };
        Self { shared, task: remote.runtime.spawn(audit.run()) }
    }

    /// Returns whether the hit that just was is to be a sample: a few times a second. All that a hit pays is this load
    /// of what hardly ever changes.
    #[inline]
    pub(crate) fn wants_hit(&self) -> bool {
        self.shared.armed.0.load(Ordering::Relaxed)
    }

    /// Takes the hit for a sample, unless another one was quicker.
    ///
    /// The copy is looked up anew. Should it be another one by now, a hit on that one is as good.
    #[cold]
    #[inline(never)]
    pub(crate) fn sample<V: Send + Sync + 'static>(&self, local: &Local<V>, key: &str) {
        let Some(copy) = local.served(key) else { return };
        if !self.shared.armed.0.swap(false, Ordering::Relaxed) {
            return;
        }
        let mut sample = self.shared.sample.lock();
        // Another one may be there that the task did not wait for.
        if sample.is_none() {
            *sample = Some(Sample { key: key.into(), copy });
            self.shared.count(|counts| &counts.sampled);
            self.shared.sampled.notify_one();
        }
    }

    pub(crate) fn stats(&self) -> AuditStats {
        self.shared.counts.stats()
    }
}

/// What hits and the task share.
#[derive(Default)]
struct Shared {
    armed: Armed,
    sample: Mutex<Option<Sample>>,
    sampled: Notify,
    counts: Counts,
}

impl Shared {
    fn count(&self, counter: impl FnOnce(&Counts) -> &AtomicU64) {
        counter(&self.counts).fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether the next hit is to be a sample: on cache lines of its own, since every hit reads it.
#[derive(Default)]
#[repr(align(128))]
struct Armed(AtomicBool);

#[derive(Default)]
struct Counts {
    sampled: AtomicU64,
    confirmed: AtomicU64,
    inconclusive: AtomicU64,
    violations: AtomicU64,
}

impl Counts {
    fn stats(&self) -> AuditStats {
        let mut stats = AuditStats::default();
        stats.enabled = true;
        stats.confirmed = self.confirmed.load(Ordering::Relaxed);
        stats.inconclusive = self.inconclusive.load(Ordering::Relaxed);
        stats.violations = self.violations.load(Ordering::Relaxed);
        // Last: what was judged had been sampled.
        stats.sampled = self.sampled.load(Ordering::Relaxed);
        stats
    }
}

/// A hit to be looked into.
#[derive(Clone, Debug)]
struct Sample {
    key: SmolStr,
    copy: CopyId,
}

/// A hit on a copy that the backend's bytes differed from.
#[derive(Debug)]
struct Differing {
    sample: Sample,
    /// After the backend's answer, on the tier's clock.
    answered: Timestamp,
}

/// What a read of the backend says of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Same,
    Differs,
    /// Nothing.
    Unknown,
}

/// The task.
struct Audit<V> {
    pause: Duration,
    shared: Arc<Shared>,
    local: Local<V>,
    remote: Weak<Remote<V>>,
    events: EventSender,
    /// In the order of their answers.
    differing: VecDeque<Differing>,
    violations: Occasional,
}

impl<V: Send + Sync + 'static> Audit<V> {
    /// Each turn is a pause and then one read of the backend at most, so that reads are no more than so many a second.
    async fn run(mut self) {
        loop {
            // Drawn at random, so as not to beat with what the program does at regular times. The mean is the pause.
            sleep(self.pause.mul_f64(0.5 + fastrand::f64())).await;
            let Some(remote) = self.remote.upgrade() else { return };
            let Some(bound) = remote.settings.staleness_bound() else { continue };
            drop(remote);
            if let Some(due) = self.take_due(bound) {
                self.judge(due, bound).await;
                continue;
            }
            if self.differing.len() >= WATCHED {
                continue;
            }
            self.shared.armed.0.store(true, Ordering::Relaxed);
            tokio::select! {
                () = self.shared.sampled.notified() => {}
                // Those that wait are to be judged though nothing is hit any more.
                () = sleep(self.pause), if !self.differing.is_empty() => {}
            }
            let sample = self.shared.sample.lock().take();
            if let Some(sample) = sample {
                self.look_into(sample).await;
            }
        }
    }

    /// Reads the backend for the first time.
    async fn look_into(&mut self, sample: Sample) {
        match self.read_again(&sample).await {
            Finding::Same => self.shared.count(|counts| &counts.confirmed),
            Finding::Unknown => self.shared.count(|counts| &counts.inconclusive),
            Finding::Differs => {
                let answered = self.local.mark(LinkId::ONLY).at;
                self.differing.push_back(Differing { sample, answered });
            }
        }
    }

    /// Takes the first that differed, once the bound has passed since.
    fn take_due(&mut self, bound: Duration) -> Option<Differing> {
        let now = self.local.mark(LinkId::ONLY).at;
        let due = self.differing.front().is_some_and(|first| now >= first.answered.saturating_add(bound));
        if due { self.differing.pop_front() } else { None }
    }

    /// Judges a copy from which the backend's bytes differed the bound ago.
    async fn judge(&mut self, due: Differing, bound: Duration) {
        let Sample { key, copy } = &due.sample;
        let is_served = || self.local.served(key) == Some(*copy);
        // Read once more: a backend whose reads lag behind its writes may have answered with what was there before the
        // copy. What it holds by now may be something else than it held then, and if it is not the copy, so much the
        // worse.
        if !is_served() || self.read_again(&due.sample).await != Finding::Differs || !is_served() {
            return self.shared.count(|counts| &counts.inconclusive);
        }
        self.shared.count(|counts| &counts.violations);
        self.report(&due, bound);
        // It is known to be wrong. Other samples of it, which may be of hits within the bound, find that it went.
        let _held = self.local.invalidate(key);
    }

    fn report(&self, due: &Differing, bound: Duration) {
        let (Some(remote), Differing { sample: Sample { key, copy }, answered }) = (self.remote.upgrade(), due) else {
            return;
        };
        let now = self.local.mark(LinkId::ONLY).at;
        let failure = AuditFailure {
            key: key.as_str().into(),
            key_hash: xxh3_64(&remote.namespace.qualify(key)),
            age: now.since(copy.fetched_at),
            overwritten_for: now.since(*answered),
            epoch: copy.epoch,
        };
        let namespace = &remote.namespace;
        let (key_hash, epoch) = (format_args!("{:016x}", failure.key_hash), failure.epoch);
        let (age, overwritten_for) = (failure.age.as_millis(), failure.overwritten_for.as_millis());
        let (bound, link) = (bound.as_millis(), remote.backend.link());
        match self.violations.due() {
            Some(violations) => tracing::warn!(
                %namespace, key_hash, age, overwritten_for, bound, epoch, %link, violations,
                "a local copy was served although it was overwritten longer ago than the bound allows: a change was \
                 not reported"
            ),
            None => tracing::debug!(
                %namespace, key_hash, age, overwritten_for, bound, epoch, %link,
                "a local copy was served although it was overwritten longer ago than the bound allows"
            ),
        }
        self.events.audit_failed(failure);
    }

    /// Compares a copy with what the backend holds now.
    async fn read_again(&self, sample: &Sample) -> Finding {
        let Some(remote) = self.remote.upgrade() else { return Finding::Unknown };
        let patience = remote.settings.op_timeout;
        let Some(answer) = remote.read_uncounted(&sample.key) else { return Finding::Unknown };
        drop(remote);
        match timeout(patience, answer).await {
            Ok(Ok(Ok(stored))) => match self.remote.upgrade() {
                Some(remote) => compare(sample.copy.digest, held(&remote, &sample.key, stored.as_ref())),
                None => Finding::Unknown,
            },
            // Late, dropped or failed.
            _ => Finding::Unknown,
        }
    }
}

/// Returns what stands in the local tier for what the backend holds.
fn held<V: Send + Sync + 'static>(remote: &Remote<V>, key: &str, stored: Option<&Stored>) -> Digest {
    stored.map_or(Digest::ABSENT, |stored| remote.digest(key, &stored.value))
}

fn compare(copy: Digest, held: Digest) -> Finding {
    match held {
        _ if held == copy => Finding::Same,
        // What a loader brought and was stored nowhere is no copy of what the backend holds.
        _ if copy == Digest::LOADED_ABSENT || copy == Digest::UNKNOWN => Finding::Unknown,
        // It may have expired, which is reported late or never. The copy's deadline is from the same time to live, but
        // by another clock.
        Digest::ABSENT => Finding::Unknown,
        _ => Finding::Differs,
    }
}
