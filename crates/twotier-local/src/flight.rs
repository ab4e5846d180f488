//! One read of the backend that several callers wait for.

use std::{fmt, pin::pin, sync::Arc};

use crate::{
    digest::Digest,
    sync::{AtomicBool, Notify, OnceLock, Ordering},
};

/// A read under way, shared by the one who does it and those who joined.
///
/// It is settled exactly once, whatever happens to its leader; the first outcome stands. News of a change does not settle
/// it: whoever joined before the news is given the answer all the same, or a key that is written all the time would serve
/// one reader for each round trip.
pub(crate) struct Flight<T, E> {
    outcome: OnceLock<Outcome<T, E>>,
    settled: Notify,
    /// Whether one of those who joined reads for itself, because the leader seems not to go on.
    volunteered: AtomicBool,
}

impl<T, E> Flight<T, E> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { outcome: OnceLock::new(), settled: Notify::new(), volunteered: AtomicBool::new(false) })
    }

    /// Tells the joiners. Never to be called under a lock: it wakes tasks, and may drop a value.
    pub(crate) fn settle(&self, outcome: Outcome<T, E>) {
        // If it is settled already, that outcome stands and this one is dropped.
        let _ = self.outcome.set(outcome);
        self.settled.notify_waiters();
    }
}

/// How a read ended.
pub(crate) enum Outcome<T, E> {
    Answered(T, Digest),
    Failed(E),
    Abandoned,
}

/// Waits for somebody else's read of the same key.
#[must_use = "the value is lost if nobody waits for it"]
pub struct Joiner<T, E> {
    pub(crate) flight: Arc<Flight<T, E>>,
    /// The only bytes that may be handed on to this one, if the read was bound to them when it joined.
    pub(crate) only: Option<Digest>,
    /// Reads of the shard with a greater id were registered after this one had begun.
    pub(crate) began: u64,
}

impl<T: Clone, E: Clone> Joiner<T, E> {
    /// Waits until the read has ended, in whatever way: its leader filled, failed, was dropped or panicked, or somebody
    /// took the read down by hand.
    ///
    /// The answer is handed on although the key may have changed since this one joined: it is what a read of its own
    /// might have brought. It is not handed on when it may be older than what was known before this one joined.
    ///
    /// The future may be dropped at any time.
    ///
    /// # Panics
    ///
    /// Never: a flight is settled before its joiners are woken.
    pub async fn wait(&self) -> Joined<T, E> {
        let mut settled = pin!(self.flight.settled.notified());
        // Registered before the outcome is looked at, so that an outcome set in between wakes us.
        settled.as_mut().enable();
        if self.flight.outcome.get().is_none() {
            settled.await;
        }
        match self.flight.outcome.get().expect("a flight is settled before its joiners are woken") {
            Outcome::Answered(value, digest) if self.only.is_none_or(|only| only == *digest) => {
                Joined::Value(value.clone())
            }
            Outcome::Failed(error) => Joined::Failed(error.clone()),
            Outcome::Answered(..) | Outcome::Abandoned => Joined::ElectAgain,
        }
    }
}

impl<T, E> Joiner<T, E> {
    /// Returns true to the first who asks: they may read for everyone when the leader seems not to go on.
    #[must_use = "who is told so reads the backend"]
    pub fn volunteer(&self) -> bool {
        !self.flight.volunteered.swap(true, Ordering::Relaxed)
    }

    /// Tells everybody who joined to look again, because the leader seems not to go on. The read itself is to be taken
    /// down before, by [`LocalTier::invalidate`](crate::LocalTier::invalidate).
    pub fn dissolve(&self) {
        self.flight.settle(Outcome::Abandoned);
    }
}

impl<T, E> fmt::Debug for Joiner<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joiner").field("settled", &self.flight.outcome.get().is_some()).finish_non_exhaustive()
    }
}

/// How somebody else's read of the same key ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined<T, E> {
    /// With this value.
    Value(T),
    /// With this error.
    Failed(E),
    /// Without an answer that may be handed on. Call [`LocalTier::read_again`](crate::LocalTier::read_again).
    ElectAgain,
}
