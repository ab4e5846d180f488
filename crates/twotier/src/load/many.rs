//! `get_many_or_load`: one call of a loader for all keys that nobody else is loading.

use std::{collections::HashMap, error::Error as StdError, sync::Arc};

use twotier_core::Operation;

use super::{Entered, Leader, Load, is_unreachable};
use crate::{
    Result, SetOptions,
    read::Early,
    shared::{Kept, Shared},
};

const OPERATION: Operation = Operation::GetManyOrLoad;

/// What is known of each key so far.
type Known<'k, V> = HashMap<&'k str, Kept<V>>;

/// A key to be loaded, and whether the backend could say that it is absent.
struct Absent<'k, V> {
    key: &'k str,
    leader: Leader<V>,
    reachable: bool,
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// Reads through both tiers, then loads and stores what is absent: same length and order as `keys`.
    ///
    /// What this call leads it ends before it waits for others, so two batches cannot wait for each other. When somebody
    /// it waited for gave up, it takes part in the next election, and may call its loader again.
    pub(crate) async fn get_many_or_load<F, Fut, I, Q, T, E>(
        self: &Arc<Self>,
        keys: &[&str],
        mut loader: F,
    ) -> Result<Vec<Kept<V>>>
    where
        F: FnMut(Vec<String>) -> Fut,
        Fut: Future<Output = Result<I, E>>,
        I: IntoIterator<Item = (Q, T)>,
        Q: Into<String>,
        T: Into<Arc<V>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        for key in keys {
            self.check_key(OPERATION, key)?;
        }
        self.open(OPERATION)?;
        let mut known = Known::new();
        let mut wanted = self.misses(keys, &mut known);
        while !wanted.is_empty() {
            let (leading, waiting) = self.enter_all(&wanted);
            let absent = self.read_led(leading, &mut known).await?;
            if !absent.is_empty() {
                self.load_led(absent, &mut loader, &mut known).await?;
            }
            wanted = wait_for_all(waiting, &mut known).await?;
        }
        Ok(keys.iter().map(|key| known.get(key).cloned().flatten()).collect())
    }

    /// Looks into the local tier, counts each key as a hit or a miss, and returns those without a value, each once.
    fn misses<'k>(&self, keys: &[&'k str], known: &mut Known<'k, V>) -> Vec<&'k str> {
        let mut wanted = Vec::new();
        for key in keys {
            // A copy that says "absent" is a hit, and is loaded all the same.
            let hit = match self.early(key) {
                Early::Hit(value) => value,
                Early::Miss | Early::Refused(_) => None,
            };
            if hit.is_none() && !known.contains_key(key) {
                wanted.push(*key);
            }
            let value = known.entry(key).or_default();
            *value = hit.or_else(|| value.take());
        }
        wanted
    }

    /// Enters the load of every key at once.
    #[allow(clippy::type_complexity, reason = "two lists, each used once")]
    fn enter_all<'k>(&self, keys: &[&'k str]) -> (Vec<(&'k str, Leader<V>)>, Vec<(&'k str, Arc<Load<V>>)>) {
        let (mut leading, mut waiting) = (Vec::new(), Vec::new());
        for key in keys {
            match self.loads.enter(key) {
                Entered::Leading(leader) => leading.push((*key, leader)),
                Entered::Waiting(load) => waiting.push((*key, load)),
            }
        }
        (leading, waiting)
    }

    /// Asks the backend for the keys this call leads, tells those who wait for what is there, and returns the rest.
    async fn read_led<'k>(
        &self,
        leading: Vec<(&'k str, Leader<V>)>,
        known: &mut Known<'k, V>,
    ) -> Result<Vec<Absent<'k, V>>> {
        let keys: Vec<&str> = leading.iter().map(|(key, _)| *key).collect();
        let found = self.read_each(&keys, OPERATION, false).await;
        let mut absent = Vec::new();
        let mut failure = Ok(());
        for ((key, leader), found) in leading.into_iter().zip(found) {
            match found {
                Ok(Some(value)) => {
                    known.insert(key, Some(Arc::clone(&value)));
                    leader.end(Ok(Some(value)));
                }
                Ok(None) => absent.push(Absent { key, leader, reachable: true }),
                // An unreachable cache must not keep the service from its own source.
                Err(error) if is_unreachable(&error) => absent.push(Absent { key, leader, reachable: false }),
                Err(error) => {
                    leader.end(Err(error.clone()));
                    failure = failure.and(Err(error));
                }
            }
        }
        failure.map(|()| absent)
    }

    /// Calls the loader once, stores what it brings, and tells those who wait.
    async fn load_led<'k, F, Fut, I, Q, T, E>(
        self: &Arc<Self>,
        absent: Vec<Absent<'k, V>>,
        loader: &mut F,
        known: &mut Known<'k, V>,
    ) -> Result<()>
    where
        F: FnMut(Vec<String>) -> Fut,
        Fut: Future<Output = Result<I, E>>,
        I: IntoIterator<Item = (Q, T)>,
        Q: Into<String>,
        T: Into<Arc<V>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.meter.loaded();
        let loaded = loader(absent.iter().map(|absent| absent.key.to_owned()).collect()).await;
        let mut loaded: HashMap<String, Arc<V>> = match loaded {
            Ok(loaded) => loaded.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            Err(error) => {
                let error = self.load_failed(OPERATION, error);
                for Absent { leader, .. } in absent {
                    leader.end(Err(error.clone()));
                }
                return Err(error);
            }
        };
        for batch in absent.chunks(self.batch()) {
            self.store(batch, &loaded).await;
        }
        for Absent { key, leader, .. } in absent {
            let value = loaded.remove(key);
            known.insert(key, value.clone());
            leader.end(Ok(value));
        }
        Ok(())
    }

    /// Stores one batch of loaded values, but for those whose key changed while they were loaded.
    async fn store(self: &Arc<Self>, batch: &[Absent<'_, V>], loaded: &HashMap<String, Arc<V>>) {
        let mut prepared = Vec::with_capacity(batch.len());
        let mut failure = Ok(());
        for Absent { key, leader, reachable } in batch {
            let Some(value) = loaded.get(*key).filter(|_| *reachable) else { continue };
            match self.prepare(OPERATION, key, Arc::clone(value), SetOptions::default()) {
                Ok(value) => prepared.push((leader, ((*key).to_owned(), value))),
                Err(error) => failure = failure.and(Err(error)),
            }
        }
        // After everything is encoded, so that the writes are registered with no user code in between.
        let prepared: Vec<_> =
            prepared.into_iter().filter(|(leader, _)| !leader.is_superseded()).map(|(_, value)| value).collect();
        if !prepared.is_empty() {
            failure = failure.and(self.set_batch(OPERATION, prepared).await.into_iter().collect());
        }
        if let Err(error) = failure {
            // The caller asked for the values and has them; what is not stored shows in `stats().backend.errors`.
            tracing::warn!(%error, "loaded values were not stored");
        }
    }
}

/// Waits for the loads of others, and returns the keys whose leader gave up.
async fn wait_for_all<'k, V>(waiting: Vec<(&'k str, Arc<Load<V>>)>, known: &mut Known<'k, V>) -> Result<Vec<&'k str>> {
    let mut given_up = Vec::new();
    for (key, load) in waiting {
        match load.outcome().await {
            Some(outcome) => {
                known.insert(key, outcome?);
            }
            None => given_up.push(key),
        }
    }
    Ok(given_up)
}
