//! The bookkeeping of an own write, from its registration to its end.

use super::{
    ablation::Rule,
    client,
    config::{Config, WRITES, Write},
    queue::Item,
    state::{Put, State, Writer},
};

/// Notes what an own write comes after.
pub(super) fn register(state: &mut State, config: &Config, writer: usize) {
    let all = |put: Put| {
        let is = |other: &usize| *other != writer && state.writers[*other].put == put;
        (0..WRITES).filter(is).fold(0, |set, other| set | 1 << other)
    };
    let (after, behind) = (all(Put::Failed), if config.ordered { all(Put::Registered) } else { 0 });
    // What was before in its slot is behind nobody any more.
    for other in &mut state.writers {
        other.behind &= !(1 << writer);
    }
    let row = state.writers[writer].row;
    state.writers[writer] = Writer { put: Put::Registered, epoch: state.epoch, version: 0, row, after, behind };
}

/// The caller of an attached write goes, and the bookkeeping with it. What was queued is executed all the same.
pub(super) fn drop_attached(state: &mut State, config: &Config, writer: usize) {
    if let Some(at) = state.stream.remove(Item::Write(writer))
        && at < u32::from(state.sealed)
    {
        state.sealed -= 1;
    }
    if !config.without.has(Rule::DropGuard) {
        abandon(state, config, writer);
    }
    end(state, writer, Put::Failed);
}

/// Ends the bookkeeping of a write that is not acknowledged.
pub(super) fn abandon(state: &mut State, config: &Config, writer: usize) {
    match config.writes[writer] {
        Write::Set | Write::Delete | Write::Script => client::abandon_write(state, config, writer),
        Write::Clear => client::end_clear(state, config, writer),
    }
}

/// Ends a write: only what is still looked at is kept.
pub(super) fn end(state: &mut State, writer: usize, put: Put) {
    // The row of a write that failed may still land.
    let Writer { version, row, behind, .. } = state.writers[writer];
    state.writers[writer] = match put {
        Put::Failed => Writer { put, row, ..Writer::UNUSED },
        _ => Writer { put, version, behind, ..Writer::UNUSED },
    };
}
