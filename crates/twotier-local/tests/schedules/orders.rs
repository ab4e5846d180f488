//! What runs at once, test by test.

use std::env;

use shuttle::{rand::Rng, thread};
use twotier_core::Eviction;

use crate::world::World;

/// How many schedules each test draws when nobody asks for more: 200 000 in all and a few.
const SCHEDULES: usize = 35_000;

type Act = fn(&World);

const POLICIES: [Eviction; 6] =
    [Eviction::Lru, Eviction::Lfu, Eviction::Fifo, Eviction::Random { seed: 42 }, Eviction::S3Fifo, Eviction::WTinyLfu];

/// Draws schedules of these threads in a world made for each, an equal part of them under each eviction policy: as many
/// as was asked for, or the usual number.
pub(crate) fn draw_worlds<W: Clone + Send + 'static>(
    world: impl Fn(Eviction) -> W + Copy + Send + Sync + 'static,
    threads: &'static [fn(&W)],
    judge: fn(&W),
    usual: usize,
) {
    let asked = env::var("TWOTIER_TEST_SCHEDULES").ok();
    let schedules = asked.map_or(usual, |text| text.parse().expect("a number of schedules"));
    for eviction in POLICIES {
        let run = move || {
            let world = world(eviction);
            let running: Vec<_> = threads
                .iter()
                .map(|act| {
                    let world = world.clone();
                    thread::spawn(move || act(&world))
                })
                .collect();
            for thread in running {
                thread.join().unwrap();
            }
            judge(&world);
        };
        shuttle::check_random(run, schedules.div_ceil(POLICIES.len()));
    }
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    eprintln!("{name}: {schedules} schedules");
}

fn draw(threads: &'static [Act]) {
    draw_worlds(World::new, threads, World::judge, SCHEDULES);
}

fn reads(world: &World) {
    for _ in 0..3 {
        world.read(World::any_key());
    }
}

fn reads_one(world: &World) {
    for _ in 0..3 {
        world.read(0);
    }
}

fn writes_one(world: &World) {
    for _ in 0..2 {
        world.write(0);
        world.read(0);
    }
}

fn is_written_by_others(world: &World) {
    for _ in 0..2 {
        world.foreign_write(0);
    }
}

fn goes_away(world: &World) {
    world.read_and_drop(0);
    world.read_and_drop(0);
}

fn flushes(world: &World) {
    world.foreign_flush();
    world.foreign_flush();
}

fn loses_the_link(world: &World) {
    world.lose_the_link();
    world.lose_the_link();
}

fn clears(world: &World) {
    world.clear();
}

fn forgets(world: &World) {
    world.tier.invalidate("a");
    world.tier.clear();
}

fn does_anything(world: &World) {
    for _ in 0..4 {
        let key = World::any_key();
        match shuttle::rand::thread_rng().gen_range(0..20) {
            0..9 => world.read(key),
            9..13 => world.write(key),
            13..16 => world.foreign_write(key),
            16 => world.read_and_drop(key),
            17 => world.foreign_flush(),
            18 => world.clear(),
            _ => forgets(world),
        }
    }
}

#[test]
fn one_key_read_and_written_by_us_and_by_others() {
    draw(&[reads_one, reads_one, writes_one, is_written_by_others]);
}

#[test]
fn own_writes_that_overlap_with_readers_that_go_away() {
    draw(&[reads_one, writes_one, writes_one, goes_away]);
}

#[test]
fn flushes_and_evictions() {
    draw(&[reads, reads, writes_one, flushes]);
}

#[test]
fn a_link_that_is_lost_and_comes_back() {
    draw(&[reads_one, reads, writes_one, loses_the_link]);
}

#[test]
fn a_backend_that_we_clear_ourselves() {
    draw(&[reads_one, reads, writes_one, clears]);
}

#[test]
fn everything_at_once() {
    draw(&[does_anything, does_anything, does_anything, does_anything, does_anything]);
}
