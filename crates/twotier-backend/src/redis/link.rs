//! The standing link: made, watched, and made anew when it is lost.

mod journal;

use std::{
    mem,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
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
    time::{Instant, sleep, sleep_until},
};
use twotier_core::{BackendError, BackendErrorKind, Coherence, LinkState, LinkUp};

use crate::{Attachment, BackendResult, Watch};

use self::journal::Journal;
use super::{
    command::Commands,
    listeners::{Listeners, Member, Standing},
    sentinel::{Sentinels, Vouch},
    session::{Admission, Fences, Session, Verdict, open},
    wire::{Connection, Progress, Target},
};

/// The longest pause between two heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// How many heartbeats there are within the shortest staleness bound, or more.
const BEATS: u32 = 5;
/// The pause between two canaries.
const CANARY: Duration = Duration::from_secs(4);
/// The longest first pause between two attempts to connect.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
/// A link that lived this long was a good one: the pauses start over after it. One that is taken away at once, again
/// and again, is not asked for at full speed.
const GOOD_LIFE: Duration = Duration::from_millis(100);

/// The link that all clones of a backend share. Dropping it ends the connections and the task that watches them.
pub(super) struct Link {
    shared: Arc<LinkInner>,
    supervisor: Mutex<Option<AbortHandle>>,
    /// Numbers the handles.
    made: AtomicU64,
    /// How many handles are open.
    open: AtomicUsize,
}

struct LinkInner {
    target: Arc<Target>,
    listeners: Arc<Listeners>,
    /// Wakes the supervisor when a cache waits to be admitted.
    newcomers: Notify,
    /// Every change of phase, and the listeners' word of it, happens inside this lock, so that listeners receive ups
    /// and downs in the order in which they happened.
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
    /// The last attempt failed; operations fail at once until another succeeds.
    Down { since: Instant, cause: BackendError },
    /// Nobody makes another attempt: the runtime has ended in which the link was kept. The next operation has it kept
    /// in its own.
    Abandoned { since: Instant, cause: BackendError },
    /// The backend was closed.
    Closed,
}

struct Up {
    connections: Commands,
    since: Instant,
    signs: Arc<Signs>,
    fenced: bool,
}

/// What was measured of a link that is up, in nanoseconds.
struct Signs {
    round_trip: AtomicU64,
    /// How long the last canary took; [`u64::MAX`] where there is none.
    invalidation_lag: AtomicU64,
}

impl Link {
    pub(super) fn new(target: Arc<Target>) -> Self {
        let sentinels = Sentinels::of(&target);
        let shared = LinkInner {
            target,
            listeners: Arc::default(),
            newcomers: Notify::new(),
            state: Mutex::new(State { generation: 0, phase: Phase::Idle }),
            changed: Notify::new(),
            progress: Arc::new(Progress::new()),
            fences: Fences::default(),
            sentinels,
        };
        let (made, open) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self { shared: Arc::new(shared), supervisor: Mutex::default(), made, open }
    }

    /// Makes one more handle, and returns its number.
    pub(super) fn new_handle(&self) -> u64 {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.made.fetch_add(1, Ordering::Relaxed)
    }

    /// Ends a handle: the cache it came with is off the link, and with the last one the link ends.
    pub(super) fn end_handle(&self, handle: u64) {
        self.leave(handle);
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }

    fn leave(&self, handle: u64) {
        // Dropped outside the lock: a listener may own values, whose drop is not ours.
        let left = self.shared.modify(|_| {
            let left = self.shared.listeners.leave(handle);
            left.iter().for_each(|member| member.left(&closed()));
            left
        });
        drop(left);
    }

    /// Returns a number that grows with what moves over the connections, heartbeats hardly counted.
    pub(super) fn progress(&self) -> u64 {
        self.shared.progress.moved()
    }

