//! Storing what was loaded: only over what the load saw, and only while nothing newer is known.

use std::sync::Arc;

use parking_lot::Mutex;
use twotier_backend::{Write, WriteCondition};
use twotier_core::{Error, ErrorKind, Operation};
use twotier_local::{Digest, WriteTicket};

use crate::{
    Result, SetOptions,
    meter::Call,
    remote::{CachedValue, Cost, Links, Prepared, Remote},
    tiers::Tiers,
    write::{ended, one_each},
};

use super::Ticket;

/// A value that its loader brought, with the ticket of its load. However this ends, those who wait get the value.
pub(super) struct LoadedValue<V: Send + Sync + 'static> {
    ticket: Arc<Mutex<Option<Ticket<V>>>>,
    value: Arc<V>,
    options: SetOptions,
}

/// How the store of one value ended, when nothing failed.
enum Stored {
    /// It is in the backend.
    Written,
    /// Something newer may be there, so it was not written.
    Overtaken,
    /// The backend held something.
    Refused,
}

impl<V: Send + Sync + 'static> LoadedValue<V> {
    pub(super) fn new(ticket: Ticket<V>, value: Arc<V>, options: SetOptions) -> Self {
        Self { ticket: Arc::new(Mutex::new(Some(ticket))), value, options }
    }

    fn begin_store(&self, digest: Digest) -> Option<WriteTicket<CachedValue<V>, Error>> {
        self.ticket.lock().as_ref()?.begin_store(digest)
    }

    /// Binds the load to what the backend holds now, and returns whether that is what it saw before.
    fn saw(&self, digest: Digest) -> bool {
        self.ticket.lock().as_ref().is_some_and(|ticket| ticket.saw(digest))
    }

    /// Returns another handle: the value counts as loaded as soon as one of them is dropped.
    fn handle(&self) -> Self {
        Self { ticket: Arc::clone(&self.ticket), value: Arc::clone(&self.value), options: self.options }
    }
}

impl<V: Send + Sync + 'static> Drop for LoadedValue<V> {
    fn drop(&mut self) {
        let ticket = self.ticket.lock().take();
        if let Some(ticket) = ticket {
            ticket.finish(Ok(Some(Arc::clone(&self.value))));
        }
    }
}

/// A loaded value that passed every check.
struct Storing<V: Send + Sync + 'static> {
    key: String,
    loaded: LoadedValue<V>,
    prepared: Prepared<V>,
    condition: WriteCondition,
}

impl<V: Send + Sync + 'static> Tiers<V> {
    /// Stores loaded values of distinct keys, in one round trip, and hands them to those who wait.
    ///
    /// The caller asked for the values and has them: one that cannot be stored is counted, and logged now and then.
    pub(super) async fn store_loaded(&self, operation: Operation, loaded: Vec<(&str, LoadedValue<V>)>) {
        // The values go to the callers when this returns, though their writes may still be under way: the loads end
        // before.
        let _ended: Vec<LoadedValue<V>> = loaded.iter().map(|(_, loaded)| loaded.handle()).collect();
        let mut storing = Vec::with_capacity(loaded.len());
        for (key, loaded) in loaded {
            match self.remote.prepare(operation, key, Arc::clone(&loaded.value), loaded.options) {
                Ok(prepared) => {
                    storing.push(Storing { key: key.to_owned(), loaded, prepared, condition: WriteCondition::Absent });
                }
                Err(error) => self.remote.not_stored(&error, true),
            }
        }
        for (left, outcome) in self.store(operation, storing).await {
            match outcome {
                Ok(Stored::Written | Stored::Overtaken) => {}
                Ok(Stored::Refused) => self.replace_foreign(operation, left).await,
                Err(error) => self.remote.not_stored(&error, false),
            }
        }
    }

    /// Sends the writes whose loads are still live, in their turn.
    async fn store(&self, operation: Operation, storing: Vec<Storing<V>>) -> Vec<(Option<Storing<V>>, Result<Stored>)> {
        if storing.is_empty() {
            return Vec::new();
        }
        let remote = Arc::clone(&self.remote);
        let cost = Cost::of_writes(storing.iter().map(|storing| storing.prepared.bytes.len()));
        let links = Links::of(storing.iter().map(|storing| self.local.route(&storing.key)));
        let write = self.remote.write(operation, links, cost, false, move |permit| {
            // Registered in the very step in which they are sent: what became known until now is taken into account.
            let (mut sending, mut done, mut writes) = (Vec::new(), Vec::new(), Vec::new());
            for storing in storing {
                let Storing { key, loaded, prepared, condition } = &storing;
                match loaded.begin_store(Digest::of(&prepared.bytes)) {
                    Some(ticket) => {
                        let key = remote.namespace.qualify(key);
                        writes.push(Write::new(key, prepared.bytes.clone(), prepared.ttl).only_if(condition.clone()));
                        sending.push((storing, ticket));
                    }
                    None => done.push((None, Ok(Stored::Overtaken))),
                }
            }
            async move {
                if writes.is_empty() {
                    return Ok(done);
                }
                let links: Vec<_> = sending.iter().map(|(_, ticket)| ticket.mark().link).collect();
                let results = remote.call_for_many(Call::Write, &links, remote.backend.set_many(&writes)).await;
                drop(permit);
                for ((storing, ticket), result) in sending.into_iter().zip(one_each(writes.len(), results)) {
                    let Prepared { value, weight, life, .. } = &storing.prepared;
                    let install =
                        |ticket: WriteTicket<_, _>| ticket.install(Some(Arc::clone(value)), *weight, Some(*life));
                    done.push(match result {
                        Ok(true) => {
                            (None, ended(&remote, operation, ticket, Ok(()), install).map(|()| Stored::Written))
                        }
                        Ok(false) => (Some(storing), Ok(Stored::Refused)),
                        Err(cause) => (None, ended(&remote, operation, ticket, Err(cause), install)),
                    });
                }
                Ok(done)
            }
        });
        match self.remote.written(write).await {
            Ok(done) => done,
            Err(error) => vec![(None, Err(error))],
        }
    }

    /// The backend holds something although the key was read as absent: a newer value, which stays, or bytes that read
    /// as an absent key, which are replaced if they are still those that the load saw.
    async fn replace_foreign(&self, operation: Operation, refused: Option<Storing<V>>) {
        let Some(refused) = refused else { return };
        let Ok(Some(held)) = self.remote.read_stored(operation, &refused.key).await else { return };
        if !refused.loaded.saw(Digest::of(&held.value)) || !self.remote.reads_as_absent(&refused.key, &held.value) {
            return;
        }
        let again = Storing { condition: WriteCondition::Holds(held.value), ..refused };
        for (_, outcome) in Box::pin(self.store(operation, vec![again])).await {
            if let Err(error) = outcome {
                self.remote.not_stored(&error, false);
            }
        }
    }
}

impl<V: Send + Sync + 'static> Remote<V> {
    /// Counts a loaded value that could not be stored, and logs that now and then. `here` says that no call was made.
    fn not_stored(&self, error: &Error, here: bool) {
        self.meter.unstored(here.then(|| error.kind()));
        // A backend that is away is logged by its link, once for all that fails because of it.
        if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) {
            return;
        }
        if let Some(values) = self.unstored.due() {
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(namespace = %self.namespace, values, %error, cause, "loaded values were not stored");
        }
    }
}
