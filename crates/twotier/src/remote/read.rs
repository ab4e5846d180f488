//! Reads: started once for everyone who waits, and answered whoever polls.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use arrayvec::ArrayVec;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use twotier_backend::{AnswerTaker, BackendResult, GetReply, Stored};
use twotier_core::{BackendError, BackendErrorKind, Error, ErrorKind, LinkId, Operation};
use twotier_local::{Arrival, FillTicket, Joined, Joiner};

use super::{
    CachedValue, Fill, Links, Remote,
    admission::{Cost, Permit, Waiting},
    breakers::{Pass, Silent},
    gather::Gathered,
    unanswered,
};
use crate::{
    Result,
    meter::{Call, failure},
};

/// A name of so many bytes needs no allocation.
const SHORT: usize = 128;

/// When a read was started.
pub(crate) enum ReadStart {
    /// Now, by itself.
    Alone(Instant),
    /// Then, [gathered](Remote::gather) with others: whoever waits for it is woken the operation timeout after that.
    Gathered(Instant),
}

impl<V: Send + Sync + 'static> Remote<V> {
    /// Starts the read for which a ticket was registered, now. The first of those who wait decodes the answer.
    pub(crate) fn start_read(self: &Arc<Self>, operation: Operation, ticket: Fill<V>) -> ReadStart {
        // After the ticket was registered: an invalidation that comes to wait from now on kills it.
        if self.invalidations.holds(ticket.key()) {
            ticket.fail(self.backend_failed(operation, waits()));
            return ReadStart::Alone(Instant::now());
        }
        let pass = match self.pass(operation, Call::Read, &Links::One(ticket.mark().link)) {
            Ok(pass) => pass,
            Err(refused) => {
                ticket.fail(refused);
                return ReadStart::Alone(Instant::now());
            }
        };
        if self.gathers() && !pass.is_trial() {
            return ReadStart::Gathered(self.gather(Gathered::Copy { operation, ticket }));
        }
        ReadStart::Alone(match self.try_admit(Cost::ONE) {
            Some(permit) => self.send_fill(operation, ticket, permit, pass),
            None => self.wait_to_read(operation, ticket, pass),
        })
    }

    #[cold]
    fn wait_to_read(self: &Arc<Self>, operation: Operation, ticket: Fill<V>, pass: Pass) -> Instant {
        match self.admission.wait() {
            None => ticket.fail(self.overloaded(operation, Call::Read)),
            Some(waiting) => {
                let remote = Arc::clone(self);
                self.runtime.spawn(async move {
                    let permit = remote.admit_wanted(Cost::ONE, waiting, ticket.deserted()).await;
                    if let Some(permit) = permit {
                        remote.send_fill(operation, ticket, permit, pass);
                    }
                });
            }
        }
        Instant::now()
    }

    fn send_fill(&self, operation: Operation, ticket: Fill<V>, permit: Permit<V>, pass: Pass) -> Instant {
        let mut room = ArrayVec::new();
        let on_the_heap;
        let qualified = if self.qualify_in(&mut room, ticket.key()) {
            &room[..]
        } else {
            on_the_heap = self.namespace.qualify(ticket.key());
            &on_the_heap[..]
        };
        let started = self.meter.start(Call::Read);
        let request = FillRequest { operation, ticket, started, permit: Some(permit), _pass: pass, answered: None };
        self.send_read(qualified, GetReply::to(Box::new(request)));
        started
    }

    /// Renders the name of a key in the backend, and returns whether it fits.
    fn qualify_in(&self, room: &mut ArrayVec<u8, SHORT>, key: &str) -> bool {
        [self.namespace.prefix(), key].iter().all(|part| room.try_extend_from_slice(part.as_bytes()).is_ok())
    }

    /// Starts the reads of many keys in one call of the backend; `answered` counts the answers as they come.
    pub(crate) fn start_reads(self: &Arc<Self>, operation: Operation, tickets: Vec<Fill<V>>, answered: Arc<AtomicU64>) {
        let (tickets, pass) = self.passed(operation, self.believed(operation, tickets));
        if tickets.is_empty() {
            return;
        }
        let remote = Arc::clone(self);
        let cost = Cost::of_keys(tickets.len());
        if let Some(permit) = self.try_admit(cost) {
            self.runtime.spawn(async move {
                remote.read_batch(operation, tickets, permit, &answered).await;
                drop(pass);
            });
            return;
        }
        let Some(waiting) = self.admission.wait() else {
            let refused = self.overloaded(operation, Call::Read);
            return tickets.into_iter().for_each(|ticket| ticket.fail(refused.clone()));
        };
        self.runtime.spawn(async move {
            let deserted = async {
                while let Some(awaited) = tickets.iter().find(|ticket| ticket.is_awaited()) {
                    awaited.deserted().await;
                }
            };
            let permit = remote.admit_wanted(cost, waiting, deserted).await;
            if let Some(permit) = permit {
                remote.read_batch(operation, tickets, permit, &answered).await;
            }
            drop(pass);
        });
    }

    /// Waits for a read for as long as any caller would, and returns whether it was answered.
    pub(crate) async fn is_answered(&self, joiner: &Joiner<CachedValue<V>, Error>) -> bool {
        let ended = self.runtime.timeout(self.settings.op_timeout, joiner.wait()).await;
        matches!(ended, Ok(Joined::Value(_) | Joined::ElectAgain))
    }

    /// Fails the reads of keys that wait to be invalidated.
    fn believed(&self, operation: Operation, tickets: Vec<Fill<V>>) -> Vec<Fill<V>> {
        if self.invalidations.len() == 0 {
            return tickets;
        }
        let believed = |ticket: Fill<V>| {
            if !self.invalidations.holds(ticket.key()) {
                return Some(ticket);
            }
            ticket.fail(self.backend_failed(operation, waits()));
            None
        };
        tickets.into_iter().filter_map(believed).collect()
    }

    /// Fails the reads of keys that lie behind links which do not answer, and lets the others pass.
    fn passed(&self, operation: Operation, tickets: Vec<Fill<V>>) -> (Vec<Fill<V>>, Vec<Pass>) {
        if self.breakers.are_quiet() {
            return (tickets, Vec::new());
        }
        let mut decided: HashMap<LinkId, Result<()>> = HashMap::new();
        let mut passes = Vec::new();
        let mut passed = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            let link = ticket.mark().link;
            let decision = decided
                .entry(link)
                .or_insert_with(|| self.pass(operation, Call::Read, &Links::One(link)).map(|pass| passes.push(pass)));
            match decision {
                Ok(()) => passed.push(ticket),
                Err(refused) => ticket.fail(refused.clone()),
            }
        }
        (passed, passes)
    }

    /// Reads what the backend holds under one key, as it is.
    pub(crate) async fn read_stored(self: &Arc<Self>, operation: Operation, key: &str) -> Result<Option<Stored>> {
        let (reader, answer) = oneshot::channel();
        let qualified = self.namespace.qualify(key);
        let link = self.backend.route(&qualified);
        if self.invalidations.holds(key) {
            return Err(self.backend_failed(operation, waits()));
        }
        let pass = self.pass(operation, Call::Read, &Links::One(link))?;
        if self.gathers() && !pass.is_trial() {
            let _since = self.gather(Gathered::Stored { operation, key: key.into(), link, reader });
            return answer.await.unwrap_or_else(|_dropped| Err(self.backend_failed(operation, abandoned())));
        }
        let send = move |remote: &Self, permit: Permit<V>| {
            let started = remote.meter.start(Call::Read);
            let reply = GetReply::new(move |answer| {
                let remote = permit.give_back();
                remote.ended_call(Call::Read, link, started, &answer);
                drop(pass);
                let _ = reader.send(answer.map_err(|source| remote.backend_failed(operation, source)));
            });
            remote.send_read(&qualified, reply);
        };
        if let Some(permit) = self.try_admit(Cost::ONE) {
            send(self, permit);
        } else {
            let Some(waiting) = self.admission.wait() else { return Err(self.overloaded(operation, Call::Read)) };
            let remote = Arc::clone(self);
            self.runtime.spawn(async move {
                if let Some(permit) = remote.admit_wanted(Cost::ONE, waiting, std::future::pending()).await {
                    send(&remote, permit);
                }
            });
        }
        answer.await.unwrap_or_else(|_dropped| Err(self.backend_failed(operation, abandoned())))
    }

    /// Reads what the backend holds under one key, as it is and for nobody's call: counted nowhere, and only where
    /// there is room at once and every link answers. The receiver gets the answer.
    pub(crate) fn read_uncounted(
        self: &Arc<Self>,
        key: &str,
    ) -> Option<oneshot::Receiver<BackendResult<Option<Stored>>>> {
        let permit = self.breakers.are_quiet().then(|| self.try_admit(Cost::ONE))??;
        let (sender, receiver) = oneshot::channel();
        let reply = GetReply::new(move |answer| {
            drop(permit);
            let _ = sender.send(answer);
        });
        self.send_read(&self.namespace.qualify(key), reply);
        Some(receiver)
    }

    /// Waits for a permit, in a task of its own, so that no caller's future ever holds one; `None` once nobody wants
    /// the answer any more.
    pub(super) async fn admit_wanted(
        self: &Arc<Self>,
        cost: Cost,
        waiting: Waiting,
        unwanted: impl Future<Output = ()>,
    ) -> Option<Permit<V>> {
        let permit = tokio::select! {
            biased;
            () = unwanted => None,
            permit = self.admit(cost) => permit,
        };
        drop(waiting);
        permit
    }

    fn send_read(&self, qualified: &[u8], reply: GetReply) {
        if let Some(ended) = self.ended() {
            return reply.send(Err(ended));
        }
        let reply = {
            let _entered = self.runtime.enter_outside_tasks();
            self.backend.start_get(qualified, reply)
        };
        let Some(reply) = reply else { return };
        let (backend, after) = (Arc::clone(&self.backend), self.settings.op_timeout);
        let qualified = qualified.to_vec();
        self.runtime.spawn(async move {
            // Given up after a deadline, it is abandoned: whoever still waits began later, and asks again.
            if let Ok(answer) = timeout(after, backend.get(&qualified)).await {
                reply.send(answer);
            }
        });
    }

    async fn read_batch(
        self: &Arc<Self>,
        operation: Operation,
        tickets: Vec<Fill<V>>,
        permit: Permit<V>,
        answered: &AtomicU64,
    ) {
        let keys: Vec<Bytes> = tickets.iter().map(|ticket| Bytes::from(self.namespace.qualify(ticket.key()))).collect();
        let tickets: Mutex<Vec<Option<Fill<V>>>> = Mutex::new(tickets.into_iter().map(Some).collect());
        let failed = OnceLock::new();
        let silent = Mutex::new(Silent::default());
        let answer = |index: usize, answer: BackendResult<Option<Stored>>| {
            answered.fetch_add(1, Ordering::Relaxed);
            if let Some(kind) = failure(&answer) {
                failed.get_or_init(|| kind);
            }
            let ticket = tickets.lock().get_mut(index).and_then(Option::take);
            if let Some(ticket) = ticket {
                silent.lock().note(&self.breakers, ticket.mark().link, &answer, || true);
                let remote = Arc::clone(self);
                ticket.arrived(move |ticket| remote.finish(operation, ticket, answer));
            }
        };
        let started = self.meter.start(Call::Read);
        let progress = || answered.load(Ordering::Relaxed);
        let ended = self.while_progressing(progress, self.backend.get_each(&keys, &answer)).await;
        drop(permit);
        let nothing_moved = ended.is_none().then_some(ErrorKind::Timeout);
        self.meter.end(Call::Read, started, nothing_moved.or_else(|| failed.into_inner()));
        silent.into_inner().end(&self.breakers, started);
        let left: Vec<Fill<V>> = tickets.lock().iter_mut().filter_map(Option::take).collect();
        if ended.is_none() {
            self.breakers.timed_out(&Links::of(left.iter().map(|ticket| ticket.mark().link)));
        }
        for ticket in left {
            ticket.fail(match ended {
                Some(()) => self.backend_failed(operation, unanswered()),
                None => self.timed_out(operation, true),
            });
        }
    }

    /// Ends a read with its raw answer, on the stack of one who waits for it: decoding takes no time of a connection.
    pub(super) fn finish(&self, operation: Operation, ticket: Fill<V>, answer: BackendResult<Option<Stored>>) {
        let answer = answer.map_err(|source| self.backend_failed(operation, source));
        match answer.and_then(|stored| self.understand(operation, ticket.key(), stored)) {
            Ok(fetched) => fetched.fill(ticket),
            Err(error) => ticket.fail(error),
        }
    }
}

