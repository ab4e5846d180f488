//! The promises, checked in every state and on every value returned.

use super::{
    ablation::Rule,
    config::Config,
    promise::Promise,
    queue::Item,
    state::{Beat, Conn, Dirty, Get, Put, Row, State, Version},
};

/// Checks a state. An entry that would be served counts as returned, since a get may begin at any time.
pub(super) fn state(state: &State, config: &Config) -> Result<(), Promise> {
    let unless = |promise, holds: bool| if holds || !config.promises.has(promise) { Ok(()) } else { Err(promise) };
    if let Some(version) = state.served() {
        returned(state, config, version, state.seen)?;
        unless(Promise::BoundedStaleness, state.as_new_as(version) >= state.proven)?;
    }
    let current = state.valid().is_none_or(|version| state.same_bytes(version, state.version));
    unless(Promise::Announced, current || is_announced(state))?;
    if is_at_rest(state) {
        unless(Promise::NotStaleForEver, current)?;
        let registered = state.flight.is_some() || state.load.is_some_and(|load| load.epoch == state.epoch);
        unless(Promise::NothingLeaks, !registered && state.pending == 0 && state.live == 0)?;
    }
    if let Some(version) = state.served().filter(|&version| state.row(version) > 0) {
        unless(Promise::MonotonicLoads, state.is_excused(version) || state.row(version) >= state.seen_row)?;
    }
    unless(Promise::ServedBySecond, state.getters.iter().all(|getter| getter.in_vain < 2))?;
    unless(Promise::NothingLeaks, !somebody_waits_for_nobody(state))
}

/// Checks what a joiner is given.
pub(super) fn joined(state: &State, config: &Config, version: Version, proven: Version) -> Result<(), Promise> {
    if state.as_new_as(version) >= proven || !config.promises.has(Promise::BoundedJoins) {
        return Ok(());
    }
    Err(Promise::BoundedJoins)
}

/// Checks a value that a get returns, which began when the handle had seen `floor`.
pub(super) fn returned(state: &State, config: &Config, version: Version, floor: Version) -> Result<(), Promise> {
    if state.as_new_as(version) >= floor {
        return Ok(());
    }
    let written = state.writers.iter().any(|writer| {
        writer.put == Put::Acknowledged && writer.version <= floor && writer.version > state.as_new_as(version)
    });
    let promise = if written { Promise::ReadYourWrites } else { Promise::MonotonicReads };
    if config.promises.has(promise) { Err(promise) } else { Ok(()) }
}

/// Checks a row that a read returns, which began when the handle had seen `floor`.
pub(super) fn row_returned(config: &Config, row: Row, floor: Row) -> Result<(), Promise> {
    let older = row > 0 && row < floor;
    if older && config.promises.has(Promise::MonotonicLoads) { Err(Promise::MonotonicLoads) } else { Ok(()) }
}

/// Checks that the command of an own write may be executed now.
pub(super) fn takes_effect(state: &State, config: &Config, writer: usize) -> Result<(), Promise> {
    let unless = |promise, holds: bool| if holds || !config.promises.has(promise) { Ok(()) } else { Err(promise) };
    let is_in = |set: u8| set >> writer & 1 == 1;
    unless(Promise::UnsentHasNoEffect, !is_in(state.unsent))?;
    unless(Promise::NothingUndone, !is_in(state.over))?;
    unless(Promise::SettledByNextLink, !is_in(state.outlived))?;
    let overtaken = state.writers.iter().any(|other| {
        let executed = matches!(other.put, Put::Executed | Put::Replied | Put::Acknowledged);
        is_in(other.behind) && executed
    });
    unless(Promise::CallOrder, !overtaken)?;
    if config.loader_of(writer).is_none() {
        return Ok(());
    }
    let absent = state.is_absent(state.version);
    let stored = absent || !config.keeps(Rule::StoreIsConditional);
    unless(Promise::FreshLoads, !stored || absent && state.writers[writer].row >= state.own_row)
}

/// Checks what the server holds when an own write of this row is acknowledged.
pub(super) fn own_row_stands(state: &State, config: &Config, row: Row) -> Result<(), Promise> {
    let held = state.row(state.version);
    let stands =
        held == 0 || held >= row || state.is_excused(state.version) || !config.promises.has(Promise::FreshLoads);
    if stands { Ok(()) } else { Err(Promise::FreshLoads) }
}

/// Checks that the store of a loaded row may begin now.
pub(super) fn store_begins(state: &State, config: &Config, row: Row) -> Result<(), Promise> {
    let fresh = row >= state.proven_row || !config.promises.has(Promise::FreshLoads);
    if fresh { Ok(()) } else { Err(Promise::FreshLoads) }
}

fn is_announced(state: &State) -> bool {
    state.dirty == Dirty::Foreign
        || state.null_due
        || state.stream.contains(Item::Push)
        || state.stream.contains(Item::Null)
        || state.conn != Conn::Up
}

/// Nothing is under way, the link is up: what is now stays until somebody does something.
fn is_at_rest(state: &State) -> bool {
    state.conn == Conn::Up
        && state.tracking
        && state.requests.is_empty()
        && state.stream.is_empty()
        && state.dirty == Dirty::No
        && !state.null_due
        && state.beat == Beat::None
        && state.getters.iter().all(|getter| getter.get == Get::Idle)
        && state.writers.iter().all(|writer| matches!(writer.put, Put::Unused | Put::Acknowledged | Put::Failed))
}

fn somebody_waits_for_nobody(state: &State) -> bool {
    let waits_for = |leader: u8| state.getters[usize::from(leader)];
    state.getters.iter().any(|getter| match getter.get {
        Get::Joined => {
            let idle = |get| matches!(get, Get::Idle | Get::Joined | Get::Woken | Get::JoinedLoad | Get::Loaded);
            idle(waits_for(getter.value).get)
        }
        Get::JoinedLoad => !waits_for(getter.value).leads,
        _ => false,
    })
}
