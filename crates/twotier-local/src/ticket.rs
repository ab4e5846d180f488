//! Tickets: the only ways in.

use std::{fmt, mem, sync::Arc, task::Waker, time::Duration};

use smol_str::SmolStr;
use twotier_core::{Mark, Timestamp};

use crate::{
    digest::Digest,
    entry::{CopyTraits, NewEntry},
    flight::{Arrival, Flight, Outcome},
    inner::Inner,
    register::TicketId,
};

/// What every kind of ticket carries.
pub(crate) struct TicketState<T, E> {
    pub(crate) tier: Arc<Inner<T, E>>,
    pub(crate) hash: u64,
    pub(crate) key: SmolStr,
    id: u64,
    pub(crate) mark: Mark,
    /// Whether the tier was notified of the end; dropping the ticket before that abandons it.
    pub(crate) ended: bool,
}

impl<T, E> TicketState<T, E> {
    pub(crate) fn new(tier: Arc<Inner<T, E>>, hash: u64, key: SmolStr, id: u64, mark: Mark) -> Self {
        Self { tier, hash, key, id, mark, ended: false }
    }

    /// Whether the ticket is registered nowhere. Identifiers of registered ones begin at 1.
    fn is_bypass(&self) -> bool {
        self.id == 0
    }

    pub(crate) fn id(&self) -> TicketId<'_> {
        TicketId { hash: self.hash, key: &self.key, id: self.id, epoch: self.mark.epoch }
    }

    /// Makes the entry, or `None` when its life is over or unknown, or when the tier keeps nothing.
    pub(crate) fn entry(
        &self,
        value: T,
        digest: Digest,
        value_bytes: usize,
        life: Option<Duration>,
    ) -> Option<NewEntry<T>> {
        let longest = if digest.is_absence() { self.tier.links.longest_absence(self.mark.link) } else { Duration::MAX };
        let deadline = self.deadline(life.map(|life| life.min(longest)))?;
        let weight = self.tier.weight(&self.key, value_bytes);
        Some(NewEntry {
            // A short key is copied into the entry, a long one shared with this ticket: neither allocates.
            key: self.key.clone(),
            value,
            digest,
            mark: self.mark,
            deadline,
            weight,
            fits: weight <= self.tier.heaviest,
        })
    }

    /// Makes an entry whose life begins now, since nothing in the backend bounds it.
    pub(crate) fn lasting_entry(
        &self,
        value: T,
        digest: Digest,
        value_bytes: usize,
        life: Option<Duration>,
    ) -> Option<NewEntry<T>> {
        let passed = self.tier.clock.now().since(self.mark.at);
        self.entry(value, digest, value_bytes, life.map(|life| life.saturating_add(passed)))
    }

    fn deadline(&self, life: Option<Duration>) -> Option<Timestamp> {
        // From before the command was sent, and by the lag of the clock shorter: the copy never outlives the value.
        let deadline = self.mark.at.saturating_add(life?).saturating_sub(self.tier.clock.resolution());
        (!self.tier.keeps_nothing && deadline > self.tier.clock.now()).then_some(deadline)
    }
}

/// The right to put in what a read of the backend brings, and the duty to report how it ended.
///
/// Taken by [`LocalTier::read`](crate::LocalTier::read) *before* the command is sent, and travels with the request. Any
/// news about the key takes the right away. Dropping the ticket abandons the read: those who joined elect another
/// leader.
#[must_use = "dropping the ticket abandons the read, and whoever joined it has to start again"]
pub struct FillTicket<T, E> {
    state: TicketState<T, E>,
    flight: Arc<Flight<T, E>>,
}

impl<T, E> FillTicket<T, E> {
    pub(crate) fn new(
        tier: Arc<Inner<T, E>>,
        hash: u64,
        key: SmolStr,
        id: u64,
        mark: Mark,
        flight: Arc<Flight<T, E>>,
    ) -> Self {
        Self { state: TicketState::new(tier, hash, key, id, mark), flight }
    }

