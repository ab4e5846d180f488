//! The standing link: one connection at a time, watched, and made anew when it is lost.

use std::{pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep},
};
use twotier_core::{BackendError, BackendErrorKind, Coherence, Lease, LinkState, Mark};

use crate::{Attachment, BackendResult, Watch};

use super::{
    apart,
    connect::{Made, connect, live_primary},
    connection::Connection,
    target::Target,
};

/// The pause between two heartbeats, unless the staleness bound asks for shorter ones.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// The first step of the pauses between attempts to connect.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
/// A connection that lived this long was a good one: the pauses start over after it. One that is taken away at once, again
/// and again, is not asked for at full speed.
const GOOD_LIFE: Duration = Duration::from_millis(250);

/// The link of one handle. Dropping it ends the connection and the task that watches it.
pub(super) struct Link {
    shared: Arc<Shared>,
    control: Mutex<Control>,
}

/// Who supervises the link, and for whom.
#[derive(Default)]
struct Control {
    supervisor: Option<AbortHandle>,
    attached: bool,
    watch: Option<Watch>,
}

struct Shared {
    target: Arc<Target>,
    /// Every change of phase, and the listener's word of it, happens inside this lock, so that the listener hears of ups
    /// and downs in the order in which they happened.
    state: Mutex<State>,
    /// Wakes those who wait for another phase, first come, first served.
    changed: Notify,
}

struct State {
    /// Which supervisor may change the phase. An aborted task runs on to its next await point: without this its last
    /// word could undo what was decided after it was stopped.
    generation: u64,
    phase: Phase,
}

enum Phase {
    /// Nobody asked for a connection yet.
    Idle,
    /// The first attempt since the start or since the loss is under way; operations wait for it.
    Connecting,
    /// There is a connection.
    Up { connection: Connection, since: Instant, invalidation_lag: Option<Duration> },
    /// The last attempt failed; operations fail at once.
    Down { since: Instant, cause: BackendError },
    /// The handle was closed.
    Closed,
}

impl Link {
    pub(super) fn new(target: Arc<Target>) -> Self {
        let state = Mutex::new(State { generation: 0, phase: Phase::Idle });
        Self { shared: Arc::new(Shared { target, state, changed: Notify::new() }), control: Mutex::default() }
    }

