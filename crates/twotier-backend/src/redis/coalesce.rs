//! Single reads that come at the same time, made one round trip.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use twotier_core::{BackendError, BackendErrorKind};

use super::{
    connection::Connection,
    read::{self, Answer, Question, Told},
};

/// While no more reads than this are in flight each goes by itself. Together they would take less processor time, but
/// client and server would take turns instead of working at once: eight readers get up to a third less that way, in halves
/// too.
const ALONE: usize = 8;
/// The most keys in one batch. Twice as many save nothing more that can be measured, and half as many cost nothing.
const BATCH: usize = 128;
/// The least, while more reads come.
const LEAST: usize = ALONE / 2;

/// The reads in flight on one connection.
///
/// The first read that is not sent by itself opens a batch and hands it to a task; the task lets everybody who is ready to
/// run go first, once, and sends what has gathered by then. There is no timer: a batch is as large as the load makes it.
///
/// A batch that has half of all the keys in flight is sent at once: the server works on it while the other half is put
/// together here, and the other way round. All of them in one batch would have the two take turns.
///
/// The batch belongs to the task and not to the read that opened it, so whoever waits may go away at any point, and nobody
/// else notices.
#[derive(Default)]
pub(super) struct Coalescer {
    state: Mutex<State>,
    /// The user may not run `MGET`: every read goes by itself.
    refused: AtomicBool,
}

#[derive(Default)]
struct State {
    /// How many keys are being read.
    in_flight: usize,
    /// The batch that still takes keys.
    open: Option<Arc<Batch>>,
    /// When the last batch was sent, more was in flight than goes alone: so it will be again. Without this the first reads
    /// after each batch, when little is in flight, would go by themselves every time.
    busy: bool,
}

/// Reads one key, by itself or in company. The command is sent after this call began.
pub(super) async fn get(connection: &Connection, key: &[u8]) -> Answer {
    match connection.coalescer().enter(connection, key) {
        // Boxed, so that a read in company, of which there are many, does not carry the room for it: beyond a kilobyte
        // allocators keep nothing at hand.
        Entered::Alone(_counted) => Box::pin(read::get(connection.reading(), key)).await,
        Entered::Seated(seat) => seat.await,
    }
}

enum Entered<'c> {
    Alone(Counted<'c>),
    Seated(Seat),
}

impl Coalescer {
    fn enter(&self, connection: &Connection, key: &[u8]) -> Entered<'_> {
        let mut state = self.state.lock();
        state.in_flight += 1;
        let few = state.in_flight <= ALONE && !state.busy || self.refused.load(Ordering::Relaxed);
        if few && state.open.is_none() {
            return Entered::Alone(Counted { coalescer: self, keys: 1 });
        }
        let opened = state.open.is_none();
        let batch = Arc::clone(state.open.get_or_insert_with(|| Arc::new(Batch::new())));
        let index = batch.seat(key);
        let half = (state.in_flight / 2).clamp(LEAST, BATCH);
        let full = index + 1 >= connection.reading().keys_at_once(half);
        if full {
            state.open = None;
        }
        drop(state);
        let sending = || Sending { connection: connection.clone(), batch: Arc::clone(&batch), ended: false };
        if full {
            connection.runtime().spawn(sending().now());
        } else if opened {
            connection.runtime().spawn(sending().soon());
        }
        Entered::Seated(Seat { batch, index })
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
    coalescer: &'c Coalescer,
    keys: usize,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.coalescer.state.lock().in_flight -= self.keys;
    }
}

/// Keys that are read together, and who waits for which of them.
struct Batch {
    gathered: Mutex<Gathered>,
}

struct Gathered {
    /// Until it is sent.
    question: Option<Question>,
    seats: Vec<Waiting>,
}

enum Waiting {
    For(Option<Waker>),
    Answered(Answer),
    Left,
}

impl Batch {
    fn new() -> Self {
        let (question, seats) = (Some(Question::new(BATCH)), Vec::with_capacity(BATCH));
        Self { gathered: Mutex::new(Gathered { question, seats }) }
    }

