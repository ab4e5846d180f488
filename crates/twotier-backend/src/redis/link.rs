//! The standing link: made, watched, and made anew when it is lost.

mod journal;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use redis::cmd;
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep},
};
use twotier_core::{BackendError, BackendErrorKind, Coherence, Lease, LinkState, LinkUp, Mark};

use crate::{Attachment, BackendResult, Watch};

use self::journal::Journal;
use super::{
    command::Connections,
    sentinel::{Sentinels, Vouch},
    session::{Fences, Opened, open},
    wire::{Connection, Progress, Target},
};

/// The pause between two heartbeats, unless the staleness bound asks for shorter ones.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// The longest first pause between two attempts to connect.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
/// A link that lived this long was a good one: the pauses start over after it. One that is taken away at once, again
/// and again, is not asked for at full speed.
const GOOD_LIFE: Duration = Duration::from_millis(100);

/// The link of one handle. Dropping it ends the connections and the task that watches them.
pub(super) struct Link {
    shared: Arc<LinkInner>,
    control: Mutex<Control>,
}

/// Who supervises the link, and for whom.
#[derive(Default)]
struct Control {
    supervisor: Option<AbortHandle>,
    attached: bool,
    watch: Option<Watch>,
}

struct LinkInner {
    target: Arc<Target>,
    /// Every change of phase, and the listener's word of it, happens inside this lock, so that the listener receives
    /// ups and downs in the order in which they happened.
    state: Mutex<State>,
    /// Wakes those who wait for another phase, first come, first served.
    changed: Notify,
    progress: Arc<Progress>,
    fences: Fences,
    sentinels: Arc<Sentinels>,
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
    /// There is a link.
    Up(Up),
    /// The last attempt failed, or nobody makes another one; operations fail at once.
    Down { since: Instant, cause: BackendError },
    /// The handle was closed.
    Closed,
}

struct Up {
    connections: Connections,
    since: Instant,
    invalidation_lag: Option<Duration>,
    /// How long the last sign of life took, in microseconds.
    round_trip: Arc<AtomicU64>,
    fenced: bool,
}

impl Link {
    pub(super) fn new(target: Arc<Target>) -> Self {
        let state = Mutex::new(State { generation: 0, phase: Phase::Idle });
        let (changed, progress, fences) = (Notify::new(), Arc::new(Progress::new()), Fences::default());
        let sentinels = Sentinels::of(&target);
        let shared = LinkInner { target, state, changed, progress, fences, sentinels };
        Self { shared: Arc::new(shared), control: Mutex::default() }
    }

    /// Returns a number that grows with what moves over the connections, heartbeats hardly counted.
    pub(super) fn progress(&self) -> u64 {
        self.shared.progress.moved()
    }

    /// Returns the connections if a command can be sent at once.
    pub(super) fn current(&self) -> BackendResult<Connections> {
        self.known().unwrap_or_else(|| {
            self.start();
            Err(BackendError::new(BackendErrorKind::Unavailable, "the link is being made").not_sent())
        })
    }

    /// Returns what a command that does not wait receives, `None` while the link is being made.
    pub(super) fn known(&self) -> Option<BackendResult<Connections>> {
        self.shared.known().map(|known| known.map_err(|cause| self.down(cause)))
    }

    /// Waits until a command can be sent, or returns why none can.
    pub(super) async fn ready(&self) -> BackendResult<Connections> {
        self.connections().await.map_err(|cause| self.down(cause))
    }

    /// Returns the connections, made first if nobody asked for them yet, or why there are none.
    async fn connections(&self) -> BackendResult<Connections> {
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

    /// What an operation returns when there is no link.
    fn down(&self, cause: BackendError) -> BackendError {
        match cause.kind() {
            BackendErrorKind::Closed => cause,
            _ => BackendError::new(BackendErrorKind::Unavailable, "the link is down").with_source(cause),
        }
        .not_sent()
    }

    /// Returns the connections once there are any, or that there will be none.
    async fn first_connections(&self) -> BackendResult<Connections> {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            match self.connections().await {
                Err(cause) if cause.kind() != BackendErrorKind::Closed => changed.await,
                known => return known,
            }
        }
    }

