//! The order of writes: each is sent in its turn and before its deadline, or never.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    task::unconstrained,
    time::{Instant, timeout_at},
};
use twotier_core::{BackendError, BackendErrorKind, Operation};

use super::{
    Links, Remote,
    admission::{Cost, Permit},
};
use crate::{Result, meter::Call};

/// What is left of a write once it was sent: its answer and its bookkeeping.
type Rest = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Writes that were asked for and not sent yet, in the order of the calls.
///
/// Writes are sent by one at a time, so that a ticket is registered and its command handed over with no other write in
/// between: a delete that was registered after the store of a load reaches the backend after it. A write that can be
/// sent at once is, on the stack of its caller, unless somebody else sends or waits. What has to wait, for its turn,
/// for a permit or for a connection, waits here and not in the futures of callers: one that is never polled again would
/// keep its place for good. A task sends them in order, and ends when nothing waits.
pub(crate) struct WriteQueue<V> {
    state: Mutex<State<V>>,
}

struct State<V> {
    waiting: VecDeque<Waiting<V>>,
    /// Whether somebody sends: a caller, or the task. Nobody else does then.
    sending: bool,
}

struct Waiting<V> {
    terms: Terms,
    deadline: Instant,
    send_state: Arc<SendState>,
    /// Counted among those who wait for the backend.
    _counted: super::admission::Waiting,
    start: Start<V>,
}

impl<V> Default for WriteQueue<V> {
    fn default() -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), sending: false }) }
    }
}

/// What a write asks for.
#[derive(Clone, Copy)]
struct Terms {
    operation: Operation,
    cost: Cost,
    /// Waits past its deadline as long as anything moves, as the parts of a batch do.
    patient: bool,
}

/// Sends a write, with its permit, or returns to the caller why it is not sent.
type Start<V> = Box<dyn FnOnce(&Remote<V>, Result<Permit<V>>) -> Option<Rest> + Send>;

/// Whether a write was sent or given up: one of the two, once.
#[derive(Debug, Default)]
struct SendState(AtomicU8);

const UNDECIDED: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

