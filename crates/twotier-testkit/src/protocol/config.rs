//! What is explored: who takes part, what may go wrong and how often, and which rules are left out.

use super::{
    ablation::{Rule, Rules},
    promise::{Promise, Promises},
};

/// The most getters of a configuration.
pub const GETTERS: usize = 3;
/// The most own writes of a configuration.
pub const WRITES: usize = 3;

/// What an own write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// `SET`.
    Set,
    /// `UNLINK`.
    Delete,
    /// A script that sets the key: it installs nothing, and is reported to its own connection too.
    Script,
    /// Clearing the namespace: forget, `UNLINK`, forget again.
    Clear,
}

/// One configuration of the model. Every action it allows is tried in every state.
///
/// Getters start over and over; an own write happens at most once; the numbers say how often the rest may happen.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How many gets of the handle may be under way at the same time, at most [`GETTERS`].
    pub getters: usize,
    /// The own writes, at most [`WRITES`]. All may be under way at the same time, in any order.
    pub writes: &'static [Write],
    /// How often somebody else writes the key.
    pub foreign_sets: u8,
    /// How often the key is removed: deleted by somebody else, evicted or expired.
    pub removals: u8,
    /// How often somebody flushes the server.
    pub flushes: u8,
    /// How often the connection breaks.
    pub breaks: u8,
    /// How many heartbeats there are.
    pub beats: u8,
    /// How often the lease runs out.
    pub lapses: u8,
    /// Whether a getter may be dropped at every await, which is what a timeout does too.
    pub cancel: bool,
    /// Whether a joiner may lose patience and take the flight down.
    pub patience: bool,
    /// Whether the local tier may evict the entry at any time.
    pub evictions: bool,
    /// Whether acknowledgements may leave before the end of the event-loop cycle, as with the I/O threads of Redis 8.
    pub early_replies: bool,
    /// Whether the drop of a caller ends the bookkeeping of its write (twotier's writes are detached).
    pub attached_writes: bool,
    /// Whether reads go over a second connection, which is not tracked.
    pub split_reads: bool,
    /// Whether an own write may miss its deadline before it is queued.
    pub deadlines: bool,
    /// Whether own writes are queued in the order of their calls. Without it in any order, which is more than there is.
    pub ordered: bool,
    /// Whether the server forbids a new link to end the old one.
    pub unfenced: bool,
    /// Whether the server reports nothing.
    pub unreported: bool,
    /// How many of the getters load what is absent from an origin, whose row every write changes first. The key is
    /// absent in the beginning then, and writes happen one after the other.
    pub loaders: usize,
    /// How many loads there are.
    pub loads: u8,
    /// Whether the row of an own deletion may change as late as just before the deletion is acknowledged. Without it
    /// the row changes before the deletion begins.
    pub late_rows: bool,
    /// How often somebody else changes the row and deletes the key, instead of writing it.
    pub foreign_deletes: u8,
    /// The rules that are left out.
    pub without: Rules,
    /// What is checked.
    pub promises: Promises,
}

impl Config {
    /// One getter, nothing else, every rule in force, everything checked.
    pub const BASE: Self = Self {
        getters: 1,
        writes: &[],
        foreign_sets: 0,
        removals: 0,
        flushes: 0,
        breaks: 0,
        beats: 0,
        lapses: 0,
        cancel: false,
        patience: false,
        evictions: false,
        early_replies: false,
        attached_writes: false,
        split_reads: false,
        deadlines: false,
        ordered: false,
        unfenced: false,
        unreported: false,
        loaders: 0,
        loads: 0,
        late_rows: false,
        foreign_deletes: 0,
        without: Rules::NONE,
        promises: Promises::ALL,
    };

    /// Whether the ages of reads under way are kept, which costs states: only where a lease can have a later mark than
    /// their start, and somebody asks. Where they are not, reads of any age are joined.
    pub(super) fn ages(&self) -> bool {
        self.beats > 0 && self.promises.has(Promise::BoundedJoins)
    }

    /// Whether there is an origin.
    pub(super) fn has_origin(&self) -> bool {
        self.loaders > 0
    }

    /// The slot of a loader's store, among those of the own writes: the last ones.
    pub(super) fn store_of(&self, loader: usize) -> usize {
        assert!(self.writes.len() + self.loaders <= WRITES, "stores and own writes share their slots");
        WRITES - 1 - loader
    }

    /// The loader whose store is in this slot, if it is one.
    pub(super) fn loader_of(&self, slot: usize) -> Option<usize> {
        (slot >= self.writes.len()).then(|| WRITES - 1 - slot)
    }

    /// Whether this rule is in force.
    pub(super) fn keeps(&self, rule: Rule) -> bool {
        !self.without.has(rule)
    }
}
