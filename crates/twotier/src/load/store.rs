//! Storing what was loaded: only over what the load saw, and only while nothing newer is known.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use twotier_backend::{Write, WriteCondition};
use twotier_core::{Error, ErrorKind, Operation};
use twotier_local::{Digest, WriteTicket};

use crate::{
    Result, SetOptions,
    meter::Call,
    remote::{CachedValue, Cost, Links, Prepared, Remote},
    sliding::start_touch,
    tiers::Tiers,
    write::{ended, one_each},
};

use super::Ticket;

/// What a loader brought, a value or the absence of one, with the ticket of its load. However this ends, those who wait
/// get it.
pub(super) struct LoadedValue<V: Send + Sync + 'static> {
    ticket: Arc<Mutex<Option<Ticket<V>>>>,
    value: CachedValue<V>,
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
    pub(super) fn new(ticket: Ticket<V>, value: CachedValue<V>, options: SetOptions) -> Self {
        Self { ticket: Arc::new(Mutex::new(Some(ticket))), value, options }
    }

    fn begin_store(&self, digest: Digest) -> Option<WriteTicket<CachedValue<V>, Error>> {
        self.ticket.lock().as_ref()?.begin_store(digest)
    }

    /// Binds the load to what the backend holds now, and returns whether that is what it saw before.
    fn saw(&self, digest: Digest) -> bool {
        self.ticket.lock().as_ref().is_some_and(|ticket| ticket.saw(digest))
    }

    /// Keeps what was loaded in the local tier alone, and ends the load.
    fn keep(self, digest: Digest, weight: usize, life: Option<Duration>) {
        let ticket = self.ticket.lock().take();
        if let Some(ticket) = ticket {
            let _kept = ticket.keep(self.value.clone(), digest, weight, life);
        }
    }

    /// Keeps what was loaded in the local tier for a short time: the backend did not take it. To be called after the
    /// write by which it was to be stored has ended.
    fn keep_unstored(&self, prepared: &Prepared<V>, longest: Duration) {
        // Not under the lock: what the copy takes the place of is dropped.
        let Some(ticket) = self.ticket.lock().take() else { return };
        let (value, life) = (prepared.value.clone(), prepared.life.min(longest));
        let _kept = ticket.keep_in_outage(value, prepared.digest(), prepared.weight, life);
        *self.ticket.lock() = Some(ticket);
    }

    /// Returns another handle: the value counts as loaded as soon as one of them is dropped.
    fn handle(&self) -> Self {
        Self { ticket: Arc::clone(&self.ticket), value: self.value.clone(), options: self.options }
    }
}