impl SendState {
    fn decide(&self, decision: u8) -> bool {
        self.0.compare_exchange(UNDECIDED, decision, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// A write that was asked for. Dropped before it was sent, it never is; afterwards it goes on to its end.
#[must_use = "a write that is dropped before it was sent never is"]
pub(crate) struct PendingWrite<T> {
    send_state: Arc<SendState>,
    outcome: oneshot::Receiver<Result<T>>,
    operation: Operation,
    links: Links,
}

impl<T> PendingWrite<T> {
    /// Gives the write up, unless it was sent already: returns whether it was.
    fn give_up(&self) -> bool {
        !self.send_state.decide(GIVEN_UP) && self.was_sent()
    }

    pub(crate) fn was_sent(&self) -> bool {
        self.send_state.0.load(Ordering::Acquire) == SENT
    }

    /// Takes the outcome if it is there, and else gives the write up.
    pub(crate) fn given_up_unless_done(&mut self) -> Option<Result<T>> {
        let _sent = self.give_up();
        self.outcome.try_recv().ok()
    }
}

impl<T> Drop for PendingWrite<T> {
    fn drop(&mut self) {
        let _sent = self.give_up();
    }
}

impl<V: Send + Sync + 'static> Remote<V> {
    /// Sends a write in its turn, unless one of its links does not answer. `send` is called when the turn has come, and
    /// registers and calls the backend in the first poll of the future that it returns; that future runs to its end
    /// whatever becomes of the caller.
    pub(crate) fn write<T, F, Fut>(
        self: &Arc<Self>,
        operation: Operation,
        links: Links,
        cost: Cost,
        patient: bool,
        send: F,
    ) -> PendingWrite<T>
    where
        T: Send + 'static,
        F: FnOnce(Permit<V>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        let (sender, outcome) = oneshot::channel();
        let send_state = Arc::<SendState>::default();
        let pass = match self.pass(operation, Call::of_change(operation), &links) {
            Ok(pass) => pass,
            Err(refused) => {
                let _ = sender.send(Err(refused));
                return PendingWrite { send_state, outcome, operation, links };
            }
        };
        let over = links.clone();
        let start = move |remote: &Self, permit: Result<Permit<V>>| match permit {
            Ok(permit) => {
                let sent = send(permit);
                // The caller may be gone: nobody is notified then.
                Some(Box::pin(async move {
                    let outcome = sent.await;
                    drop(pass);
                    let _ = sender.send(outcome);
                }) as Rest)
            }
            Err(not_sent) => {
                remote.unready(&over, &not_sent);
                let _ = sender.send(Err(not_sent));
                None
            }
        };
        self.send_or_queue(Terms { operation, cost, patient }, Arc::clone(&send_state), Box::new(start));
        PendingWrite { send_state, outcome, operation, links }
    }

    /// Waits for the outcome of a write, but not longer than the operation timeout.
    pub(crate) async fn written<T>(&self, mut write: PendingWrite<T>) -> Result<T> {
        match self.runtime.timeout(self.settings.op_timeout, &mut write.outcome).await {
            Ok(outcome) => self.outcome(&write, outcome),
            Err(_elapsed) => {
                self.meter.timed_out(Call::of_change(write.operation));
                self.breakers.timed_out(&write.links);
                Err(self.timed_out(write.operation, write.give_up()))
            }
        }
    }

    /// Waits for the outcome of a part of a batch for as long as anything moves.
    pub(crate) async fn part_written<T>(&self, mut write: PendingWrite<T>) -> Result<T> {
        match self.while_progressing(|| 0, &mut write.outcome).await {
            Some(outcome) => self.outcome(&write, outcome),
            None => {
                self.meter.timed_out(Call::of_change(write.operation));
                self.breakers.timed_out(&write.links);
                Err(self.timed_out(write.operation, write.give_up()))
            }
        }
    }

    /// Waits for the outcome of a write that has no deadline once it was sent.
    pub(crate) async fn written_at_last<T>(&self, mut write: PendingWrite<T>) -> Result<T> {
        let outcome = (&mut write.outcome).await;
        self.outcome(&write, outcome)
    }

    fn outcome<T>(&self, write: &PendingWrite<T>, outcome: Result<Result<T>, oneshot::error::RecvError>) -> Result<T> {
        outcome.unwrap_or_else(|_dropped| {
            let source = BackendError::new(
                BackendErrorKind::Unavailable,
                "the write was ended by a panic or by the end of the runtime",
            );
            // What still waited when it ended was never sent.
            let source = if write.was_sent() { source } else { source.not_sent() };
            Err(self.backend_failed(write.operation, source))
        })
    }

    fn send_or_queue(self: &Arc<Self>, terms: Terms, send_state: Arc<SendState>, start: Start<V>) {
        let role = {
            let mut state = self.writes.state.lock();
            let free = !std::mem::replace(&mut state.sending, true);
            free.then(|| Sender(Arc::clone(self)))
        };
        let Some(role) = role else { return self.queue(terms, send_state, start, VecDeque::push_back) };
        match self.permit_at_once(terms) {
            Some(permit) => self.send(&send_state, permit, start),
            // Whoever came meanwhile stands behind.
            None => self.queue(terms, send_state, start, VecDeque::push_front),
        }
        // Passed on to a task if anything waits by now, when this is dropped: also by a panic of the backend.
        drop(role);
    }

    /// Returns a permit, or why the write cannot be sent, unless that takes a wait.
    fn permit_at_once(self: &Arc<Self>, Terms { operation, cost, .. }: Terms) -> Option<Result<Permit<V>>> {
        if let Some(ended) = self.ended() {
            return Some(Err(self.backend_failed(operation, ended)));
        }
        let permit = self.try_admit(cost)?;
        let _entered = self.runtime.enter();
        match pin!(self.backend.ready()).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ready) => {
                Some(ready.map(|()| permit).map_err(|source| self.backend_failed(operation, source.not_sent())))
            }
            // The permit is given back: whoever waits for a connection should not keep others from theirs.
            Poll::Pending => None,
        }
    }

    fn queue(
        self: &Arc<Self>,
        terms: Terms,
        send_state: Arc<SendState>,
        start: Start<V>,
        place: impl FnOnce(&mut VecDeque<Waiting<V>>, Waiting<V>),
    ) {
        let Some(counted) = self.admission.wait() else {
            let refused = self.overloaded(terms.operation, Call::of_change(terms.operation));
            return self.send(&send_state, Err(refused), start);
        };
        let deadline = Instant::now() + self.settings.op_timeout;
        let waiting = Waiting { terms, deadline, send_state, _counted: counted, start };
        let nobody_sends = {
            let mut state = self.writes.state.lock();
            place(&mut state.waiting, waiting);
            !std::mem::replace(&mut state.sending, true)
        };
        if nobody_sends {
            drop(Sender(Arc::clone(self)));
        }
    }

