//! Touches: changes of a key's life in the backend that leave its value, and so its copy, as it is.

use std::{fmt, mem, sync::Arc, time::Duration};

use smol_str::SmolStr;
use twotier_core::{LinkId, Mark, Timestamp};

use crate::{shard::LookupTime, ticket::TicketState, tier::LocalTier};

impl<T, E> LocalTier<T, E>
where
    T: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// Registers a touch before its command is sent, in the order in which touches and own writes of the key are:
    /// the value lives for `life` from then on. The copy goes on being served, for no longer than that from now on.
    ///
    /// A read under way is not kept, and one that begins meanwhile for no longer than the touch allows: it may bring
    /// the life from before.
    pub fn begin_touch(&self, key: &str, life: Duration) -> TouchTicket<T, E> {
        self.inner().routed(key, |link| self.begin_touch_over(link, key, life))
    }

    fn begin_touch_over(&self, link: LinkId, key: &str, life: Duration) -> TouchTicket<T, E> {
        let inner = self.inner();
        let hash = inner.hash(key);
        let key = SmolStr::new(key);
        let at = inner.clock.now();
        // From before the command is sent, and by the lag of the clock shorter: the copy never outlives the value.
        let deadline = at.saturating_add(life).saturating_sub(inner.clock.resolution());
        let mut shard = inner.shard(hash);
        let epoch = inner.links.epoch(link);
        let id = shard.begin_touch(hash, &key, epoch, deadline);
        drop(shard);
        let state = TicketState::new(Arc::clone(inner), hash, key, id, Mark::new(link, epoch, at));
        TouchTicket { state, deadline }
    }

    /// Returns for how long the copy of a key would be served from now on if nothing happened to it, and `None` where
    /// none would be. Counts nothing, and leaves everything as it is.
    #[must_use]
    pub fn remaining(&self, key: &str) -> Option<Duration> {
        let inner = &**self.inner();
        let hash = inner.hash(key);
        let now = inner.clock.now();
        let lookup = LookupTime { now, links: &inner.links };
        let deadline = inner.shard(hash).served_until(hash, key, lookup)?;
        Some(deadline.since(now))
    }
}

/// A touch under way, and the right to have the copy live on.
///
/// Taken by [`LocalTier::begin_touch`] *before* the command is sent. Any news about the key, and any own write or later
/// touch of it, takes the right away. Dropping the ticket ends the touch without, as an error must; keep it until the
/// command can no longer be executed or its outcome is known.
#[must_use = "dropping the ticket ends the touch: keep it until the reply is there"]
pub struct TouchTicket<T, E> {
    state: TicketState<T, E>,
    deadline: Timestamp,
}

impl<T, E> TouchTicket<T, E> {
    /// Ends a touch that succeeded, and has the copy live on if there is one and nothing has happened to the key.
    pub fn extend(mut self) {
        self.end(Some(self.deadline));
    }

    /// Ends a touch that succeeded, of which the copy is to make no use.
    pub fn keep_life(mut self) {
        self.end(None);
    }

    /// Ends a touch that found no value: a copy of one is outdated.
    pub fn missing(mut self) {
        self.state.ended = true;
        let tier = &self.state.tier;
        let mut shard = tier.shard(self.state.hash);
        shard.touch_missed(self.state.id());
        let removed = tier.unlock(shard);
        tier.advise_removed(self.state.hash);
        drop(removed);
    }

    fn end(&mut self, deadline: Option<Timestamp>) {
        if mem::replace(&mut self.state.ended, true) {
            return;
        }
        let tier = &self.state.tier;
        let mut shard = tier.shard(self.state.hash);
        let epoch = tier.links.keeping_epoch(self.state.mark.link);
        let _live = shard.end_touch(self.state.id(), epoch, deadline);
    }
}

impl<T, E> Drop for TouchTicket<T, E> {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl<T, E> fmt::Debug for TouchTicket<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TouchTicket").field("mark", &self.state.mark).finish_non_exhaustive()
    }
}
