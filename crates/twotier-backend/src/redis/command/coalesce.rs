//! Single reads that come at the same time, made one round trip.

use std::{
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use twotier_core::{BackendError, BackendErrorKind};

use crate::GetReply;

use super::{
    connections::Connections,
    lanes::Lanes,
    read::{self, BatchRead, BatchReply, ReadResult},
};

/// While no more reads than this are in flight each goes by itself. Together they would take less processor time, but
/// client and server would take turns instead of working at once: eight readers get up to a third less that way, in
/// halves too.
const ALONE: usize = 8;
/// The most keys in one batch. Twice as many save nothing more that can be measured, and half as many cost nothing.
const BATCH: usize = 128;
/// The least, while more reads come.
const LEAST: usize = ALONE / 2;
/// The most bytes that one batch is expected to bring.
const BYTES: usize = 1024 * 1024;

/// The reads in flight on one link.
///
/// The first read that is not sent by itself opens a batch and hands it to a task; the task lets everybody who is ready
/// to run go first, once, and sends what has gathered by then. There is no timer: a batch is as large as the load makes
/// it.
///
/// A batch that has half of all the keys in flight is sent at once: the server works on it while the other half is put
/// together here, and the other way round. All of them in one batch would have the two take turns.
///
/// The batch belongs to the task and not to the read that opened it, so whoever waits may go away at any point, and
/// nobody else notices.
struct Coalescer {
    state: Mutex<State>,
    /// The user may not run `MGET`: every read goes by itself.
    refused: AtomicBool,
    alone: Lanes<Lone>,
}

#[derive(Default)]
struct State {
    /// How many keys are being read.
    in_flight: usize,
    /// The batch that still takes keys.
    open: Option<Arc<Batch>>,
    /// When the last batch was sent, more was in flight than goes alone: so it will be again. Without this the first
    /// reads after each batch, when little is in flight, would go by themselves every time.
    busy: bool,
}

/// The commands of a link: its connections, and what is under way over them together.
#[derive(Clone)]
pub(in crate::redis) struct Commands(Arc<Shared>);

struct Shared {
    connections: Connections,
    coalescer: Coalescer,
}

impl Commands {
    pub(in crate::redis) fn new(connections: Connections, coalesces: bool) -> Self {
        Self(Arc::new(Shared { connections, coalescer: Coalescer::new(coalesces) }))
    }

    fn coalescer(&self) -> &Coalescer {
        &self.0.coalescer
    }
}

impl Deref for Commands {
    type Target = Connections;

    fn deref(&self) -> &Connections {
        &self.0.connections
    }
}

/// Reads one key, by itself or in company. The command is sent after this call began.
pub(in crate::redis) async fn get(connections: &Commands, key: &[u8]) -> ReadResult {
    let (sender, answer) = oneshot::channel();
    // Nobody waits any more when the receiver is gone.
    start_get(connections, key, GetReply::new(move |result| drop(sender.send(result))));
    answer.await.unwrap_or_else(|_gone| Err(ended()))
}

/// Starts such a read, whose result is handed over as it arrives, whoever polls.
pub(in crate::redis) fn start_get(connections: &Commands, key: &[u8], reply: GetReply) {
    if let Some(reply) = connections.coalescer().enter(connections, key, reply) {
        let lone = Lone { connections: connections.clone(), key: key.to_vec(), reply: Some(reply) };
        connections.coalescer().alone.start(lone, Lone::read);
    }
}

impl Coalescer {
    fn new(coalesces: bool) -> Self {
        Self { state: Mutex::default(), refused: AtomicBool::new(!coalesces), alone: Lanes::new() }
    }

    /// Counts one read. Returns the reply when it goes by itself; else it has a place in a batch.
    fn enter(&self, connections: &Commands, key: &[u8], reply: GetReply) -> Option<GetReply> {
        let mut state = self.state.lock();
        state.in_flight += 1;
        let few = state.in_flight <= ALONE && !state.busy || self.refused.load(Ordering::Relaxed);
        if few && state.open.is_none() {
            return Some(reply);
        }
        let opened = state.open.is_none();
        let half = (state.in_flight / 2).clamp(LEAST, BATCH);
        let batch = state.open.get_or_insert_with(|| Arc::new(Batch::new(half)));
        let full = batch.add(key, reply) >= connections.sizes().keys_within(BYTES, half);
        // Most reads begin no task, and share nothing but the lock.
        let sent = if full {
            state.open.take()
        } else if opened {
            Some(Arc::clone(batch))
        } else {
            None
        };
        // A task that cannot be spawned any more is dropped at once, and takes the lock then.
        drop(state);
        let sender = BatchSender { connections: connections.clone(), batch: sent? };
        if full {
            connections.runtime().spawn(sender.now());
        } else {
            connections.runtime().spawn(sender.soon());
        }
        None
    }

    /// Takes no more keys into this batch.
    fn close(&self, batch: &Arc<Batch>) {
        let mut state = self.state.lock();
        state.busy = state.in_flight > ALONE;
        if state.open.as_ref().is_some_and(|open| Arc::ptr_eq(open, batch)) {
            state.open = None;
        }
    }
}

/// Reads in flight, until this is dropped.
struct Counted<'c> {
    connections: &'c Commands,
    keys: usize,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.connections.coalescer().state.lock().in_flight -= self.keys;
    }
}

