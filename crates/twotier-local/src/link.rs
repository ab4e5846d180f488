//! The state of the links to the backend: the epoch of each, and until when its word is good.

use std::time::Duration;

use twotier_core::{Lease, LinkId, Mark, Timestamp};

use crate::{
    entry::{LINK_BITS, WINDOW},
    lost::{Lost, LostEpochs},
    sync::{AtomicU64, Mutex, OnceLock, Ordering},
};

/// Epoch and lease of one link, on a cache line of its own: every hit reads them, and hardly anything writes them.
///
/// The epoch is odd while the link is up, and becomes another one whenever the link comes up, goes down or is flushed.
/// No two epochs of a tier are the same, and of links that were up a later one is greater, whichever they are of: an
/// entry or a ticket is good only in the epoch it was made in, so one change outdates everything, also what came over
/// another link that had the same number before.
///
/// # Why epoch and lease may be two atomics
///
/// *A lease is never paired with an epoch older than itself.* [`Links::up`] stores the lease after `down` made the
/// epoch even and before it makes it odd, and [`Links::proof`] extends the lease after it has seen the epoch; readers
/// load the lease (acquire) before the epoch. So whoever sees a lease sees at least the epoch it was granted in, and an
/// entry of an earlier epoch does not match.
///
/// *An old lease on a new epoch is harmless.* A proof may find its epoch unchanged, be parked while the link goes down
/// and comes up, and only then extend the lease to `mark.at + B`. The mark was taken before that check and the check
/// preceded the change, so `mark.at` precedes the new epoch. Entries of the new epoch were read from the backend after
/// it began; a hit at `t < mark.at + B` on one of them owes only the writes acknowledged before `t − B < mark.at`, and
/// an entry read after `mark.at` has them all. The same holds for a reader that loaded the lease, was parked, and then
/// loaded a newer epoch: its `now` is from before the lease, so from before the entry was read.
///
/// What would be harmful is an `Unlimited` lease left standing for the next link; `up` always stores anew.
#[repr(align(128))]
#[derive(Debug)]
struct LeaseState {
    epoch: AtomicU64,
    /// Nanoseconds on the tier's clock; hits are served before it.
    lease: AtomicU64,
    /// In nanoseconds, the least age at which a copy may be past its [soft life](Links::set_soft_life). Kept with what
    /// every hit reads anyway.
    shortest_life: AtomicU64,
}

/// All that a lookup needs to know of the link that a copy came over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// Until when hits may be served.
    pub(crate) lease: Timestamp,
    pub(crate) epoch: u64,
    /// In nanoseconds; a younger copy is within its soft life.
    pub(crate) shortest_life: u64,
}

/// What stands in the place of a link for copies of what was loaded while the backend did not answer: up while there
/// are any, whatever becomes of the links, and of no backend.
pub(crate) const OUTAGE: LinkId = LinkId::new((1 << LINK_BITS) - 1);

/// The links of a tier, each as good as its own word. Nothing that happens to one touches what came over another.
#[derive(Debug)]
pub(crate) struct Links {
    /// The only one of most backends.
    only: LeaseState,
    /// The others, doubling: the first holds the link 1, the next 2 and 3, then 4 to 7. Each is made as the first of
    /// its links comes up, and none ever moves.
    others: [OnceLock<Box<[LeaseState]>>; LINK_BITS as usize],
    outage: LeaseState,
    /// How long a lease lasts after a mark: the staleness bound less the clock's lag.
    term: Duration,
    /// Whether copies of epochs that ended with their link are kept, to be served stale or read again.
    keeps_lost: bool,
    /// How many clearings of the backend are under way: while there are any, nothing is kept.
    clearings: AtomicU64,
    /// Held by those who change an epoch, so that "if up, change" is one step. Nobody holds it for longer than that.
    changes: Mutex<Changes>,
}

/// How often an epoch changed, and why.
#[derive(Debug)]
struct Changes {
    flushes: u64,
    links: u64,
    /// The last epoch that was given to a link, and what it was when all of them had been given new ones.
    last: u64,
    renewed: u64,
    lost: LostEpochs,
    /// Of copies on links that come up for the first time, too.
    shortest_life: u64,
}

