//! The server: commands in order, pushes at the end of an event-loop cycle by the last writer of the key.

use super::{
    ablation::Rule,
    config::{Config, Write},
    queue::Item,
    state::{Conn, Dirty, Foreign, Get, Put, Row, State, VERSIONS, Version},
};

/// Whose connection a change came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Own,
    Foreign,
}

/// Executes the next request of our connection.
pub(super) fn execute(state: &mut State, config: &Config) {
    let Some(item) = state.requests.pop() else { return };
    match item {
        Item::Read(getter) => {
            let getter = &mut state.getters[getter];
            getter.get = Get::Executed;
            getter.value = state.version;
            state.remembered = true;
            state.stream.push(item);
        }
        Item::Write(writer) => {
            run_write(state, config, writer, Origin::Own);
            // Nobody receives the reply to a write whose caller has gone.
            if state.writers[writer].put == Put::Queued {
                state.writers[writer].put = Put::Executed;
                state.stream.push(item);
            }
        }
        Item::Beat => state.stream.push(item),
        Item::Push | Item::Null => {}
    }
}

/// Executes the command of one own write, on whichever connection.
pub(super) fn run_write(state: &mut State, config: &Config, writer: usize, origin: Origin) {
    for other in &mut state.writers {
        other.behind &= !(1 << writer);
    }
    if config.loader_of(writer).is_some() {
        store(state, config, writer, origin);
        return;
    }
    let version = match config.writes[writer] {
        Write::Set => change(state, config, origin, false),
        // What a script writes is pushed to everyone, its own connection included.
        Write::Script => change(state, config, Origin::Foreign, false),
        // Removing what is not there changes nothing and is pushed to nobody.
        Write::Delete | Write::Clear if state.is_absent(state.version) => state.version,
        Write::Delete | Write::Clear => change(state, config, origin, true),
    };
    state.writers[writer].version = version;
    let row = state.writers[writer].row;
    row_done(state, row, version);
}

/// Stores a loaded row where nothing is: the version says whether it was stored.
fn store(state: &mut State, config: &Config, slot: usize, origin: Origin) {
    let row = state.writers[slot].row;
    if !state.is_absent(state.version) && config.keeps(Rule::StoreIsConditional) {
        state.writers[slot].version = 0;
        return;
    }
    let version = change(state, config, origin, false);
    state.set_row(version, row);
    state.writers[slot].version = version;
    // What is not caught by a promise by now is left to a lease at the server.
    state.excused |= u16::from(row < state.done_row) << version;
}

/// The write that follows a change of the row has reached the server.
fn row_done(state: &mut State, row: Row, version: Version) {
    state.done_row = state.done_row.max(row);
    if !state.is_absent(version) {
        state.set_row(version, row);
    }
}

/// Somebody else does to the key what follows the change of the row.
pub(super) fn follow_row(state: &mut State, config: &Config, foreign: Foreign) {
    let row = state.origin;
    let reported = foreign == Foreign::Set || !state.is_absent(state.version);
    if reported {
        let version = change(state, config, Origin::Foreign, foreign == Foreign::Delete);
        state.reported_row = row;
        if config.early_replies {
            state.acked_row = row;
        }
        row_done(state, row, version);
    } else {
        state.done_row = row;
    }
}

/// Changes the key, and notes for the end of the cycle who did.
pub(super) fn change(state: &mut State, config: &Config, origin: Origin, absent: bool) -> Version {
    new_version(state, config, absent);
    if config.without.has(Rule::Broadcast) {
        // One push for a key that was remembered; and an own write removes what was remembered without one.
        if origin == Origin::Foreign && state.remembered && state.tracking {
            state.dirty = Dirty::Foreign;
        }
        state.remembered = false;
    } else if state.tracking {
        state.dirty = match origin {
            Origin::Own => Dirty::Own,
            Origin::Foreign => Dirty::Foreign,
        };
    }
    state.version
}

/// Somebody empties the server: one null push, none for the key.
pub(super) fn flush(state: &mut State, config: &Config) {
    if !state.is_absent(state.version) {
        new_version(state, config, true);
    }
    state.null_due = state.tracking;
}

fn new_version(state: &mut State, config: &Config, absent: bool) {
    state.version += 1;
    assert!(state.version < VERSIONS, "a configuration small enough to explore has few versions");
    state.absent |= u16::from(absent) << state.version;
    if config.early_replies {
        state.acked = state.version;
    }
}

/// Whether anything waits for the end of the cycle.
pub(super) fn cycle_is_open(state: &State) -> bool {
    state.dirty != Dirty::No
        || state.null_due
        || state.acked != state.version
        || u32::from(state.sealed) != state.stream.len()
        || state.hot
}

/// Ends the cycle: pushes go out after its replies, and its acknowledgements have been sent.
pub(super) fn end_cycle(state: &mut State) {
    if state.null_due {
        state.stream.push(Item::Null);
    }
    if state.dirty == Dirty::Foreign {
        state.stream.push(Item::Push);
    }
    state.null_due = false;
    state.dirty = Dirty::No;
    state.acked = state.version;
    state.acked_row = state.reported_row;
    state.sealed = u8::try_from(state.stream.len()).expect("a queue holds at most sixteen");
    state.later = 0;
    state.hot = false;
}

/// Breaks the connection. Writes it had queued may still be executed later, or never.
pub(super) fn break_connection(state: &mut State) {
    while let Some(item) = state.requests.pop() {
        if let Item::Write(writer) = item {
            state.zombies |= 1 << writer;
        }
    }
    while state.stream.pop().is_some() {}
    state.sealed = 0;
    state.later = 0;
    state.hot = false;
    state.tracking = false;
    state.remembered = false;
    state.dirty = Dirty::No;
    state.null_due = false;
    state.conn = if state.is_up() { Conn::Lost } else { Conn::Down };
}