/// One read under way, from the call of the backend to the end of its ticket: one allocation, which goes from thread to
/// thread.
struct FillRequest<V> {
    operation: Operation,
    ticket: Fill<V>,
    started: Instant,
    /// Until the answer is there.
    permit: Option<Permit<V>>,
    _pass: Pass,
    /// From then on.
    answered: Option<Answered<V>>,
}

struct Answered<V> {
    remote: Arc<Remote<V>>,
    answer: BackendResult<Option<Stored>>,
}

impl<V: Send + Sync + 'static> AnswerTaker for FillRequest<V> {
    /// Gives the permit back before anything is done with the answer.
    fn take(mut self: Box<Self>, answer: BackendResult<Option<Stored>>) {
        let Some(permit) = self.permit.take() else { return };
        let remote = permit.give_back();
        remote.ended_call(Call::Read, self.ticket.mark().link, self.started, &answer);
        self.answered = Some(Answered { remote, answer });
        FillTicket::arrive(self, |request| &request.ticket);
    }
}

impl<V: Send + Sync + 'static> Arrival for FillRequest<V> {
    fn finish(self: Box<Self>) {
        let Self { operation, ticket, answered, .. } = *self;
        if let Some(Answered { remote, answer }) = answered {
            remote.finish(operation, ticket, answer);
        }
    }
}

/// Why a key is not read that waits to be invalidated.
fn waits() -> BackendError {
    let message = "not sent: an invalidation of the key waits for the backend";
    BackendError::new(BackendErrorKind::Unavailable, message).not_sent()
}

/// A read that ended without an answer.
pub(crate) fn abandoned() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the read was ended by a panic or by the end of the runtime")
}
