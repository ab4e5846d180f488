//! The local tier: one function for each step of `shard.rs`, `link.rs` and `push.rs` of the real code, under its name.
//!
//! Ids of tickets are the indices of getters and writers: a getter begins nothing new before its last ticket has ended.

mod load;

use self::load::kill_load;
pub(super) use self::load::{
    abandon_load, abandon_store, begin_load, begin_store, bind_load, end_load, end_store, forget_older, is_live_load,
    load_joiners,
};
use super::{
    ablation::Rule,
    config::{Config, GETTERS, Write},
    state::{Conn, Entry, Flight, Get, Row, State, Version, is_odd},
};

/// What a read returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FillStart {
    Hit(Version),
    /// With the getter that leads, and the only bytes it may hand on.
    Join(usize, Option<Version>),
    /// With the epoch of the ticket.
    Lead(u8),
    /// With the epoch of the ticket, which is even.
    Bypass(u8),
}

/// Looks the key up, and on a miss joins or registers a read.
pub(super) fn begin_fill(state: &mut State, config: &Config, getter: usize) -> FillStart {
    if let Some(version) = state.served() {
        return FillStart::Hit(version);
    }
    if !state.is_up() {
        return FillStart::Bypass(state.epoch);
    }
    match state.flight {
        Some(flight) if flight.epoch == state.epoch && is_young(state, config, getter, flight) => {
            return FillStart::Join(flight.getter, only_for(state, config, getter, flight));
        }
        Some(_outdated_or_old) => kill_flight(state, config),
        None => {}
    }
    for waiting in state.getters.iter_mut().filter(|other| other.waits()) {
        waiting.fresh = true;
    }
    let since = if config.ages() { state.acked } else { 0 };
    state.flight = Some(Flight { getter, epoch: state.epoch, bound: None, since, dead: false });
    FillStart::Lead(state.epoch)
}

/// Whether a read is younger than the staleness bound, so that its answer cannot be older. With a lease the bound is
/// the lease's mark; without one there is none in the model, but in the real code it is the clock that tells.
fn is_young(state: &State, config: &Config, getter: usize, flight: Flight) -> bool {
    !state.lease
        || flight.since >= state.proven
        || state.getters[getter].fresh
        || !config.ages()
        || config.without.has(Rule::JoinOnlyYoung)
}

/// What bytes alone a joiner may be given, if the read is bound. The answer that bound it may have been returned before
/// the get began; but a read that was registered since brings nothing older anyway. In the real code it is one that is
/// found when a get looks again.
fn only_for(state: &State, config: &Config, getter: usize, flight: Flight) -> Option<Version> {
    let free = state.getters[getter].fresh && !config.without.has(Rule::EarlierJoinersAreFree);
    flight.bound.filter(|_| !free && !config.without.has(Rule::JoinersOfBoundAreBound))
}

/// Whether a joiner may be given an answer; `kept` says whether the answer may be inserted.
pub(super) fn may_be_given(state: &State, config: &Config, joiner: usize, version: Version, kept: bool) -> bool {
    let allowed = state.getters[joiner].only.is_none_or(|only| state.same_bytes(only, version));
    // A dead read that may be joined is one whose answer is handed on.
    let dead = config.without.has(Rule::JoinOnlyLive);
    kept || allowed && (dead || !config.without.has(Rule::JoinersStay))
}

/// Ends a read with an answer. Returns whether it may be inserted.
pub(super) fn end_fill(state: &mut State, config: &Config, getter: usize) -> bool {
    let without = config.without;
    let Getting { epoch, version } = Getting::of(state, getter);
    let registered = take_flight(state, getter);
    let live = registered.is_some_and(|flight| !flight.dead) || without.has(Rule::OnlyRegisteredInserts);
    let current = epoch == state.epoch || without.has(Rule::FillChecksEpoch);
    let bound = registered.and_then(|flight| flight.bound);
    let allowed = bound.is_none_or(|bound| state.same_bytes(bound, version));
    let gate = state.pending == 0 || without.has(Rule::PendingGate);
    bind_load(state, config, version);
    if live && state.is_up() && current && allowed && gate {
        state.entry = Some(Entry { version, epoch: state.epoch });
        return true;
    }
    refuse(state, config, epoch, version);
    false
}

/// A refused answer may be newer than what is kept, about to be kept, or being read.
fn refuse(state: &mut State, config: &Config, epoch: u8, version: Version) {
    let without = config.without;
    if !is_odd(epoch) && without.has(Rule::BypassEndsAsRefused) {
        return;
    }
    if state.pending > 0 && !pending_bytes_are(state, config, version) && !without.has(Rule::RefusedFillKillsWrite) {
        state.live = 0;
    }
    let other = state.entry.is_some_and(|entry| !state.same_bytes(entry.version, version));
    if other && !without.has(Rule::RefusedFillEvicts) {
        state.entry = None;
    }
    if !without.has(Rule::RefusedFillBindsFlight) {
        bind_flight(state, config, version);
    }
}

