//! Loads of rows that change, in many orders; see `common/origin.rs`.

use shuttle::{
    future::block_on,
    rand::{Rng, thread_rng},
};

use crate::{
    orders::draw_worlds,
    rows::{KEYS, Mode, Origin},
};

/// How many schedules each test draws when nobody asks for more: they are long.
const SCHEDULES: usize = 4_000;

/// What `common/origin.rs` is made of: the sources built with shuttle's locks, and its threads.
pub(crate) mod kit {
    pub(crate) use crate::{
        digest::Digest,
        flight::Joined,
        load::{Load, Loaded},
        tier::Read,
        world::{LIFE, Tier, digest, new_tier, new_tier_that_keeps_nothing},
    };
    pub(crate) use shuttle::future::yield_now as pause;

    pub(crate) type FillTicket = crate::ticket::FillTicket<u64, &'static str>;
    pub(crate) type Joiner = crate::flight::Joiner<u64, &'static str>;
    pub(crate) type LoadJoiner = crate::load::LoadJoiner<u64, &'static str>;
    pub(crate) type LoadTicket = crate::load::LoadTicket<u64, &'static str>;

    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        // The task goes on without its handle.
        drop(shuttle::future::spawn(task));
    }
}

fn any_key() -> usize {
    thread_rng().gen_range(0..KEYS.len())
}

/// Is true one time in so many.
fn seldom(times: u32) -> bool {
    thread_rng().gen_range(0..times) == 0
}

fn get_or_load(origin: &Origin, key: usize) {
    block_on(origin.get_or_load(key, seldom(4), seldom(4)));
}

fn get(origin: &Origin, key: usize) {
    block_on(origin.get(key));
}

fn own_write(origin: &Origin, key: usize) {
    block_on(origin.own_write(key, seldom(2), seldom(4)));
}

fn foreign_write(origin: &Origin, key: usize) {
    block_on(origin.foreign_write(key));
}

fn read_and_go_away(origin: &Origin, key: usize) {
    block_on(origin.read_and_go_away(key));
}

type Act = fn(&Origin);

fn judge(origin: &Origin) {
    block_on(origin.judge());
}

/// Draws schedules of these threads.
fn draw(mode: Mode, threads: &'static [Act]) {
    draw_worlds(move |eviction| Origin::new(eviction, mode), threads, judge, SCHEDULES);
}

fn loads_one(origin: &Origin) {
    for _ in 0..2 {
        get_or_load(origin, 0);
    }
}

fn loads_and_reads_one(origin: &Origin) {
    get_or_load(origin, 0);
    get(origin, 0);
    get_or_load(origin, 0);
}

fn reads_and_loads_one(origin: &Origin) {
    get(origin, 0);
    get_or_load(origin, 0);
    get(origin, 0);
}

fn writes_one(origin: &Origin) {
    for _ in 0..2 {
        own_write(origin, 0);
        get_or_load(origin, 0);
    }
}

fn is_written_by_others(origin: &Origin) {
    foreign_write(origin, 0);
    foreign_write(origin, 0);
}

fn loses_the_link(origin: &Origin) {
    block_on(origin.lose_the_link());
}

fn clears(origin: &Origin) {
    block_on(origin.clear());
    get_or_load(origin, 0);
}

fn goes_away(origin: &Origin) {
    read_and_go_away(origin, 0);
    read_and_go_away(origin, 0);
}

fn does_anything(origin: &Origin) {
    for _ in 0..3 {
        let key = any_key();
        match thread_rng().gen_range(0..16) {
            0..6 => get_or_load(origin, key),
            6..9 => get(origin, key),
            9..11 => own_write(origin, key),
            11..13 => foreign_write(origin, key),
            13 => read_and_go_away(origin, key),
            14 => block_on(origin.clear()),
            _ => origin.forget(key),
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