/// A read that goes by itself. Dropped early, it is an error for whoever waits.
struct Lone {
    connections: Commands,
    key: Vec<u8>,
    reply: Option<GetReply>,
}

impl Lone {
    async fn read(mut self) {
        let result = read::get(&self.connections, &self.key).await;
        self.answer(result);
    }

    fn answer(&mut self, result: ReadResult) {
        if let Some(reply) = self.reply.take() {
            // Counted as ended before anybody acts on the result: whoever reads next in step with this one goes alone
            // too.
            drop(Counted { connections: &self.connections, keys: 1 });
            hand_over(reply, result);
        }
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        self.answer(Err(ended()));
    }
}

/// Keys that are read together, and where the result of each goes.
struct Batch {
    gathered: Mutex<Gathered>,
}

#[derive(Default)]
struct Gathered {
    /// Until it is sent.
    read: Option<BatchRead>,
    replies: Vec<Option<GetReply>>,
}

impl Batch {
    fn new(expected: usize) -> Self {
        let (read, replies) = (Some(BatchRead::new(expected)), Vec::with_capacity(expected));
        Self { gathered: Mutex::new(Gathered { read, replies }) }
    }

    /// Takes a key into a batch that is open, and returns how many there are. An open batch was not sent: it is closed
    /// first, under the lock that whoever takes a slot holds.
    fn add(&self, key: &[u8], reply: GetReply) -> usize {
        let mut gathered = self.gathered.lock();
        if let Some(read) = &mut gathered.read {
            read.add(key);
        }
        gathered.replies.push(Some(reply));
        gathered.replies.len()
    }
}

impl Drop for Batch {
    /// A batch that no task has sent is an error for everyone who waits.
    fn drop(&mut self) {
        for reply in self.gathered.get_mut().replies.drain(..).flatten() {
            hand_over(reply, Err(ended()));
        }
    }
}

/// A task that sends a batch.
struct BatchSender {
    connections: Commands,
    batch: Arc<Batch>,
}

impl BatchSender {
    /// Sends what has gathered once everybody who is ready to run has run.
    async fn soon(self) {
        tokio::task::yield_now().await;
        self.now().await;
    }

    /// Sends what has gathered and hands out the results, unless the task of a batch that became full was faster.
    async fn now(self) {
        let (connections, coalescer) = (&self.connections, self.connections.coalescer());
        coalescer.close(&self.batch);
        let (mut read, replies) = {
            let mut gathered = self.batch.gathered.lock();
            let Some(read) = gathered.read.take() else { return };
            (read, std::mem::take(&mut gathered.replies))
        };
        let mut waiting = Waiting { connections, replies };
        let BatchReply { results, refused, .. } = read.ask(connections).await;
        if refused {
            coalescer.refused.store(true, Ordering::Relaxed);
        }
        let fallback: Vec<usize> = (0..results.len()).filter(|&index| results[index].is_none()).collect();
        waiting.answer(results.into_iter().enumerate().filter_map(|(index, result)| Some((index, result?))));
        if fallback.is_empty() {
            return;
        }
        // Everybody else has a result: keys that need `GET` hold nobody up.
        let keys: Vec<&[u8]> = fallback.iter().map(|&index| read.key(index)).collect();
        let results = read::get_singly(connections, &keys).await;
        waiting.answer(fallback.into_iter().zip(results));
    }
}

impl Drop for BatchSender {
    /// Dropped early, by the end of the runtime, it leaves no batch open that nobody will send.
    fn drop(&mut self) {
        self.connections.coalescer().close(&self.batch);
    }
}

/// Those who wait for the results of a batch that is being sent. Dropped early, by a panic or by the end of the
/// runtime, it is an error for everyone who still waits.
struct Waiting<'c> {
    connections: &'c Commands,
    replies: Vec<Option<GetReply>>,
}

impl Waiting<'_> {
    fn answer(&mut self, results: impl IntoIterator<Item = (usize, ReadResult)>) {
        let replies: Vec<_> = results
            .into_iter()
            .filter_map(|(index, result)| Some((self.replies.get_mut(index)?.take()?, result)))
            .collect();
        // Counted as ended before anybody acts on a result.
        drop(Counted { connections: self.connections, keys: replies.len() });
        for (reply, result) in replies {
            hand_over(reply, result);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let left = self.replies.len();
        self.answer((0..left).map(|index| (index, Err(ended()))));
    }
}

/// A panic of whoever takes the result is not ours.
fn hand_over(reply: GetReply, result: ReadResult) {
    if catch_unwind(AssertUnwindSafe(|| reply.send(result))).is_err() {
        tracing::error!("the result of a read was handed over to code that panicked");
    }
}

fn ended() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the read was ended by the end of the runtime")
}