    /// Starts reporting changes: returns when the first link is up, or with why it is not.
    pub(super) async fn attach(&self, watch: Watch) -> BackendResult<Attachment> {
        let patient = watch.patient;
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
            self.shared.reset(None);
            control.stop();
            control.watch = Some(watch);
        }
        let connected = if patient { self.first_connections().await } else { self.connections().await };
        match connected {
            Ok(connections) => Ok(Attachment::new(connections.reporting().mode())),
            Err(cause) => {
                let mut control = self.control.lock();
                self.shared.reset(control.watch.take().as_ref());
                control.stop();
                control.attached = false;
                Err(cause)
            }
        }
    }

    pub(super) fn state(&self) -> LinkState {
        match &self.shared.state.lock().phase {
            Phase::Idle => LinkState::Unlinked,
            Phase::Connecting => LinkState::Connecting,
            Phase::Up(up) => LinkState::Up(
                LinkUp::new(up.since.elapsed())
                    .invalidation_lag(up.invalidation_lag)
                    .round_trip(Duration::from_micros(up.round_trip.load(Ordering::Relaxed)))
                    .fenced(up.fenced),
            ),
            Phase::Down { since, cause } => LinkState::down(since.elapsed(), cause.clone()),
            Phase::Closed => LinkState::Closed,
        }
    }

    pub(super) fn close(&self) {
        let mut control = self.control.lock();
        self.shared.reset(control.watch.take().as_ref());
        control.stop();
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
        let Some(generation) = generation else { return };
        let (shared, watch) = (Arc::clone(&self.shared), control.watch.clone());
        let gone = Gone { shared: Arc::clone(&shared), generation, watch: watch.clone() };
        // Without a runtime it is gone before it began, which is reported to whoever waits.
        if let Ok(runtime) = Handle::try_current() {
            let task = async move {
                let _gone = gone;
                supervise(shared, generation, watch).await;
            };
            control.supervisor = Some(runtime.spawn(task).abort_handle());
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

impl LinkInner {
    /// Returns what an operation gets without waiting, `None` when it has to wait.
    fn known(&self) -> Option<BackendResult<Connections>> {
        match &self.state.lock().phase {
            // Lost, but the supervisor has not reported it yet: as good as connecting.
            Phase::Up(up) if up.connections.loss().is_declared() => None,
            Phase::Up(up) => Some(Ok(up.connections.clone())),
            Phase::Down { cause, .. } => Some(Err(cause.clone())),
            Phase::Closed => Some(Err(closed())),
            Phase::Idle | Phase::Connecting => None,
        }
    }

    /// Gives up the link and the supervisor, which the caller stops.
    fn reset(&self, watch: Option<&Watch>) {
        self.modify(|state| {
            state.generation += 1;
            if let Some(watch) = watch.filter(reports) {
                watch.listener.link_lost(&closed());
            }
            if let Phase::Up(up) = &state.phase {
                up.connections.loss().declare(closed());
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

    /// Publishes a link. The connections are in place before the listener is notified, so no command that is marked
    /// with the new epoch can go to older ones.
    fn up(&self, generation: u64, opened: Opened, watch: Option<&Watch>) -> Arc<AtomicU64> {
        let Opened { connections, reported_since, invalidation_lag, round_trip, fenced, run_id } = opened;
        let ids = [connections.tracked(), connections.data()].map(|connection| connection.hello().id);
        self.fences.remember(run_id, ids.into_iter().flatten().collect());
        let round_trip = Arc::new(AtomicU64::new(micros(round_trip)));
        let published = Arc::clone(&round_trip);
        self.change(generation, |phase| {
            *phase = Phase::Up(Up { connections, since: Instant::now(), invalidation_lag, round_trip, fenced });
            if let Some(watch) = watch.filter(reports) {
                watch.listener.link_up(Lease::Renewed);
                let epoch = watch.listener.mark().epoch;
                watch.listener.proof_of_life(Mark::new(epoch, reported_since));
                if let Some(lag) = invalidation_lag {
                    watch.listener.invalidation_took(lag);
                }
            }
        });
        published
    }

    /// Takes the link away: nothing may be served on its word any more.
    fn lost(&self, generation: u64, connections: &Connections, cause: BackendError, watch: Option<&Watch>) {
        self.change(generation, |phase| {
            if let Some(watch) = watch.filter(reports) {
                watch.listener.link_lost(&cause);
            }
            *phase = Phase::Connecting;
        });
        connections.loss().declare(cause);
    }

    fn down(&self, generation: u64, cause: BackendError) {
        self.change(generation, |phase| match phase {
            Phase::Down { cause: last, .. } => *last = cause,
            other => *other = Phase::Down { since: Instant::now(), cause },
        });
    }
}

/// The end of a supervisor, however it comes: with its runtime, or by a panic. One that was stopped has another
/// generation than the state, and nothing to report any more.
struct Gone {
    shared: Arc<LinkInner>,
    generation: u64,
    watch: Option<Watch>,
}

impl Drop for Gone {
    fn drop(&mut self) {
        let message = if thread::panicking() {
            "the task that keeps the link has panicked; does its runtime have time and I/O enabled?"
        } else {
            "the runtime that kept the link has ended"
        };
        let cause = BackendError::new(BackendErrorKind::Unavailable, message);
        self.shared.change(self.generation, |phase| {
            if let Some(watch) = self.watch.as_ref().filter(reports) {
                watch.listener.link_lost(&cause);
            }
            let now = match phase {
                Phase::Up(up) => {
                    up.connections.loss().declare(cause.clone());
                    up.since
                }
                Phase::Down { since, .. } => *since,
                Phase::Closed => return,
                Phase::Idle | Phase::Connecting => Instant::now(),
            };
            *phase = Phase::Down { since: now, cause };
        });
    }
}

/// Keeps the link up until the task is aborted.
async fn supervise(shared: Arc<LinkInner>, generation: u64, mut watch: Option<Watch>) {
    // Since when there is no good link.
    let mut down_since = Instant::now();
    let mut journal = Journal::new(watch.as_ref().map(|watch| watch.namespace.clone()), Arc::clone(&shared.target));
    let _asking = shared.sentinels.ask();
    loop {
        let made = async {
            let (target, vouch) = shared.sentinels.locate(&shared.target).await?;
            Ok((open(&target, &shared.progress, watch.as_ref(), &shared.fences).await?, vouch))
        };
        match made.await {
            Ok((opened, vouch)) => {
                let connections = opened.connections.clone();
                let mode = connections.reporting().mode();
                if let Some(watch) = &mut watch {
                    // What the cache received when it was built stays: a link in a weaker mode would be a silent one.
                    watch.coherence = Some(mode);
                }
                journal.up(mode, opened.fenced);
                let round_trip = shared.up(generation, opened, watch.as_ref());
                let since = Instant::now();
                let cause = watched(&connections, &shared.target, &vouch, watch.as_ref(), &round_trip).await;
                journal.lost(&cause);
                shared.lost(generation, &connections, cause, watch.as_ref());
                if since.elapsed() >= GOOD_LIFE {
                    down_since = Instant::now();
                }
            }
            Err(cause) => {
                journal.still_down(&cause);
                shared.down(generation, cause);
            }
        }
        // As long as it has been down already, so that pauses grow exponentially and a short outage costs no more than
        // its own length; and full jitter: a fleet that lost its server together does not come back together.
        let longest = down_since.elapsed().clamp(FIRST_BACKOFF, shared.target.max_backoff.max(FIRST_BACKOFF));
        shared.sentinels.pause(longest.mul_f64(fastrand::f64())).await;
    }
}

/// Watches a link until it is lost, and returns why.
async fn watched(
    connections: &Connections,
    target: &Target,
    vouch: &Vouch,
    watch: Option<&Watch>,
    round_trip: &AtomicU64,
) -> BackendError {
    let (tracked, data) = (connections.tracked(), connections.data());
    tokio::select! {
        biased;
        cause = connections.loss().wait() => cause,
        cause = vouch.withdrawn() => cause,
        cause = heartbeats(tracked, target, vouch, watch, round_trip) => cause,
        cause = signs(data, target), if !data.is(tracked) => cause,
    }
}

/// Asks for a sign of life, again and again, that proves what was reported.
async fn heartbeats(
    tracked: &Connection,
    target: &Target,
    vouch: &Vouch,
    watch: Option<&Watch>,
    round_trip: &AtomicU64,
) -> BackendError {
    let watch = watch.filter(reports);
    let period = watch.map_or(HEARTBEAT, |watch| HEARTBEAT.min(watch.max_staleness / 4));
    loop {
        sleep(period).await;
        // Taken before the request is queued: what was acknowledged before this moment has been reported once both
        // replies are here.
        let (mark, marked) = (watch.map(|watch| watch.listener.mark()), Instant::now());
        let took = match tracked.alive(target.dead_after, heartbeat(tracked)).await {
            Ok(took) => took,
            Err(cause) => return cause,
        };
        round_trip.store(micros(took), Ordering::Relaxed);
        // A server that lost its rank to another knows it last.
        if let (Some(watch), Some(mark)) = (watch, mark)
            && vouch.holds(marked)
        {
            watch.listener.proof_of_life(mark);
        }
    }
}

/// Asks for the server's role, and then for a second reply, which alone is a fence; returns how long that took. A
/// refusal of either is a reply like any other: it says nothing about the role, and nothing about the stream but that
/// it lives.
async fn heartbeat(tracked: &Connection) -> BackendResult<Duration> {
    let hello = tracked.one(cmd("HELLO").arg(3).to_owned()).await?.hello()?;
    if let Some(hello) = hello {
        hello.primary()?;
    }
    let asked = Instant::now();
    tracked.ping().await?;
    Ok(asked.elapsed())
}

/// Asks the data connection for a sign of life when it has long given none.
async fn signs(data: &Connection, target: &Target) -> BackendError {
    let pause = target.dead_after / 2;
    loop {
        sleep(pause).await;
        if data.is_silent_for(pause)
            && let Err(cause) = data.alive(target.dead_after, data.ping()).await
        {
            return cause;
        }
    }
}

/// Whether changes are reported to somebody.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the filter of an `Option<&Watch>` passes it so")]
fn reports(watch: &&Watch) -> bool {
    watch.coherence != Some(Coherence::None)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn closed() -> BackendError {
    BackendError::new(BackendErrorKind::Closed, "the backend was closed")
}