    /// Returns link, epoch and time at which the read was registered: the mark for
    /// [`proof_of_life`](twotier_core::ChangeListener::proof_of_life) when the reply comes.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.state.mark
    }

    /// Returns the key that is read.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.state.key
    }

    /// Returns whether anybody still waits for the read.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.flight.is_awaited()
    }

    /// Waits until nobody waits for the read, so that one that was not sent yet need not be. The future may be dropped
    /// at any time.
    pub fn deserted(&self) -> impl Future<Output = ()> + use<T, E> {
        let flight = Arc::clone(&self.flight);
        async move { flight.deserted().await }
    }

    /// Takes those who wait for the read, to be woken without an answer: each is polled once more, and goes on waiting.
    pub fn waiting(&self) -> impl Iterator<Item = Waker> + use<T, E> {
        self.flight.waiting()
    }
}

impl<T: Clone, E> FillTicket<T, E> {
    /// Ends the read with an answer, and returns whether it is kept.
    ///
    /// `digest` is that of the encoded bytes, or [`Digest::ABSENT`] for a key that is not there; `value_bytes` is what
    /// the value weighs; `life` is how long a copy may live from the moment the command was sent, `None` when it may
    /// not be kept at all.
    ///
    /// The caller may use the value in any case: it is what the backend returned. So may those who joined before the
    /// key changed. An older value of the key is gone afterwards unless its bytes are the same.
    pub fn fill(mut self, value: T, digest: Digest, value_bytes: usize, life: Option<Duration>) -> bool {
        let shared = value.clone();
        let mut new = self.state.entry(value, digest, value_bytes, life);
        let state = &mut self.state;
        let mut shard = state.tier.shard_for(state.hash, &mut new);
        let epoch = state.tier.links.keeping_epoch(state.mark.link);
        let traits = new.as_ref().map(CopyTraits::of);
        let (kept, overtaken) = shard.end_fill(state.id(), epoch, digest, new);
        state.ended = true;
        let removed = state.tier.unlock(shard);
        if let Some(advisor) = &state.tier.advisor {
            match traits.filter(|_| kept) {
                Some(traits) => advisor.kept(state.hash, state.mark, traits),
                None => advisor.differs(state.hash, digest),
            }
        }
        // Before whoever leads that load is given this answer.
        if let Some(load) = overtaken {
            load.overtaken();
        }
        // Joiners first: a value's destructor may panic, and they must be notified all the same.
        self.flight.settle(Outcome::Answered(shared, digest));
        drop(removed);
        kept
    }

    /// Ends the read with an error, which everybody who joined is given too, unless the key changed meanwhile: then
    /// they look again, since a newer read may fare better.
    pub fn fail(mut self, error: E) {
        // One that was registered nowhere, because the link is down, cannot have been overtaken by a newer one.
        let bypass = self.state.is_bypass();
        self.abandon(|registered| if registered || bypass { Outcome::Failed(error) } else { Outcome::Abandoned });
    }
}

impl<T, E> FillTicket<T, E>
where
    T: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Hands the ticket to whoever waits for the read: the raw answer is there, and `finish` makes of it what the
    /// ticket is filled with; see [`arrive`](Self::arrive).
    pub fn arrived(self, finish: impl FnOnce(Self) + Send + 'static) {
        let flight = Arc::clone(&self.flight);
        flight.arrived(Box::new(move || finish(self)));
    }

    /// Hands what holds a ticket of this read, and its raw answer, to whoever waits for the read.
    ///
    /// The first [`Joiner`](crate::Joiner) that is polled finishes it, on its own stack and outside every lock. It is
    /// dropped, and the read abandoned, when nobody waits by now or when the last one who does goes away.
    ///
    /// Runs no user code itself, so that a connection's reader may call it.
    pub fn arrive<A: Arrival + 'static>(arrival: Box<A>, ticket: impl FnOnce(&A) -> &Self) {
        let flight = Arc::clone(&ticket(&arrival).flight);
        flight.arrived(arrival);
    }
}

