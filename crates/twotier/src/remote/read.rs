//! Reads: started once for everyone who waits, and answered whoever polls.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout};
use twotier_backend::{BackendResult, GetReply, Stored};
use twotier_core::{BackendError, BackendErrorKind, Operation};

use super::{
    Fill, Remote,
    admission::{Cost, Permit},
    unanswered,
};
use crate::{Result, meter::Call};

impl<V: Send + Sync + 'static> Remote<V> {
    /// Starts the read for which a ticket was registered. The first of those who wait decodes the answer.
    pub(crate) fn start_read(self: &Arc<Self>, operation: Operation, ticket: Fill<V>) {
        let remote = Arc::clone(self);
        self.admit(Cost::of_keys(1), move |permit| match permit {
            // Everybody went away while it waited: nothing need be asked.
            Some(_permit) if !ticket.is_awaited() => {}
            Some(permit) => {
                let qualified = remote.namespace.qualify(ticket.key());
                let finisher = Arc::clone(&remote);
                remote.send_read(&qualified, permit, move |answer| finisher.arrived(operation, ticket, answer));
            }
            None => ticket.fail(remote.overloaded(operation)),
        });
    }

    /// Starts the reads of many keys in one call of the backend; `answered` counts the answers as they come.
    pub(crate) fn start_reads(self: &Arc<Self>, operation: Operation, tickets: Vec<Fill<V>>, answered: Arc<AtomicU64>) {
        let remote = Arc::clone(self);
        self.admit(Cost::of_keys(tickets.len()), move |permit| match permit {
            Some(permit) => {
                let runtime = remote.runtime.clone();
                runtime.spawn(async move { remote.read_batch(operation, tickets, permit, &answered).await });
            }
            None => {
                let refused = remote.overloaded(operation);
                tickets.into_iter().for_each(|ticket| ticket.fail(refused.clone()));
            }
        });
    }

    /// Reads what the backend holds under one key, as it is.
    pub(crate) async fn read_stored(self: &Arc<Self>, operation: Operation, key: &str) -> Result<Option<Stored>> {
        let (sender, receiver) = oneshot::channel();
        let (remote, qualified) = (Arc::clone(self), self.namespace.qualify(key));
        self.admit(Cost::of_keys(1), move |permit| {
            if let Some(permit) = permit {
                remote.send_read(&qualified, permit, move |answer| _ = sender.send(Ok(answer)));
            } else {
                let _ = sender.send(Err(remote.overloaded(operation)));
            }
        });
        match receiver.await {
            Ok(answer) => answer?.map_err(|source| self.backend_failed(operation, source)),
            Err(_dropped) => Err(self.backend_failed(operation, abandoned())),
        }
    }

    /// Calls `start` with a permit: at once, or from a task of its own when it has to wait, so that no caller's future
    /// ever holds one. Without a permit when too many wait.
    fn admit(self: &Arc<Self>, cost: Cost, start: impl FnOnce(Option<Permit>) + Send + 'static) {
        if let Some(permit) = self.admission.try_acquire(cost) {
            return start(Some(permit));
        }
        let Some(waiting) = self.admission.wait() else { return start(None) };
        let remote = Arc::clone(self);
        self.runtime.spawn(async move {
            let permit = remote.admission.acquire(cost).await;
            drop(waiting);
            start(permit);
        });
    }

    /// Sends one read. The permit is given back when the answer is there, and before anything is done with it.
    fn send_read(
        self: &Arc<Self>,
        qualified: &[u8],
        permit: Permit,
        then: impl FnOnce(BackendResult<Option<Stored>>) + Send + 'static,
    ) {
        let (remote, started) = (Arc::clone(self), self.meter.start(Call::Read));
        let reply = GetReply::new(move |answer| {
            drop(permit);
            remote.meter.end(started, answer.is_err());
            then(answer);
        });
        let Some(reply) = self.backend.start_get(qualified, reply) else { return };
        let (backend, after) = (Arc::clone(&self.backend), self.settings.op_timeout);
        let qualified = qualified.to_vec();
        self.runtime.spawn(async move {
            let answer = timeout(after, backend.get(&qualified)).await;
            reply.send(answer.unwrap_or_else(|_elapsed| {
                let message = format!("no answer within {} ms", after.as_millis());
                Err(BackendError::new(BackendErrorKind::Timeout, message))
            }));
        });
    }

    async fn read_batch(
        self: &Arc<Self>,
        operation: Operation,
        tickets: Vec<Fill<V>>,
        permit: Permit,
        answered: &AtomicU64,
    ) {
        let keys: Vec<Bytes> = tickets.iter().map(|ticket| Bytes::from(self.namespace.qualify(ticket.key()))).collect();
        let tickets: Mutex<Vec<Option<Fill<V>>>> = Mutex::new(tickets.into_iter().map(Some).collect());
        let failed = AtomicBool::new(false);
        let answer = |index: usize, answer: BackendResult<Option<Stored>>| {
            answered.fetch_add(1, Ordering::Relaxed);
            failed.fetch_or(answer.is_err(), Ordering::Relaxed);
            let ticket = tickets.lock().get_mut(index).and_then(Option::take);
            if let Some(ticket) = ticket {
                self.arrived(operation, ticket, answer);
            }
        };
        let started = self.meter.start(Call::Read);
        let progress = || answered.load(Ordering::Relaxed);
        let ended = self.while_progressing(progress, self.backend.get_each(&keys, &answer)).await;
        drop(permit);
        self.meter.end(started, ended.is_none() || failed.load(Ordering::Relaxed));
        let left: Vec<Fill<V>> = tickets.lock().iter_mut().filter_map(Option::take).collect();
        for ticket in left {
            ticket.fail(match ended {
                Some(()) => self.backend_failed(operation, unanswered()),
                None => self.timed_out(operation, true),
            });
        }
    }

    /// Leaves an answer to those who wait for it: decoding it is for the first of them, and takes no time of a connection.
    fn arrived(self: &Arc<Self>, operation: Operation, ticket: Fill<V>, answer: BackendResult<Option<Stored>>) {
        let remote = Arc::clone(self);
        ticket.arrived(move |ticket| {
            let answer = answer.map_err(|source| remote.backend_failed(operation, source));
            match answer.and_then(|stored| remote.understand(operation, ticket.key(), stored)) {
                Ok(fetched) => fetched.fill(ticket),
                Err(error) => ticket.fail(error),
            }
        });
    }
}

/// A read that ended without an answer.
pub(crate) fn abandoned() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the read was ended by a panic or by the end of the runtime")
}