/// The registered read may be of an older version than the answer that was refused: it was registered later, but its
/// command may have been queued first. Killing it would be safe too, but each would then kill its successor, and a key
/// that many ask for would never be kept.
fn bind_flight(state: &mut State, config: &Config, version: Version) {
    let Some(flight) = state.flight else { return };
    match flight.bound {
        None => {
            state.flight = Some(Flight { bound: Some(version), ..flight });
            if config.without.has(Rule::EarlierJoinersAreFree) {
                for joiner in joiners(state, flight.getter) {
                    state.getters[joiner].only = Some(version);
                }
            }
        }
        Some(bound) if state.same_bytes(bound, version) => {}
        Some(_other) => {
            kill_flight(state, config);
            if config.without.has(Rule::EarlierJoinersAreFree) {
                wake_in_vain(state, flight.getter);
            }
        }
    }
}

/// Whether the write that was registered last writes the bytes of this version.
fn pending_bytes_are(state: &State, config: &Config, version: Version) -> bool {
    let writer = usize::from(state.last_registered);
    let row = state.writers[writer].row;
    if row > 0 && state.row(version) > 0 {
        return state.row(version) == row;
    }
    match config.writes.get(writer) {
        Some(Write::Set | Write::Script) => state.writers[writer].version == version && version != 0,
        Some(Write::Delete | Write::Clear) => state.is_absent(version),
        None => false,
    }
}

/// What a getter's ticket and reply say.
struct Getting {
    epoch: u8,
    version: Version,
}

impl Getting {
    fn of(state: &State, getter: usize) -> Self {
        let getter = state.getters[getter];
        Self { epoch: getter.epoch, version: getter.value }
    }
}

/// Ends a read that brought nothing. Returns whether it was still registered.
pub(super) fn abandon_fill(state: &mut State, getter: usize) -> bool {
    let registered = take_flight(state, getter).is_some();
    // Those who joined before it was killed receive the outcome as well.
    wake(state, getter);
    registered
}

/// Registers an own write: the entry goes at once, and no read or load from before may insert or be joined.
pub(super) fn begin_write(state: &mut State, config: &Config, writer: usize) {
    if config.keeps(Rule::WriteBeginKillsLoad) {
        kill_load(state, config);
    }
    register_write(state, config, writer);
}

fn register_write(state: &mut State, config: &Config, writer: usize) {
    let mine = 1 << writer;
    state.live = if config.without.has(Rule::OverlapInstallsNothing) {
        state.live | mine
    } else if state.pending == 0 || config.without.has(Rule::LastRegisteredMayNotInstall) {
        mine
    } else {
        0
    };
    state.pending += 1;
    state.last_registered = u8::try_from(writer).expect("there are few writers");
    if !config.without.has(Rule::WriteEvictsAtRegistration) {
        state.entry = None;
    }
    kill_flight(state, config);
}

/// Ends an own write that succeeded.
pub(super) fn end_write(state: &mut State, config: &Config, writer: usize) {
    let live = settle_write(state, writer);
    let ticket = state.writers[writer];
    let current = ticket.epoch == state.epoch || config.without.has(Rule::WriteChecksEpoch);
    kill_at_end(state, config);
    state.entry = (live && state.is_up() && current).then_some(Entry { version: ticket.version, epoch: state.epoch });
}

/// Ends an own write that installs nothing.
pub(super) fn abandon_write(state: &mut State, config: &Config, writer: usize) {
    settle_write(state, writer);
    state.entry = None;
    kill_at_end(state, config);
}

fn kill_at_end(state: &mut State, config: &Config) {
    if config.keeps(Rule::WriteEndKillsLoad) {
        kill_load(state, config);
    }
    if !config.without.has(Rule::WriteKillsAtEnd) {
        kill_flight(state, config);
    }
}

fn settle_write(state: &mut State, writer: usize) -> bool {
    let live = state.live >> writer & 1 == 1;
    state.live &= !(1 << writer);
    state.pending -= 1;
    if state.pending == 0 {
        state.last_registered = 0;
    }
    live
}

/// The server reports a change.
pub(super) fn changed(state: &mut State, config: &Config) {
    if !config.without.has(Rule::PushKillsWrite) {
        state.live = 0;
    }
    if config.keeps(Rule::PushKillsLoad) {
        kill_load(state, config);
    }
    state.entry = None;
    kill_flight(state, config);
}

