//! What is promised of the handle.

use std::fmt;

/// A promise, as `DESIGN.md` §4 numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Promise {
    /// I1: a get returns nothing older than what the handle knows is written.
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
    /// A write that failed before it was sent never takes effect.
    UnsentHasNoEffect,
    /// A write that failed takes effect before the next link is up, or never.
    SettledByNextLink,
    /// No write that failed takes effect after one that was begun later was acknowledged.
    NothingUndone,
    /// Own writes of a key take effect in the order of their calls.
    CallOrder,
    /// No loaded value is stored over a newer one: over anything that is there, over the row of an own write once that
    /// is acknowledged, nor over one of somebody else's that was announced before the store began.
    FreshLoads,
    /// No read returns an older row than what the handle has seen, whether it was loaded or not.
    MonotonicLoads,
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
            Self::UnsentHasNoEffect => "what was not sent has no effect",
            Self::SettledByNextLink => "settled by the next link",
            Self::NothingUndone => "nothing acknowledged is undone",
            Self::CallOrder => "the order of the calls",
            Self::FreshLoads => "no loaded value over a newer one",
            Self::MonotonicLoads => "I2 with loads",
        })
    }
}

/// A set of [`Promise`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises(u16);

impl Promises {
    /// Every promise.
    pub const ALL: Self = Self(0xffff);

    /// Just this promise.
    #[must_use]
    pub const fn only(promise: Promise) -> Self {
        Self(1 << promise as u16)
    }

    /// These and another.
    #[must_use]
    pub const fn and(self, promise: Promise) -> Self {
        Self(self.0 | 1 << promise as u16)
    }

    /// All of these but one.
    #[must_use]
    pub const fn except(self, promise: Promise) -> Self {
        Self(self.0 & !(1 << promise as u16))
    }

    pub(super) const fn has(self, promise: Promise) -> bool {
        self.0 & (1 << promise as u16) != 0
    }
}