impl<T, E> FillTicket<T, E> {
    fn abandon(&mut self, outcome: impl FnOnce(bool) -> Outcome<T, E>) {
        if mem::replace(&mut self.state.ended, true) {
            return;
        }
        let mut shard = self.state.tier.shard(self.state.hash);
        // What the shard let go stays there: a ticket may be dropped in a connection's reader, which runs no
        // destructors of the user's.
        let registered = shard.abandon_fill(self.state.id());
        drop(shard);
        self.flight.settle(outcome(registered));
    }
}

impl<T, E> Drop for FillTicket<T, E> {
    fn drop(&mut self) {
        self.abandon(|_registered| Outcome::Abandoned);
    }
}

impl<T, E> fmt::Debug for FillTicket<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FillTicket").field("mark", &self.state.mark).finish_non_exhaustive()
    }
}

/// An own write under way, and the right to put its value in when it has succeeded.
///
/// Taken by [`LocalTier::begin_write`](crate::LocalTier::begin_write) *before* the command is sent. Any news about the
/// key, and any other own write of it, takes the right away. Dropping the ticket ends the write without a value, as an
/// error, a timeout, a cancelled task and a panic must; keep it until the command can no longer be executed or its
/// outcome is known.
#[must_use = "dropping the ticket ends the write: keep it until the reply is there"]
pub struct WriteTicket<T, E> {
    state: TicketState<T, E>,
    digest: Digest,
}

impl<T, E> WriteTicket<T, E> {
    pub(crate) fn new(tier: Arc<Inner<T, E>>, hash: u64, key: SmolStr, id: u64, mark: Mark, digest: Digest) -> Self {
        Self { state: TicketState::new(tier, hash, key, id, mark), digest }
    }

    /// Returns link, epoch and time at which the write was registered: the mark for
    /// [`proof_of_life`](twotier_core::ChangeListener::proof_of_life) when the reply comes.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.state.mark
    }

    /// Says what was written, where that is known from the reply only.
    #[must_use = "dropping the ticket ends the write"]
    pub fn wrote(mut self, digest: Digest) -> Self {
        self.digest = digest;
        self
    }

    /// Ends a write that succeeded, and returns whether its value is kept.
    ///
    /// `value_bytes` and `life` are as in [`FillTicket::fill`]. The key is left empty when the value is not kept.
    pub fn install(mut self, value: T, value_bytes: usize, life: Option<Duration>) -> bool {
        let mut new = self.state.entry(value, self.digest, value_bytes, life);
        let state = &mut self.state;
        let mut shard = state.tier.shard_for(state.hash, &mut new);
        let epoch = state.tier.links.keeping_epoch(state.mark.link);
        let traits = new.as_ref().map(CopyTraits::of);
        let kept = shard.end_write(state.id(), epoch, new);
        state.ended = true;
        let removed = state.tier.unlock(shard);
        if let Some(advisor) = &state.tier.advisor {
            match traits.filter(|_| kept) {
                Some(traits) => advisor.written(state.hash, state.mark, traits),
                None => advisor.removed(state.hash),
            }
        }
        drop(removed);
        kept
    }
}

impl<T, E> Drop for WriteTicket<T, E> {
    fn drop(&mut self) {
        if mem::replace(&mut self.state.ended, true) {
            return;
        }
        let mut shard = self.state.tier.shard(self.state.hash);
        shard.abandon_write(self.state.id());
        let removed = self.state.tier.unlock(shard);
        self.state.tier.advise_removed(self.state.hash);
        drop(removed);
    }
}

impl<T, E> fmt::Debug for WriteTicket<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteTicket").field("mark", &self.state.mark).finish_non_exhaustive()
    }
}
