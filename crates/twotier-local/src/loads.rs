//! The loads under way in one shard: at most one for each key, and what ends its right to be joined and stored.
//!
//! As pure as the [shard](crate::shard) it belongs to.

use crate::{
    digest::Digest,
    hash::KeyHasher,
    register::{Register, TicketId},
};

/// The registered loads. `L` is how their joiners are reached.
///
/// A load that is not registered, or of another epoch than the current one, is dead: nobody joins it any more and its
/// value is not stored. Those who joined before are given its outcome all the same, but for a value that may be older
/// than an answer from before they joined.
#[derive(Debug)]
pub(crate) struct Loads<L> {
    registered: Register<Registered<L>>,
}

#[derive(Debug)]
struct Registered<L> {
    id: u64,
    epoch: u64,
    load: L,
    /// What the backend was last known to hold since the load was registered.
    saw: Option<Digest>,
    /// The own write by which the load stores its value.
    store: Option<Store>,
    /// Whether an overtaken load has returned a value meanwhile: this one's may be older.
    outrun: bool,
}

#[derive(Clone, Copy, Debug)]
struct Store {
    write: u64,
    digest: Digest,
}

/// Whether somebody who asks for a load leads one.
#[derive(Debug)]
pub(crate) enum LoadStart<L> {
    Lead,
    Join {
        load: L,
        id: u64,
        /// Whether something newer than its value may have been returned before the joiner began.
        outrun: bool,
        /// Whether somebody received what the backend holds since the load was registered, and before the joiner began.
        informed: bool,
    },
}

impl<L> Loads<L> {
    pub(crate) fn new(hasher: KeyHasher) -> Self {
        Self { registered: Register::new(hasher) }
    }

    /// Returns whether the load may still be joined and stored.
    pub(crate) fn is_live(&mut self, ticket: TicketId<'_>, epoch: u64) -> bool {
        epoch == ticket.epoch && self.registered.find(ticket.hash, ticket.key).is_some_and(|load| load.id == ticket.id)
    }

    /// The backend was found to hold this. A load dies of an answer that differs from what it saw: its row may be older
    /// than that answer, which somebody was given, and where changes are not reported nothing else says so.
    ///
    /// Its own value is no news to it, and all that it may be followed by.
    ///
    /// Returns a load that died of it. The answer may be the one that its leader goes by, and older than what the load
    /// saw first: whoever joined in between is not to be given the value.
    pub(crate) fn see(&mut self, hash: u64, key: &str, digest: Digest) -> Option<L> {
        let load = self.registered.find(hash, key)?;
        let own = load.store.is_some_and(|store| store.digest == digest);
        if own || load.saw.is_none_or(|saw| saw == digest) {
            load.saw = Some(digest);
            return None;
        }
        self.kill(hash, key)
    }

    /// Records that this own write stores the load's value.
    pub(crate) fn stores(&mut self, ticket: TicketId<'_>, write: u64, digest: Digest) {
        if let Some(load) = self.registered.find(ticket.hash, ticket.key) {
            load.store = Some(Store { write, digest });
        }
    }

    /// An own write of the key ended, with success or not. It kills every load but the one that it stores.
    pub(crate) fn write_ended(&mut self, write: TicketId<'_>, succeeded: bool) {
        let Some(load) = self.registered.find(write.hash, write.key) else { return };
        match load.store {
            Some(store) if store.write == write.id => {
                if succeeded {
                    load.saw = Some(store.digest);
                }
            }
            _ => _ = self.kill(write.hash, write.key),
        }
    }

    /// A load that was overtaken returned a value, which may be newer than what the registered one brings: whoever
    /// joins that from now on may not be given it.
    pub(crate) fn outrun(&mut self, hash: u64, key: &str) {
        if let Some(load) = self.registered.find(hash, key) {
            load.outrun = true;
        }
    }

    /// Ends the right of the key's load to be joined and stored.
    ///
    /// Its ticket has the load as well: nothing of the user's is dropped with what is returned.
    pub(crate) fn kill(&mut self, hash: u64, key: &str) -> Option<L> {
        self.registered.remove_if(hash, key, |_| true).map(|registered| registered.load)
    }

    /// Kills every load.
    pub(crate) fn clear(&mut self) {
        self.registered.drain().for_each(drop);
    }

    /// Takes a load down that has ended, unless another one has its place.
    pub(crate) fn end(&mut self, ticket: TicketId<'_>) {
        if self.registered.find(ticket.hash, ticket.key).is_some_and(|load| load.id == ticket.id) {
            let _ended = self.kill(ticket.hash, ticket.key);
        }
    }
}

impl<L: Clone> Loads<L> {
    /// Joins the load of a key, or registers a new one with the id and epoch of `ticket`.
    ///
    /// `waited` is the id of a load that the caller does not want to join again, since it takes too long.
    pub(crate) fn begin(&mut self, ticket: TicketId<'_>, load: &L, waited: Option<u64>) -> LoadStart<L> {
        if let Some(registered) = self.registered.find(ticket.hash, ticket.key)
            && registered.epoch == ticket.epoch
            && waited != Some(registered.id)
        {
            let Registered { id, outrun, saw, .. } = *registered;
            return LoadStart::Join { load: registered.load.clone(), id, outrun, informed: saw.is_some() };
        }
        let TicketId { id, epoch, .. } = ticket;
        let new = Registered { id, epoch, load: load.clone(), saw: None, store: None, outrun: false };
        self.registered.put(ticket.hash, ticket.key, new);
        LoadStart::Lead
    }
}
