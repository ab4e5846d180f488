//! The breaker of one link: a backend that does not answer is not waited for by every call.
//!
//! It opens when calls failed one after the other with no answer in between, whichever calls. A refusal is an answer.
//! While it is open calls fail at once; after a pause drawn at random one call is tried, and whatever is answered, by
//! whomever it was asked, closes it.
//!
//! Pure: times come in, and what changed goes out.

use std::{mem, time::Duration};

use tokio::time::Instant;
use twotier_core::{BackendError, BackendErrorKind, BreakerState};

/// The first pause is drawn from this range. It doubles with each try in vain, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// So many failures at least are silence: one slow call says nothing about the others.
const SILENT: u32 = 2;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BreakerOptions {
    /// So many calls that failed in a row open it; 0 is no breaker.
    pub(crate) failures: u32,
    /// So long without an answer opens it earlier.
    pub(crate) silence: Duration,
    /// The longest pause between two tries.
    pub(crate) longest_pause: Duration,
    /// For how long the try of another call is waited for.
    pub(crate) patience: Duration,
}

#[derive(Debug)]
pub(super) struct Breaker {
    options: BreakerOptions,
    phase: Phase,
    opened: u64,
    /// Tells tries apart.
    last_try: u64,
}

#[derive(Debug)]
enum Phase {
    Closed {
        /// Calls that failed since the last answer, and when the first of them began.
        failed: u32,
        silent_since: Option<Instant>,
        /// Whether calls from before failed is no news.
        closed_at: Option<Instant>,
    },
    Open(Outage, /* The next try. */ Instant),
    HalfOpen(Outage, Try),
}

/// Why calls are not made.
#[derive(Debug)]
struct Outage {
    since: Instant,
    /// How often a call was tried in vain.
    in_vain: u32,
    cause: BackendError,
    /// Whether the link gave a sign of life since the last call.
    showed_life: bool,
}

#[derive(Clone, Copy, Debug)]
struct Try {
    number: u64,
    began: Instant,
}

/// What a breaker makes of a call.
#[derive(Debug)]
pub(super) enum Verdict {
    Make,
    /// Make it and see: the others wait for how it ends.
    Try(u64),
    Refuse(BackendError),
}

/// What has just changed, for those who are to be notified.
#[derive(Debug)]
pub(super) enum Change {
    Opened(BackendError),
    /// After so long.
    Closed(Duration),
}

impl Breaker {
    pub(super) fn new(options: BreakerOptions) -> Self {
        Self { options, phase: Phase::closed(None), opened: 0, last_try: 0 }
    }

