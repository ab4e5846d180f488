//! A tier in front of a backend in front of an origin, whose rows are read late by loads that then store them.
//!
//! A version is a row's: it counts how often the row was written. Whoever writes writes the row first and the key
//! afterwards, one writer at a time; a version is *published* when its key was written or deleted in the backend. A row
//! that is read before that is ahead of the cache, which nobody can be held to.
//!
//! What no cache without leases closes is left out: somebody else's delete between a load and its store.

use std::sync::{Arc, Mutex as Held};

use shuttle::{
    future::block_on,
    rand::{Rng, thread_rng},
    sync::Mutex,
    thread,
};
use twotier_core::{ChangeListener, Eviction, Lease};

use crate::{
    digest::Digest,
    flight::{Joined, Joiner},
    load::{Load, LoadJoiner, LoadTicket, Loaded},
    orders::draw_worlds,
    tier::Read,
    world::{LIFE, Tier, digest, new_tier, new_tier_that_keeps_nothing},
};

const KEYS: [&str; 2] = ["a", "b"];
/// How many schedules each test draws when nobody asks for more: they are long.
const SCHEDULES: usize = 9_000;
/// One less than there are keys, so that entries are evicted.
const ROOM: usize = 1;

/// One key at the origin and at the backend. Locks of the standard library, because looking is no step of the system.
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
}

/// What the tier is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// What others write is reported.
    Reported,
    Unreported,
    /// Nothing is reported, and nothing kept.
    WithoutLocal,
}

#[derive(Clone)]
pub(crate) struct World {
    tier: Tier,
    places: Arc<[Held<Place>; KEYS.len()]>,
    /// One writer of a row at a time.
    writers: Arc<[Mutex<()>; KEYS.len()]>,
    /// Own writes of a key reach the backend in the order in which they are registered.
    queues: Arc<[Mutex<()>; KEYS.len()]>,
    mode: Mode,
}

impl World {
    fn new(eviction: Eviction, mode: Mode) -> Self {
        let tier = if mode == Mode::WithoutLocal { new_tier_that_keeps_nothing() } else { new_tier(eviction, ROOM) };
        let world = Self { tier, places: Arc::default(), writers: Arc::default(), queues: Arc::default(), mode };
        for key in 0..KEYS.len() {
            world.at(key, |place| (place.row, place.published) = (1, 1));
        }
        world
    }

    fn at<R>(&self, key: usize, look: impl FnOnce(&mut Place) -> R) -> R {
        look(&mut self.places[key].lock().unwrap())
    }

    fn raise(&self, key: usize, version: u64) {
        self.at(key, |place| place.floor = place.floor.max(version));
    }

    fn any_key() -> usize {
        thread_rng().gen_range(0..KEYS.len())
    }

    fn hold(&self, key: usize, floor: u64, version: u64, by: &str) {
        assert!(version >= floor, "{by} {} = version {version}, but version {floor} was known before", KEYS[key]);
    }

    /// Reads through both tiers: 0 if the key is not there.
    fn read(&self, key: usize) -> u64 {
        let name = KEYS[key];
        if let Some(hit) = self.tier.get(name) {
            return hit;
        }
        let mut next = self.tier.read(name);
        loop {
            let joiner = match next {
                Read::Hit(version) => return version,
                Read::Join(joiner) => joiner,
                Read::Lead(ticket, joiner) | Read::Bypass(ticket, joiner) => {
                    let world = self.clone();
                    // The connection's reader: it hands the raw answer over and goes on.
                    let reader = thread::spawn(move || {
                        let version = world.at(key, |place| place.held);
                        thread::yield_now();
                        ticket.arrived(move |ticket| {
                            let life = LIFE.filter(|_| version > 0);
                            let _kept = ticket.fill(version, digest(version), 1, life);
                        });
                    });
                    let outcome = block_on(joiner.wait());
                    reader.join().unwrap();
                    match outcome {
                        Joined::Value(version) => return version,
                        _ => joiner,
                    }
                }
            };
            match block_on(joiner.wait()) {
                Joined::Value(version) => return version,
                Joined::Failed(_) | Joined::ElectAgain => next = self.tier.read_again(name, &joiner),
            }
        }
    }

    fn get(&self, key: usize) {
        let floor = self.at(key, |place| place.floor);
        let version = self.read(key);
        if version > 0 {
            self.hold(key, floor, version, "read");
            self.raise(key, version);
        }
    }

