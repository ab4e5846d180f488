//! What is known of a link, and by whom it may be changed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use twotier_core::{BackendError, BackendErrorKind, Coherence, Mark};

use crate::{
    BackendResult,
    redis::{
        authority::{Authority, Vouch},
        command::Commands,
        listeners::{Listeners, Member, Standing},
        session::{Admission, Fences, Session},
        wire::{Progress, Target},
    },
};

pub(super) struct LinkInner {
    pub(super) target: Arc<Target>,
    pub(super) listeners: Arc<Listeners>,
    /// Wakes the supervisor when a cache waits to be admitted.
    pub(super) newcomers: Notify,
    /// Every change of phase, and the listeners' word of it, happens inside this lock, so that listeners receive ups
    /// and downs in the order in which they happened.
    pub(super) state: Mutex<State>,
    /// Wakes those who wait for another phase, first come, first served.
    pub(super) changed: Notify,
    pub(super) progress: Arc<Progress>,
    pub(super) fences: Arc<Fences>,
    pub(super) authority: Authority,
}

pub(super) struct State {
    /// Which supervisor may change the phase. An aborted task runs on to its next await point: without this its last
    /// word could undo what was decided after it was stopped.
    pub(super) generation: u64,
    pub(super) phase: Phase,
}

pub(super) enum Phase {
    /// Nobody asked for a connection yet.
    Idle,
    /// The first attempt since the start or since the loss is under way; operations wait for it.
    Connecting,
    /// There is a link.
    Up(Up),
    /// The last attempt failed; operations fail at once until another succeeds.
    Down { since: Instant, cause: BackendError },
    /// Nobody makes another attempt: the runtime has ended in which the link was kept. The next operation has it kept
    /// in its own.
    Abandoned { since: Instant, cause: BackendError },
    /// The backend was closed.
    Closed,
}

pub(super) struct Up {
    pub(super) connections: Commands,
    pub(super) since: Instant,
    pub(super) signs: Arc<Signs>,
    pub(super) fenced: bool,
}

/// What was measured of a link that is up, in nanoseconds.
pub(super) struct Signs {
    round_trip: AtomicU64,
    /// How long the last canary took; [`u64::MAX`] where there is none.
    invalidation_lag: AtomicU64,
}

impl State {
    /// Gives up the link there is, and whoever keeps it, which the caller stops.
    pub(super) fn end(&mut self, cause: &BackendError, next: Phase) {
        self.generation += 1;
        if let Phase::Up(up) = &self.phase {
            up.connections.loss().declare(cause.clone());
        }
        if !matches!(self.phase, Phase::Closed) {
            self.phase = next;
        }
    }
}

impl LinkInner {
    /// Returns what an operation gets without waiting, `None` when it has to wait.
    pub(super) fn known(&self) -> Option<BackendResult<Commands>> {
        match &self.state.lock().phase {
            // Lost, but the supervisor has not reported it yet: as good as connecting.
            Phase::Up(up) if up.connections.loss().is_declared() => None,
            Phase::Up(up) => Some(Ok(up.connections.clone())),
            Phase::Down { cause, .. } => Some(Err(cause.clone())),
            Phase::Closed => Some(Err(closed())),
            Phase::Idle | Phase::Connecting | Phase::Abandoned { .. } => None,
        }
    }

    /// As [`known`](Self::known), once it was asked for a link: nobody keeps one then if nobody could be found to.
    pub(super) fn known_after_start(&self) -> Option<BackendResult<Commands>> {
        if let Phase::Abandoned { cause, .. } = &self.state.lock().phase {
            return Some(Err(cause.clone()));
        }
        self.known()
    }

    /// Changes the phase, if this supervisor still is the one.
    pub(super) fn change(&self, generation: u64, change: impl FnOnce(&mut Phase)) {
        self.modify(|state| {
            if state.generation == generation {
                change(&mut state.phase);
            }
        });
    }

    pub(super) fn modify<T>(&self, modify: impl FnOnce(&mut State) -> T) -> T {
        let result = modify(&mut self.state.lock());
        self.changed.notify_waiters();
        result
    }

