//! The standing link: who is on it, and what an operation gets of it.

mod journal;
mod state;
mod supervisor;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};
use twotier_core::{BackendError, BackendErrorKind, Coherence, LinkState, LinkUp};

use crate::{Attachment, BackendResult, Watch};

use self::{
    state::{LinkInner, Phase, State, closed},
    supervisor::{Gone, supervise},
};
use super::{
    authority::Authority,
    command::Commands,
    listeners::{Joining, Listeners, Member, Standing},
    sentinel::Sentinels,
    session::Fences,
    wire::{Progress, Target},
};

/// The link that all clones of a backend share. Dropping it ends the connections and the task that watches them.
pub(super) struct Link {
    shared: Arc<LinkInner>,
    supervisor: Mutex<Option<AbortHandle>>,
    /// Numbers the handles.
    made: AtomicU64,
    /// How many handles are open.
    open: AtomicUsize,
}

impl Link {
    /// Makes the link to a server, or to the one that sentinels name. Nothing is connected yet.
    pub(super) fn new(target: Arc<Target>) -> Self {
        let authority = Authority::Sentinels(Sentinels::of(&target));
        Self::of(target, Listeners::default(), authority, Arc::default())
    }

    /// Makes one of the links of a backend that has several, which remembers the connections of all of them.
    pub(super) fn of(target: Arc<Target>, listeners: Listeners, authority: Authority, fences: Arc<Fences>) -> Self {
        let shared = LinkInner {
            target,
            listeners: Arc::new(listeners),
            newcomers: Notify::new(),
            state: Mutex::new(State { generation: 0, phase: Phase::Idle }),
            changed: Notify::new(),
            progress: Arc::new(Progress::new()),
            fences,
            authority,
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

    pub(super) fn leave(&self, handle: u64) {
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
        let joining = Joining::new(|| self.leave(handle));
        let mode = self.admitted(&member, patient).await?;
        joining.end();
        Ok(Attachment::new(mode))
    }

    /// Waits until changes are being reported to a cache that has joined, or until it is known why they are not.
    pub(super) async fn admitted(&self, member: &Member, patient: bool) -> BackendResult<Coherence> {
        let mut standing = member.standing();
        loop {
            match &*standing.borrow_and_update() {
                Standing::Admitted(mode) => return Ok(*mode),
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

    /// Puts a cache on the link, which is made if there is none.
    pub(super) fn join(&self, watch: Watch, handle: u64) -> BackendResult<Arc<Member>> {
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
        drop(supervisor);
        self.start();
        self.shared.newcomers.notify_one();
        Ok(member)
    }

    pub(super) fn listeners(&self) -> &Listeners {
        &self.shared.listeners
    }

    /// Notifies every cache on the link that whatever it read over it may be another's by now: keys have come to this
    /// link or have left it. Those to which nothing could be reported before may be admitted now.
    pub(super) fn keys_moved(&self) {
        self.shared.modify(|_| {
            self.shared.listeners.all().iter().filter(|member| member.is_up()).for_each(|member| member.flushed());
        });
        self.shared.newcomers.notify_one();
    }

    /// Waits until the link is up, or an attempt to make it has failed.
    pub(super) async fn tried(&self) {
        let _whatever = self.connections().await;
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
    pub(super) fn close(&self) {
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
    pub(super) fn start(&self) {
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