    /// Sends a write unless it was given up, and leaves the rest of it to a task of its own.
    fn send(&self, send_state: &SendState, permit: Result<Permit<V>>, start: Start<V>) {
        if !send_state.decide(if permit.is_ok() { SENT } else { GIVEN_UP }) && permit.is_ok() {
            return;
        }
        let Some(mut rest) = start(self, permit) else { return };
        // The first poll hands the command over, within the runtime that polls the rest. It is not to be put off for
        // the sake of other tasks.
        let first = {
            let _entered = self.runtime.enter();
            pin!(unconstrained(rest.as_mut())).as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        if first.is_pending() {
            self.runtime.spawn(rest);
        }
    }

    /// Waits until a write may be sent, but not past its deadline.
    async fn acquire(self: &Arc<Self>, terms: Terms, mut deadline: Instant) -> Result<Permit<V>> {
        let Terms { operation, cost, patient } = terms;
        let mut before = self.backend.progress();
        let mut admitted = pin!(async {
            let permit = self.admit(cost).await;
            self.backend.ready().await.map(|()| permit)
        });
        loop {
            match timeout_at(deadline, admitted.as_mut()).await {
                Ok(Ok(Some(permit))) => return Ok(permit),
                Ok(Ok(None)) => return Err(self.timed_out(operation, false)),
                Ok(Err(source)) => return Err(self.backend_failed(operation, source.not_sent())),
                Err(_elapsed) => {
                    let now = self.backend.progress();
                    if !patient || now == before {
                        return Err(self.timed_out(operation, false));
                    }
                    before = now;
                    deadline = Instant::now() + self.settings.op_timeout;
                }
            }
        }
    }
}

/// The role of the one who sends. It is passed on to a task while anything waits.
struct Sender<V: Send + Sync + 'static>(Arc<Remote<V>>);

impl<V: Send + Sync + 'static> Drop for Sender<V> {
    fn drop(&mut self) {
        let passed_on = {
            let mut state = self.0.writes.state.lock();
            state.sending = !state.waiting.is_empty();
            state.sending
        };
        if passed_on {
            let task = SenderTask { remote: Arc::clone(&self.0), ended: false };
            self.0.runtime.spawn(task.run());
        }
    }
}

/// The task that sends what waits. Dropped early, by the end of the runtime, it lets go of everything that waits:
/// nothing of it is ever sent.
struct SenderTask<V> {
    remote: Arc<Remote<V>>,
    ended: bool,
}

impl<V: Send + Sync + 'static> SenderTask<V> {
    async fn run(mut self) {
        while let Some(waiting) = self.next() {
            let permit = self.remote.acquire(waiting.terms, waiting.deadline).await;
            let Waiting { send_state, start, .. } = waiting;
            // A backend that panics ends this write, and not those that wait behind it.
            let sent = catch_unwind(AssertUnwindSafe(|| self.remote.send(&send_state, permit, start)));
            if sent.is_err() {
                tracing::error!(namespace = %self.remote.namespace, "a write panicked as it was sent");
            }
        }
        self.ended = true;
    }

    /// Takes the next write that was not given up meanwhile. Nobody sends any more once there is none.
    fn next(&self) -> Option<Waiting<V>> {
        loop {
            let waiting = {
                let mut state = self.remote.writes.state.lock();
                let next = state.waiting.pop_front();
                state.sending = next.is_some();
                next?
            };
            // One that was given up is dropped here, outside the lock, with the value that it would have written.
            if waiting.send_state.0.load(Ordering::Acquire) == UNDECIDED {
                return Some(waiting);
            }
        }
    }
}

impl<V> Drop for SenderTask<V> {
    fn drop(&mut self) {
        // After an orderly end somebody else may send by now, and what waits is theirs.
        if !self.ended {
            let left = {
                let mut state = self.remote.writes.state.lock();
                state.sending = false;
                std::mem::take(&mut state.waiting)
            };
            drop(left);
        }
    }
}
