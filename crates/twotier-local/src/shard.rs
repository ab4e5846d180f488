//! One shard: entries, reads and writes under way, and the rules between them.
//!
//! Pure and synchronous: no lock, no clock, no atomics, so that every step is a function of the state and its
//! arguments. The tier holds the lock around each call, passes the time and the epoch in, and acts on what is returned
//! (wakes joiners, drops values) after unlocking.

use std::{mem, time::Duration};

use smol_str::SmolStr;
use twotier_core::{Eviction, LinkId, LocalStats, Mark, RemovalCause, Timestamp};

use crate::{
    counters::ShardCounters,
    digest::Digest,
    entry::{CopyTraits, Entry, Moved, NewEntry, Origin},
    fates::{Fate, Fates, MissCause},
    hash::KeyHasher,
    link::{Links, Standing, is_up},
    loads::{LoadStart, Loads},
    options::Share,
    policy::{BarredReason, DeadReason, Entries, Looked, Piece, Plan, Removed, Verdict, Walk},
    register::{Register, TicketId},
    touches::Touches,
};

/// When a lookup happens. Lease and epoch are those of the link that an entry came over, read under the lock and after
/// the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LookupTime<'l> {
    pub(crate) now: Timestamp,
    pub(crate) links: &'l Links,
}

/// Decides about a copy that was found.
#[inline]
pub(crate) fn judge<T, R>(
    origin: Origin,
    entry: &Entry<T>,
    lookup: LookupTime<'_>,
    serve: impl FnOnce(&Entry<T>) -> R,
) -> Verdict<R> {
    let Standing { lease, epoch, shortest_life } = lookup.links.standing(entry.link());
    let is_expired = lookup.now >= origin.deadline(entry);
    // An entry's epoch is odd, so this is also the check that the link is up.
    if origin.epoch(entry) != epoch {
        if !is_expired && lookup.links.keeps(entry.link(), origin.epoch(entry)) {
            Verdict::Keep(BarredReason::LostLink)
        } else {
            Verdict::Remove(DeadReason::Outdated)
        }
    } else if is_expired {
        Verdict::Remove(DeadReason::Expired)
    } else if lookup.now >= lease {
        Verdict::Keep(BarredReason::Lease)
    } else {
        let age = lookup.now.as_nanos().saturating_sub(origin.fetched_at(entry).as_nanos());
        if age >= shortest_life && entry.is_past_soft_life(age, shortest_life) {
            Verdict::Keep(BarredReason::SoftLife)
        } else {
            Verdict::Serve(serve(entry))
        }
    }
}

/// A registered read. `F` is how its joiners are reached.
#[derive(Debug)]
struct InFlight<F> {
    id: u64,
    epoch: u64,
    /// When it was registered.
    at: Timestamp,
    flight: F,
    /// What the backend already gave somebody whose own read was refused: this read may be older than that, so it may
    /// only bring the same.
    bound: Option<Digest>,
}

/// Registered own writes of one key.
#[derive(Debug)]
struct Pending {
    /// How many have begun and not ended.
    pending: usize,
    /// The write that may install its value when it ends, if any may.
    live: Option<u64>,
    /// What the last one writes.
    digest: Digest,
}

/// Who asks for a read.
#[derive(Debug)]
pub(crate) struct FillRequest<'f, F> {
    /// How its joiners would be reached if it led.
    pub(crate) flight: &'f F,
    /// Reads with a greater id were registered after it began; `None` if it begins now.
    pub(crate) began: Option<u64>,
    /// For how long after its registration a read is joined.
    pub(crate) joinable: Duration,
    /// The epoch of the link that the key is read over. Read under the lock.
    pub(crate) epoch: u64,
}

/// What a read returns.
#[derive(Debug)]
pub(crate) enum FillStart<T, F> {
    Hit(T),
    Join {
        flight: F,
        /// The only bytes it may hand on.
        only: Option<Digest>,
        /// Reads with a greater id were registered after the request began.
        began: u64,
    },
    Lead {
        /// The ticket's.
        id: u64,
        /// As in `Join`.
        began: u64,
    },
    Bypass {
        began: u64,
    },
}