impl<V: Send + Sync + 'static> Drop for LoadedValue<V> {
    fn drop(&mut self) {
        let ticket = self.ticket.lock().take();
        if let Some(ticket) = ticket {
            ticket.finish(Ok(self.value.clone()));
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
            match self.prepare_loaded(operation, key, &loaded) {
                Ok(Some(prepared)) => {
                    storing.push(Storing { key: key.to_owned(), loaded, prepared, condition: WriteCondition::Absent });
                }
                Ok(None) => self.keep_loaded(operation, key, loaded),
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

    /// Stores what was loaded in the place of the value that its load saw, if that is still there.
    pub(super) async fn replace_loaded(&self, operation: Operation, key: &str, loaded: LoadedValue<V>) {
        let _ended = loaded.handle();
        match self.prepare_loaded(operation, key, &loaded) {
            Ok(Some(prepared)) => {
                let storing = Storing { key: key.to_owned(), loaded, prepared, condition: WriteCondition::Absent };
                self.replace(operation, storing, |_| true).await;
            }
            // The origin has nothing any more, and that is not shared.
            Ok(None) => {
                if let Ok(Some(held)) = self.remote.read_stored(operation, key).await
                    && loaded.saw(self.remote.digest(key, &held.value))
                {
                    self.remove_loaded(operation, key, loaded, held.value).await;
                }
            }
            Err(error) => self.remote.not_stored(&error, true),
        }
    }

    /// Removes the value that the load saw, of which the origin has nothing any more.
    async fn remove_loaded(&self, operation: Operation, key: &str, loaded: LoadedValue<V>, held: Bytes) {
        let life = self.remote.life_of_absence(operation, loaded.options).unwrap_or_default();
        let (remote, qualified) = (Arc::clone(&self.remote), self.remote.namespace.qualify(key));
        let link = self.local.route(key);
        let write = self.remote.write(operation, Links::One(link), Cost::ONE, false, move |permit| {
            let ticket = loaded.begin_store(Digest::LOADED_ABSENT);
            async move {
                let Some(ticket) = ticket else { return Ok(()) };
                let call = remote.backend.compare_and_set(&qualified, Some(held), None, None);
                let result = remote.call(Call::Delete, link, call).await;
                drop(permit);
                match result {
                    Ok(false) => {
                        drop(ticket);
                        Ok(())
                    }
                    result => {
                        ended(&remote, operation, ticket, result, |ticket| ticket.install(None, 0, life)).map(drop)
                    }
                }
            }
        });
        if let Err(error) = self.remote.written(write).await {
            self.remote.not_stored(&error, false);
        }
    }

    /// Extends the life of the value that the load saw; one that has gone meanwhile is stored once more.
    pub(super) async fn store_unmodified(&self, operation: Operation, key: &str, loaded: LoadedValue<V>) {
        let _ended = loaded.handle();
        let ttl = match self.remote.ttl_of(operation, loaded.options) {
            Ok(Some(ttl)) => ttl,
            Ok(None) => return,
            Err(error) => return self.remote.not_stored(&error, true),
        };
        let touched = start_touch(&self.local, &self.remote, operation, key.into(), ttl);
        match self.remote.written(touched).await {
            Ok(true) => {}
            Ok(false) => self.store_loaded(operation, vec![(key, loaded)]).await,
            Err(error) => self.remote.not_stored(&error, false),
        }
    }

    /// Keeps what was loaded in the local tier alone.
    pub(super) fn keep_loaded(&self, operation: Operation, key: &str, loaded: LoadedValue<V>) {
        let kept = match &loaded.value {
            Some(value) => self
                .remote
                .prepare(operation, key, Arc::clone(value), loaded.options)
                // No copy of what the backend holds, whatever that is.
                .map(|prepared| (Digest::UNKNOWN, prepared.weight, Some(prepared.life))),
            None => {
                let life = self.remote.life_of_absence(operation, loaded.options);
                life.map(|life| (Digest::LOADED_ABSENT, 0, life))
            }
        };
        match kept {
            Ok((digest, weight, life)) => loaded.keep(digest, weight, life),
            Err(error) => self.remote.not_stored(&error, true),
        }
    }

    /// Checks what is to be stored; `None` for an absence that is remembered here alone, and is by then.
    fn prepare_loaded(&self, operation: Operation, key: &str, loaded: &LoadedValue<V>) -> Result<Option<Prepared<V>>> {
        let Some(value) = &loaded.value else {
            let life = self.remote.life_of_absence(operation, loaded.options)?;
            return Ok(life.and_then(|life| self.remote.prepare_absence(key, life)));
        };
        self.remote.prepare(operation, key, Arc::clone(value), loaded.options).map(Some)
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
                match loaded.begin_store(prepared.digest()) {
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
                    let install = |ticket: WriteTicket<_, _>| ticket.install(value.clone(), *weight, Some(*life));
                    done.push(match result {
                        Ok(true) => {
                            (None, ended(&remote, operation, ticket, Ok(()), install).map(|()| Stored::Written))
                        }
                        Ok(false) => (Some(storing), Ok(Stored::Refused)),
                        Err(cause) => {
                            let was_refused = !cause.may_have_executed();
                            let failed = ended(&remote, operation, ticket, Err(cause), install);
                            if let (true, Some(longest)) = (was_refused, remote.settings.outage_ttl()) {
                                storing.loaded.keep_unstored(&storing.prepared, longest);
                            }
                            (None, failed.map(|()| Stored::Written))
                        }
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
        let key = refused.key.clone();
        self.replace(operation, refused, |held| self.remote.reads_as_absent(&key, held)).await;
    }

    /// Replaces what the load saw, if that is still there and may be replaced.
    async fn replace(&self, operation: Operation, storing: Storing<V>, may_go: impl FnOnce(&Bytes) -> bool) {
        let condition = match self.remote.read_stored(operation, &storing.key).await {
            Ok(Some(held)) if storing.loaded.saw(self.remote.digest(&storing.key, &held.value)) => {
                if !may_go(&held.value) {
                    return;
                }
                WriteCondition::Holds(held.value)
            }
            _ => return,
        };
        let again = Storing { condition, ..storing };
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
