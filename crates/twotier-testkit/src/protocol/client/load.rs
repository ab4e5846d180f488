//! The local tier's third kind of ticket: the load, as [`client`](super) has the others.

use super::{abandon_write, end_write, kill_flight, register_write, wake_one};
use crate::protocol::{
    ablation::Rule,
    config::{Config, GETTERS},
    state::{Get, Load, Put, State, Version},
};

/// Takes part in the load of the key: leads it when there is no live one.
pub(in crate::protocol) fn begin_load(state: &mut State, config: &Config, getter: usize) -> Option<usize> {
    let joins = |load: &Load| {
        let current = load.epoch == state.epoch || !config.keeps(Rule::LoadChecksEpoch);
        current && !(load.dead && config.keeps(Rule::JoinOnlyLiveLoads))
    };
    let joined = state.load.filter(joins).map(|load| load.getter);
    if joined.is_none() {
        state.load = Some(Load { getter, epoch: state.epoch, saw: None, dead: false });
    }
    joined
}

/// Whether the load of this getter is live.
pub(in crate::protocol) fn is_live_load(state: &State, config: &Config, getter: usize) -> bool {
    state.load.is_some_and(|load| {
        let current = load.epoch == state.epoch || !config.keeps(Rule::LoadChecksEpoch);
        load.getter == getter && !load.dead && current
    })
}

/// Whether the store of what this getter loaded may begin; if so it is registered as an own write.
pub(in crate::protocol) fn begin_store(state: &mut State, config: &Config, getter: usize) -> bool {
    let live = is_live_load(state, config, getter);
    let gate = state.pending == 0 || !config.keeps(Rule::StoreChecksPending);
    let slot = config.store_of(getter);
    // A store whose caller went away may still be under way, or may still land.
    let free = state.writers[slot].put == Put::Unused && state.zombies >> slot & 1 == 0;
    if live && state.is_up() && gate && free {
        register_write(state, config, slot);
        return true;
    }
    false
}

/// Takes the load of a getter down, if it still is the registered one.
pub(in crate::protocol) fn end_load(state: &mut State, getter: usize) {
    state.load.take_if(|load| load.getter == getter);
}

/// Kills the registered load: nobody joins it any more, and what it brings is not stored. Those who joined it
/// are still given it.
pub(in crate::protocol) fn kill_load(state: &mut State, config: &Config) {
    if config.keeps(Rule::JoinOnlyLiveLoads) {
        state.load = None;
    } else if let Some(load) = &mut state.load {
        load.dead = true;
    }
}

/// A read has brought these bytes. What has read something else may be older, and whoever comes now may have seen
/// these.
pub(in crate::protocol) fn bind_load(state: &mut State, config: &Config, version: Version) {
    let Some(load) = state.load else { return };
    match load.saw {
        None => state.load = Some(Load { saw: Some(version), ..load }),
        Some(saw) if state.same_bytes(saw, version) || !config.keeps(Rule::LoadBoundToSeen) => {}
        Some(_other) => kill_load(state, config),
    }
}

/// Ends the store of a loaded value that was stored: as an own write, but for the load that it belongs to.
pub(in crate::protocol) fn end_store(state: &mut State, config: &Config, slot: usize) {
    let load = state.load;
    end_write(state, config, slot);
    restore_own_load(state, config, slot, load);
}

/// Ends the store of a loaded value that was not stored.
pub(in crate::protocol) fn abandon_store(state: &mut State, config: &Config, slot: usize) {
    let load = state.load;
    abandon_write(state, config, slot);
    restore_own_load(state, config, slot, load);
}

/// A loaded value is returned that was not stored: what is kept, being read or being loaded may be older.
pub(in crate::protocol) fn forget_older(state: &mut State, config: &Config) {
    if config.keeps(Rule::UnstoredLoadForgets) {
        kill_load(state, config);
        state.live = 0;
        state.entry = None;
        kill_flight(state, config);
    }
}

fn restore_own_load(state: &mut State, config: &Config, slot: usize, load: Option<Load>) {
    state.load = load.filter(|load| config.loader_of(slot) == Some(load.getter)).or(state.load);
}

/// Ends a load that brought nothing: those who joined it elect again.
pub(in crate::protocol) fn abandon_load(state: &mut State, getter: usize) {
    end_load(state, getter);
    for joiner in load_joiners(state, getter) {
        wake_one(state, joiner);
    }
}

/// Those who wait for the load of a getter, as they are now.
pub(in crate::protocol) fn load_joiners(state: &State, leader: usize) -> impl Iterator<Item = usize> + use<> {
    let getters = state.getters;
    (0..GETTERS)
        .filter(move |&joiner| getters[joiner].get == Get::JoinedLoad && usize::from(getters[joiner].value) == leader)
}