    /// Returns the connection, made first if nobody asked for it yet.
    pub(super) async fn connection(&self) -> BackendResult<Connection> {
        if let Some(known) = self.shared.known() {
            return known;
        }
        self.start();
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            // Registered before the phase is looked at, so that a change in between wakes us.
            changed.as_mut().enable();
            if let Some(known) = self.shared.known() {
                return known;
            }
            changed.await;
        }
    }

    /// Starts reporting changes: returns when the first connection is up, or with why it is not.
    pub(super) async fn attach(&self, watch: Watch) -> BackendResult<Attachment> {
        {
            let mut control = self.control.lock();
            if control.attached {
                return Err(BackendError::new(
                    BackendErrorKind::Unsupported,
                    "this handle already serves a cache; give each cache a clone of its own",
                ));
            }
            control.attached = true;
            // An untracked connection that earlier operations made is given up for a tracked one.
            control.stop();
            self.shared.reset(None);
            control.watch = (watch.coherence != Some(Coherence::None)).then_some(watch);
        }
        match self.connection().await {
            Ok(connection) => Ok(Attachment { coherence: connection.reporting().mode() }),
            Err(cause) => {
                let mut control = self.control.lock();
                control.stop();
                control.attached = false;
                self.shared.reset(control.watch.take().as_ref());
                Err(cause)
            }
        }
    }

    pub(super) fn state(&self) -> LinkState {
        match &self.shared.state.lock().phase {
            Phase::Idle => LinkState::Unlinked,
            Phase::Connecting => LinkState::Connecting,
            Phase::Up { since, invalidation_lag, .. } => LinkState::Up {
                age: since.elapsed(),
                invalidation_lag: *invalidation_lag,
                round_trip: None,
                fenced: true,
            },
            Phase::Down { since, cause } => LinkState::Down { age: since.elapsed(), cause: cause.clone() },
            Phase::Closed => LinkState::Closed,
        }
    }

    pub(super) fn close(&self) {
        let mut control = self.control.lock();
        control.stop();
        self.shared.reset(control.watch.take().as_ref());
        self.shared.modify(|state| state.phase = Phase::Closed);
    }

    /// Starts the supervisor unless it runs or the handle is closed.
    fn start(&self) {
        let mut control = self.control.lock();
        let generation = self.shared.modify(|state| {
            let idle = matches!(state.phase, Phase::Idle);
            idle.then(|| {
                state.phase = Phase::Connecting;
                state.generation
            })
        });
        if let Some(generation) = generation {
            let task = supervise(Arc::clone(&self.shared), generation, control.watch.clone());
            control.supervisor = Some(tokio::spawn(task).abort_handle());
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

impl Control {
    fn stop(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.abort();
        }
    }
}

impl Shared {
    /// Returns what an operation gets without waiting, `None` when it has to wait.
    fn known(&self) -> Option<BackendResult<Connection>> {
        match &self.state.lock().phase {
            // Lost, but the supervisor has not said so yet: as good as connecting.
            Phase::Up { connection, .. } if connection.loss().is_declared() => None,
            Phase::Up { connection, .. } => Some(Ok(connection.clone())),
            Phase::Down { cause, .. } => Some(Err(cause.clone())),
            Phase::Closed => Some(Err(closed())),
            Phase::Idle | Phase::Connecting => None,
        }
    }

    /// Gives up the connection and the supervisor, which the caller has stopped.
    fn reset(&self, watch: Option<&Watch>) {
        self.modify(|state| {
            state.generation += 1;
            if let Some(watch) = watch {
                watch.listener.link_down();
            }
            if let Phase::Up { connection, .. } = &state.phase {
                connection.loss().declare(closed());
            }
            if !matches!(state.phase, Phase::Closed) {
                state.phase = Phase::Idle;
            }
        });
    }

    /// Changes the phase, if this supervisor still is the one.
    fn change(&self, generation: u64, change: impl FnOnce(&mut Phase)) {
        self.modify(|state| {
            if state.generation == generation {
                change(&mut state.phase);
            }
        });
    }

    fn modify<T>(&self, modify: impl FnOnce(&mut State) -> T) -> T {
        let result = modify(&mut self.state.lock());
        self.changed.notify_waiters();
        result
    }

    /// Publishes a connection. The connection is in place before the listener hears of it, so no command that is marked
    /// with the new epoch can go to an older one.
    fn up(&self, generation: u64, made: Made, watch: Option<&Watch>) {
        self.change(generation, |phase| {
            let Made { connection, reported_since, invalidation_lag, .. } = made;
            *phase = Phase::Up { connection, since: Instant::now(), invalidation_lag };
            if let Some(watch) = watch {
                watch.listener.link_up(Lease::Renewed);
                let epoch = watch.listener.mark().epoch;
                watch.listener.proof_of_life(Mark { epoch, at: reported_since });
            }
        });
    }

    /// Takes the connection away: nothing may be served on its word any more.
    fn lost(&self, generation: u64, connection: &Connection, cause: BackendError, watch: Option<&Watch>) {
        self.change(generation, |phase| {
            if let Some(watch) = watch {
                watch.listener.link_down();
            }
            *phase = Phase::Connecting;
        });
        connection.loss().declare(cause);
    }

    fn down(&self, generation: u64, cause: BackendError) {
        self.change(generation, |phase| match phase {
            Phase::Down { cause: last, .. } => *last = cause,
            other => *other = Phase::Down { since: Instant::now(), cause },
        });
    }
}

/// Keeps the link up until the task is aborted.
async fn supervise(shared: Arc<Shared>, generation: u64, mut watch: Option<Watch>) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        match connect(&shared.target, watch.as_ref()).await {
            Ok(made) => {
                let (connection, canary) = (made.connection.clone(), made.canary.clone());
                if let Some(watch) = &mut watch {
                    // What the cache was told when it was built stays: a link in a weaker mode would be a silent one.
                    watch.coherence = Some(connection.reporting().mode());
                }
                tracing::debug!(coherence = %connection.reporting().mode(), "link up");
                shared.up(generation, made, watch.as_ref());
                let since = Instant::now();
                let cause = tokio::select! {
                    biased;
                    cause = watched(&connection, &shared.target, watch.as_ref()) => cause,
                    cause = apart::kept(&connection, &shared.target, canary.as_deref()) => cause,
                };
                tracing::warn!(%cause, "link lost");
                shared.lost(generation, &connection, cause, watch.as_ref());
                if since.elapsed() >= GOOD_LIFE {
                    backoff = FIRST_BACKOFF;
                }
            }
            Err(cause) => {
                tracing::warn!(%cause, "no link");
                shared.down(generation, cause);
            }
        }
        // Full jitter: a fleet that lost its server together does not come back together.
        sleep(backoff.mul_f64(fastrand::f64())).await;
        backoff = (backoff * 2).min(shared.target.max_backoff);
    }
}

/// Watches a connection until it is lost, and returns why.
async fn watched(connection: &Connection, target: &Target, watch: Option<&Watch>) -> BackendError {
    let period = watch.map_or(HEARTBEAT, |watch| HEARTBEAT.min(watch.max_staleness / 4));
    loop {
        tokio::select! {
            biased;
            cause = connection.loss().wait() => return cause,
            () = sleep(period) => {}
        }
        // Taken before the request is queued: what was acknowledged before this moment has been reported once both
        // replies are here.
        let mark = watch.map(|watch| watch.listener.mark());
        if let Err(cause) = connection.alive(target.dead_after, live_primary(connection)).await {
            return cause;
        }
        if let (Some(watch), Some(mark)) = (watch, mark) {
            watch.listener.proof_of_life(mark);
        }
    }
}

fn closed() -> BackendError {
    BackendError::new(BackendErrorKind::Closed, "the backend was closed")
}
