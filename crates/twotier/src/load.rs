//! `get_or_load`: one load per key at a time.

mod many;
mod stack;
mod store;

use std::sync::Arc;

use twotier_core::{Error, ErrorKind, Operation, SharedError};
use twotier_local::{Digest, Load, LoadTicket, Loaded};

use crate::{
    LoaderError, LoaderOutput, Lookup, Result, SetOptions, Tier, meter::Call, remote::CachedValue, spans::spanned,
    tiers::Tiers,
};

use self::{stack::Loading, store::LoadedValue};

type Ticket<V> = LoadTicket<CachedValue<V>, Error>;

impl<V: Send + Sync + 'static> Tiers<V> {
    /// Reads through both tiers and, when the key is absent, loads and stores it.
    ///
    /// Whoever waits for somebody else's loader does so for at most the configured time: a leader that is not polled,
    /// or whose loader waits for this very call, holds up nobody for longer.
    pub(crate) async fn get_or_load<F, Fut, T, E>(&self, key: &str, loader: F) -> Result<Lookup<V>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        let operation = Operation::GetOrLoad;
        self.remote.open(operation)?;
        let loading = Loading::enter(&self.remote, operation, [key])?;
        let mut load = self.local.load(key);
        let ticket = loop {
            let joiner = match load {
                Load::Lead(ticket) => break ticket,
                Load::Join(joiner) => joiner,
            };
            load = match self.remote.runtime.timeout(self.remote.settings.load_wait, joiner.wait()).await {
                Ok(Loaded::Value(Some(value))) => return Ok(Lookup::current(Some(value), Tier::Origin)),
                Ok(Loaded::Failed(error)) => return Err(error),
                Ok(Loaded::Value(None)) if T::absent().is_some() => return Ok(Lookup::current(None, Tier::Origin)),
                // Another loader has no value for the key, and this one always brings one; or its leader went away.
                Ok(Loaded::Value(None) | Loaded::ElectAgain) => self.local.load(key),
                Err(_elapsed) => self.local.load_again(key, &joiner),
            };
        };
        self.lead_load(key, ticket, &loading, loader).await
    }

    /// Asks the backend, then the loader, and stores what was loaded. Dropped on the way, it lets the others elect
    /// again.
    async fn lead_load<F, Fut, T, E>(
        &self,
        key: &str,
        ticket: Ticket<V>,
        loading: &Loading,
        loader: F,
    ) -> Result<Lookup<V>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        let operation = Operation::GetOrLoad;
        let unanswered = match self.read_through(key, operation).await {
            Ok(Lookup { value: None, .. }) => None,
            Ok(found) => {
                if let Some(value) = &found.value {
                    hand_on(ticket, value);
                }
                return Ok(found);
            }
            Err(error) if is_no_answer(&error) => {
                // Whatever a read finds from now on is newer than what is loaded.
                let _live = ticket.saw(Digest::ABSENT);
                Some(error)
            }
            Err(error) => {
                ticket.finish(Err(error.clone()));
                return Err(error);
            }
        };
        let slot = match &unanswered {
            Some(cause) => self.bulkhead.enter(&self.remote, operation, cause).await.map(Some),
            None => Ok(None),
        };
        let _slot = match slot {
            Ok(slot) => slot,
            Err(full) => {
                ticket.finish(Err(full.clone()));
                return Err(full);
            }
        };
        match self.run_loader(operation, loading, loader()).await {
            Ok(output) => {
                let crate::Loaded { value, options } = output.into_loaded();
                let Some(value) = value else {
                    ticket.finish(Ok(None));
                    return Ok(Lookup::current(None, Tier::Origin));
                };
                if unanswered.is_some() {
                    self.keep_loaded(operation, key, &ticket, &value, options);
                }
                let loaded = LoadedValue::new(ticket, Arc::clone(&value), options);
                if unanswered.is_none() {
                    self.store_loaded(operation, vec![(key, loaded)]).await;
                }
                Ok(Lookup::current(Some(value), Tier::Origin))
            }
            Err(error) => {
                ticket.finish(Err(error.clone()));
                Err(error)
            }
        }
    }

    /// Keeps locally what was loaded while the backend did not answer, so that the origin is not asked for it at every
    /// turn: not for longer than copies may be stale, from before it was asked.
    fn keep_loaded(&self, operation: Operation, key: &str, ticket: &Ticket<V>, value: &Arc<V>, options: SetOptions) {
        let Some(longest) = self.remote.settings.outage_ttl() else { return };
        // What cannot be encoded could not be stored either, and has no weight.
        let Ok(prepared) = self.remote.prepare(operation, key, Arc::clone(value), options) else { return };
        let (life, digest) = (prepared.life.min(longest), Digest::of(&prepared.bytes));
        if ticket.keep(Some(prepared.value), digest, prepared.weight, life) {
            self.remote.meter.kept_in_outage();
        }
    }

    /// Runs a loader to its end or its deadline.
    async fn run_loader<T, E>(
        &self,
        operation: Operation,
        loading: &Loading,
        loader: impl Future<Output = Result<T, E>>,
    ) -> Result<T>
    where
        E: LoaderError,
    {
        let (namespace, after) = (self.remote.namespace.clone(), self.remote.settings.load_timeout);
        let meter = &self.remote.meter;
        let loaded = async {
            let started = meter.start(Call::Load);
            let ended = self.remote.runtime.timeout(after, loading.run(loader)).await;
            meter.took(Call::Load, started.elapsed());
            match ended {
                Ok(Ok(loaded)) => Ok(loaded),
                Ok(Err(error)) => {
                    meter.refused(Call::Load, ErrorKind::Load);
                    Err(Error::Load { operation, namespace, source: SharedError::new(error) })
                }
                Err(_elapsed) => {
                    meter.timed_out(Call::Load);
                    Err(Error::Timeout { operation, namespace, after, sent: false })
                }
            }
        };
        spanned!("twotier.load", self.remote, operation, loading.keys(), outcome, loaded)
    }
}

/// Hands a value that the backend has to those who wait for its load, unless something newer may be there by now: they
/// look for themselves then.
fn hand_on<V: Send + Sync + 'static>(ticket: Ticket<V>, value: &Arc<V>) {
    if ticket.is_live() {
        ticket.finish(Ok(Some(Arc::clone(value))));
    }
}

/// Whether the backend could not say what it holds: then the loader runs all the same, since a cache must not keep a
/// service from its own source. What is wrong with the call itself, or with a value that is there, goes to the caller.
fn is_no_answer(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Rejected)
}
