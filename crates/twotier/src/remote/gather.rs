//! Reads that come at the same time: gathered, and made one call of the backend.

use std::{
    future::pending,
    mem,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use smol_str::SmolStr;
use tokio::{sync::oneshot, task::yield_now, time::Instant};
use twotier_backend::{BackendResult, Stored};
use twotier_core::{Error, LinkId, Operation};

use super::{
    Fill, Remote,
    admission::{Cost, Permit},
    breakers::Silent,
    unanswered,
};
use crate::{
    Result,
    meter::{Call, failure},
};

/// The most keys in one batch. Twice as many save nothing more that can be measured, and half as many cost nothing.
const BATCH: usize = 128;
/// The least, while more reads come: four readers in step are one batch, and eight are two.
const LEAST: usize = 4;

/// The reads of one cache that are about to be sent together.
///
/// While nothing is under way a read goes by itself, on the stack of its caller. The next one opens a batch and hands
/// it to a task; the task lets everybody who is ready to run go first, once, and sends what has gathered by then.
/// Nothing is waited for, no answer and no timer: a batch is as large as the load makes it.
///
/// A batch that has half of all the keys under way is sent at once: the server works on it while the other half is put
/// together here, and the other way round. All of them in one batch would have the two take turns.
///
/// The batch belongs to the task and not to the read that opened it, so whoever waits may go away at any point, and
/// nobody else notices.
#[repr(align(128))]
pub(crate) struct Gatherer<V> {
    /// Whether the backend reads many keys in hardly more time than one.
    is_of_use: bool,
    /// A batch is open, or will be: the last one had company. Without this the first read after each batch would go by
    /// itself every time.
    is_crowded: AtomicBool,
    open: Mutex<Open<V>>,
}

/// The batch that takes keys.
struct Open<V> {
    /// `Some` each, as [`Left`] has them.
    reads: Vec<Option<Gathered<V>>>,
    /// Tells it from those that were sent.
    number: u64,
    /// When the first one came.
    since: Option<Instant>,
}

/// A read of one key, by whomever.
pub(super) enum Gathered<V> {
    /// For the local tier, and for whoever waits there.
    Copy { operation: Operation, ticket: Fill<V> },
    /// For one who takes what is stored as it is.
    Stored { operation: Operation, key: SmolStr, link: LinkId, reader: oneshot::Sender<Result<Option<Stored>>> },
}

/// A batch that takes no more keys.
struct Batch<V> {
    reads: Vec<Option<Gathered<V>>>,
    since: Instant,
    /// Taken as the batch is closed, so that its keys are counted with what is under way; `None` where there is no
    /// room.
    permit: Option<Permit<V>>,
}

/// What was not answered yet of a batch.
struct Left<V> {
    /// Until all were answered.
    permit: Option<Permit<V>>,
    /// `None` for those that were answered.
    reads: Vec<Option<Gathered<V>>>,
    silent: Silent,
}

impl<V> Gatherer<V> {
    pub(crate) fn new(is_of_use: bool) -> Self {
        let open = Mutex::new(Open { reads: Vec::new(), number: 0, since: None });
        Self { is_of_use, is_crowded: AtomicBool::new(false), open }
    }
}

impl<V: Send + Sync + 'static> Remote<V> {
    /// Returns whether a read that begins now is [gathered](Self::gather).
    pub(super) fn gathers(&self) -> bool {
        let Gatherer { is_of_use, is_crowded, .. } = &self.gatherer;
        *is_of_use && (is_crowded.load(Ordering::Relaxed) || self.admission.under_way() > 0)
    }

    /// Sends a read together with others that come now. Returns when the first of them came: the operation timeout
    /// after that, whoever waits for one of them is woken.
    pub(super) fn gather(self: &Arc<Self>, read: Gathered<V>) -> Instant {
        let (gatherer, under_way) = (&self.gatherer, self.admission.under_way());
        let mut open = gatherer.open.lock();
        if open.reads.is_empty() {
            gatherer.is_crowded.store(true, Ordering::Relaxed);
            open.reads.reserve((under_way / 2).clamp(LEAST, BATCH));
        }
        open.reads.push(Some(read));
        let (count, number, since) = (open.reads.len(), open.number, *open.since.get_or_insert_with(Instant::now));
        drop(open);
        let half = ((under_way + count) / 2).clamp(LEAST, BATCH).min(self.admission.max_in_flight());
        if count >= half {
            if let Some(batch) = self.close(number) {
                self.runtime.spawn(Arc::clone(self).read_gathered(batch));
            }
        } else if count == 1 {
            let sender = Sender { remote: Arc::clone(self), number };
            self.runtime.spawn(async move {
                yield_now().await;
                let remote = &sender.remote;
                if let Some(batch) = remote.close(sender.number) {
                    Arc::clone(remote).read_gathered(batch).await;
                }
            });
        }
        since
    }

    /// Takes no more keys into a batch, unless it was sent already.
    fn close(self: &Arc<Self>, number: u64) -> Option<Batch<V>> {
        let (gatherer, under_way) = (&self.gatherer, self.admission.under_way());
        let (reads, since) = {
            let mut open = gatherer.open.lock();
            if open.number != number {
                return None;
            }
            open.number += 1;
            gatherer.is_crowded.store(under_way + open.reads.len() > 1, Ordering::Relaxed);
            (mem::take(&mut open.reads), open.since.take()?)
        };
        let permit = self.try_admit(Cost::of_keys(reads.len()));
        Some(Batch { reads, since, permit })
    }

    /// Reads what was gathered, in one call of the backend. Each answer goes where it belongs as soon as it is there.
    async fn read_gathered(self: Arc<Self>, Batch { reads, since, permit }: Batch<V>) {
        let left = Mutex::new(Left { permit, reads, silent: Silent::default() });
        let mut reading = pin!(self.read_left(&left));
        if self.deadline(since).of(reading.as_mut()).await.is_err() {
            // From now on everybody who waits has a deadline of their own. An answer is taken all the same when it
            // comes.
            let mut waiting: Vec<Waker> = Vec::new();
            left.lock().reads.iter().flatten().for_each(|read| waiting.extend(read.waiting()));
            waiting.into_iter().for_each(Waker::wake);
            reading.await;
        }
    }

    async fn read_left(self: &Arc<Self>, left: &Mutex<Left<V>>) {
        if left.lock().permit.is_none() {
            let Some(permit) = self.admit_left(left).await else { return };
            left.lock().permit = Some(permit);
        }
        if let Some(ended) = self.ended() {
            let reads = mem::take(&mut left.lock().reads);
            return reads.into_iter().flatten().for_each(|read| read.answer(self, Err(ended.clone())));
        }
        let keys = self.qualified(&left.lock().reads);
        let (started, failed) = (self.meter.start(Call::Read), OnceLock::new());
        let answer = |index: usize, answer: BackendResult<Option<Stored>>| {
            let read = {
                let Left { permit, reads, silent } = &mut *left.lock();
                let Some(read) = reads.get_mut(index).and_then(Option::take) else { return };
                // Before anything is done with the answer.
                permit.iter_mut().for_each(Permit::give_back_one);
                silent.note(&self.breakers, read.link(), &answer, || started.elapsed() < self.settings.op_timeout);
                read
            };
            if let Some(kind) = failure(&answer) {
                failed.get_or_init(|| kind);
            }
            read.answer(self, answer);
        };
        self.backend.get_each(&keys, &answer).await;
        let Left { permit, reads, silent } = mem::take(&mut *left.lock());
        drop(permit);
        self.meter.end(Call::Read, started, failed.into_inner());
        silent.end(&self.breakers, started);
        reads.into_iter().flatten().for_each(|read| read.answer(self, Err(unanswered())));
    }

    /// Waits for the permits of a batch for as long as anybody wants one of its answers. Those beyond what may wait are
    /// refused, and what nobody wants any more is not read.
    async fn admit_left(self: &Arc<Self>, left: &Mutex<Left<V>>) -> Option<Permit<V>> {
        let waiting = self.admission.wait_together(left.lock().reads.len());
        let waits = waiting.calls();
        let refused = left.lock().reads.split_off(waits);
        refused.into_iter().flatten().for_each(|read| {
            let error = self.overloaded(read.operation(), Call::Read);
            read.fail(error);
        });
        let deserted = async {
            let wanted = || left.lock().reads.iter().flatten().find(|read| read.is_wanted()).map(Gathered::deserted);
            while let Some(deserted) = wanted() {
                deserted.await;
            }
        };
        let mut permit = self.admit_wanted(Cost::of_keys(waits), waiting, deserted).await?;
        let (wanted, unwanted): (Vec<_>, Vec<_>) = mem::take(&mut left.lock().reads)
            .into_iter()
            .partition(|read| read.as_ref().is_some_and(Gathered::is_wanted));
        unwanted.iter().for_each(|_| permit.give_back_one());
        left.lock().reads = wanted;
        Some(permit)
    }

    /// Renders the names of keys in the backend, all in one piece of memory.
    fn qualified(&self, reads: &[Option<Gathered<V>>]) -> Vec<Bytes> {
        let prefix = self.namespace.prefix();
        let keys = || reads.iter().flatten().map(Gathered::key);
        let mut names = BytesMut::with_capacity(keys().map(|key| prefix.len() + key.len()).sum());
        let name = |key: &str| {
            names.extend_from_slice(prefix.as_bytes());
            names.extend_from_slice(key.as_bytes());
            names.split().freeze()
        };
        keys().map(name).collect()
    }
}

