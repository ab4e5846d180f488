// A tier in front of a backend in front of an origin, whose rows are read late by loads that then store them.
//
// A version is a row's: it counts how often the row was written. Whoever writes writes the row first and the key
// afterwards, one writer at a time; a version is *published* when its key was written or deleted in the backend. A row
// that is read before that is ahead of the cache, which nobody can be held to.
//
// What no cache without leases closes is left out: somebody else's delete between a load and its store.
//
// Every step is a future that pauses where a command is sent or a reply is waited for. `crate::kit` says what that
// means.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use twotier_core::{ChangeListener, Eviction, Lease, LinkId};

use crate::kit::{
    Digest, Joined, Joiner, LIFE, Load, LoadJoiner, LoadTicket, Loaded, Read, Tier, digest, new_tier,
    new_tier_that_keeps_nothing, pause, spawn,
};

pub(crate) const KEYS: [&str; 2] = ["a", "b"];
/// One less than there are keys, so that entries are evicted.
const ROOM: usize = 1;

/// One key at the origin and at the backend. Looking at it is no step of the system: nothing else runs meanwhile.
#[derive(Debug, Default)]
struct Place {
    row: u64,
    published: u64,
    /// What the backend holds; 0 is nothing.
    held: u64,
    /// The least that whoever begins now may be given.
    floor: u64,
    /// How often the link was lost: what was sent before is executed before the next link is up, or never.
    link: u64,
    /// Whether somebody writes the row.
    writing: bool,
    /// Whether an own write is registered and not executed: they reach the backend in the order of registration.
    queued: bool,
    /// Whether the link is being lost. Kept in the place of the first key.
    losing: bool,
}

/// What the tier is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// What others write is reported.
    Reported,
    Unreported,
    /// Nothing is reported, and nothing kept.
    WithoutLocal,
}

#[derive(Clone)]
pub(crate) struct Origin {
    tier: Tier,
    places: Arc<[Mutex<Place>; KEYS.len()]>,
    mode: Mode,
    /// How many answers and reports are on their way.
    on_their_way: Arc<AtomicUsize>,
}

/// Gives a place free again, also when the task goes away.
struct Permit<'o> {
    origin: &'o Origin,
    key: usize,
    whose: fn(&mut Place) -> &mut bool,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.origin.at(self.key, |place| *(self.whose)(place) = false);
    }
}

impl Origin {
    pub(crate) fn new(eviction: Eviction, mode: Mode) -> Self {
        let tier = if mode == Mode::WithoutLocal { new_tier_that_keeps_nothing() } else { new_tier(eviction, ROOM) };
        let origin = Self { tier, places: Arc::default(), mode, on_their_way: Arc::default() };
        for key in 0..KEYS.len() {
            origin.at(key, |place| (place.row, place.published) = (1, 1));
        }
        origin
    }

    fn at<R>(&self, key: usize, look: impl FnOnce(&mut Place) -> R) -> R {
        look(&mut self.places[key].lock().unwrap())
    }

    fn raise(&self, key: usize, version: u64) {
        self.at(key, |place| place.floor = place.floor.max(version));
    }

