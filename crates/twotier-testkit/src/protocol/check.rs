//! What is promised, checked in every state and on every value returned.

use std::fmt;

use super::{
    config::Config,
    queue::Item,
    state::{Beat, Conn, Dirty, Get, Put, State, Version},
};

/// A promise, as `DESIGN.md` §4 numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Promise {
    /// I1: a get returns nothing older than what the handle was told is written.
    ReadYourWrites,
    /// I2: a get returns nothing older than what a get of the handle returned before it began.
    MonotonicReads,
    /// I3: no hit is older than what was acknowledged before the mark of the lease.
    BoundedStaleness,
    /// I5: an entry older than the server's value means that a push is on its way or the link is broken.
    Announced,
    /// At rest an entry is what the server has: nothing is stale for ever.
    NotStaleForEver,
    /// I6: at rest nothing is registered, and nobody waits for a read that is gone.
    NothingLeaks,
    /// A get waits in vain for one answer of somebody else at most: of many, all are served by the second. Leaders that
    /// fail or are dropped bring no answer, and whoever takes a read down by hand does not want it: neither counts.
    ServedBySecond,
    /// What a joiner is given is no older than what was acknowledged before the mark of the lease it began under.
    BoundedJoins,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadYourWrites => "I1 read-your-writes",
            Self::MonotonicReads => "I2 monotonic reads",
            Self::BoundedStaleness => "I3 bounded staleness",
            Self::Announced => "I5 announced staleness",
            Self::NotStaleForEver => "never stale for ever",
            Self::NothingLeaks => "I6 nothing leaks",
            Self::ServedBySecond => "served by the second answer",
            Self::BoundedJoins => "I3 for joiners",
        })
    }
}

/// A set of [`Promise`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises(u8);

impl Promises {
    /// Every promise.
    pub const ALL: Self = Self(0xff);

    /// Just this promise.
    #[must_use]
    pub const fn only(promise: Promise) -> Self {
        Self(1 << promise as u8)
    }

    /// These and another.
    #[must_use]
    pub const fn and(self, promise: Promise) -> Self {
        Self(self.0 | 1 << promise as u8)
    }

    /// All of these but one.
    #[must_use]
    pub const fn except(self, promise: Promise) -> Self {
        Self(self.0 & !(1 << promise as u8))
    }

    pub(super) const fn has(self, promise: Promise) -> bool {
        self.0 & (1 << promise as u8) != 0
    }
}

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
        unless(Promise::NothingLeaks, state.flight.is_none() && state.pending == 0 && state.live == 0)?;
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
    let waits_for = |leader: u8| state.getters[usize::from(leader)].get;
    state.getters.iter().any(|getter| {
        getter.get == Get::Joined && matches!(waits_for(getter.value), Get::Idle | Get::Joined | Get::Woken)
    })
}