    /// Begins to read and goes away, before the answer arrives or after it, while others wait.
    fn read_and_go_away(&self, key: usize) {
        let gone: Joiner<_, _> = match self.tier.read(KEYS[key]) {
            Read::Lead(ticket, joiner) => {
                let version = self.at(key, |place| place.held);
                thread::yield_now();
                ticket.arrived(move |ticket| {
                    _ = ticket.fill(version, digest(version), 1, LIFE.filter(|_| version > 0));
                });
                joiner
            }
            Read::Join(joiner) | Read::Bypass(_, joiner) => joiner,
            Read::Hit(_) => return,
        };
        thread::yield_now();
        drop(gone);
    }

    fn get_or_load(&self, key: usize) {
        let (floor, version) = (self.at(key, |place| place.floor), self.load(key));
        self.hold(key, floor, version, "loaded");
        let published = self.at(key, |place| place.published);
        self.raise(key, version.min(published));
    }

    fn load(&self, key: usize) -> u64 {
        let mut next = self.tier.load(KEYS[key]);
        loop {
            match next {
                Load::Lead(load) => return self.lead(key, load),
                Load::Join(joiner) => match self.wait(&joiner) {
                    Some(Loaded::Value(version)) => return version,
                    Some(Loaded::Failed(_) | Loaded::ElectAgain) => next = self.tier.load(KEYS[key]),
                    None => next = self.tier.load_again(KEYS[key], &joiner),
                },
            }
        }
    }