impl LeaseState {
    /// Makes a link that never was up.
    fn new(link: LinkId, shortest_life: u64) -> Self {
        let (epoch, lease) = (AtomicU64::new(never_up(link)), AtomicU64::new(0));
        Self { epoch, lease, shortest_life: AtomicU64::new(shortest_life) }
    }

    #[inline]
    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    #[inline]
    fn standing(&self) -> Standing {
        let lease = Timestamp::from_nanos(self.lease.load(Ordering::Acquire));
        let epoch = self.epoch();
        Standing { lease, epoch, shortest_life: self.shortest_life.load(Ordering::Relaxed) }
    }
}

impl Changes {
    /// Returns an epoch that is greater than any other: an odd one for a link that is up.
    fn new_epoch(&mut self, up: bool) -> u64 {
        self.last += 1 + u64::from(is_up(self.last) == up);
        self.last
    }
}

impl Links {
    /// Makes links that are all down.
    pub(crate) fn new(max_staleness: Duration, resolution: Duration, keeps_lost: bool) -> Self {
        let (lost, shortest_life) = (LostEpochs::default(), u64::MAX);
        Self {
            only: LeaseState::new(LinkId::ONLY, shortest_life),
            others: std::array::from_fn(|_| OnceLock::new()),
            outage: LeaseState::new(OUTAGE, shortest_life),
            term: max_staleness.saturating_sub(resolution),
            keeps_lost,
            clearings: AtomicU64::new(0),
            changes: Mutex::new(Changes { flushes: 0, links: 0, last: 0, renewed: 0, lost, shortest_life }),
        }
    }

    /// Has copies served no longer than that, less up to a tenth, though they may be kept for longer: until they are
    /// read again, or while they cannot be.
    pub(crate) fn set_soft_life(&self, life: Duration) {
        let mut changes = self.changes.lock();
        let shortest = u64::try_from(life.as_nanos()).map_or(u64::MAX, |life| life / 10 * 9);
        changes.shortest_life = shortest;
        self.each_link().for_each(|state| state.shortest_life.store(shortest, Ordering::Relaxed));
    }

    /// Returns whether a copy of an epoch that is over is kept: that one ended with its link, and not by a flush.
    #[cold]
    pub(crate) fn keeps(&self, link: LinkId, epoch: u64) -> bool {
        self.keeps_lost && self.changes.lock().lost.proof(link, epoch).is_some()
    }

    /// Returns as of when a link proved that every change had been reported in an epoch, which is the current one or
    /// ended with the link; `None` of any other epoch. Zero where nothing was proved.
    pub(crate) fn proven(&self, link: LinkId, epoch: u64) -> Option<Timestamp> {
        let changes = self.changes.lock();
        let state = self.reported(link)?;
        if is_up(epoch) && state.epoch() == epoch {
            return Some(self.proof_of(state));
        }
        changes.lost.proof(link, epoch).filter(|_| self.keeps_lost)
    }

    /// Returns how long it may be remembered that a key was not found over a link, from before it was asked for.
    ///
    /// Where there are several links, as long as copies may be stale: while its slot migrates, such a key is written at
    /// the other end, whose server alone reports it, over a link that may be lost.
    pub(crate) fn longest_absence(&self, link: LinkId) -> Duration {
        if link == LinkId::ONLY { Duration::MAX } else { self.term }
    }

    /// Returns of when the last proof was that the lease of a link rests on.
    fn proof_of(&self, state: &LeaseState) -> Timestamp {
        match state.lease.load(Ordering::Acquire) {
            // Nobody renews it, so nobody proves anything.
            until if until == Timestamp::MAX.as_nanos() => Timestamp::ZERO,
            until => Timestamp::from_nanos(until).saturating_sub(self.term),
        }
    }

    /// Returns the state of a link that has been up.
    #[inline]
    fn of(&self, link: LinkId) -> Option<&LeaseState> {
        if link == LinkId::ONLY { Some(&self.only) } else { self.other(link) }
    }