/// A joiner has waited long enough: it takes the registered read down and looks again.
pub(super) fn lose_patience(state: &mut State, config: &Config, joiner: usize) {
    wake_one(state, joiner);
    invalidate(state, config);
}

/// Forgets the key: entry, read and right to install.
pub(super) fn invalidate(state: &mut State, config: &Config) {
    state.live = 0;
    state.entry = None;
    kill_load(state, config);
    let flight = state.flight;
    kill_flight(state, config);
    // Whoever asks for this does not want to wait for the read.
    if let Some(flight) = flight.filter(|flight| !flight.dead) {
        wake(state, flight.getter);
    }
}

/// Everything may have changed.
pub(super) fn flushed(state: &mut State) {
    if state.is_up() {
        change_epoch(state, 2);
    }
}

/// What clearing the namespace does before its commands.
pub(super) fn begin_clear(state: &mut State, config: &Config, writer: usize) {
    forget(state, config);
    if !config.without.has(Rule::ClearGatesFills) {
        // As a write of every key that never installs.
        state.pending += 1;
        state.last_registered = u8::try_from(writer).expect("there are few writers");
    }
}

/// What clearing the namespace does after its commands, however they ended.
pub(super) fn end_clear(state: &mut State, config: &Config, writer: usize) {
    if !config.without.has(Rule::ClearGatesFills) {
        settle_write(state, writer);
    }
    forget(state, config);
}

fn forget(state: &mut State, config: &Config) {
    flushed(state);
    invalidate(state, config);
}

/// The connection has been lost.
pub(super) fn link_down(state: &mut State) {
    if state.is_up() {
        change_epoch(state, 1);
    }
    state.conn = if state.conn == Conn::Up { Conn::Closing } else { Conn::Down };
}

/// The new connection is published, and the epoch goes up. Before that it has ended the old one at the server.
pub(super) fn link_up(state: &mut State, config: &Config, mark: Version, row_mark: Row) {
    if !config.unfenced && config.keeps(Rule::NewLinkEndsTheOld) {
        state.zombies = 0;
    }
    state.outlived = state.zombies;
    state.proven_row = row_mark;
    state.conn = Conn::Up;
    change_epoch(state, 1);
    state.lease = true;
    state.proven = mark;
}

/// A copy of another epoch can never be served again: it is removed here instead of when it is next looked at.
fn change_epoch(state: &mut State, by: u8) {
    state.epoch += by;
    state.entry = None;
}

/// A heartbeat was answered.
pub(super) fn proof(state: &mut State, mark: Version, row_mark: Row, epoch: u8) {
    if is_odd(epoch) && epoch == state.epoch {
        state.proven_row = state.proven_row.max(row_mark);
        state.proven = state.proven.max(mark);
        state.lease = true;
    }
}

/// Kills the registered read: nobody joins it any more, and its answer is not inserted. Those who joined it
/// are still given it: nothing that happens after a get has begun obliges it to return something newer.
fn kill_flight(state: &mut State, config: &Config) {
    let Some(flight) = state.flight else { return };
    if config.without.has(Rule::JoinOnlyLive) {
        state.flight = Some(Flight { dead: true, ..flight });
        return;
    }
    state.flight = None;
    if config.without.has(Rule::JoinersStay) {
        wake_in_vain(state, flight.getter);
    }
}

fn take_flight(state: &mut State, getter: usize) -> Option<Flight> {
    state.flight.take_if(|flight| flight.getter == getter)
}

/// Wakes those who joined a read: they look again.
fn wake(state: &mut State, leader: usize) {
    for joiner in joiners(state, leader) {
        wake_one(state, joiner);
    }
}

/// Wakes those who joined a read: it may still be answered, but not to them.
fn wake_in_vain(state: &mut State, leader: usize) {
    for joiner in joiners(state, leader) {
        refuse_joiner(state, joiner);
    }
}

/// Wakes a joiner that may not be given the answer.
pub(super) fn refuse_joiner(state: &mut State, joiner: usize) {
    wake_one(state, joiner);
    state.getters[joiner].in_vain = (state.getters[joiner].in_vain + 1).min(2);
}

fn wake_one(state: &mut State, joiner: usize) {
    let joiner = &mut state.getters[joiner];
    (joiner.get, joiner.value, joiner.only) = (Get::Woken, 0, None);
}

/// Those who wait for the read of a getter, as they are now.
pub(super) fn joiners(state: &State, leader: usize) -> impl Iterator<Item = usize> + use<> {
    let getters = state.getters;
    (0..GETTERS)
        .filter(move |&joiner| getters[joiner].get == Get::Joined && usize::from(getters[joiner].value) == leader)
}
