//! The future of a read that the local tier could not answer.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use smol_str::SmolStr;
use tokio::time::Instant;
use twotier_core::{Error, Operation};
use twotier_local::{Joined, Joiner, Read};

use crate::{
    Lookup, Result, Tier,
    meter::Call,
    remote::{CachedValue, Deadline, Links, ReadStart},
    tiers::Tiers,
};

/// How often a read is begun anew when it was abandoned without an answer: by a panic of a codec in another caller, a
/// backend that lets answers drop, or the end of the runtime.
const ATTEMPTS: u8 = 16;

/// Waits for the read of one key.
pub(crate) type Waiter<V> = Joiner<CachedValue<V>, Error>;

/// A read of one key that was missed: joins the read under way, or starts one. One round trip.
///
/// Written by hand because it is made for each miss: in a few words, which allocators keep at hand, where what the
/// compiler makes of an async function has the room for all that may become of it.
#[must_use = "futures do nothing unless they are awaited"]
pub(crate) struct Miss<'a, V> {
    tiers: &'a Tiers<V>,
    key: SmolStr,
    deadline: Option<Deadline<'a>>,
    state: State<'a, V>,
    operation: Operation,
    attempts: u8,
    /// It ends at a deadline of its own.
    is_timed: bool,
    /// It was gathered with others, and is woken as the time of all of them is over, which is not after its own.
    is_gathered: bool,
}

enum State<'a, V> {
    New,
    /// The key waits to be invalidated: that is tried first. Boxed, since it is seldom.
    Settling(Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>),
    Waiting(Waiter<V>),
}

impl<'a, V: Send + Sync + 'static> Miss<'a, V> {
    pub(crate) fn new(tiers: &'a Tiers<V>, key: SmolStr, operation: Operation) -> Self {
        let (deadline, state) = (None, State::New);
        Self { tiers, key, deadline, state, operation, attempts: 0, is_timed: true, is_gathered: false }
    }

    /// Leaves the deadline to the caller.
    pub(crate) fn untimed(mut self) -> Self {
        self.is_timed = false;
        self
    }

    fn go_on(&mut self, context: &mut Context<'_>) -> Poll<Result<Lookup<V>>> {
        loop {
            let started = match &mut self.state {
                State::New => self.begin(),
                State::Settling(settling) => match settling.as_mut().poll(context) {
                    Poll::Ready(Ok(())) => self.start(),
                    Poll::Ready(Err(error)) => Err(error),
                    Poll::Pending => return Poll::Pending,
                },
                State::Waiting(joiner) => match joiner.poll(context) {
                    Poll::Ready(Joined::Value(value)) => return Poll::Ready(Ok(Lookup::current(value, Tier::Remote))),
                    Poll::Ready(Joined::Failed(error)) => Err(error),
                    Poll::Ready(Joined::ElectAgain) => self.start(),
                    Poll::Pending => return Poll::Pending,
                },
            };
            if let Some(value) = started? {
                // Another read filled it since; how long ago is not known, but not before this call.
                return Poll::Ready(Ok(self.tiers.local_hit(value, Duration::ZERO)));
            }
        }
    }

    fn begin(&mut self) -> Result<Option<CachedValue<V>>> {
        let (tiers, operation) = (self.tiers, self.operation);
        tiers.remote.open(operation)?;
        if tiers.remote.invalidations.waiting(&self.key).is_none() {
            return self.start();
        }
        let key = self.key.clone();
        self.deadline = self.is_timed.then(|| tiers.remote.deadline(Instant::now()));
        self.state = State::Settling(Box::pin(async move { tiers.settle(operation, &key).await }));
        Ok(None)
    }

    /// Joins a read of the key or starts one, unless it is there by now.
    fn start(&mut self) -> Result<Option<CachedValue<V>>> {
        let Tiers { local, remote, .. } = self.tiers;
        if self.attempts == ATTEMPTS {
            return Err(self.tiers.abandoned(self.operation));
        }
        self.attempts += 1;
        let read = match &self.state {
            State::Waiting(in_vain) => local.read_again(&self.key, in_vain),
            _ => local.read(&self.key),
        };
        // A read under way from before the backend fell silent is not waited for either.
        if let Some(refused) = remote.refused_over(self.operation, Call::Read, || local.route(&self.key)) {
            return Err(refused);
        }
        let (joiner, began) = match read {
            Read::Hit(value) => return Ok(Some(value)),
            Read::Join(joiner) => (joiner, None),
            Read::Lead(ticket, joiner) | Read::Bypass(ticket, joiner) => {
                (joiner, Some(remote.start_read(self.operation, ticket)))
            }
        };
        self.state = State::Waiting(joiner);
        if self.is_timed && self.deadline.is_none() {
            self.is_gathered = matches!(began, Some(ReadStart::Gathered(_)));
            self.deadline = Some(remote.deadline(match began {
                Some(ReadStart::Alone(at) | ReadStart::Gathered(at)) => at,
                None => Instant::now(),
            }));
        }
        Ok(None)
    }

    #[cold]
    fn time_out(&self) -> Result<Lookup<V>> {
        let (remote, key) = (&self.tiers.remote, &self.key);
        remote.meter.timed_out(Call::Read);
        remote.breakers.timed_out(&Links::One(self.tiers.local.route(key)));
        Err(remote.timed_out(self.operation, true))
    }
}

impl<V: Send + Sync + 'static> Future for Miss<'_, V> {
    type Output = Result<Lookup<V>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let miss = &mut *self;
        let polled = miss.go_on(context);
        if polled.is_pending()
            && !mem::take(&mut miss.is_gathered)
            && let Some(deadline) = &mut miss.deadline
            && deadline.has_passed(context.waker())
        {
            return Poll::Ready(miss.time_out());
        }
        polled
    }
}

// What is pinned in it is boxed.
impl<V> Unpin for Miss<'_, V> {}
