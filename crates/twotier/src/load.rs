//! `get_or_load`: one load per key at a time.

mod many;
mod stack;
mod store;

use std::{sync::Arc, time::Duration};

use twotier_core::{Error, ErrorKind, Operation, SharedError};
use twotier_local::{Digest, Load, LoadTicket, Loaded};

use crate::{
    Freshness, LoadOptions, LoaderError, LoaderOutput, Lookup, Prior, Result, SetOptions, Tier, entry::Keeping,
    meter::Call, remote::CachedValue, spans::spanned, tiers::Tiers,
};

use self::{stack::Loading, store::LoadedValue};

type Ticket<V> = LoadTicket<CachedValue<V>, Error>;

impl<V: Send + Sync + 'static> Tiers<V> {
    /// Reads through both tiers and, when the key is absent, loads and stores it.
    pub(crate) async fn get_or_load<F, Fut, T, E>(&self, key: &str, loader: F) -> Result<Lookup<V>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        self.load(key, LoadOptions::default(), |_prior| loader()).await
    }

    /// Reads through both tiers, unless the options say otherwise, and loads what is to be loaded.
    ///
    /// Whoever waits for somebody else's loader does so for at most the configured time: a leader that is not polled,
    /// or whose loader waits for this very call, holds up nobody for longer.
    pub(crate) async fn load<F, Fut, T, E>(&self, key: &str, options: LoadOptions, loader: F) -> Result<Lookup<V>>
    where
        F: FnOnce(Prior<V>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        let operation = Operation::GetOrLoad;
        self.remote.open(operation)?;
        let loading = Loading::enter(&self.remote, operation, [key])?;
        if !options.takes_copies() {
            // The copy may be older than what is read and handed out now, and must not be served after that.
            self.remote.check_key(operation, key)?;
            let _copy = self.local.invalidate(key);
        }
        let patience = options.timeout.unwrap_or(self.remote.settings.load_wait);
        let mut load = self.local.load(key);
        let ticket = loop {
            let joiner = match load {
                Load::Lead(ticket) => break ticket,
                Load::Join(joiner) => joiner,
            };
            load = match self.remote.runtime.timeout(patience, joiner.wait()).await {
                // It may have begun before this call, and have found what is to be refreshed.
                Ok(_ended) if options.force_refresh => self.local.load(key),
                Ok(Loaded::Value(Some(value))) => return Ok(Lookup::current(Some(value), Tier::Origin)),
                Ok(Loaded::Failed(error)) => return Err(error),
                Ok(Loaded::Value(None)) if T::absent().is_some() => return Ok(Lookup::current(None, Tier::Origin)),
                // Another loader has no value for the key, and this one always brings one.
                Ok(Loaded::Value(None)) => self.local.load(key),
                // Its leader went away, perhaps with a stale copy; or takes too long.
                gone_or_slow => {
                    if let Some(stale) = self.stale_before_load(key).filter(|_| options.takes_copies()) {
                        return Ok(stale);
                    }
                    match gone_or_slow {
                        Ok(_elect_again) => self.local.load(key),
                        Err(_elapsed) => self.local.load_again(key, &joiner),
                    }
                }
            };
        };
        self.lead_load(key, options, ticket, &loading, loader).await
    }

    /// Asks the backend, then the loader, and stores what was loaded. Dropped on the way, it lets the others elect
    /// again.
    async fn lead_load<F, Fut, T, E>(
        &self,
        key: &str,
        options: LoadOptions,
        ticket: Ticket<V>,
        loading: &Loading,
        loader: F,
    ) -> Result<Lookup<V>>
    where
        F: FnOnce(Prior<V>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        let operation = Operation::GetOrLoad;
        let read = match options.takes_copies() {
            true => self.read_through(key, operation),
            false => self.read_current(key, operation),
        };
        let (prior, unanswered) = match read.await {
            // Nobody else is given it as anything better: those who wait look for themselves.
            Ok(stale) if matches!(stale.freshness, Freshness::Stale { .. }) => return Ok(stale),
            Ok(found) if options.force_refresh => (found.value.map(|value| (value, found.age)), None),
            Ok(found) if found.value.is_some() || self.takes_known_absence::<T>(key) => {
                hand_on(ticket, found.value.clone());
                return Ok(found);
            }
            Ok(_absent) => (None, None),
            Err(error) if is_no_answer(&error) => {
                // Whatever a read finds from now on is newer than what is loaded.
                let _live = ticket.saw(Digest::ABSENT);
                (None, Some(error))
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
        let known = prior.as_ref().map(|(value, _)| Arc::clone(value));
        let after = options.timeout.unwrap_or(self.remote.settings.load_timeout);
        let brought = match self.run_loader(operation, loading, after, loader(Prior { found: prior })).await {
            Ok(output) => self.brought(operation, output.into_loaded(), known.as_ref()),
            Err(error) => Err(error),
        };
        let loaded = match brought {
            Ok(loaded) => loaded,
            Err(error) => {
                ticket.finish(Err(error.clone()));
                return Err(error);
            }
        };
        let value = loaded.value.clone();
        let not_modified = loaded.not_modified;
        let set = loaded.options.or(options.set);
        if unanswered.is_some() {
            let kept = value.as_ref().filter(|_| !matches!(options.keeping, Keeping::Nowhere));
            self.keep_in_outage(operation, key, &ticket, kept, set);
        }
        let loaded = LoadedValue::new(ticket, loaded.value, set);
        match options.keeping {
            // What the backend holds is not known, or nothing is to be kept: those who wait get it all the same.
            _ if unanswered.is_some() => drop(loaded),
            Keeping::Nowhere => drop(loaded),
            Keeping::LocalTier => self.keep_loaded(operation, key, loaded),
            Keeping::BothTiers if not_modified => self.store_unmodified(operation, key, loaded).await,
            Keeping::BothTiers if known.is_some() => self.replace_loaded(operation, key, loaded).await,
            Keeping::BothTiers => self.store_loaded(operation, vec![(key, loaded)]).await,
        }
        Ok(Lookup::current(value, Tier::Origin))
    }

    /// Puts the prior value in the place of one that was not modified.
    fn brought(
        &self,
        operation: Operation,
        loaded: crate::Loaded<V>,
        known: Option<&Arc<V>>,
    ) -> Result<crate::Loaded<V>> {
        match (loaded.not_modified, known) {
            (false, _) => Ok(loaded),
            (true, Some(value)) => Ok(crate::Loaded { value: Some(Arc::clone(value)), ..loaded }),
            (true, None) => {
                let hint = "a loader said that a value was not modified, and there is none";
                Err(Error::Usage { operation, hint })
            }
        }
    }

    /// Returns whether the key is known to be absent from the origin too, to a caller whose loader may say so: somebody
    /// else's absence is none for one who always has a value.
    pub(crate) fn takes_known_absence<T: LoaderOutput<V>>(&self, key: &str) -> bool {
        T::absent().is_some() && self.local.serves(key, Digest::LOADED_ABSENT)
    }

    /// Keeps locally what was loaded while the backend did not answer, so that the origin is not asked for it at every
    /// turn: not for longer than copies may be stale, from before it was asked. What is not kept takes an older copy
    /// with it.
    fn keep_in_outage(
        &self,
        operation: Operation,
        key: &str,
        ticket: &Ticket<V>,
        value: Option<&Arc<V>>,
        options: SetOptions,
    ) {
        let keeping = value.zip(self.remote.settings.outage_ttl());
        // What cannot be encoded could not be stored either, and has no weight.
        let prepared = keeping.and_then(|(value, longest)| {
            let prepared = self.remote.prepare(operation, key, Arc::clone(value), options).ok()?;
            Some((prepared.life.min(longest), prepared))
        });
        let Some((life, prepared)) = prepared else { return ticket.supersede() };
        let digest = prepared.digest();
        if ticket.keep_in_outage(prepared.value, digest, prepared.weight, life) {
            self.remote.meter.kept_in_outage();
        }
    }

    /// Runs a loader to its end or its deadline.
    async fn run_loader<T, E>(
        &self,
        operation: Operation,
        loading: &Loading,
        after: Duration,
        loader: impl Future<Output = Result<T, E>>,
    ) -> Result<T>
    where
        E: LoaderError,
    {
        let namespace = self.remote.namespace.clone();
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

/// Hands what the backend has, or is known of the origin, to those who wait for its load, unless something newer may be
/// there by now: they look for themselves then.
fn hand_on<V: Send + Sync + 'static>(ticket: Ticket<V>, found: CachedValue<V>) {
    if ticket.is_live() {
        ticket.finish(Ok(found));
    }
}

/// Whether the backend could not say what it holds: then the loader runs all the same, since a cache must not keep a
/// service from its own source. What is wrong with the call itself, or with a value that is there, goes to the caller.
fn is_no_answer(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Rejected)
}
