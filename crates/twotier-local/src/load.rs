//! Loads: values that come from the origin, one load for each key at a time.

use std::{fmt, mem, sync::Arc, time::Duration};

use smol_str::SmolStr;
use twotier_core::{LinkId, Mark};

use crate::{
    completion::LoadState,
    digest::Digest,
    entry::{CopyTraits, NewEntry},
    link::OUTAGE,
    loads::LoadStart,
    sync::Ordering,
    ticket::{TicketState, WriteTicket},
    tier::LocalTier,
};

/// Who runs the loader of a key.
#[derive(Debug)]
#[must_use = "a ticket that is dropped abandons the load"]
pub enum Load<T, E> {
    /// The caller.
    Lead(LoadTicket<T, E>),
    /// Somebody else: wait for them.
    Join(LoadJoiner<T, E>),
}

impl<T, E> LocalTier<T, E>
where
    T: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// Takes part in the load of a key: joins the one under way, or leads one. Touches neither entries nor counters.
    ///
    /// The leader calls this *before* it reads the backend, and runs its loader when the key is not there. Of all who
    /// call this for one key one leads, also while the link is down. A load that may have been overtaken is not joined:
    /// it is killed by a reported change, a flush, a lost or returned link, an own write of the key as it begins and as
    /// it ends, [`invalidate`](Self::invalidate), [`clear`](Self::clear), and by a read of the backend that brought
    /// something else than the first one since the load began. Those who joined before are given its value all the
    /// same, unless it may be older than an answer from before they joined.
    pub fn load(&self, key: &str) -> Load<T, E> {
        self.join_or_load(key, None)
    }

    /// Does what [`load`](Self::load) does, for somebody who has waited for a load long enough: that load is killed if
    /// it is still under way, and the caller leads the next one. A newer load is joined.
    pub fn load_again(&self, key: &str, waited: &LoadJoiner<T, E>) -> Load<T, E> {
        self.join_or_load(key, Some(waited.id))
    }

    fn join_or_load(&self, key: &str, waited: Option<u64>) -> Load<T, E> {
        self.inner().routed(key, |link| self.join_or_load_over(link, key, waited))
    }

    fn join_or_load_over(&self, link: LinkId, key: &str, waited: Option<u64>) -> Load<T, E> {
        let inner = self.inner();
        let hash = inner.hash(key);
        let state = Arc::new(LoadState::new());
        let key = SmolStr::new(key);
        let at = inner.clock.now();
        let mut shard = inner.shard(hash);
        let epoch = inner.links.epoch(link);
        let (id, start) = shard.begin_load(hash, &key, epoch, &state, waited);
        drop(shard);
        match start {
            LoadStart::Lead => {
                let ticket = TicketState::new(Arc::clone(inner), hash, key, id, Mark::new(link, epoch, at));
                Load::Lead(LoadTicket { state: ticket, load: state })
            }
            LoadStart::Join { load: state, id, outrun, informed } => {
                Load::Join(LoadJoiner { state, id, outrun, informed })
            }
        }
    }
}

/// The right to store what a loader brings, and the duty to report how the load ended.
///
/// Taken by [`LocalTier::load`] *before* the backend is read. Any news about the key takes the right away. Dropping the
/// ticket abandons the load: those who joined elect another leader.
#[must_use = "dropping the ticket abandons the load, and whoever joined it has to start again"]
pub struct LoadTicket<T, E> {
    state: TicketState<T, E>,
    load: Arc<LoadState<T, E>>,
}

