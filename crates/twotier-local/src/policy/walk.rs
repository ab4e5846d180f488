//! A walk over the keys of a shard in pieces, between which the shard is unlocked: each key is in a node of its own
//! somewhere, and all of those of a large shard take half a millisecond.
//!
//! Between two pieces entries come, go and move. A walk goes on behind the last two neighbours that still are
//! neighbours, and begins its queue again where there are none, without naming a key twice. An entry only ever moves
//! towards the end of its queue or to a later queue until its key is written anew, so that a walk forwards finds every
//! key that stays.

use std::mem;

use hashlink::LinkedHashSet;
use smol_str::SmolStr;

/// How many keys are looked at while a shard is locked.
pub(super) const PIECE: usize = 64;
/// How often a walk begins a queue again before it goes on to the next one: entries stay for less than a piece takes.
const RESTARTS: usize = 16;

/// Which way a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From those that go first.
    Forwards,
    /// From the hottest.
    Backwards,
}

/// A walk under way.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(super) way: Way,
    wanted: usize,
    pub(super) queue: usize,
    /// The piece before, in the order of the walk; empty at the beginning of a queue.
    pub(super) before: Vec<SmolStr>,
    /// Room for a piece: nothing allocates while the shard is locked.
    pub(super) keys: Vec<SmolStr>,
    restarts: usize,
    found: LinkedHashSet<SmolStr>,
    ended: bool,
}

/// What one look at the shard brought.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The keys are in the walk.
    Keys,
    /// None of the keys before are where they were.
    Lost,
    /// There is no such queue.
    End,
}

/// A queue of keys, whatever a policy keeps beside its entries.
pub(super) trait Queue {
    fn piece(&mut self, walk: &mut Walk) -> Piece;
}

impl Walk {
    pub(crate) fn new(way: Way, wanted: usize) -> Self {
        Self {
            way,
            wanted,
            queue: 0,
            before: Vec::with_capacity(PIECE),
            keys: Vec::with_capacity(PIECE),
            restarts: 0,
            found: LinkedHashSet::new(),
            ended: wanted == 0,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes a piece in, with the shard unlocked.
    pub(crate) fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Keys => {
                let more = self.keys.len() == PIECE;
                mem::swap(&mut self.before, &mut self.keys);
                self.keys.clear();
                for key in &self.before {
                    // The first place counts: a key seen again has moved since.
                    if !self.found.contains(key) {
                        self.found.insert(key.clone());
                    }
                }
                if !more {
                    self.next_queue();
                }
            }
            Piece::Lost => {
                self.before.clear();
                self.restarts += 1;
                if self.restarts > RESTARTS {
                    self.next_queue();
                }
            }
            Piece::End => self.ended = true,
        }
        self.ended |= self.found.len() >= self.wanted;
    }

    fn next_queue(&mut self) {
        self.queue += 1;
        self.restarts = 0;
        self.before.clear();
    }

    /// Returns the keys in the order of the walk.
    pub(crate) fn into_keys(self) -> impl Iterator<Item = SmolStr> {
        self.found.into_iter().take(self.wanted)
    }
}