    /// Publishes a link, and returns what its first heartbeat proves. The connections are in place before a listener is
    /// notified, so no command that is marked with the new epoch can go to older ones.
    pub(super) fn up(
        &self,
        generation: u64,
        session: &Session,
        admissions: Vec<Admission>,
        vouch: &Vouch,
    ) -> (Commands, Arc<Signs>, Marks) {
        let connections = session.commands();
        let ids = [connections.tracked(), connections.data()].map(|connection| connection.hello().id);
        self.fences.remember(session.run_id.clone(), ids.into_iter().flatten().collect());
        let signs = Arc::new(Signs::new(session.round_trip));
        let up = Up {
            connections: connections.clone(),
            since: Instant::now(),
            signs: Arc::clone(&signs),
            fenced: session.fenced,
        };
        let mut marks = Marks::new();
        self.change(generation, |phase| {
            *phase = Phase::Up(up);
            if self.listeners.are_reported() {
                self.listeners.fix(connections.reporting().mode());
            }
            marks = admitted(admissions, connections.reporting().mode(), &signs, vouch);
        });
        (connections, signs, marks)
    }

    /// Takes the link away: nothing may be served on its word any more.
    pub(super) fn lost(&self, generation: u64, connections: &Commands, cause: BackendError) {
        self.authority.lost();
        self.change(generation, |phase| {
            self.listeners.all().iter().for_each(|member| member.link_lost(&cause));
            *phase = Phase::Connecting;
        });
        connections.loss().declare(cause);
    }

    pub(super) fn down(&self, generation: u64, cause: BackendError) {
        self.change(generation, |phase| {
            self.listeners.all().iter().for_each(|member| member.is_refused_if_waiting(&cause));
            match phase {
                Phase::Down { cause: last, .. } => *last = cause,
                other => *other = Phase::Down { since: Instant::now(), cause },
            }
        });
    }
}

/// What a request was marked with for each cache, and when.
pub(super) type Marks = Vec<(Arc<Member>, Mark, Instant)>;

/// Applies what became of caches on a link that is up, under the lock of its state. Copies are served at once where
/// somebody vouches for the server: one that has lost its rank to another takes links as ever.
pub(super) fn admitted(admissions: Vec<Admission>, mode: Coherence, signs: &Signs, vouch: &Vouch) -> Marks {
    let mut marks = Marks::new();
    for Admission { member, outcome } in admissions {
        match outcome {
            Ok(admitted) => {
                let mode = if member.is_reported() { mode } else { Coherence::None };
                if mode != Coherence::None {
                    let marked = admitted.marked;
                    let mark = member.link_up(admitted.reported_since);
                    if let Some((mark, as_of)) = mark.zip(vouch.as_of(marked)) {
                        member.proof_of_life(mark, marked, as_of);
                    }
                    marks.extend(mark.map(|mark| (Arc::clone(&member), mark, marked)));
                    if let Some(lag) = admitted.lag {
                        signs.report_took(&member, lag);
                    }
                }
                member.stands(Standing::Admitted(mode));
            }
            Err(cause) => {
                tracing::debug!(namespace = %member.namespace(), %cause, "not on the link");
                member.stands(Standing::Refused(cause));
            }
        }
    }
    marks
}

impl Signs {
    pub(super) fn new(round_trip: Duration) -> Self {
        Self { round_trip: AtomicU64::new(nanos(round_trip)), invalidation_lag: AtomicU64::new(u64::MAX) }
    }

    pub(super) fn reply_took(&self, round_trip: Duration) {
        self.round_trip.store(nanos(round_trip), Ordering::Relaxed);
    }

    pub(super) fn report_took(&self, member: &Member, lag: Duration) {
        self.invalidation_lag.store(nanos(lag), Ordering::Relaxed);
        member.invalidation_took(lag);
    }

    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_nanos(self.round_trip.load(Ordering::Relaxed))
    }

    pub(super) fn invalidation_lag(&self) -> Option<Duration> {
        let nanos = self.invalidation_lag.load(Ordering::Relaxed);
        (nanos != u64::MAX).then(|| Duration::from_nanos(nanos))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn closed() -> BackendError {
    BackendError::new(BackendErrorKind::Closed, "the backend was closed")
}
