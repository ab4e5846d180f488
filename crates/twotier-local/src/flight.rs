//! One read of the backend that several callers wait for.

use std::{
    fmt,
    future::poll_fn,
    mem,
    // Not those of `sync`: only one joiner at a time uses each, so what they do is not in question.
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use crate::{
    digest::Digest,
    sync::{Mutex, OnceLock},
};

/// A read under way, shared by its ticket and by everybody who waits for it.
///
/// It is settled exactly once, whatever happens to its ticket; the first outcome stands. News of a change does not
/// settle it: whoever joined before the news is given the answer all the same, or a key that is written all the time
/// would serve one reader for each round trip.
pub(crate) struct Flight<T, E> {
    outcome: OnceLock<Outcome<T, E>>,
    waiting: Mutex<Waiting>,
}

/// A raw answer that has arrived, with the ticket of its read.
pub trait Arrival: Send {
    /// Makes of the raw answer what the ticket is filled with. It may decode, and it may panic, which abandons the
    /// read.
    fn finish(self: Box<Self>);
}

impl<F: FnOnce() + Send> Arrival for F {
    fn finish(self: Box<Self>) {
        self();
    }
}

/// Locked for a few moves of memory: no waker is cloned, called or dropped, and nothing finished, under the lock.
#[derive(Default)]
struct Waiting {
    /// How many wait, polled or not.
    joiners: u32,
    /// Stored while the raw answer is there and nobody has taken it yet. It holds the ticket, and so this very flight:
    /// that circle ends when a joiner runs it, or with the last joiner.
    arrival: Option<Box<dyn Arrival>>,
    /// Of the joiners that were polled since all were woken last. The first needs no allocation, and there is seldom a
    /// second.
    first: Option<Waker>,
    more: Vec<Option<Waker>>,
    /// How often all were woken: their places are void then.
    round: u32,
    /// Of the ticket, which waits until nobody waits for it.
    ticket: Option<Waker>,
}

/// Where the waker of a joiner is, in a certain round. The default is nowhere.
#[derive(Clone, Copy, Default)]
struct Place {
    round: u32,
    /// From 1 on.
    number: u32,
}

impl Place {
    fn pack(self) -> u64 {
        u64::from(self.round) << 32 | u64::from(self.number)
    }

    fn unpack(packed: u64) -> Self {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
        Self { round: half(packed >> 32), number: half(packed) }
    }
}

impl Waiting {
    fn waker(&mut self, place: Place) -> Option<&mut Option<Waker>> {
        if place.round != self.round {
            return None;
        }
        match place.number {
            0 => None,
            1 => Some(&mut self.first),
            number => self.more.get_mut(number as usize - 2),
        }
    }

    /// Registers the waker of a joiner, in the place of its earlier one, which is returned, if that is still there.
    fn register(&mut self, place: Place, waker: Waker) -> (Place, Option<Waker>) {
        if let Some(held) = self.waker(place) {
            return (place, held.replace(waker));
        }
        let round = self.round;
        if self.first.is_none() && self.more.is_empty() {
            self.first = Some(waker);
            return (Place { round, number: 1 }, None);
        }
        self.more.push(Some(waker));
        (Place { round, number: u32::try_from(self.more.len() + 1).unwrap_or_default() }, None)
    }

    fn forget(&mut self, place: Place) -> Option<Waker> {
        self.waker(place)?.take()
    }

    /// Takes every joiner's waker.
    fn wakers(&mut self) -> impl Iterator<Item = Waker> + use<> {
        self.round = self.round.wrapping_add(1);
        self.first.take().into_iter().chain(mem::take(&mut self.more).into_iter().flatten())
    }
}

impl<T, E> Flight<T, E> {
    /// Makes the flight of a read whose first joiner is the caller.
    pub(crate) fn new() -> Arc<Self> {
        let waiting = Waiting { joiners: 1, ..Waiting::default() };
        Arc::new(Self { outcome: OnceLock::new(), waiting: Mutex::new(waiting) })
    }

    /// Ends the read for its joiners. Never to be called under a lock: it wakes tasks, and may drop a value.
    pub(crate) fn settle(&self, outcome: Outcome<T, E>) {
        // If it is set already, that outcome stands and this one is dropped.
        let _ = self.outcome.set(outcome);
        // After the outcome is set: who registers later sees it under the lock.
        let wakers = self.waiting.lock().wakers();
        wakers.for_each(Waker::wake);
    }

    /// Stores what the first joiner that is polled is to finish, or drops it when nobody waits. Never to be called
    /// under a lock.
    pub(crate) fn arrived(&self, arrival: Box<dyn Arrival>) {
        let (unwanted, wakers) = {
            let mut waiting = self.waiting.lock();
            let unwanted = if waiting.joiners == 0 { Some(arrival) } else { waiting.arrival.replace(arrival) };
            (unwanted, waiting.wakers())
        };
        // Outside the lock: the ticket goes with it, and abandons the read.
        drop(unwanted);
        wakers.for_each(Waker::wake);
    }

    /// Counts one more joiner.
    pub(crate) fn join(&self) {
        self.waiting.lock().joiners += 1;
    }

    /// Takes the wakers of those who wait.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = Waker> + use<T, E> {
        self.waiting.lock().wakers()
    }

    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.lock().joiners > 0
    }

    fn leave(&self, place: Place) {
        // The ticket has ended then: it waits for nobody, nothing is left to finish, and the wakers are taken or will
        // be.
        if matches!(self.outcome.get(), Some(Outcome::Answered(..) | Outcome::Failed(_))) {
            return;
        }
        let (waker, ticket, unwanted) = {
            let mut waiting = self.waiting.lock();
            waiting.joiners -= 1;
            let last = waiting.joiners == 0;
            let (ticket, unwanted) = if last { (waiting.ticket.take(), waiting.arrival.take()) } else { (None, None) };
            (waiting.forget(place), ticket, unwanted)
        };
        drop((waker, unwanted));
        ticket.into_iter().for_each(Waker::wake);
    }

    /// Waits for the outcome as this joiner: finishes what has arrived, outside every lock, if nobody else has.
    fn poll(&self, place: &AtomicU64, context: &Context<'_>) -> Poll<&Outcome<T, E>> {
        loop {
            if let Some(outcome) = self.outcome.get() {
                return Poll::Ready(outcome);
            }
            let held = Place::unpack(place.load(Ordering::Relaxed));
            if held.number > 0 {
                // Polled again, mostly because the answer is there: then no waker is needed, whose clone and drop are
                // two writes to what other threads write to.
                let arrival = self.waiting.lock().arrival.take();
                if let Some(arrival) = arrival {
                    arrival.finish();
                    continue;
                }
            }
            let waker = context.waker().clone();
            let arrival = {
                let mut waiting = self.waiting.lock();
                let arrival = waiting.arrival.take();
                if arrival.is_none() && self.outcome.get().is_none() {
                    let (new, earlier) = waiting.register(held, waker);
                    place.store(new.pack(), Ordering::Relaxed);
                    drop(waiting);
                    drop(earlier);
                    return Poll::Pending;
                }
                arrival
            };
            if let Some(arrival) = arrival {
                arrival.finish();
            }
        }
    }

    /// Waits until nobody waits for this read. For its ticket: there is room for one waker.
    pub(crate) async fn deserted(&self) {
        poll_fn(|context| {
            let waker = context.waker().clone();
            let mut waiting = self.waiting.lock();
            let awaited = waiting.joiners > 0;
            let earlier = if awaited { waiting.ticket.replace(waker) } else { waiting.ticket.take() };
            drop(waiting);
            drop(earlier);
            if awaited { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
}

/// How a read ended.
pub(crate) enum Outcome<T, E> {
    Answered(T, Digest),
    Failed(E),
    Abandoned,
}

/// Waits for the read of a key: one that this caller registered, or one under way that it joined.
#[must_use = "the value is lost if nobody waits for it"]
pub struct Joiner<T, E> {
    flight: Arc<Flight<T, E>>,
    /// Where its waker is. Only this one reads and writes it, one poll at a time.
    place: AtomicU64,
    /// The only bytes that may be handed on to this one, if the read was bound to them when it joined.
    only: Option<Digest>,
    /// Reads of the shard with a greater id were registered after this one had begun.
    pub(crate) began: u64,
}

impl<T, E> Joiner<T, E> {
    /// Makes the joiner of somebody whom the flight counts already.
    pub(crate) fn counted(flight: Arc<Flight<T, E>>, only: Option<Digest>, began: u64) -> Self {
        Self { flight, place: AtomicU64::new(Place::default().pack()), only, began }
    }
}

impl<T: Clone, E: Clone> Joiner<T, E> {
    /// Waits until the read has ended, in whatever way: its ticket was filled, failed or dropped, or the key was
    /// forgotten by [`LocalTier::invalidate`](crate::LocalTier::invalidate) or
    /// [`LocalTier::clear`](crate::LocalTier::clear).
    ///
    /// Whoever is polled first after the raw answer [arrived](crate::FillTicket::arrived) finishes the read for
    /// everybody: a joiner that is kept and not polled holds nobody up.
    ///
    /// The answer is handed on although the key may have changed since this one joined: it is what a read of its own
    /// might have brought. It is not handed on when it may be older than what was known before this one joined.
    ///
    /// The future may be dropped at any time, and another wait started; one waits at a time.
    ///
    /// # Panics
    ///
    /// When what finishes the read panics in this joiner. The others elect again.
    pub async fn wait(&self) -> Joined<T, E> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Does what polling [`wait`](Self::wait) does, for those who write their futures by hand.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn poll(&self, context: &Context<'_>) -> Poll<Joined<T, E>> {
        let Poll::Ready(outcome) = self.flight.poll(&self.place, context) else { return Poll::Pending };
        Poll::Ready(match outcome {
            Outcome::Answered(value, digest) if self.only.is_none_or(|only| only == *digest) => {
                Joined::Value(value.clone())
            }
            Outcome::Failed(error) => Joined::Failed(error.clone()),
            Outcome::Answered(..) | Outcome::Abandoned => Joined::ElectAgain,
        })
    }
}

impl<T, E> Drop for Joiner<T, E> {
    fn drop(&mut self) {
        self.flight.leave(Place::unpack(self.place.load(Ordering::Relaxed)));
    }
}

impl<T, E> fmt::Debug for Joiner<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joiner").field("settled", &self.flight.outcome.get().is_some()).finish_non_exhaustive()
    }
}

/// How a read ended for one of its joiners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined<T, E> {
    /// With this value.
    Value(T),
    /// With this error.
    Failed(E),
    /// Without an answer that may be handed on. Call [`LocalTier::read_again`](crate::LocalTier::read_again).
    ElectAgain,
}
