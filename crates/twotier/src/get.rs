//! The future of `get`.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use smol_str::SmolStr;
use twotier_core::Operation;

use crate::{Key, Lookup, Result, read::LocalRead, remote::CachedValue, tiers::Tiers};

/// The future of [`Cache::get`](crate::Cache::get): ready at once on a local hit.
///
/// Written by hand because it is all that a hit pays beside the lookup: it holds the answer or the question, and what a
/// miss needs is boxed when it is first polled.
#[must_use = "futures do nothing unless they are awaited"]
pub struct Get<'a, V> {
    state: State<'a, V>,
}

enum State<'a, V> {
    Hit(CachedValue<V>),
    Missed { tiers: &'a Tiers<V>, key: SmolStr },
    Reading(Pin<Box<dyn Future<Output = Result<Lookup<V>>> + Send + 'a>>),
    Refused(Box<twotier_core::Error>),
    Done,
}

impl<'a, V: Send + Sync + 'static> Get<'a, V> {
    #[inline]
    pub(crate) fn new(tiers: &'a Tiers<V>, key: &impl Key) -> Self {
        let state = key.with_text(|key| match tiers.lookup_local(Operation::Get, key) {
            LocalRead::Hit(value) => State::Hit(value),
            LocalRead::Miss => State::Missed { tiers, key: key.into() },
            LocalRead::Refused(error) => State::Refused(error),
        });
        Self { state }
    }

    #[cold]
    fn read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Arc<V>>>> {
        if let State::Missed { tiers, key } = &mut self.state {
            self.state = State::Reading(tiers.read_through(std::mem::take(key), Operation::Get));
        }
        match &mut self.state {
            State::Reading(reading) => reading.as_mut().poll(context).map_ok(|found| found.value),
            State::Refused(_) => match std::mem::replace(&mut self.state, State::Done) {
                State::Refused(error) => Poll::Ready(Err(*error)),
                _ => Poll::Pending,
            },
            // Polled again after it was ready, which nobody may do: pending is better than a panic.
            State::Hit(_) | State::Missed { .. } | State::Done => Poll::Pending,
        }
    }
}

impl<V: Send + Sync + 'static> Future for Get<'_, V> {
    type Output = Result<Option<Arc<V>>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Hit(value) = &mut self.state {
            let value = value.take();
            self.state = State::Done;
            return Poll::Ready(Ok(value));
        }
        self.read(context)
    }
}

// Nothing in it is pinned: the read is boxed.
impl<V> Unpin for Get<'_, V> {}

impl<V> fmt::Debug for Get<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Get").field("hit", &matches!(self.state, State::Hit(_))).finish_non_exhaustive()
    }
}