impl<T, E> LoadTicket<T, E> {
    /// Returns whether the load may still be joined and stored. What is returned may be outdated at once:
    /// [`begin_store`](Self::begin_store) decides.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let tier = &self.state.tier;
        let mut shard = tier.shard(self.state.hash);
        let epoch = tier.links.epoch(self.state.mark.link);
        shard.is_load_live(self.state.id(), epoch)
    }

    /// Records what the backend holds, [`Digest::ABSENT`] for a key that is not there, and returns whether the load is
    /// live. Another answer than before kills it.
    ///
    /// Only for a read that does not end a [`FillTicket`](crate::FillTicket), which does the same.
    pub fn saw(&self, digest: Digest) -> bool {
        let tier = &self.state.tier;
        let mut shard = tier.shard(self.state.hash);
        let epoch = tier.links.epoch(self.state.mark.link);
        let (live, overtaken) = shard.load_saw(self.state.id(), epoch, digest);
        drop(shard);
        if let Some(load) = overtaken {
            load.overtaken();
        }
        live
    }

    /// Registers the own write that stores the loaded value, before its command is sent, or returns `None` when it must
    /// not be sent: the load is dead, the link is down, or an own write of the key is under way.
    ///
    /// `digest` is that of the bytes to be written. The write is to be conditional on what the load saw, and as with
    /// any own write its command is to be queued before that of every own write of the key that is registered later: a
    /// deletion that overtook it would be undone. It is an own write as any other is, but that it leaves this load
    /// alive, however it ends.
    #[must_use = "dropping the ticket ends the write: keep it until the reply is there"]
    pub fn begin_store(&self, digest: Digest) -> Option<WriteTicket<T, E>> {
        let TicketState { tier, hash, key, mark, .. } = &self.state;
        // The route is not asked once more: an epoch in which the load is live is that of the link its key lies behind.
        let link = mark.link;
        let at = tier.clock.now();
        let mut shard = tier.shard(*hash);
        let epoch = tier.links.keeping_epoch(link);
        let id = shard.begin_store(self.state.id(), epoch, digest);
        let removed = tier.unlock(shard);
        if id.is_some() {
            tier.advise_removed(*hash);
        }
        let ticket =
            id.map(|id| WriteTicket::new(Arc::clone(tier), *hash, key.clone(), id, Mark::new(link, epoch, at), digest));
        drop(removed);
        ticket
    }

    /// Keeps what was loaded although the backend did not answer, for so long from before the load began, and returns
    /// whether it did: not when anything is known of the key that may be newer.
    ///
    /// The copy ends by all that ends a copy of the key: a report, an own write, [`invalidate`](LocalTier::invalidate),
    /// a flush, [`clear`](LocalTier::clear), and also when a link comes up or [`LocalTier::end_outage`] is called. That
    /// its link is down does not end it. `digest` and `value_bytes` are as in
    /// [`FillTicket::fill`](crate::FillTicket::fill).
    pub fn keep_in_outage(&self, value: T, digest: Digest, value_bytes: usize, life: Duration) -> bool {
        let TicketState { tier, hash, mark, .. } = &self.state;
        let outage = Mark::new(OUTAGE, tier.links.outage_epoch(), mark.at);
        let entry = self.state.entry(value, digest, value_bytes, Some(life));
        let mut new = entry.map(|entry| NewEntry { mark: outage, ..entry });
        let mut shard = tier.shard_for(*hash, &mut new);
        if tier.links.keeping_epoch(OUTAGE) != outage.epoch {
            new = None;
        }
        let epoch = tier.links.epoch(mark.link);
        let traits = new.as_ref().map(CopyTraits::of);
        let kept = shard.keep_in_outage(self.state.id(), epoch, new);
        let removed = tier.unlock(shard);
        if let (Some(advisor), Some(traits)) = (&tier.advisor, traits.filter(|_| kept)) {
            advisor.kept(*hash, outage, traits);
        }
        drop(removed);
        kept
    }

    /// Removes the copy that may be older than what was loaded, where that is neither stored nor kept. To be called
    /// before the value is handed to anybody.
    pub fn supersede(&self) {
        let TicketState { tier, hash, mark, .. } = &self.state;
        let mut shard = tier.shard(*hash);
        let _kept = shard.keep_in_outage(self.state.id(), tier.links.epoch(mark.link), None);
        let removed = tier.unlock(shard);
        tier.advise_removed(*hash);
        drop(removed);
    }

    /// Ends the load, and hands its outcome to everybody who joined, whether or not the load is live.
    ///
    /// To be called before the leader returns the value. One whose load died meanwhile is counted as
    /// [refused](crate::CoherenceCounters::refused_loads), and may be newer than what is kept: the entry goes, and so
    /// do the rights of reads and writes under way to be kept.
    pub fn finish(mut self, outcome: Result<T, E>) {
        self.end(Some(outcome));
    }

    /// Ends the load with a value that is stored nowhere, keeps that locally, and returns whether it is kept: while the
    /// load is live, the link is up, and no own write of the key is under way. Whoever joined is given it in any case.
    ///
    /// Only for a load that knows what the backend holds, and that this is no newer value. `digest` stands for the
    /// value, [`Digest::LOADED_ABSENT`] for none; `value_bytes` is what it weighs. It lives for `life` from now on, for
    /// nothing in the backend bounds it, and as any copy no longer than the key goes unreported.
    pub fn keep(mut self, value: T, digest: Digest, value_bytes: usize, life: Option<Duration>) -> bool
    where
        T: Clone,
    {
        let state = &mut self.state;
        state.ended = true;
        let mut new = state.lasting_entry(value.clone(), digest, value_bytes, life);
        let mut shard = state.tier.shard_for(state.hash, &mut new);
        let epoch = state.tier.links.keeping_epoch(state.mark.link);
        let traits = new.as_ref().map(CopyTraits::of);
        let (kept, gave_way) = shard.keep_load(state.id(), epoch, new);
        let removed = state.tier.unlock(shard);
        if let Some(advisor) = &state.tier.advisor {
            match traits.filter(|_| kept) {
                Some(traits) => advisor.written(state.hash, state.mark, traits),
                None if gave_way => advisor.removed(state.hash),
                None => {}
            }
        }
        self.load.outcome.complete(Some(Ok(value)));
        drop(removed);
        kept
    }

    fn end(&mut self, outcome: Option<Result<T, E>>) {
        if mem::replace(&mut self.state.ended, true) {
            return;
        }
        let tier = &self.state.tier;
        let mut shard = tier.shard(self.state.hash);
        let epoch = tier.links.epoch(self.state.mark.link);
        let gave_way = shard.end_load(self.state.id(), epoch, matches!(outcome, Some(Ok(_))));
        let removed = tier.unlock(shard);
        if gave_way {
            tier.advise_removed(self.state.hash);
        }
        self.load.outcome.complete(outcome);
        drop(removed);
    }
}

