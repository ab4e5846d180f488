//! One read of the backend that several callers wait for.

use std::{fmt, mem, sync::Arc};

use crate::{completion::Completion, digest::Digest, sync::Mutex};

/// A read under way, shared by its ticket and by everybody who waits for it.
///
/// It is settled exactly once, whatever happens to its ticket; the first outcome stands. News of a change does not settle
/// it: whoever joined before the news is given the answer all the same, or a key that is written all the time would serve
/// one reader for each round trip.
pub(crate) struct Flight<T, E> {
    outcome: Completion<Outcome<T, E>>,
    arrival: Mutex<Arrival>,
}

/// What turns the raw answer into the outcome: it holds the ticket, and so this very flight. That circle ends when a
/// joiner runs it, or with the last joiner.
type Finish = Box<dyn FnOnce() + Send>;

struct Arrival {
    /// How many wait, polled or not.
    joiners: usize,
    /// Stored while the raw answer is there and nobody has taken it yet.
    finish: Option<Finish>,
}

impl<T, E> Flight<T, E> {
    /// Makes the flight of a read whose first joiner is the caller.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { outcome: Completion::new(), arrival: Mutex::new(Arrival { joiners: 1, finish: None }) })
    }

    /// Ends the read for its joiners. Never to be called under a lock: it wakes tasks, and may drop a value.
    pub(crate) fn settle(&self, outcome: Outcome<T, E>) {
        self.outcome.complete(outcome);
    }

    /// Stores what the first joiner that is polled is to run, or drops it when nobody waits.
    pub(crate) fn arrived(&self, finish: Finish) {
        let unwanted = {
            let mut arrival = self.arrival.lock();
            if arrival.joiners == 0 { Some(finish) } else { arrival.finish.replace(finish) }
        };
        // Outside the lock: the ticket goes with it, and abandons the read.
        drop(unwanted);
        self.outcome.wake();
    }

    /// Runs what has arrived, outside every lock, and returns whether there was anything to run.
    fn finish(&self) -> bool {
        let finish = self.arrival.lock().finish.take();
        finish.map(|finish| finish()).is_some()
    }

    pub(crate) fn join(&self) {
        self.arrival.lock().joiners += 1;
    }

    pub(crate) fn is_awaited(&self) -> bool {
        self.arrival.lock().joiners > 0
    }

    fn leave(&self) {
        let (last, unwanted) = {
            let mut arrival = self.arrival.lock();
            arrival.joiners -= 1;
            let last = arrival.joiners == 0;
            (last, if last { mem::take(&mut arrival.finish) } else { None })
        };
        drop(unwanted);
        if last && !self.outcome.is_complete() {
            self.outcome.wake();
        }
    }

    /// Waits until nobody waits for this read.
    pub(crate) async fn deserted(&self) {
        self.outcome.wait_until(|| !self.is_awaited()).await;
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
    /// The only bytes that may be handed on to this one, if the read was bound to them when it joined.
    only: Option<Digest>,
    /// Reads of the shard with a greater id were registered after this one had begun.
    pub(crate) began: u64,
}

impl<T, E> Joiner<T, E> {
    /// Makes the joiner of somebody whom the flight counts already.
    pub(crate) fn counted(flight: Arc<Flight<T, E>>, only: Option<Digest>, began: u64) -> Self {
        Self { flight, only, began }
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
    /// The future may be dropped at any time, and another wait begun.
    ///
    /// # Panics
    ///
    /// When what finishes the read panics in this joiner. The others elect again.
    pub async fn wait(&self) -> Joined<T, E> {
        match self.flight.outcome.wait(|| self.flight.finish()).await {
            Outcome::Answered(value, digest) if self.only.is_none_or(|only| only == *digest) => {
                Joined::Value(value.clone())
            }
            Outcome::Failed(error) => Joined::Failed(error.clone()),
            Outcome::Answered(..) | Outcome::Abandoned => Joined::ElectAgain,
        }
    }
}

impl<T, E> Drop for Joiner<T, E> {
    fn drop(&mut self) {
        self.flight.leave();
    }
}

impl<T, E> fmt::Debug for Joiner<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joiner").field("settled", &self.flight.outcome.is_complete()).finish_non_exhaustive()
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
