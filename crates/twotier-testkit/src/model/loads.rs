//! The rules of loads, as plainly as possible.

use super::{ModelJoined, ModelOutcome, ModelTicket, ModelTier};

/// A registered load.
#[derive(Clone, Debug)]
pub(super) struct Loading {
    ticket: u64,
    key: String,
    /// What the backend was last known to hold.
    saw: Option<u8>,
    /// The own write that stores its value, and the digest of that.
    store: Option<(u64, u8)>,
    /// Whether an overtaken load has returned a value since.
    outrun: bool,
}

/// Who runs the loader. Tickets are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelLoad {
    /// The caller, with this ticket.
    Lead(u64),
    /// Somebody else.
    Join(ModelLoadJoiner),
}

/// Somebody who joined a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelLoadJoiner {
    /// The load's ticket.
    pub ticket: u64,
    /// Whether its value may be older than what was returned before.
    outrun: bool,
    /// Whether what the load saw first may have been returned before.
    informed: bool,
}

impl ModelTier {
    /// Joins the load of a key, or leads one.
    pub fn load(&mut self, key: &str) -> ModelLoad {
        self.join_or_load(key, None)
    }

    /// The same for somebody who waited for a load long enough.
    pub fn load_again(&mut self, key: &str, waited: ModelLoadJoiner) -> ModelLoad {
        self.join_or_load(key, Some(waited.ticket))
    }

    fn join_or_load(&mut self, key: &str, waited: Option<u64>) -> ModelLoad {
        if let Some(&mut Loading { ticket, outrun, saw, .. }) = self.loading(key)
            && self.is_load_live(ticket)
            // Also of a link that is down, which no flush gives another epoch.
            && self.ticket(ticket).stamp.0 == self.link_of(key)
            && waited != Some(ticket)
        {
            return ModelLoad::Join(ModelLoadJoiner { ticket, outrun, informed: saw.is_some() });
        }
        self.kill_load(key);
        let ticket = self.issue(key);
        self.loads.push(Loading { ticket, key: key.to_owned(), saw: None, store: None, outrun: false });
        ModelLoad::Lead(ticket)
    }

    /// Returns whether a load may be joined and stored.
    #[must_use]
    pub fn is_load_live(&self, ticket: u64) -> bool {
        let stamp = self.ticket(ticket).stamp;
        stamp == self.stamp(stamp.0) && self.loads.iter().any(|load| load.ticket == ticket)
    }

    /// A load learns what the backend holds. Returns whether it is live.
    pub fn load_saw(&mut self, ticket: u64, digest: u8) -> bool {
        if self.is_load_live(ticket) {
            let key = self.ticket(ticket).key.clone();
            self.see(&key, digest);
        }
        self.is_load_live(ticket)
    }

    /// Registers the write that stores a load's value, and returns its ticket, if it may be stored.
    pub fn begin_store(&mut self, ticket: u64, digest: u8) -> Option<u64> {
        let key = self.ticket(ticket).key.clone();
        if !super::is_up(self.ticket(ticket).stamp) || !self.is_load_live(ticket) {
            return None;
        }
        if self.writes.iter().any(|write| write.key == key) {
            self.kill_load(&key);
            return None;
        }
        let write = self.register_write(&key, digest);
        for load in self.loads.iter_mut().filter(|load| load.ticket == ticket) {
            load.store = Some((write, digest));
        }
        Some(write)
    }

    /// A load ended with a value, or with an error.
    pub fn finish_load(&mut self, ticket: u64, value: Option<u32>) {
        let ModelTicket { key, stamp, .. } = self.ticket(ticket).clone();
        if value.is_some() && !self.is_load_live(ticket) {
            self.coherence.refused_loads += u64::from(super::is_up(stamp));
            self.forbid_install(&key);
            self.kill_flight(&key);
            self.counted.superseded += self.remove(&key);
            for load in self.loads.iter_mut().filter(|load| load.key == key) {
                load.outrun = true;
            }
        }
        self.loads.retain(|load| load.ticket != ticket);
        self.settle(ticket, value.map_or(ModelOutcome::Failed, |value| ModelOutcome::Answered(value, 0)));
    }

    /// The leader of a load went away.
    pub fn abandon_load(&mut self, ticket: u64) {
        self.loads.retain(|load| load.ticket != ticket);
        self.settle(ticket, ModelOutcome::Abandoned);
    }

    /// Returns how a load ended for one of those who joined it, `None` while it has not.
    ///
    /// # Panics
    ///
    /// When there is no such ticket.
    #[must_use]
    pub fn loaded(&self, joiner: ModelLoadJoiner) -> Option<ModelJoined> {
        let outcome = self.outcomes[usize::try_from(joiner.ticket).expect("tickets are few")];
        let older = joiner.outrun || joiner.informed && self.overtaken.contains(&joiner.ticket);
        outcome.map(|outcome| match outcome {
            ModelOutcome::Answered(value, _) if !older => ModelJoined::Value(value),
            ModelOutcome::Failed => ModelJoined::Failed,
            ModelOutcome::Answered(..) | ModelOutcome::Abandoned => ModelJoined::ElectAgain,
        })
    }

    /// The backend was found to hold this.
    pub(super) fn see(&mut self, key: &str, digest: u8) {
        let Some(load) = self.loading(key) else { return };
        let own = load.store.is_some_and(|store| store.1 == digest);
        if load.saw.is_some_and(|saw| saw != digest) && !own {
            let ticket = load.ticket;
            self.overtaken.push(ticket);
            self.kill_load(key);
        } else {
            load.saw = Some(digest);
        }
    }

    /// An own write of the key ended.
    pub(super) fn write_ended(&mut self, key: &str, write: u64, succeeded: bool) {
        let Some(load) = self.loading(key) else { return };
        match load.store {
            Some((own, digest)) if own == write => {
                if succeeded {
                    load.saw = Some(digest);
                }
            }
            _ => self.kill_load(key),
        }
    }

    pub(super) fn kill_load(&mut self, key: &str) {
        self.loads.retain(|load| load.key != key);
    }

    fn loading(&mut self, key: &str) -> Option<&mut Loading> {
        self.loads.iter_mut().find(|load| load.key == key)
    }
}