impl<T, E> Drop for LoadTicket<T, E> {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl<T, E> fmt::Debug for LoadTicket<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadTicket").field("mark", &self.state.mark).finish_non_exhaustive()
    }
}

/// Waits for somebody else's load of the same key.
#[must_use = "the value is lost if nobody waits for it"]
pub struct LoadJoiner<T, E> {
    state: Arc<LoadState<T, E>>,
    id: u64,
    /// Whether the value may be older than what was returned before this one joined.
    outrun: bool,
    /// Whether what the load saw first was returned before this one joined.
    informed: bool,
}

impl<T: Clone, E: Clone> LoadJoiner<T, E> {
    /// Waits until the load has ended, in whatever way. The future may be dropped at any time, and another wait
    /// started.
    ///
    /// Nothing here bounds the wait: whoever loses patience calls [`LocalTier::load_again`].
    pub async fn wait(&self) -> Loaded<T, E> {
        let outcome = self.state.outcome.wait().await;
        let older = self.outrun || self.informed && self.state.overtaken.load(Ordering::Relaxed);
        match outcome {
            Some(Ok(_)) if older => Loaded::ElectAgain,
            Some(Ok(value)) => Loaded::Value(value.clone()),
            Some(Err(error)) => Loaded::Failed(error.clone()),
            None => Loaded::ElectAgain,
        }
    }
}

impl<T, E> fmt::Debug for LoadJoiner<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadJoiner").field("ended", &self.state.outcome.is_complete()).finish_non_exhaustive()
    }
}

/// How somebody else's load ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded<T, E> {
    /// With this value.
    Value(T),
    /// With this error.
    Failed(E),
    /// Without a value that may be handed on: its leader went away, or the value may be older than what was known
    /// before this one joined. Call [`LocalTier::load`] again.
    ElectAgain,
}
