//! The touches under way in one shard: changes of a key's life in the backend that leave its value as it is.
//!
//! As pure as the [shard](crate::shard) it belongs to.

use twotier_core::Timestamp;

use crate::{
    hash::KeyHasher,
    register::{Register, TicketId},
};

/// The registered touches: of each key the last one. One that is not registered any more extends no copy's life.
#[derive(Debug)]
pub(crate) struct Touches {
    registered: Register<Touch>,
}

#[derive(Clone, Copy, Debug)]
struct Touch {
    id: u64,
    /// By when the value may be gone once the touch was executed.
    deadline: Timestamp,
}

impl Touches {
    pub(crate) fn new(hasher: KeyHasher) -> Self {
        Self { registered: Register::new(hasher) }
    }

    /// Registers a touch, in the place of an earlier one: that is executed before.
    pub(crate) fn begin(&mut self, ticket: TicketId<'_>, deadline: Timestamp) {
        // Until the later one is executed the earlier one's word holds.
        let deadline = self.deadline(ticket.hash, ticket.key).map_or(deadline, |earlier| earlier.min(deadline));
        self.registered.put(ticket.hash, ticket.key, Touch { id: ticket.id, deadline });
    }

    /// Returns by when the value may be gone because of a touch under way.
    pub(crate) fn deadline(&mut self, hash: u64, key: &str) -> Option<Timestamp> {
        self.registered.find(hash, key).map(|touch| touch.deadline)
    }

    /// Ends a touch, and returns whether it was still the registered one.
    pub(crate) fn end(&mut self, ticket: TicketId<'_>) -> bool {
        self.registered.remove_if(ticket.hash, ticket.key, |touch| touch.id == ticket.id).is_some()
    }

    /// Something else happened to the key, which decides about its life.
    pub(crate) fn kill(&mut self, hash: u64, key: &str) {
        let _dead = self.registered.remove_if(hash, key, |_| true);
    }

    /// Kills every touch.
    pub(crate) fn clear(&mut self) {
        self.registered.drain().for_each(drop);
    }
}