impl<V> Default for Left<V> {
    fn default() -> Self {
        Self { permit: None, reads: Vec::new(), silent: Silent::default() }
    }
}

impl<V: Send + Sync + 'static> Gathered<V> {
    fn key(&self) -> &str {
        match self {
            Self::Copy { ticket, .. } => ticket.key(),
            Self::Stored { key, .. } => key,
        }
    }

    fn operation(&self) -> Operation {
        match self {
            Self::Copy { operation, .. } | Self::Stored { operation, .. } => *operation,
        }
    }

    fn link(&self) -> LinkId {
        match self {
            Self::Copy { ticket, .. } => ticket.mark().link,
            Self::Stored { link, .. } => *link,
        }
    }

    /// Returns whether anybody still waits for it.
    fn is_wanted(&self) -> bool {
        match self {
            Self::Copy { ticket, .. } => ticket.is_awaited(),
            Self::Stored { reader, .. } => !reader.is_closed(),
        }
    }

    /// Waits until nobody waits for it, as far as that is noticed.
    fn deserted(&self) -> impl Future<Output = ()> + Send + use<V> {
        let copy = match self {
            Self::Copy { ticket, .. } => Some(ticket.deserted()),
            Self::Stored { .. } => None,
        };
        async move {
            match copy {
                Some(deserted) => deserted.await,
                None => pending().await,
            }
        }
    }

    /// Takes those who wait, to be woken.
    fn waiting(&self) -> impl Iterator<Item = Waker> + use<V> {
        match self {
            Self::Copy { ticket, .. } => Some(ticket.waiting()),
            // Whoever takes it so has another deadline.
            Self::Stored { .. } => None,
        }
        .into_iter()
        .flatten()
    }

    fn fail(self, error: Error) {
        match self {
            Self::Copy { ticket, .. } => ticket.fail(error),
            Self::Stored { reader, .. } => drop(reader.send(Err(error))),
        }
    }

    fn answer(self, remote: &Arc<Remote<V>>, answer: BackendResult<Option<Stored>>) {
        match self {
            Self::Copy { operation, ticket } => {
                let remote = Arc::clone(remote);
                ticket.arrived(move |ticket| remote.finish(operation, ticket, answer));
            }
            Self::Stored { operation, reader, .. } => {
                let answer = answer.map_err(|source| remote.backend_failed(operation, source));
                let _gone = reader.send(answer);
            }
        }
    }
}

/// A task that sends a batch. Dropped early, by the end of the runtime, it leaves none open that nobody will send.
struct Sender<V: Send + Sync + 'static> {
    remote: Arc<Remote<V>>,
    number: u64,
}

impl<V: Send + Sync + 'static> Drop for Sender<V> {
    fn drop(&mut self) {
        let (batch, ended) = (self.remote.close(self.number), self.remote.ended());
        // Dropped, a read is begun anew by whoever waits for it.
        if let (Some(Batch { reads, .. }), Some(ended)) = (batch, ended) {
            reads.into_iter().flatten().for_each(|read| read.answer(&self.remote, Err(ended.clone())));
        }
    }
}