/// All that a shard let go.
#[derive(Debug)]
pub(crate) struct ClearedShard<T, F> {
    pub(crate) entries: Entries<T>,
    pub(crate) flights: Vec<F>,
}

/// What a hit touches comes first, next to the lock: the fewer cache lines a hit takes from another processor the
/// better.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Shard<T, F, L> {
    hits: u64,
    origin: Origin,
    entries: Entries<T>,
    counters: ShardCounters,
    flights: Register<InFlight<F>>,
    writes: Register<Pending>,
    loads: Loads<L>,
    touches: Touches,
    next_id: u64,
    /// Entries taken out and not dropped yet; see [`take_removed`](Self::take_removed).
    removed: Removed<T>,
    /// What became of entries that are not here any more.
    fates: Fates,
}

impl<T, F, L> Shard<T, F, L> {
    pub(crate) fn new(eviction: Eviction, share: Share, hasher: KeyHasher) -> Self {
        Self {
            hits: 0,
            fates: Fates::new(share.remembered, hasher.clone()),
            entries: Plan { eviction, share, hasher: hasher.clone() }.into(),
            origin: Origin::default(),
            flights: Register::new(hasher.clone()),
            writes: Register::new(hasher.clone()),
            touches: Touches::new(hasher.clone()),
            loads: Loads::new(hasher),
            next_id: 0,
            counters: ShardCounters::default(),
            removed: Removed::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.bytes()
    }

    pub(crate) fn counters(&self) -> &ShardCounters {
        &self.counters
    }

    /// Adds this shard's part to the statistics of the tier.
    pub(crate) fn add_to(&self, stats: &mut LocalStats) {
        stats.size += self.len();
        stats.bytes += self.bytes();
        stats.hits += self.hits;
        self.counters.add_to(stats);
    }

    /// Returns how often a key was asked for.
    pub(crate) fn requests(&self) -> u64 {
        self.hits + self.counters.misses.total()
    }

    /// Returns over which link the copy of a key came and what else is known of it, and touches nothing.
    pub(crate) fn copy_traits(&mut self, hash: u64, key: &str) -> Option<(LinkId, CopyTraits)> {
        let (origin, mut found) = (self.origin, None);
        let _none = self.entries.remove_if(hash, key, |entry| {
            let life = origin.deadline(entry).since(origin.fetched_at(entry));
            found = Some((entry.link(), CopyTraits { digest: entry.digest, life, weight: entry.weight() }));
            false
        });
        found
    }

    /// See [`Entries::look_at_keys`].
    pub(crate) fn look_at_keys(&mut self, walk: &mut Walk) -> Piece {
        self.entries.look_at_keys(walk)
    }

    /// Returns how many more bytes it may hold.
    pub(crate) fn unused(&self) -> usize {
        self.entries.unused()
    }

    /// Lets it hold so many bytes more.
    pub(crate) fn grant(&mut self, bytes: usize) {
        self.entries.grant(bytes);
    }

    /// Takes what it may hold beyond its entries and `kept` bytes.
    pub(crate) fn take_unused(&mut self, kept: usize) -> usize {
        self.entries.withdraw(self.unused().saturating_sub(kept))
    }

    /// Takes up to so many bytes for an entry that comes in: what is unused, else what entries weigh that go for it,
    /// see [`Entries::evict`]. Returns how many, and whether any entry went.
    pub(crate) fn withdraw(&mut self, enough: usize, floor: usize) -> (usize, bool) {
        let before = self.removed.len();
        let went = match enough.saturating_sub(self.unused()) {
            0 => 0,
            short => self.entries.evict(short, floor, &mut self.removed),
        };
        self.remember_evicted(before);
        self.counters.evicted_for_bytes += went;
        (self.entries.withdraw(enough.min(self.unused())), went > 0)
    }

    /// Takes what the steps since the last call let go, if anything, to be dropped after unlocking.
    pub(crate) fn take_removed(&mut self) -> Option<Removed<T>> {
        (!self.removed.is_empty()).then(|| mem::take(&mut self.removed))
    }

    /// Ends a read that brought nothing: error, drop, panic. Returns whether it was still registered.
    pub(crate) fn abandon_fill(&mut self, ticket: TicketId<'_>) -> bool {
        self.flights.remove_if(ticket.hash, ticket.key, |registered| registered.id == ticket.id).is_some()
    }

    /// Ends a read with an answer, and returns whether it is kept, and a load that died of it.
    ///
    /// `new` is `None` when the answer may not be kept: its life is over, or the backend does not know it.
    pub(crate) fn end_fill(
        &mut self,
        ticket: TicketId<'_>,
        epoch: u64,
        digest: Digest,
        new: Option<NewEntry<T>>,
    ) -> (bool, Option<L>) {
        let overtaken = self.loads.see(ticket.hash, ticket.key, digest);
        (self.keep_or_refuse(ticket, epoch, digest, new), overtaken)
    }

    fn keep_or_refuse(&mut self, ticket: TicketId<'_>, epoch: u64, digest: Digest, new: Option<NewEntry<T>>) -> bool {
        let registered = self.flights.remove_if(ticket.hash, ticket.key, |registered| registered.id == ticket.id);
        let write = self.writes.find(ticket.hash, ticket.key);
        let fits = registered.is_some_and(|flight| flight.bound.is_none_or(|bound| bound == digest));
        if fits && is_up(epoch) && epoch == ticket.epoch && write.is_none() {
            let latest = self.touches.deadline(ticket.hash, ticket.key);
            return self.put(ticket, new.map(|new| new.until(latest)));
        }
        // A refused answer may be newer than what is kept or about to be kept (race 4): serving that afterwards would
        // go back in time. Only equal bytes are certain not to.
        if let Some(write) = write
            && write.digest != digest
        {
            write.live = None;
        }
        self.refuse(new);
        self.remove_entry_if(ticket.hash, ticket.key, |entry| entry.digest != digest, RemovalCause::Superseded);
        // A read that began while the link was down was never meant to be kept.
        self.counters.refused_fills += u64::from(is_up(ticket.epoch));
        self.bind_flight(ticket, digest);
        false
    }

    /// Binds the registered read of a key to what a refused one brought: its command may have been executed earlier
    /// although it was registered later, and an older answer must not follow a newer one. Bound to two different
    /// answers it cannot bring either, and dies.
    ///
    /// Those who joined before are not bound: they had begun before the refused answer was returned to anybody.
    fn bind_flight(&mut self, ticket: TicketId<'_>, digest: Digest) {
        let _dead = self.flights.remove_if(ticket.hash, ticket.key, |registered| {
            let other = registered.bound.is_some_and(|bound| bound != digest);
            registered.bound = Some(digest);
            other
        });
    }

    /// Registers an own write: the entry goes at once, and no read from before may insert or be joined. Returns the
    /// ticket's id.
    pub(crate) fn begin_write(&mut self, hash: u64, key: &SmolStr, digest: Digest) -> u64 {
        let _dead = self.loads.kill(hash, key);
        self.register_write(hash, key, digest)
    }

    fn register_write(&mut self, hash: u64, key: &SmolStr, digest: Digest) -> u64 {
        let id = self.new_id();
        match self.writes.find(hash, key) {
            // Two writes at once: the order of their acknowledgements is not the order at the server, so neither may
            // install (race 7).
            Some(write) => *write = Pending { pending: write.pending + 1, live: None, digest },
            None => self.writes.put(hash, key, Pending { pending: 1, live: Some(id), digest }),
        }
        self.touches.kill(hash, key);
        self.remove_entry_if(hash, key, |_| true, RemovalCause::Superseded);
        self.kill_flight(hash, key);
        id
    }

    /// Registers a touch: the copy stays, for no longer than the touch allows. Returns the ticket's id.
    ///
    /// A read under way may have been answered before, with a longer life.
    pub(crate) fn begin_touch(&mut self, hash: u64, key: &SmolStr, epoch: u64, deadline: Timestamp) -> u64 {
        let id = self.new_id();
        self.touches.begin(TicketId { hash, key, id, epoch }, deadline);
        self.change_deadline(hash, key, |held| held.min(deadline), |_| true);
        self.kill_flight(hash, key);
        id
    }

    /// Ends a touch. `deadline` is until when the copy may live after one that succeeded.
    ///
    /// Reads that began during the touch may have been answered before it was executed.
    /// Returns whether nothing else had happened to the key.
    pub(crate) fn end_touch(&mut self, ticket: TicketId<'_>, epoch: u64, deadline: Option<Timestamp>) -> bool {
        let TicketId { hash, key, .. } = ticket;
        let live = self.touches.end(ticket);
        self.kill_flight(hash, key);
        if let Some(deadline) = deadline.filter(|_| live && is_up(epoch) && epoch == ticket.epoch) {
            self.change_deadline(hash, key, |held| held.max(deadline), |of| of == epoch);
        }
        live
    }

    /// Ends a touch that found nothing to touch: a value that is kept has gone from the backend.
    pub(crate) fn touch_missed(&mut self, ticket: TicketId<'_>) {
        if !self.end_touch(ticket, ticket.epoch, None) {
            return;
        }
        let is_value = |entry: &Entry<T>| entry.digest != Digest::ABSENT && entry.digest != Digest::LOADED_ABSENT;
        self.remove_entry_if(ticket.hash, ticket.key, is_value, RemovalCause::Expired);
    }

    /// Sets until when the copy of a key lives, if it is of such an epoch.
    fn change_deadline(
        &mut self,
        hash: u64,
        key: &str,
        deadline: impl FnOnce(Timestamp) -> Timestamp,
        of_epoch: impl FnOnce(u64) -> bool,
    ) {
        let origin = self.origin;
        // A removal that decides against it is the one look that the policy is not notified of.
        let _none = self.entries.remove_if(hash, key, |entry| {
            if of_epoch(origin.epoch(entry)) {
                origin.set_deadline(entry, deadline(origin.deadline(entry)));
            }
            false
        });
    }

    /// Ends an own write that installs nothing: error, drop, panic.
    pub(crate) fn abandon_write(&mut self, ticket: TicketId<'_>) {
        self.settle_write(ticket);
        self.loads.write_ended(ticket, false);
        self.remove_entry_if(ticket.hash, ticket.key, |_| true, RemovalCause::Superseded);
        // Reads that began during the write may have been answered before it was executed (race 3).
        self.kill_flight(ticket.hash, ticket.key);
    }

    /// Ends an own write that succeeded, and returns whether its value is kept.
    pub(crate) fn end_write(&mut self, ticket: TicketId<'_>, epoch: u64, new: Option<NewEntry<T>>) -> bool {
        let live = self.settle_write(ticket);
        let coherent = live && is_up(epoch) && epoch == ticket.epoch;
        self.kill_flight(ticket.hash, ticket.key);
        self.loads.write_ended(ticket, true);
        if coherent {
            return self.put(ticket, new);
        }
        self.counters.refused_writes += u64::from(new.is_some());
        self.refuse(new);
        self.put(ticket, None)
    }

    /// The backend reports a change.
    pub(crate) fn changed(&mut self, hash: u64, key: &str) {
        self.counters.invalidations += 1;
        // Joiners registered before the report still receive the leader's answer.
        let _dead = self.invalidate(hash, key);
    }

    /// Forgets a key: entry, read, load and right to install. Returns whether there was an entry, and a flight that is
    /// dead now.
    pub(crate) fn invalidate(&mut self, hash: u64, key: &str) -> (bool, Option<F>) {
        self.touches.kill(hash, key);
        self.forbid_install(hash, key);
        let _dead = self.loads.kill(hash, key);
        let held = self.remove_entry_if(hash, key, |_| true, RemovalCause::Invalidated);
        let dead = self.flights.remove_if(hash, key, |_| true).map(|registered| registered.flight);
        if dead.is_some() {
            // What the read would have brought is what the next one misses.
            self.fates.remember(hash, Fate::Invalidated);
        }
        (held, dead)
    }

    /// Returns how its entries are kept.
    pub(crate) fn plan(&self) -> Plan {
        self.entries.plan()
    }

    /// Forgets everything: entries, reads, loads and rights to install.
    ///
    /// `empty` takes the place of the entries: made beforehand, since it allocates.
    pub(crate) fn clear(&mut self, empty: Entries<T>) -> ClearedShard<T, F> {
        for write in self.writes.values_mut() {
            write.live = None;
        }
        self.loads.clear();
        self.touches.clear();
        let flights = self.flights.drain().map(|registered| registered.flight).collect();
        let entries = self.entries.replace(empty);
        self.fates.clear();
        self.counters.cleared += entries.len() as u64;
        ClearedShard { entries, flights }
    }

    /// Returns whether a load may still be joined and stored.
    pub(crate) fn is_load_live(&mut self, ticket: TicketId<'_>, epoch: u64) -> bool {
        self.loads.is_live(ticket, epoch)
    }

    /// A load received what the backend holds. Returns whether it is live, and the load if it died of it.
    pub(crate) fn load_saw(&mut self, ticket: TicketId<'_>, epoch: u64, digest: Digest) -> (bool, Option<L>) {
        if !self.loads.is_live(ticket, epoch) {
            return (false, None);
        }
        let overtaken = self.loads.see(ticket.hash, ticket.key, digest);
        (overtaken.is_none(), overtaken)
    }

    /// Registers the own write by which a load stores its value, and returns the ticket's id, or `None` when the value
    /// may be older than what is there.
    ///
    /// An own write under way may be executed before this one, which is newer than what was loaded: its end would kill
    /// the load, which therefore dies now.
    pub(crate) fn begin_store(&mut self, ticket: TicketId<'_>, epoch: u64, digest: Digest) -> Option<u64> {
        if !is_up(epoch) || !self.loads.is_live(ticket, epoch) {
            return None;
        }
        if self.writes.find(ticket.hash, ticket.key).is_some() {
            let _dead = self.loads.kill(ticket.hash, ticket.key);
            return None;
        }
        let write = self.register_write(ticket.hash, ticket.key, digest);
        self.loads.stores(ticket, write, digest);
        Some(write)
    }

    /// Keeps what a load brought although the backend did not answer, unless something newer may be known. Returns
    /// whether it is kept.
    pub(crate) fn keep_in_outage(&mut self, ticket: TicketId<'_>, epoch: u64, new: Option<NewEntry<T>>) -> bool {
        if self.loads.is_live(ticket, epoch) && self.writes.find(ticket.hash, ticket.key).is_none() {
            return self.put(ticket, new);
        }
        self.refuse(new);
        false
    }

    /// Ends a load; `loaded` is whether it brought a value.
    ///
    /// A value whose load is dead may be newer than what is kept or about to be kept, as a refused answer may be:
    /// serving that afterwards would go back in time. Returns whether that was so.
    pub(crate) fn end_load(&mut self, ticket: TicketId<'_>, epoch: u64, loaded: bool) -> bool {
        let gives_way = loaded && !self.loads.is_live(ticket, epoch);
        if gives_way {
            // One that began while the link was down was never meant to be stored.
            self.counters.refused_loads += u64::from(is_up(ticket.epoch));
            self.give_way(ticket);
        }
        self.loads.end(ticket);
        gives_way
    }

    /// Ends a load whose value is kept here and stored nowhere, and returns whether it was kept. What was kept or
    /// under way goes, as for an own write: it may be older.
    ///
    /// `None`, too, ends the load, whose value has no life of its own then. Returns in addition whether it gave way, as
    /// [`end_load`](Self::end_load) does.
    pub(crate) fn keep_load(&mut self, ticket: TicketId<'_>, epoch: u64, new: Option<NewEntry<T>>) -> (bool, bool) {
        let TicketId { hash, key, .. } = ticket;
        if self.writes.find(hash, key).is_some() {
            // It may be executed after the origin was asked.
            let _dead = self.loads.kill(hash, key);
        }
        if new.is_some() && is_up(epoch) && self.loads.is_live(ticket, epoch) {
            self.kill_flight(hash, key);
            self.loads.end(ticket);
            return (self.put(ticket, new), false);
        }
        self.refuse(new);
        (false, self.end_load(ticket, epoch, true))
    }

    /// Lets nothing of a key be served or kept that is there or under way. A newer load goes on, for it would else be
    /// followed by one that this one's end kills in turn; only those who join it from now on do without its value.
    fn give_way(&mut self, ticket: TicketId<'_>) {
        let TicketId { hash, key, .. } = ticket;
        self.forbid_install(hash, key);
        self.kill_flight(hash, key);
        self.loads.outrun(hash, key);
        self.remove_entry_if(hash, key, |_| true, RemovalCause::Superseded);
    }

    /// Takes the right to install from an own write under way.
    fn forbid_install(&mut self, hash: u64, key: &str) {
        if let Some(write) = self.writes.find(hash, key) {
            write.live = None;
        }
    }

    /// Ends the record of one write and returns whether it may install its value.
    fn settle_write(&mut self, ticket: TicketId<'_>) -> bool {
        let mut live = false;
        let _ended = self.writes.remove_if(ticket.hash, ticket.key, |write| {
            live = write.live == Some(ticket.id);
            write.pending -= 1;
            write.pending == 0
        });
        live
    }

    /// Puts a copy in, or only removes the older one when there is nothing to keep. Returns whether it was kept.
    fn put(&mut self, ticket: TicketId<'_>, new: Option<NewEntry<T>>) -> bool {
        let Some(new) = new else {
            self.remove_entry_if(ticket.hash, ticket.key, |_| true, RemovalCause::Superseded);
            return false;
        };
        if !new.fits {
            self.counters.oversized += 1;
            self.refuse(Some(new));
            self.remove_entry_if(ticket.hash, ticket.key, |_| true, RemovalCause::Superseded);
            self.fates.remember(ticket.hash, Fate::Oversized);
            return false;
        }
        match self.origin.make_fit(&new) {
            Moved::Nothing => {}
            Moved::Times(by) => self.entries.shift(by),
            Moved::Outdated => {
                let outdated = self.entries.replace(self.entries.plan().into());
                self.counters.outdated += outdated.len() as u64;
                self.removed.push_outdated(outdated);
            }
        }
        let before = self.removed.len();
        let done = self.entries.insert(ticket.hash, self.origin.pack(new), &mut self.removed);
        // An older value of the key went first.
        self.remember_evicted(before + usize::from(done.replaced));
        let counters = &mut self.counters;
        counters.insertions += 1;
        counters.superseded += u64::from(done.replaced);
        counters.evicted_for_entries += done.evicted_for_entries;
        counters.evicted_for_bytes += done.evicted_for_bytes;
        true
    }

    /// Keeps what is not to be kept until it can be dropped.
    fn refuse(&mut self, new: Option<NewEntry<T>>) {
        if let Some(new) = new {
            self.removed.push_refused(new.key, new.value);
        }
    }

    /// Removes the entry of a key if `wrong`, because the key changed, and counts that. Returns whether it was removed.
    fn remove_entry_if(
        &mut self,
        hash: u64,
        key: &str,
        wrong: impl FnOnce(&Entry<T>) -> bool,
        cause: RemovalCause,
    ) -> bool {
        let Some(entry) = self.entries.remove_if(hash, key, wrong) else { return false };
        self.removed.push(entry, cause);
        self.counters.removed(cause);
        self.fates.remember(hash, Fate::of(cause));
        true
    }

    /// Remembers that those were evicted that were removed after so many others.
    fn remember_evicted(&mut self, others: usize) {
        for key in self.removed.keys_after(others) {
            self.fates.remember_key(key, Fate::Evicted);
        }
    }

    /// Kills the registered read: its answer is not kept, and nobody joins it any more. Those who joined are
    /// given the answer when its leader, who still holds the flight, ends.
    fn kill_flight(&mut self, hash: u64, key: &str) {
        let _dead = self.flights.remove_if(hash, key, |_| true);
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl<T, F, L> Shard<T, F, L> {
    /// Looks a key up, and counts a hit or a miss. `serve` makes of the value, of when it was fetched and over which
    /// link, what is returned.
    #[inline]
    pub(crate) fn get<R>(
        &mut self,
        hash: u64,
        key: &str,
        lookup: LookupTime<'_>,
        serve: impl FnOnce(&T, Timestamp, LinkId) -> R,
    ) -> Option<R> {
        match self.look(hash, key, lookup, serve) {
            Looked::Hit(hit) => {
                self.hits += 1;
                Some(hit)
            }
            // No more is passed on than fits into registers: what a hit returns must not lie in memory for the sake of
            // a miss.
            Looked::Barred(why) => {
                self.miss(hash, Some(why), lookup.links);
                None
            }
            Looked::Miss | Looked::Dead(_) => {
                self.miss(hash, None, lookup.links);
                None
            }
        }
    }

    /// Counts a miss by its cause. Out of the way of hits.
    #[cold]
    #[inline(never)]
    fn miss(&mut self, hash: u64, barred: Option<BarredReason>, links: &Links) {
        let cause = match (barred, self.fates.of(hash)) {
            (Some(BarredReason::Lease), _) => MissCause::Lease,
            (Some(BarredReason::SoftLife), _) => MissCause::Gone(Fate::Expired),
            (Some(BarredReason::LostLink), _) => MissCause::Gone(Fate::Outdated),
            // Of an entry that was found dead it was remembered as it was removed.
            (None, Some(fate)) => MissCause::Gone(fate),
            (None, None) if links.is_any_up() => MissCause::Cold,
            (None, None) => MissCause::Lease,
        };
        cause.count(&mut self.counters.misses);
    }

    /// Looks a key up; an entry that can never be served again is removed. One that only lacks a lease stays: the next
    /// proof of life makes it valid again, since every change until then is reported first.
    #[inline]
    fn look<R>(
        &mut self,
        hash: u64,
        key: &str,
        lookup: LookupTime<'_>,
        serve: impl FnOnce(&T, Timestamp, LinkId) -> R,
    ) -> Looked<R> {
        let origin = self.origin;
        let looked = self.entries.look(hash, key, |entry| {
            judge(origin, entry, lookup, |entry| serve(&entry.value, origin.fetched_at(entry), entry.link()))
        });
        if let Looked::Dead(why) = looked {
            self.discard(hash, key, why);
        }
        looked
    }

    /// Returns until when the entry lives that would be served now, if any, and leaves everything as it is.
    pub(crate) fn served_until(&mut self, hash: u64, key: &str, lookup: LookupTime<'_>) -> Option<Timestamp> {
        let (origin, mut served) = (self.origin, None);
        let _none = self.entries.remove_if(hash, key, |entry| {
            if let Verdict::Serve(deadline) = judge(origin, entry, lookup, |entry| origin.deadline(entry)) {
                served = Some(deadline);
            }
            false
        });
        served
    }

    /// Returns digest and mark of the entry that would be served now, if any, and leaves everything as it is.
    pub(crate) fn served(&mut self, hash: u64, key: &str, lookup: LookupTime<'_>) -> Option<(Digest, Mark)> {
        let (origin, mut served) = (self.origin, None);
        // A removal that decides against it is the one look that the policy is not notified of.
        let _none = self.entries.remove_if(hash, key, |entry| {
            let name = |entry: &Entry<T>| {
                (entry.digest, Mark::new(entry.link(), origin.epoch(entry), origin.fetched_at(entry)))
            };
            if let Verdict::Serve(copy) = judge(origin, entry, lookup, name) {
                served = Some(copy);
            }
            false
        });
        served
    }

    /// Shows the copy of a key that came over this link and is within its life, though it may be past its soft life,
    /// without a lease, or of an epoch that ended with the link: the value, and as of when it is known to have been
    /// current. Counts what is taken of it, and leaves everything as it is.
    pub(crate) fn stale<R>(
        &mut self,
        (hash, key): (u64, &str),
        lookup: LookupTime<'_>,
        link: LinkId,
        take: impl FnOnce(&T, Timestamp) -> Option<R>,
    ) -> Option<R> {
        let (origin, mut taken) = (self.origin, None);
        let _none = self.entries.remove_if(hash, key, |entry| {
            if entry.link() == link
                && lookup.now < origin.deadline(entry)
                && let Some(proven) = lookup.links.proven(link, origin.epoch(entry))
            {
                taken = take(&entry.value, proven.max(origin.fetched_at(entry)));
            }
            false
        });
        self.counters.stale += u64::from(taken.is_some());
        taken
    }

    /// Returns whether the copy of a key is of an epoch that ended with its link, though that is up again.
    pub(crate) fn is_lost(&mut self, hash: u64, key: &str, lookup: LookupTime<'_>) -> bool {
        let (origin, mut lost) = (self.origin, false);
        let _none = self.entries.remove_if(hash, key, |entry| {
            let (link, epoch) = (entry.link(), lookup.links.epoch(entry.link()));
            lost = origin.epoch(entry) != epoch
                && is_up(epoch)
                && lookup.now < origin.deadline(entry)
                && lookup.links.keeps(link, origin.epoch(entry));
            false
        });
        lost
    }

    /// Removes an entry that can never be served again. Looked up once more, and out of the way of hits: what it moves
    /// about would cost them room on the stack.
    #[cold]
    #[inline(never)]
    fn discard(&mut self, hash: u64, key: &str, why: DeadReason) {
        let cause = match why {
            DeadReason::Expired => RemovalCause::Expired,
            DeadReason::Outdated => RemovalCause::Outdated,
        };
        self.remove_entry_if(hash, key, |_| true, cause);
    }
}

impl<T: Clone, F: Clone, L> Shard<T, F, L> {
    /// Looks a key up, and on a miss joins or registers a read.
    pub(crate) fn begin_fill(
        &mut self,
        hash: u64,
        key: &SmolStr,
        lookup: LookupTime<'_>,
        request: &FillRequest<'_, F>,
    ) -> FillStart<T, F> {
        if let Looked::Hit(value) = self.look(hash, key, lookup, |value, _, _| value.clone()) {
            return FillStart::Hit(value);
        }
        let (now, epoch) = (lookup.now, request.epoch);
        let began = request.began.unwrap_or(self.next_id);
        if !is_up(epoch) {
            return FillStart::Bypass { began };
        }
        if let Some(registered) = self.flights.find(hash, key)
            // One that takes longer than copies may be stale would make whoever joins it staler than that.
            && registered.epoch == epoch
            && now.since(registered.at) < request.joinable
        {
            // What bound the read may have been returned before this one began, unless the read itself was registered
            // since.
            let only = registered.bound.filter(|_| registered.id <= began);
            return FillStart::Join { flight: registered.flight.clone(), only, began };
        }
        let id = self.new_id();
        let new = InFlight { id, epoch, at: now, flight: request.flight.clone(), bound: None };
        self.flights.put(hash, key, new);
        FillStart::Lead { id, began }
    }
}

impl<T, F, L: Clone> Shard<T, F, L> {
    /// Joins the load of a key, or registers a new one. Returns the id that was used for it.
    pub(crate) fn begin_load(
        &mut self,
        hash: u64,
        key: &SmolStr,
        epoch: u64,
        load: &L,
        waited: Option<u64>,
    ) -> (u64, LoadStart<L>) {
        let id = self.new_id();
        (id, self.loads.begin(TicketId { hash, key, id, epoch }, load, waited))
    }
}