    /// Returns whether there is nothing to be noted of an answer.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.phase, Phase::Closed { failed: 0, .. })
    }

    pub(super) fn state(&self, now: Instant) -> BreakerState {
        match &self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open(_, until) if now < *until => BreakerState::Open,
            Phase::Open(..) | Phase::HalfOpen(..) => BreakerState::HalfOpen,
        }
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    /// Returns why calls are not made, unless the link gave a sign of life since.
    pub(super) fn outage(&self) -> Option<BackendError> {
        match &self.phase {
            Phase::Open(outage, _) | Phase::HalfOpen(outage, _) if !outage.showed_life => Some(outage.cause.clone()),
            _ => None,
        }
    }

    /// Returns why a call would not be made now.
    pub(super) fn refusal(&self, now: Instant) -> Option<BackendError> {
        match &self.phase {
            Phase::Closed { .. } => None,
            Phase::Open(outage, until) => (now < *until).then(|| outage.refusal()),
            // Whoever tries may have been given up by everybody, and never end.
            Phase::HalfOpen(outage, trial) => {
                (now.duration_since(trial.began) < self.options.patience).then(|| outage.refusal())
            }
        }
    }

    /// Decides about a call that is to be made now.
    pub(super) fn decide(&mut self, now: Instant) -> Verdict {
        if matches!(self.phase, Phase::Closed { .. }) {
            return Verdict::Make;
        }
        if let Some(refusal) = self.refusal(now) {
            return Verdict::Refuse(refusal);
        }
        self.last_try += 1;
        let trial = Try { number: self.last_try, began: now };
        if let Phase::Open(outage, _) | Phase::HalfOpen(outage, _) = self.take_phase() {
            self.phase = Phase::HalfOpen(outage, trial);
        }
        Verdict::Try(trial.number)
    }

    /// Something was answered.
    pub(super) fn answered(&mut self, now: Instant) -> Option<Change> {
        match mem::replace(&mut self.phase, Phase::closed(Some(now))) {
            Phase::Closed { closed_at, .. } => {
                self.phase = Phase::closed(closed_at);
                None
            }
            Phase::Open(outage, _) | Phase::HalfOpen(outage, _) => {
                Some(Change::Closed(now.duration_since(outage.since)))
            }
        }
    }

    /// A call that began then has failed without an answer.
    pub(super) fn failed(&mut self, began: Instant, now: Instant, cause: &BackendError) -> Option<Change> {
        let BreakerOptions { failures, silence, .. } = self.options;
        match &mut self.phase {
            Phase::Closed { closed_at: Some(closed_at), .. } if began < *closed_at => None,
            Phase::Closed { failed, silent_since, .. } => {
                *failed += 1;
                let silent_since = *silent_since.get_or_insert(began);
                let silent = *failed >= SILENT && now.duration_since(silent_since) >= silence;
                if failures == 0 || (*failed < failures && !silent) {
                    return None;
                }
                self.opened += 1;
                let outage = Outage { since: now, in_vain: 0, cause: cause.clone(), showed_life: false };
                self.pause(outage, now);
                Some(Change::Opened(cause.clone()))
            }
            Phase::HalfOpen(_, trial) if began >= trial.began => {
                self.try_again_later(now, Some(cause));
                None
            }
            // Those that were under way as it opened.
            Phase::HalfOpen(..) | Phase::Open(..) => None,
        }
    }

    /// There is no such link any more.
    pub(super) fn forget(&mut self) {
        self.phase = Phase::closed(None);
    }

    /// A try ended; if nothing is known of how, it was in vain.
    pub(super) fn gave_up(&mut self, number: u64, now: Instant) {
        if matches!(&self.phase, Phase::HalfOpen(_, trial) if trial.number == number) {
            self.try_again_later(now, None);
        }
    }

    /// The link gave a sign of life: the next call is tried at once. It may go over another connection than the sign
    /// did, so only that one decides.
    pub(super) fn showed_life(&mut self, now: Instant) {
        if let Phase::Open(outage, until) = &mut self.phase {
            outage.showed_life = true;
            *until = now;
        }
    }

    fn try_again_later(&mut self, now: Instant, cause: Option<&BackendError>) {
        if let Phase::HalfOpen(outage, _) = self.take_phase() {
            let cause = cause.cloned().unwrap_or(outage.cause);
            let in_vain = outage.in_vain.saturating_add(1);
            self.pause(Outage { in_vain, cause, showed_life: false, ..outage }, now);
        }
    }

    /// Full jitter: the caches of a fleet that lost their backend together do not come back together.
    fn pause(&mut self, outage: Outage, now: Instant) {
        let longest = FIRST_PAUSE.saturating_mul(1 << outage.in_vain.min(16)).min(self.options.longest_pause);
        self.phase = Phase::Open(outage, now + longest.mul_f64(fastrand::f64()));
    }

    fn take_phase(&mut self) -> Phase {
        mem::replace(&mut self.phase, Phase::closed(None))
    }
}

impl Phase {
    fn closed(closed_at: Option<Instant>) -> Self {
        Self::Closed { failed: 0, silent_since: None, closed_at }
    }
}

impl Outage {
    fn refusal(&self) -> BackendError {
        let message = "not sent: the breaker is open, for calls before got no answer";
        BackendError::new(BackendErrorKind::Unavailable, message).not_sent().with_source(self.cause.clone())
    }
}

#[cfg(test)]
mod tests;
