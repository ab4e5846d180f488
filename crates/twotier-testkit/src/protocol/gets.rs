//! What the caller of a get does, and one that loads: it takes part in the load of the key, reads, runs its loader, and
//! stores what that brings.

use super::{
    ablation::Rule,
    check,
    client::{self, FillStart},
    config::Config,
    promise::Promise,
    state::{Get, Getter, Row, State, Version, Writer},
    writes,
};

/// Begins a call, or begins it again: one that loads takes part in the load of the key first.
pub(super) fn begin(state: &mut State, config: &Config, getter: usize) -> Result<(), Promise> {
    if getter >= config.loaders || state.getters[getter].leads {
        return look(state, config, getter);
    }
    if let Some(version) = state.served().filter(|&version| !state.is_absent(version)) {
        return give(state, config, getter, version);
    }
    let registered = state.load;
    match client::begin_load(state, config, getter) {
        Some(leader) => {
            let value = u8::try_from(leader).expect("there are few getters");
            state.getters[getter] = Getter { get: Get::JoinedLoad, value, only: None, ..state.getters[getter] };
            Ok(())
        }
        None if state.left.loads == 0 => {
            // No further load is explored: as if the caller went away.
            state.load = registered;
            state.getters[getter] = Getter::IDLE;
            Ok(())
        }
        None => {
            state.left.loads -= 1;
            state.getters[getter].leads = true;
            look(state, config, getter)
        }
    }
}

/// Looks the key up, and joins or registers a read when it is not there.
fn look(state: &mut State, config: &Config, getter: usize) -> Result<(), Promise> {
    let getting = state.getters[getter];
    state.getters[getter] = match client::begin_fill(state, config, getter) {
        FillStart::Hit(version) => {
            client::bind_load(state, config, version);
            return give(state, config, getter, version);
        }
        FillStart::Join(leader, only) => {
            let first = getting.get == Get::Idle && state.lease && config.ages();
            let value = u8::try_from(leader).expect("there are few getters");
            let proven = if first { state.proven } else { getting.proven };
            Getter { get: Get::Joined, value, only, proven, ..getting }
        }
        // It need not wait for anybody else.
        FillStart::Lead(epoch) | FillStart::Bypass(epoch) => {
            let Getter { floor, row_floor, leads, .. } = getting;
            Getter { get: Get::Registered, epoch, floor, row_floor, leads, ..Getter::IDLE }
        }
    };
    Ok(())
}

/// Acts on the reply of a read: hands it on to those who joined, and returns it.
pub(super) fn end_get(state: &mut State, config: &Config, getter: usize) -> Result<(), Promise> {
    let version = state.getters[getter].value;
    let joiners = client::joiners(state, getter);
    let kept = client::end_fill(state, config, getter);
    for joiner in joiners {
        if client::may_be_given(state, config, joiner, version, kept) {
            check::joined(state, config, version, state.getters[joiner].proven)?;
            give(state, config, joiner, version)?;
        } else {
            client::refuse_joiner(state, joiner);
        }
    }
    give(state, config, getter, version)
}

/// Returns a value to the caller of a get. One that leads a load and finds nothing goes on to its loader.
fn give(state: &mut State, config: &Config, getter: usize, version: Version) -> Result<(), Promise> {
    let Getter { floor, row_floor, leads, .. } = state.getters[getter];
    if leads && state.is_absent(version) {
        state.getters[getter] = Getter { get: Get::Loading, row_floor, leads, ..Getter::IDLE };
        return Ok(());
    }
    check::returned(state, config, version, floor)?;
    // Nothing is promised of the row of an excused version.
    let row = if state.is_excused(version) { 0 } else { state.row(version) };
    check::row_returned(config, row, row_floor)?;
    state.seen = state.seen.max(version);
    state.getters[getter] = Getter::IDLE;
    state.seen_row = state.seen_row.max(row);
    if leads { hand_on_found(state, config, getter, version) } else { Ok(()) }
}

/// Hands what the leader of a load found in the backend on to those who joined, or wakes them.
fn hand_on_found(state: &mut State, config: &Config, getter: usize, version: Version) -> Result<(), Promise> {
    if !client::is_live_load(state, config, getter) && config.keeps(Rule::FoundIsHandedOnByLiveLoads) {
        client::abandon_load(state, getter);
        return Ok(());
    }
    client::end_load(state, getter);
    for joiner in client::load_joiners(state, getter) {
        give(state, config, joiner, version)?;
    }
    Ok(())
}

/// A loader has returned: its row is stored, or only handed on.
pub(super) fn end_loader(state: &mut State, config: &Config, getter: usize) -> Result<(), Promise> {
    let Getter { value: row, unreached, .. } = state.getters[getter];
    if unreached || !client::begin_store(state, config, getter) {
        return return_row(state, config, getter, row, false);
    }
    check::store_begins(state, config, row)?;
    let slot = config.store_of(getter);
    state.writers[slot].row = row;
    writes::register(state, config, slot);
    state.getters[getter].get = Get::Storing;
    Ok(())
}

/// The store of a loaded row has ended, stored or not: the caller, if it is still there, is given the row.
pub(super) fn end_store(state: &mut State, config: &Config, slot: usize) -> Result<(), Promise> {
    let Writer { row, version, .. } = state.writers[slot];
    // A store that was lost may still land: its row is needed then.
    let zombie = state.zombies >> slot & 1 == 1;
    state.writers[slot] = Writer { row: if zombie { row } else { 0 }, ..Writer::UNUSED };
    match config.loader_of(slot) {
        Some(getter) if state.getters[getter].get == Get::Storing => {
            return_row(state, config, getter, row, version > 0)
        }
        _ => Ok(()),
    }
}

/// Returns a loaded row to the caller and to those who joined.
fn return_row(state: &mut State, config: &Config, getter: usize, row: Row, stored: bool) -> Result<(), Promise> {
    if !stored {
        client::forget_older(state, config);
    }
    check::row_returned(config, row, state.getters[getter].row_floor)?;
    // A row whose write has not come to the key yet may be followed by the one before, which somebody else loaded.
    state.seen_row = state.seen_row.max(row.min(state.done_row));
    state.getters[getter] = Getter::IDLE;
    client::end_load(state, getter);
    for joiner in client::load_joiners(state, getter) {
        check::row_returned(config, row, state.getters[joiner].row_floor)?;
        state.getters[joiner] = Getter::IDLE;
    }
    Ok(())
}