    /// Returns the connections if a command can be sent at once.
    pub(super) fn current(&self) -> BackendResult<Commands> {
        self.known().unwrap_or_else(|| {
            self.start();
            Err(BackendError::new(BackendErrorKind::Unavailable, "the link is being made").not_sent())
        })
    }

    /// Returns what a command that does not wait receives, `None` while the link is being made.
    pub(super) fn known(&self) -> Option<BackendResult<Commands>> {
        self.shared.known().map(|known| known.map_err(|cause| self.down(cause)))
    }

    /// Waits until a command can be sent, or returns why none can.
    pub(super) async fn ready(&self) -> BackendResult<Commands> {
        self.connections().await.map_err(|cause| self.down(cause))
    }

    /// Returns the connections, made first if nobody asked for them yet, or why there are none.
    async fn connections(&self) -> BackendResult<Commands> {
        if let Some(known) = self.shared.known() {
            return known;
        }
        self.start();
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            // Registered before the phase is looked at, so that a change in between wakes us.
            changed.as_mut().enable();
            if let Some(known) = self.shared.known_after_start() {
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

    /// Puts a cache on the link: returns when changes are being reported to it, or with why they are not.
    pub(super) async fn attach(&self, watch: Watch, handle: u64) -> BackendResult<Attachment> {
        let patient = watch.patient;
        let member = self.join(watch, handle)?;
        let joining = Joining { link: self, handle: Some(handle) };
        self.start();
        self.shared.newcomers.notify_one();
        let mut standing = member.standing();
        loop {
            match &*standing.borrow_and_update() {
                Standing::Admitted(mode) => {
                    joining.end();
                    return Ok(Attachment::new(*mode));
                }
                Standing::Refused(cause) if !patient || cause.kind() == BackendErrorKind::Closed => {
                    return Err(cause.clone());
                }
                _ => {}
            }
            match self.shared.known_after_start() {
                // A link that is down is so for whoever comes now.
                Some(Err(cause)) if !patient || cause.kind() == BackendErrorKind::Closed => return Err(cause),
                // An error is that the member is gone, which this holds.
                _ => drop(standing.changed().await),
            }
        }
    }

    fn join(&self, watch: Watch, handle: u64) -> BackendResult<Arc<Member>> {
        let mut supervisor = self.supervisor.lock();
        let (member, given_up) = self.shared.modify(|state| {
            if matches!(state.phase, Phase::Closed) {
                return Err(closed());
            }
            let listeners = &self.shared.listeners;
            let (alone, reported) = (listeners.all().is_empty(), listeners.are_reported());
            let member = listeners.join(watch, handle)?;
            // Connections on which nothing is reported, which earlier operations made, are given up.
            let given_up = alone || (member.is_reported() && !reported);
            if given_up {
                let cause = BackendError::new(BackendErrorKind::Unavailable, "the link is made anew for a cache");
                state.end(&cause, Phase::Idle);
            }
            Ok((member, given_up))
        })?;
        // Outside the lock of the state, which the end of the task takes.
        if given_up && let Some(supervisor) = supervisor.take() {
            supervisor.abort();
        }
        Ok(member)
    }

    pub(super) fn state(&self) -> LinkState {
        match &self.shared.state.lock().phase {
            Phase::Idle => LinkState::Unlinked,
            Phase::Connecting => LinkState::Connecting,
            Phase::Up(up) => LinkState::Up(
                LinkUp::new(up.since.elapsed())
                    .invalidation_lag(up.signs.invalidation_lag())
                    .round_trip(up.signs.round_trip())
                    .fenced(up.fenced),
            ),
            Phase::Down { since, cause } | Phase::Abandoned { since, cause } => {
                LinkState::down(since.elapsed(), cause.clone())
            }
            Phase::Closed => LinkState::Closed,
        }
    }

    /// Ends the link for all its handles.
    fn close(&self) {
        let mut supervisor = self.supervisor.lock();
        self.shared.modify(|state| {
            state.end(&closed(), Phase::Closed);
            for member in self.shared.listeners.all().iter() {
                member.link_lost(&closed());
                member.stands(Standing::Refused(closed()));
            }
        });
        if let Some(supervisor) = supervisor.take() {
            supervisor.abort();
        }
    }

    /// Starts the supervisor unless it runs or the backend is closed.
    fn start(&self) {
        let mut supervisor = self.supervisor.lock();
        let generation = self.shared.modify(|state| {
            let idle = matches!(state.phase, Phase::Idle | Phase::Abandoned { .. });
            idle.then(|| {
                state.phase = Phase::Connecting;
                state.generation
            })
        });
        let Some(generation) = generation else { return };
        let shared = Arc::clone(&self.shared);
        let gone = Gone { shared: Arc::clone(&shared), generation };
        // Without a runtime it is gone before it began, which is reported to whoever waits.
        if let Ok(runtime) = Handle::try_current() {
            let task = async move {
                let _gone = gone;
                supervise(shared, generation).await;
            };
            *supervisor = Some(runtime.spawn(task).abort_handle());
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

/// A cache that is being put on a link. Dropped before it is admitted, it is off again.
struct Joining<'l> {
    link: &'l Link,
    handle: Option<u64>,
}

impl Joining<'_> {
    fn end(mut self) {
        self.handle = None;
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle {
            self.link.leave(handle);
        }
    }
}

impl State {
    /// Gives up the link there is, and whoever keeps it, which the caller stops.
    fn end(&mut self, cause: &BackendError, next: Phase) {
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
    fn known(&self) -> Option<BackendResult<Commands>> {
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
    fn known_after_start(&self) -> Option<BackendResult<Commands>> {
        if let Phase::Abandoned { cause, .. } = &self.state.lock().phase {
            return Some(Err(cause.clone()));
        }
        self.known()
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

    /// Publishes a link. The connections are in place before a listener is notified, so no command that is marked with
    /// the new epoch can go to older ones.
    fn up(&self, generation: u64, session: &Session, admissions: Vec<Admission>) -> (Commands, Arc<Signs>) {
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
        self.change(generation, |phase| {
            *phase = Phase::Up(up);
            if self.listeners.are_reported() {
                self.listeners.fix(connections.reporting().mode());
            }
            admitted(admissions, connections.reporting().mode(), &signs);
        });
        (connections, signs)
    }

    /// Takes the link away: nothing may be served on its word any more.
    fn lost(&self, generation: u64, connections: &Commands, cause: BackendError) {
        self.change(generation, |phase| {
            self.listeners.all().iter().for_each(|member| member.link_lost(&cause));
            *phase = Phase::Connecting;
        });
        connections.loss().declare(cause);
    }

    fn down(&self, generation: u64, cause: BackendError) {
        self.change(generation, |phase| {
            self.listeners.all().iter().for_each(|member| member.is_refused_if_waiting(&cause));
            match phase {
                Phase::Down { cause: last, .. } => *last = cause,
                other => *other = Phase::Down { since: Instant::now(), cause },
            }
        });
    }
}

/// Applies what became of caches on a link that is up, under the lock of its state.
fn admitted(admissions: Vec<Admission>, mode: Coherence, signs: &Signs) {
    for Admission { member, outcome } in admissions {
        match outcome {
            Ok(admitted) => {
                let mode = if member.is_reported() { mode } else { Coherence::None };
                if mode != Coherence::None {
                    member.link_up(admitted.reported_since);
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
}

impl Signs {
    fn new(round_trip: Duration) -> Self {
        Self { round_trip: AtomicU64::new(nanos(round_trip)), invalidation_lag: AtomicU64::new(u64::MAX) }
    }

    fn report_took(&self, member: &Member, lag: Duration) {
        self.invalidation_lag.store(nanos(lag), Ordering::Relaxed);
        member.invalidation_took(lag);
    }

    fn round_trip(&self) -> Duration {
        Duration::from_nanos(self.round_trip.load(Ordering::Relaxed))
    }

    fn invalidation_lag(&self) -> Option<Duration> {
        let nanos = self.invalidation_lag.load(Ordering::Relaxed);
        (nanos != u64::MAX).then(|| Duration::from_nanos(nanos))
    }
}

/// The end of a supervisor, however it comes: with its runtime, or by a panic. One that was stopped has another
/// generation than the state, and nothing to report any more.
struct Gone {
    shared: Arc<LinkInner>,
    generation: u64,
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
            for member in self.shared.listeners.all().iter() {
                member.link_lost(&cause);
                member.is_refused_if_waiting(&cause);
            }
            let now = match phase {
                Phase::Up(up) => {
                    up.connections.loss().declare(cause.clone());
                    up.since
                }
                Phase::Down { since, .. } | Phase::Abandoned { since, .. } => *since,
                Phase::Closed => return,
                Phase::Idle | Phase::Connecting => Instant::now(),
            };
            *phase = Phase::Abandoned { since: now, cause };
        });
    }
}

/// Keeps the link up until the task is aborted.
async fn supervise(shared: Arc<LinkInner>, generation: u64) {
    // Since when there is no good link.
    let mut down_since = Instant::now();
    let LinkInner { target, listeners, progress, fences, sentinels, .. } = &*shared;
    let mut journal = Journal::new(Arc::clone(target), Arc::clone(listeners));
    let _asking = sentinels.ask();
    loop {
        let made = async {
            let (server, vouch) = sentinels.locate(target).await?;
            open(&server, progress, listeners, fences).await.map(|(session, admissions)| (session, admissions, vouch))
        };
        match made.await {
            Ok((session, admissions, vouch)) => {
                let (connections, signs) = shared.up(generation, &session, admissions);
                journal.up(connections.reporting().mode(), session.fenced);
                let since = Instant::now();
                let cause = watched(session, &connections, &shared, generation, &vouch, &signs).await;
                journal.lost(&cause);
                shared.lost(generation, &connections, cause);
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
        let longest = down_since.elapsed().clamp(FIRST_BACKOFF, target.max_backoff.max(FIRST_BACKOFF));
        sentinels.pause(longest.mul_f64(fastrand::f64())).await;
    }
}

/// Watches a link until it is lost, and returns why.
async fn watched(
    session: Session,
    connections: &Commands,
    shared: &LinkInner,
    generation: u64,
    vouch: &Vouch,
    signs: &Signs,
) -> BackendError {
    let (tracked, data) = (connections.tracked(), connections.data());
    tokio::select! {
        biased;
        cause = connections.loss().wait() => cause,
        cause = vouch.withdrawn() => cause,
        cause = heartbeats(tracked, shared, vouch, signs) => cause,
        cause = admissions(session, connections, shared, generation, signs) => cause,
        cause = pings(data, &shared.target), if !data.is(tracked) => cause,
    }
}

/// Asks for a sign of life, again and again, that proves what was reported.
///
/// The reply to a request that was sent after an earlier reply had arrived fences everything that was acknowledged to
/// anyone before that earlier request was sent: so each reply proves the marks of the heartbeat before.
async fn heartbeats(tracked: &Connection, shared: &LinkInner, vouch: &Vouch, signs: &Signs) -> BackendError {
    let mut earlier = (Instant::now(), Vec::new());
    loop {
        sleep(period(&shared.listeners)).await;
        // Taken before the request is queued.
        let marked = Instant::now();
        let mark = |member: &Arc<Member>| (Arc::clone(member), member.mark());
        let marks: Vec<_> = shared.listeners.all().iter().filter(|member| member.is_up()).map(mark).collect();
        if let Err(cause) = tracked.alive(shared.target.dead_after, role(tracked)).await {
            return cause;
        }
        signs.round_trip.store(nanos(marked.elapsed()), Ordering::Relaxed);
        let (as_of, proved) = mem::replace(&mut earlier, (marked, marks));
        // A server that lost its rank to another knows it last.
        if !vouch.holds(as_of) {
            continue;
        }
        for (member, mark) in proved {
            member.proof_of_life(mark);
        }
    }
}

/// The pause between two heartbeats: by the shortest bound that one of the caches has.
fn period(listeners: &Listeners) -> Duration {
    let bounds = listeners.all().iter().map(|member| member.max_staleness() / BEATS).min();
    bounds.map_or(HEARTBEAT, |shortest| shortest.min(HEARTBEAT))
}

/// Asks whether the server still is a primary. A refusal is a reply like any other: it says nothing about the role, and
/// nothing about the stream but that it lives.
async fn role(tracked: &Connection) -> BackendResult<()> {
    match tracked.one(cmd("HELLO").arg(3).to_owned()).await?.hello()? {
        Some(hello) => hello.primary(),
        None => Ok(()),
    }
}

/// Admits caches that come later, and tests again and again whether changes are still being reported: one cache after
/// the other, one at a time.
async fn admissions(
    mut session: Session,
    connections: &Commands,
    shared: &LinkInner,
    generation: u64,
    signs: &Signs,
) -> BackendError {
    let mode = connections.reporting().mode();
    let mut next = Instant::now() + CANARY;
    let mut turn = 0;
    loop {
        let members = shared.listeners.all();
        let mut candidates: Vec<_> = members.iter().filter(|member| member.is_waiting()).map(Arc::clone).collect();
        if candidates.is_empty() {
            tokio::select! {
                () = shared.newcomers.notified() => continue,
                () = sleep_until(next) => next = Instant::now() + CANARY,
            }
            turn += 1;
            let tested_ones: Vec<_> =
                members.iter().filter(|member| member.is_reported() || member.is_refused()).collect();
            let Some(&member) = tested_ones.get(turn % tested_ones.len().max(1)) else { continue };
            match member.is_up() {
                true => match tested(&session, connections, shared, member).await {
                    Ok(Verdict::Reported(lag)) => signs.report_took(member, lag),
                    // Nothing is known: reports may come as ever.
                    Ok(Verdict::Unknown(cause)) => tracing::debug!(%cause, "no canary"),
                    Ok(Verdict::Denied(cause)) => shared.change(generation, |_| {
                        member.link_lost(&cause);
                        member.stands(Standing::Refused(cause));
                    }),
                    Ok(Verdict::Silent) => {
                        let message = "the server has stopped reporting changes";
                        return BackendError::new(BackendErrorKind::Unavailable, message);
                    }
                    Err(cause) => return cause,
                },
                // It was refused: its user may have been allowed more meanwhile.
                false if member.is_refused() => candidates.push(Arc::clone(member)),
                false => continue,
            }
        }
        if !candidates.is_empty() {
            let admitting = session.admit(&candidates, None);
            match connections.data().alive(shared.target.dead_after, admitting).await {
                Ok(admissions) => shared.change(generation, |_| admitted(admissions, mode, signs)),
                Err(cause) => return cause,
            }
        }
    }
}

async fn tested(
    session: &Session,
    connections: &Commands,
    shared: &LinkInner,
    member: &Arc<Member>,
) -> BackendResult<Verdict> {
    let probed = session.probe(std::slice::from_ref(&member));
    let verdicts = connections.data().alive(shared.target.dead_after, probed).await?;
    Ok(verdicts.into_iter().next().unwrap_or(Verdict::Silent))
}

/// Asks the data connection for a sign of life when it has long given none.
async fn pings(data: &Connection, target: &Target) -> BackendError {
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

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn closed() -> BackendError {
    BackendError::new(BackendErrorKind::Closed, "the backend was closed")
}