    /// Waits for a load; `None` when patience was over.
    fn wait(&self, joiner: &LoadJoiner<u64, &'static str>) -> Option<Loaded<u64, &'static str>> {
        if thread_rng().gen_range(0..4) == 0 {
            thread::yield_now();
            return None;
        }
        Some(block_on(joiner.wait()))
    }

    fn lead(&self, key: usize, load: LoadTicket<u64, &'static str>) -> u64 {
        let held = self.read(key);
        if held > 0 {
            load.finish(Ok(held));
            return held;
        }
        thread::yield_now();
        let row = self.at(key, |place| place.row);
        // The loader is slow, and so is encoding.
        thread::yield_now();
        self.store(key, &load, row);
        load.finish(Ok(row));
        row
    }

    /// Stores a loaded version unless something is there.
    fn store(&self, key: usize, load: &LoadTicket<u64, &'static str>, version: u64) {
        let link = self.at(key, |place| place.link);
        let (write, executed) = {
            let _next = self.queues[key].lock().unwrap();
            let Some(write) = load.begin_store(digest(version)) else { return };
            thread::yield_now();
            let executed = self.at(key, |place| {
                let executes = place.held == 0 && place.link == link;
                if executes {
                    place.held = version;
                }
                executes
            });
            (write, executed)
        };
        thread::yield_now();
        if executed && thread_rng().gen_range(0..4) > 0 {
            let _kept = write.install(version, 1, LIFE);
        }
    }

    fn own_write(&self, key: usize) {
        let deletes = thread_rng().gen_range(0..2) == 0;
        let (write, version) = {
            let _writer = self.writers[key].lock().unwrap();
            let version = self.at(key, |place| {
                place.row += 1;
                place.row
            });
            thread::yield_now();
            let _next = self.queues[key].lock().unwrap();
            let write = self.tier.begin_write(KEYS[key], if deletes { Digest::ABSENT } else { digest(version) });
            thread::yield_now();
            self.at(key, |place| (place.held, place.published) = (if deletes { 0 } else { version }, version));
            (write, version)
        };
        thread::yield_now();
        if !deletes && thread_rng().gen_range(0..4) > 0 {
            let _kept = write.install(version, 1, LIFE);
        } else {
            drop(write);
        }
        self.raise(key, version);
    }

    fn foreign_write(&self, key: usize) {
        let version = {
            let _writer = self.writers[key].lock().unwrap();
            let version = self.at(key, |place| {
                place.row += 1;
                place.row
            });
            thread::yield_now();
            self.at(key, |place| (place.held, place.published) = (version, version));
            version
        };
        if self.mode == Mode::Reported {
            thread::yield_now();
            self.tier.changed(format!("n:{}", KEYS[key]).as_bytes());
            self.raise(key, version);
        }
    }

    fn lose_the_link(&self) {
        self.tier.link_down();
        thread::yield_now();
        for key in 0..KEYS.len() {
            let _writer = self.writers[key].lock().unwrap();
            let version = self.at(key, |place| {
                place.row += 1;
                (place.held, place.published) = (place.row, place.row);
                place.row
            });
            thread::yield_now();
            self.raise(key, version);
        }
        for key in 0..KEYS.len() {
            self.at(key, |place| place.link += 1);
        }
        self.tier.link_up(Lease::Unlimited);
    }

    /// This cache clears the backend, which nobody reports.
    fn clear(&self) {
        let clearing = self.tier.begin_clear();
        for key in 0..KEYS.len() {
            thread::yield_now();
            let _next = self.queues[key].lock().unwrap();
            self.at(key, |place| place.held = 0);
        }
        thread::yield_now();
        drop(clearing);
    }

    fn forget(&self, key: usize) {
        self.tier.invalidate(KEYS[key]);
    }

    /// When nothing is under way any more: neither tier holds an old row, and every key is loaded, stored and kept.
    fn judge(&self) {
        for (key, name) in KEYS.iter().enumerate() {
            let Place { row, held, .. } = self.at(key, |place| Place { ..*place });
            assert!(held == 0 || held == row, "{name} = version {held} in the backend, whose row is {row}: for ever");
            if self.mode == Mode::Reported {
                let copy = self.tier.get(name);
                assert!(copy.is_none_or(|copy| copy == row), "{name} is stale for ever");
            }
            self.tier.invalidate(name);
            assert_eq!(self.load(key), row);
            assert_eq!(self.at(key, |place| place.held), row, "{name} cannot be stored any more");
            // The store's reply may have been lost.
            assert_eq!(self.read(key), row);
            let kept = (self.mode != Mode::WithoutLocal).then_some(row);
            assert_eq!(self.tier.get(name), kept, "{name} cannot be kept any more");
        }
    }
}

type Act = fn(&World);

/// Draws schedules of these threads.
fn draw(mode: Mode, threads: &'static [Act]) {
    draw_worlds(move |eviction| World::new(eviction, mode), threads, World::judge, SCHEDULES);
}

fn loads_one(world: &World) {
    for _ in 0..2 {
        world.get_or_load(0);
    }
}

fn loads_and_reads_one(world: &World) {
    world.get_or_load(0);
    world.get(0);
    world.get_or_load(0);
}

fn reads_and_loads_one(world: &World) {
    world.get(0);
    world.get_or_load(0);
    world.get(0);
}

fn writes_one(world: &World) {
    for _ in 0..2 {
        world.own_write(0);
        world.get_or_load(0);
    }
}

fn is_written_by_others(world: &World) {
    world.foreign_write(0);
    world.foreign_write(0);
}

fn loses_the_link(world: &World) {
    world.lose_the_link();
}

fn clears(world: &World) {
    world.clear();
    world.get_or_load(0);
}

fn goes_away(world: &World) {
    world.read_and_go_away(0);
    world.read_and_go_away(0);
}

fn does_anything(world: &World) {
    for _ in 0..3 {
        let key = World::any_key();
        match thread_rng().gen_range(0..16) {
            0..6 => world.get_or_load(key),
            6..9 => world.get(key),
            9..11 => world.own_write(key),
            11..13 => world.foreign_write(key),
            13 => world.read_and_go_away(key),
            14 => world.clear(),
            _ => world.forget(key),
        }
    }
}

#[test]
fn no_loaded_row_replaces_what_we_wrote() {
    draw(Mode::Reported, &[loads_and_reads_one, loads_one, writes_one]);
}

#[test]
fn no_loaded_row_replaces_what_others_wrote() {
    draw(Mode::Reported, &[loads_and_reads_one, reads_and_loads_one, is_written_by_others]);
}

#[test]
fn no_loaded_row_replaces_what_others_wrote_though_nobody_reports_it() {
    draw(Mode::Unreported, &[loads_and_reads_one, reads_and_loads_one, is_written_by_others]);
}

#[test]
fn no_loaded_row_outlives_a_lost_link() {
    draw(Mode::Reported, &[loads_and_reads_one, loads_one, loses_the_link]);
}

#[test]
fn no_loaded_row_outlives_a_clear() {
    draw(Mode::Reported, &[loads_and_reads_one, writes_one, clears]);
}

#[test]
fn everybody_who_waits_is_given_an_answer_whoever_goes_away() {
    draw(Mode::Reported, &[loads_and_reads_one, reads_and_loads_one, goes_away, goes_away]);
}

#[test]
fn loads_and_everything_else_at_once() {
    draw(Mode::Reported, &[does_anything, does_anything, does_anything, does_anything]);
}

#[test]
fn loads_and_everything_else_at_once_where_nothing_is_reported() {
    draw(Mode::Unreported, &[does_anything, does_anything, does_anything, does_anything]);
}

#[test]
fn loads_and_everything_else_at_once_without_a_local_tier() {
    draw(Mode::WithoutLocal, &[does_anything, does_anything, does_anything, does_anything]);
}

#[test]
fn no_loaded_row_replaces_what_others_wrote_without_a_local_tier() {
    draw(Mode::WithoutLocal, &[loads_and_reads_one, reads_and_loads_one, is_written_by_others]);
}