    fn other(&self, link: LinkId) -> Option<&LeaseState> {
        if link == OUTAGE {
            return Some(&self.outage);
        }
        let (row, place) = row_and_place(link)?;
        self.others.get(row)?.get()?.get(place)
    }

    /// Returns the epoch of a link. To be read under the shard's lock where it is compared with that of an entry: it is
    /// then at least that of any entry of the shard that came over this link.
    #[inline]
    pub(crate) fn epoch(&self, link: LinkId) -> u64 {
        self.of(link).map_or_else(|| never_up(link), LeaseState::epoch)
    }

    /// Returns the epoch for somebody who wants to keep a value: an even one, in which nothing is kept, while the
    /// backend is being cleared. To be read under the shard's lock.
    #[inline]
    pub(crate) fn keeping_epoch(&self, link: LinkId) -> u64 {
        let epoch = self.epoch(link);
        if self.clearings.load(Ordering::SeqCst) == 0 { epoch } else { 0 }
    }

    /// Returns until when hits on what came over a link may be served, and its epoch, read in this order. To be read
    /// after the clock, and as [`epoch`](Self::epoch) is.
    #[inline]
    pub(crate) fn standing(&self, link: LinkId) -> Standing {
        const NONE: Standing = Standing { lease: Timestamp::ZERO, epoch: 0, shortest_life: 0 };
        self.of(link).map_or(NONE, LeaseState::standing)
    }

    /// Returns until when hits on what came over a link may be served, and its epoch.
    pub(crate) fn lease_and_epoch(&self, link: LinkId) -> (Timestamp, u64) {
        let Standing { lease, epoch, .. } = self.standing(link);
        (lease, epoch)
    }

    /// Returns whether any link is up.
    pub(crate) fn is_any_up(&self) -> bool {
        self.each_link().any(|state| is_up(state.epoch()))
    }

    /// Returns the epoch in which copies are kept of what is loaded while the backend does not answer. To be compared
    /// under the shard's lock with the [one in which they may be](Self::keeping_epoch).
    pub(crate) fn outage_epoch(&self) -> u64 {
        let epoch = self.outage.epoch();
        if is_up(epoch) {
            return epoch;
        }
        let mut changes = self.changes.lock();
        if !is_up(self.outage.epoch()) {
            // Nobody vouches for them: each has its deadline, and whatever ends a copy ends it.
            self.outage.lease.store(Timestamp::MAX.as_nanos(), Ordering::Release);
            self.give(&self.outage, true, &mut changes);
        }
        self.outage.epoch()
    }

    /// Outdates what was loaded while the backend did not answer.
    pub(crate) fn end_outage(&self) {
        self.outdate_loaded(&mut self.changes.lock());
    }

    fn outdate_loaded(&self, changes: &mut Changes) {
        if is_up(self.outage.epoch()) {
            self.give(&self.outage, false, changes);
        }
    }

