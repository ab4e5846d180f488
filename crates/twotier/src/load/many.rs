//! `get_many_or_load`: one call of a loader for all keys that nobody else is loading.

use std::collections::HashMap;

use smol_str::SmolStr;
use twotier_core::{Error, Operation};
use twotier_local::{Digest, Load, LoadJoiner, Loaded};

use super::{Ticket, hand_on, is_no_answer, stack::Loading, store::LoadedValue};
use crate::{
    Key, LoaderError, LoaderOutput, Result,
    key::text_of,
    read::LocalRead,
    remote::CachedValue,
    tiers::{Tiers, yield_every},
};

const OPERATION: Operation = Operation::GetManyOrLoad;

/// What is known of each key so far.
type Known<'k, V> = HashMap<&'k str, CachedValue<V>>;
type Waiter<V> = LoadJoiner<CachedValue<V>, Error>;

/// A key to be loaded, and why the backend could not say that it is absent, if so.
struct Absent<'k, V> {
    key: &'k str,
    ticket: Ticket<V>,
    unanswered: Option<Error>,
}

impl<V: Send + Sync + 'static> Tiers<V> {
    /// Reads through both tiers, then loads and stores what is absent: same length and order as `keys`.
    ///
    /// What this call leads it ends before it waits for others, so two batches cannot wait for each other. When
    /// somebody it waited for gave up, or took too long, it takes part in the next election, and may call its loader
    /// again.
    pub(crate) async fn get_many_or_load<F, Fut, I, Q, T, E>(
        &self,
        keys: &[&str],
        mut loader: F,
    ) -> Result<Vec<CachedValue<V>>>
    where
        F: FnMut(Vec<&str>) -> Fut,
        Fut: Future<Output = Result<I, E>>,
        I: IntoIterator<Item = (Q, T)>,
        Q: Key,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        self.check_keys(OPERATION, keys).await?;
        self.remote.open(OPERATION)?;
        let mut known = Known::new();
        let wanted = self.misses(keys, &mut known).await;
        let loading = Loading::enter(&self.remote, OPERATION, wanted.iter().copied())?;
        let mut loads: Vec<_> = wanted.into_iter().map(|key| (key, self.local.load(key))).collect();
        while !loads.is_empty() {
            let (mut leading, mut waiting) = (Vec::new(), Vec::new());
            for (key, load) in loads {
                match load {
                    Load::Lead(ticket) => leading.push((key, ticket)),
                    Load::Join(joiner) => waiting.push((key, joiner)),
                }
            }
            let absent = self.read_led(leading, &mut known).await?;
            if !absent.is_empty() {
                self.load_led(absent, &loading, &mut loader, &mut known).await?;
            }
            loads = self.wait_for_all(waiting, &mut known).await?;
        }
        Ok(keys.iter().map(|key| known.get(key).cloned().flatten()).collect())
    }

    /// Looks into the local tier, counts each key as a hit or a miss, and returns those without a value, each once.
    async fn misses<'k>(&self, keys: &[&'k str], known: &mut Known<'k, V>) -> Vec<&'k str> {
        let mut wanted = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            yield_every(index).await;
            // A copy that says "absent" is a hit, and is loaded all the same unless a loader said so.
            let (hit, answered) = match self.lookup_local(OPERATION, key) {
                LocalRead::Hit(Some(value)) => (Some(value), true),
                LocalRead::Hit(None) => (None, self.local.serves(key, Digest::LOADED_ABSENT)),
                LocalRead::Miss | LocalRead::Refused(_) => (None, false),
            };
            if !answered && !known.contains_key(key) {
                wanted.push(*key);
            }
            let value = known.entry(key).or_default();
            *value = hit.or_else(|| value.take());
        }
        wanted
    }

    /// Asks the backend for the keys this call leads, hands what is there to those who wait, and returns the rest.
    async fn read_led<'k>(
        &self,
        leading: Vec<(&'k str, Ticket<V>)>,
        known: &mut Known<'k, V>,
    ) -> Result<Vec<Absent<'k, V>>> {
        let keys: Vec<&str> = leading.iter().map(|(key, _)| *key).collect();
        let found = self.read_each(&keys, OPERATION, false).await;
        let mut absent = Vec::new();
        let mut failure = Ok(());
        for ((key, ticket), found) in leading.into_iter().zip(found) {
            match found {
                Ok(found) if found.is_some() || self.local.serves(key, Digest::LOADED_ABSENT) => {
                    hand_on(ticket, found.clone());
                    known.insert(key, found);
                }
                Ok(_absent) => absent.push(Absent { key, ticket, unanswered: None }),
                Err(error) if is_no_answer(&error) => {
                    let _live = ticket.saw(Digest::ABSENT);
                    absent.push(Absent { key, ticket, unanswered: Some(error) });
                }
                Err(error) => {
                    ticket.finish(Err(error.clone()));
                    failure = failure.and(Err(error));
                }
            }
        }
        failure.map(|()| absent)
    }

    /// Calls the loader once, stores what it brings, and hands it to those who wait.
    async fn load_led<'k, F, Fut, I, Q, T, E>(
        &self,
        absent: Vec<Absent<'k, V>>,
        loading: &Loading,
        loader: &mut F,
        known: &mut Known<'k, V>,
    ) -> Result<()>
    where
        F: FnMut(Vec<&str>) -> Fut,
        Fut: Future<Output = Result<I, E>>,
        I: IntoIterator<Item = (Q, T)>,
        Q: Key,
        T: LoaderOutput<V>,
        E: LoaderError,
    {
        let after = self.remote.settings.load_timeout;
        let _place = match absent.iter().find_map(|absent| absent.unanswered.as_ref()) {
            None => None,
            Some(cause) => match self.bulkhead.enter(&self.remote, OPERATION, cause).await {
                Ok(place) => Some(place),
                Err(full) => {
                    for Absent { ticket, .. } in absent {
                        ticket.finish(Err(full.clone()));
                    }
                    return Err(full);
                }
            },
        };
        let missing = absent.iter().map(|absent| absent.key).collect();
        let mut loaded: HashMap<SmolStr, crate::Loaded<V>> =
            match self.run_loader(OPERATION, loading, after, loader(missing)).await {
                Ok(loaded) => loaded.into_iter().map(|(key, output)| (text_of(&key), output.into_loaded())).collect(),
                Err(error) => {
                    for Absent { ticket, .. } in absent {
                        ticket.finish(Err(error.clone()));
                    }
                    return Err(error);
                }
            };
        let mut storing = Vec::new();
        for Absent { key, ticket, unanswered } in absent {
            let (value, options) = loaded.remove(key).map(|loaded| (loaded.value, loaded.options)).unwrap_or_default();
            known.insert(key, value.clone());
            if unanswered.is_none() {
                storing.push((key, LoadedValue::new(ticket, value, options)));
            } else {
                self.keep_in_outage(OPERATION, key, &ticket, value.as_ref(), options);
                ticket.finish(Ok(value));
            }
        }
        while !storing.is_empty() {
            let part = storing.split_off(storing.len().saturating_sub(self.remote.batch()));
            self.store_loaded(OPERATION, part).await;
        }
        Ok(())
    }

    /// Waits for the loads of others, each for at most as long as anybody waits for a load, and returns what is to be
    /// loaded by this call after all.
    async fn wait_for_all<'k>(
        &self,
        waiting: Vec<(&'k str, Waiter<V>)>,
        known: &mut Known<'k, V>,
    ) -> Result<Vec<(&'k str, Load<CachedValue<V>, Error>)>> {
        let mut again = Vec::new();
        // Together, and not one after the other: all of them are waited for from now on.
        let patience = self.remote.runtime.timeout(self.remote.settings.load_wait, std::future::pending::<()>());
        let mut patience = std::pin::pin!(patience);
        for (key, joiner) in waiting {
            let loaded = tokio::select! {
                biased;
                loaded = joiner.wait() => Some(loaded),
                _elapsed = patience.as_mut() => None,
            };
            match loaded {
                Some(Loaded::Value(value)) => _ = known.insert(key, value),
                Some(Loaded::Failed(error)) => return Err(error),
                Some(Loaded::ElectAgain) => again.push((key, None)),
                None => again.push((key, Some(joiner))),
            }
        }
        // Elected only now: nobody waits for this call while it waits for others.
        let elected = again.into_iter().map(|(key, waited)| match waited {
            Some(joiner) => (key, self.local.load_again(key, &joiner)),
            None => (key, self.local.load(key)),
        });
        Ok(elected.collect())
    }
}