    async fn acquire(&self, key: usize, whose: fn(&mut Place) -> &mut bool) -> Permit<'_> {
        while self.at(key, |place| std::mem::replace(whose(place), true)) {
            pause().await;
        }
        Permit { origin: self, key, whose }
    }

    /// Runs what comes from the backend, whatever becomes of those who wait for it.
    fn deliver(&self, task: impl Future<Output = ()> + Send + 'static) {
        let on_their_way = Arc::clone(&self.on_their_way);
        on_their_way.fetch_add(1, Ordering::SeqCst);
        spawn(async move {
            task.await;
            on_their_way.fetch_sub(1, Ordering::SeqCst);
        });
    }

    /// Sends a read, whose answer a task of its own hands over: the connection's reader.
    fn send(&self, key: usize, ticket: crate::kit::FillTicket) {
        let origin = self.clone();
        self.deliver(async move {
            let version = origin.at(key, |place| place.held);
            pause().await;
            ticket.arrived(move |ticket| {
                let _kept = ticket.fill(version, digest(version), 1, LIFE.filter(|_| version > 0));
            });
        });
    }

    /// Reads through both tiers: 0 if the key is not there.
    async fn read(&self, key: usize) -> u64 {
        if let Some(hit) = self.tier.get(KEYS[key]) {
            return hit;
        }
        let mut next = self.tier.read(KEYS[key]);
        loop {
            let joiner: Joiner = match next {
                Read::Hit(version) => return version,
                Read::Join(joiner) => joiner,
                Read::Lead(ticket, joiner) | Read::Bypass(ticket, joiner) => {
                    self.send(key, ticket);
                    joiner
                }
            };
            match joiner.wait().await {
                Joined::Value(version) => return version,
                Joined::Failed(_) | Joined::ElectAgain => next = self.tier.read_again(KEYS[key], &joiner),
            }
        }
    }

    pub(crate) async fn get(&self, key: usize) {
        let floor = self.at(key, |place| place.floor);
        let version = self.read(key).await;
        if version > 0 {
            assert!(version >= floor, "read {} = version {version}, and {floor} was known before", KEYS[key]);
            self.raise(key, version);
        }
    }

    /// Begins to read and goes away, before the answer arrives or after it, while others wait.
    pub(crate) async fn read_and_go_away(&self, key: usize) {
        let gone: Joiner = match self.tier.read(KEYS[key]) {
            Read::Lead(ticket, joiner) | Read::Bypass(ticket, joiner) => {
                self.send(key, ticket);
                joiner
            }
            Read::Join(joiner) => joiner,
            Read::Hit(_) => return,
        };
        pause().await;
        drop(gone);
    }

    /// Reads, and loads what is not there. Who is impatient does not wait for somebody else's load more than once.
    pub(crate) async fn get_or_load(&self, key: usize, impatient: bool, reply_lost: bool) {
        let floor = self.at(key, |place| place.floor);
        let version = self.load(key, impatient, reply_lost).await;
        assert!(version >= floor, "loaded {} = version {version}, and {floor} was known before", KEYS[key]);
        let published = self.at(key, |place| place.published);
        self.raise(key, version.min(published));
    }

    async fn load(&self, key: usize, impatient: bool, reply_lost: bool) -> u64 {
        let mut next = self.tier.load(KEYS[key]);
        loop {
            match next {
                Load::Lead(load) => return self.lead(key, load, reply_lost).await,
                Load::Join(joiner) if impatient => {
                    pause().await;
                    next = self.tier.load_again(KEYS[key], &joiner);
                }
                Load::Join(joiner) => match Self::wait(joiner).await {
                    Loaded::Value(version) => return version,
                    Loaded::Failed(_) | Loaded::ElectAgain => next = self.tier.load(KEYS[key]),
                },
            }
        }
    }

    async fn wait(joiner: LoadJoiner) -> Loaded<u64, &'static str> {
        joiner.wait().await
    }

    async fn lead(&self, key: usize, load: LoadTicket, reply_lost: bool) -> u64 {
        let held = self.read(key).await;
        if held > 0 {
            load.finish(Ok(held));
            return held;
        }
        pause().await;
        let row = self.at(key, |place| place.row);
        // The loader is slow, and so is encoding.
        pause().await;
        self.store(key, &load, row, reply_lost).await;
        load.finish(Ok(row));
        row
    }

    /// Stores a loaded version unless something is there.
    async fn store(&self, key: usize, load: &LoadTicket, version: u64, reply_lost: bool) {
        let link = self.at(key, |place| place.link);
        let (write, executed) = {
            let _next = self.acquire(key, |place| &mut place.queued).await;
            let Some(write) = load.begin_store(digest(version)) else { return };
            pause().await;
            let executed = self.at(key, |place| {
                let executes = place.held == 0 && place.link == link;
                if executes {
                    place.held = version;
                }
                executes
            });
            (write, executed)
        };
        pause().await;
        if executed && !reply_lost {
            let _kept = write.install(version, 1, LIFE);
        }
    }

    async fn write_row(&self, key: usize) -> u64 {
        let version = self.at(key, |place| {
            place.row += 1;
            place.row
        });
        pause().await;
        version
    }

    pub(crate) async fn own_write(&self, key: usize, deletes: bool, reply_lost: bool) {
        let (write, version) = {
            let _writer = self.acquire(key, |place| &mut place.writing).await;
            let version = self.write_row(key).await;
            let _next = self.acquire(key, |place| &mut place.queued).await;
            let write = self.tier.begin_write(KEYS[key], if deletes { Digest::ABSENT } else { digest(version) });
            pause().await;
            self.at(key, |place| (place.held, place.published) = (if deletes { 0 } else { version }, version));
            (write, version)
        };
        pause().await;
        if deletes || reply_lost {
            drop(write);
        } else {
            let _kept = write.install(version, 1, LIFE);
        }
        self.raise(key, version);
    }

    pub(crate) async fn foreign_write(&self, key: usize) {
        let version = {
            let _writer = self.acquire(key, |place| &mut place.writing).await;
            let version = self.write_row(key).await;
            self.at(key, |place| (place.held, place.published) = (version, version));
            version
        };
        if self.mode == Mode::Reported {
            let origin = self.clone();
            self.deliver(async move {
                pause().await;
                origin.tier.changed(format!("n:{}", KEYS[key]).as_bytes());
                origin.raise(key, version);
            });
        }
    }

    /// The link is lost, everything is written meanwhile, and it comes back.
    pub(crate) async fn lose_the_link(&self) {
        let _alone = self.acquire(0, |place| &mut place.losing).await;
        self.tier.link_down(LinkId::ONLY);
        pause().await;
        for key in 0..KEYS.len() {
            let _writer = self.acquire(key, |place| &mut place.writing).await;
            let version = self.write_row(key).await;
            self.at(key, |place| (place.held, place.published) = (version, version));
        }
        for key in 0..KEYS.len() {
            self.at(key, |place| place.link += 1);
        }
        let versions: [u64; KEYS.len()] = std::array::from_fn(|key| self.at(key, |place| place.published));
        self.tier.link_up(LinkId::ONLY, Lease::Unlimited);
        // Nobody knew of them as long as the link was down.
        versions.into_iter().enumerate().for_each(|(key, version)| self.raise(key, version));
    }

    /// This cache clears the backend, which nobody reports.
    pub(crate) async fn clear(&self) {
        let (clearing, _cleared) = self.tier.begin_clear();
        for key in 0..KEYS.len() {
            pause().await;
            let _next = self.acquire(key, |place| &mut place.queued).await;
            self.at(key, |place| place.held = 0);
        }
        pause().await;
        drop(clearing);
    }

    pub(crate) fn forget(&self, key: usize) {
        self.tier.invalidate(KEYS[key]);
    }

    /// When nothing is under way any more: neither tier holds an old row, and every key is loaded, stored and kept.
    pub(crate) async fn judge(&self) {
        while self.on_their_way.load(Ordering::SeqCst) > 0 {
            pause().await;
        }
        for (key, name) in KEYS.iter().enumerate() {
            let (row, held) = self.at(key, |place| (place.row, place.held));
            assert!(held == 0 || held == row, "{name} = version {held} in the backend, whose row is {row}: for ever");
            if self.mode == Mode::Reported {
                let copy = self.tier.get(name);
                assert!(copy.is_none_or(|copy| copy == row), "{name} is stale for ever");
            }
            self.forget(key);
            assert_eq!(self.load(key, false, false).await, row);
            assert_eq!(self.at(key, |place| place.held), row, "{name} cannot be stored any more");
            let kept = (self.mode != Mode::WithoutLocal).then_some(row);
            assert_eq!(self.tier.get(name), kept, "{name} cannot be kept any more");
        }
    }
}