    /// Keeps everything out until as many calls of [`end_clearing`](Self::end_clearing).
    pub(crate) fn begin_clearing(&self) {
        self.clearings.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn end_clearing(&self) {
        self.clearings.fetch_sub(1, Ordering::SeqCst);
    }

    /// Brings a link up, unless its number is beyond those there is room for: nothing is ever kept for such a one.
    pub(crate) fn up(&self, link: LinkId, lease: Lease) {
        let mut changes = self.changes.lock();
        self.make_room(link, changes.shortest_life);
        let Some(state) = self.reported(link).filter(|state| !is_up(state.epoch())) else { return };
        // From now on the backend is asked: what it has is newer than what was loaded without it.
        self.outdate_loaded(&mut changes);
        // That the link came up proves nothing yet: the first proof of life starts a renewed lease.
        let until = match lease {
            Lease::Unlimited => Timestamp::MAX,
            Lease::Renewed => Timestamp::ZERO,
        };
        state.lease.store(until.as_nanos(), Ordering::Release);
        self.give(state, true, &mut changes);
        changes.links += 1;
    }

    pub(crate) fn down(&self, link: LinkId) {
        let mut changes = self.changes.lock();
        if let Some(state) = self.reported(link) {
            let (epoch, proof) = (state.epoch(), self.proof_of(state));
            if is_up(epoch) {
                changes.lost.add(Lost { link, epoch, proof });
            }
            self.outdate(state, false, &mut changes);
        }
    }

    /// Takes all links down for good: what came over them is not kept.
    pub(crate) fn all_down(&self) {
        let mut changes = self.changes.lock();
        changes.lost.forget_all();
        self.each().for_each(|state| self.outdate(state, false, &mut changes));
    }

    pub(crate) fn flush(&self, link: LinkId) {
        let mut changes = self.changes.lock();
        changes.lost.forget(link);
        if let Some(state) = self.reported(link) {
            self.outdate(state, true, &mut changes);
        }
        self.outdate_loaded(&mut changes);
    }

    pub(crate) fn flush_all(&self) {
        let mut changes = self.changes.lock();
        changes.lost.forget_all();
        self.each().for_each(|state| self.outdate(state, true, &mut changes));
    }

    pub(crate) fn proof(&self, mark: Mark) {
        let Some(state) = self.reported(mark.link) else { return };
        if is_up(mark.epoch) && state.epoch() == mark.epoch {
            let until = mark.at.saturating_add(self.term).as_nanos();
            // Most proofs within a tick of the clock say the same: they need not take the cache line from the readers.
            if state.lease.load(Ordering::Relaxed) < until {
                state.lease.fetch_max(until, Ordering::AcqRel);
            }
        }
    }

    /// Returns how often copies were declared outdated, and how often a link came up.
    pub(crate) fn flushes_and_links(&self) -> (u64, u64) {
        let changes = self.changes.lock();
        (changes.flushes, changes.links)
    }

    /// Outdates all that came over a link, if it is up.
    fn outdate(&self, state: &LeaseState, stays_up: bool, changes: &mut Changes) {
        if is_up(state.epoch()) {
            self.give(state, stays_up, changes);
            changes.flushes += 1;
        }
    }

    /// Gives a link a new epoch, and now and then all the others too.
    fn give(&self, state: &LeaseState, up: bool, changes: &mut Changes) {
        state.epoch.store(changes.new_epoch(up), Ordering::Release);
        if changes.last - changes.renewed <= WINDOW {
            return;
        }
        let renewed = changes.last;
        changes.renewed = renewed;
        for other in self.each().filter(|other| is_up(other.epoch()) && other.epoch() < renewed) {
            other.epoch.store(changes.new_epoch(true), Ordering::Release);
        }
    }

    /// Returns the state of a link of the backend.
    fn reported(&self, link: LinkId) -> Option<&LeaseState> {
        self.of(link).filter(|_| link != OUTAGE)
    }

    /// Everything that has an epoch.
    fn each(&self) -> impl Iterator<Item = &LeaseState> {
        self.each_link().chain(std::iter::once(&self.outage))
    }

    /// Every link that there is room for by now.
    fn each_link(&self) -> impl Iterator<Item = &LeaseState> {
        std::iter::once(&self.only).chain(self.others.iter().filter_map(OnceLock::get).flatten())
    }

    /// Makes room for a link. Under the lock.
    fn make_room(&self, link: LinkId, shortest_life: u64) {
        if link != OUTAGE
            && let Some((row, _)) = row_and_place(link)
            && let Some(others) = self.others.get(row)
            && others.get().is_none()
        {
            let first = 1_u16 << row;
            let _made =
                others.set((first..2 * first).map(|link| LeaseState::new(LinkId::new(link), shortest_life)).collect());
        }
    }
}

/// Returns the epoch of a link before it is up for the first time: an even one like those of links that went down, and
/// no other link's either. A flight or a load from before its key went to such a link is not joined by mistake.
fn never_up(link: LinkId) -> u64 {
    u64::from(link.number()) << 48
}

/// Returns where a link lies among the others; `None` for the only one.
fn row_and_place(link: LinkId) -> Option<(usize, usize)> {
    let number = usize::from(link.number());
    let row = number.checked_ilog2()?;
    Some((row as usize, number - (1 << row)))
}

/// Returns whether the link is up in this epoch.
#[inline]
pub(crate) fn is_up(epoch: u64) -> bool {
    epoch % 2 == 1
}