    /// Takes a key into a batch that is open. An open batch was not sent: it is closed first, under the lock that whoever
    /// takes a seat holds.
    fn seat(&self, key: &[u8]) -> usize {
        let mut gathered = self.gathered.lock();
        if let Some(question) = &mut gathered.question {
            question.add(key);
        }
        gathered.seats.push(Waiting::For(None));
        gathered.seats.len() - 1
    }

    /// Hands out answers, and wakes those who waited for them. Seats that have one keep it.
    fn answer(&self, answers: impl IntoIterator<Item = (usize, Answer)>) {
        let mut wakers = Vec::with_capacity(BATCH);
        {
            let mut gathered = self.gathered.lock();
            for (index, answer) in answers {
                let Some(seat) = gathered.seats.get_mut(index) else { continue };
                if let Waiting::For(waker) = seat {
                    wakers.extend(waker.take());
                    *seat = Waiting::Answered(answer);
                }
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A task that sends a batch. Dropped early, by a panic or by the end of the runtime, it is an error for everyone who
/// still waits.
struct Sending {
    connection: Connection,
    batch: Arc<Batch>,
    ended: bool,
}

impl Sending {
    /// Sends what has gathered once everybody who is ready to run has run.
    async fn soon(self) {
        tokio::task::yield_now().await;
        self.now().await;
    }

    async fn now(mut self) {
        self.send().await;
        self.ended = true;
    }

    /// Sends what has gathered and hands out the answers, unless the task of a batch that became full was faster.
    async fn send(&self) {
        let coalescer = self.connection.coalescer();
        coalescer.close(&self.batch);
        let Some(mut question) = self.batch.gathered.lock().question.take() else { return };
        let _counted = Counted { coalescer, keys: question.len() };
        let Told { answers, refused } = question.ask(self.connection.reading()).await;
        if refused {
            coalescer.refused.store(true, Ordering::Relaxed);
        }
        let untold: Vec<usize> = (0..answers.len()).filter(|&index| answers[index].is_none()).collect();
        self.batch.answer(answers.into_iter().enumerate().filter_map(|(index, answer)| Some((index, answer?))));
        if untold.is_empty() {
            return;
        }
        // Everybody else has an answer: keys that need `GET` hold nobody up.
        let keys: Vec<&[u8]> = untold.iter().map(|&index| question.key(index)).collect();
        let answers = read::get_each(self.connection.reading(), &keys).await;
        self.batch.answer(untold.into_iter().zip(answers));
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.connection.coalescer().close(&self.batch);
        let seats = self.batch.gathered.lock().seats.len();
        let ended = || BackendError::new(BackendErrorKind::Unavailable, "the read was ended by the end of the runtime");
        self.batch.answer((0..seats).map(|index| (index, Err(ended()))));
    }
}

/// One place in a batch: the future of one read.
struct Seat {
    batch: Arc<Batch>,
    index: usize,
}

impl Future for Seat {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        // What is replaced is dropped outside the lock: a waker may own a task, and the task another seat.
        let replaced = {
            let mut gathered = self.batch.gathered.lock();
            let Some(seat) = gathered.seats.get_mut(self.index) else { return Poll::Pending };
            match seat {
                Waiting::For(Some(waker)) if waker.will_wake(context.waker()) => return Poll::Pending,
                Waiting::For(_) => std::mem::replace(seat, Waiting::For(Some(context.waker().clone()))),
                Waiting::Answered(_) | Waiting::Left => std::mem::replace(seat, Waiting::Left),
            }
        };
        match replaced {
            Waiting::Answered(answer) => Poll::Ready(answer),
            Waiting::For(_) | Waiting::Left => Poll::Pending,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Its waker must not keep the task of a read that went away.
        let left =
            self.batch.gathered.lock().seats.get_mut(self.index).map(|seat| std::mem::replace(seat, Waiting::Left));
        drop(left);
    }
}
