//! The write path: backend first, then the local tier.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use twotier_backend::{BackendResult, Write};
use twotier_core::{Error, Operation, check_time_to_live};
use twotier_local::{Digest, LocalTier, WriteTicket};

use crate::{
    Result,
    meter::Call,
    read::{BATCH, breathe},
    shared::{Kept, Shared},
};

/// Options of one write.
///
/// ```
/// use std::time::Duration;
/// use twotier::SetOptions;
///
/// let options = SetOptions::new().time_to_live(Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    ttl: Option<Option<Duration>>,
}

impl SetOptions {
    /// Takes the cache's own settings for everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long this value lives in the backend, exactly, at least 1 ms; `None` is for ever.
    #[must_use]
    pub fn time_to_live(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }
}

/// A value that passed every check and is ready to be sent.
pub(crate) struct Prepared<V> {
    pub(crate) value: Arc<V>,
    pub(crate) bytes: Bytes,
    weight: usize,
    pub(crate) ttl: Option<Duration>,
    /// How long the local copy lives: the shorter of both times to live.
    life: Duration,
}

type Ticket<V> = WriteTicket<Kept<V>, Error>;

impl<V: Send + Sync + 'static> Shared<V> {
    pub(crate) async fn set(self: &Arc<Self>, key: &str, value: Arc<V>, options: SetOptions) -> Result<()> {
        let operation = Operation::Set;
        self.check_key(operation, key)?;
        self.open(operation)?;
        self.loads.supersede(key);
        self.put(operation, key, value, options).await
    }

    /// Writes one value whose key was checked. One round trip.
    pub(crate) async fn put(
        self: &Arc<Self>,
        operation: Operation,
        key: &str,
        value: Arc<V>,
        options: SetOptions,
    ) -> Result<()> {
        let prepared = self.prepare(operation, key, value, options)?;
        let qualified = self.namespace.qualify(key);
        let put = async {
            let turn = self.turn(operation, 1).await?;
            let ticket = self.local.as_ref().map(|local| local.begin_write(key, Digest::of(&prepared.bytes)));
            let shared = Arc::clone(self);
            let write = async move {
                let Prepared { value, bytes, weight, ttl, life } = prepared;
                let call = shared.backend.set(&qualified, bytes, ttl);
                let result = shared.meter.call(Call::Write, call, Result::is_err).await;
                drop(turn);
                let install = |ticket: Ticket<V>| ticket.install(Some(value), weight, Some(life));
                shared.ended(operation, &qualified, ticket, result, install)
            };
            self.detached(operation, write).await
        };
        self.within(operation, put).await
    }

    pub(crate) async fn set_many(self: &Arc<Self>, items: Vec<(String, Arc<V>)>) -> Result<()> {
        let operation = Operation::SetMany;
        for (index, (key, _)) in items.iter().enumerate() {
            breathe(index).await;
            self.check_key(operation, key)?;
        }
        self.open(operation)?;
        // Of two values for one key the later one wins; the others are written in the order in which they came.
        let mut last: HashMap<String, usize> = HashMap::with_capacity(items.len());
        for (index, (key, _)) in items.iter().enumerate() {
            breathe(index).await;
            last.insert(key.clone(), index);
        }
        let mut prepared = Vec::with_capacity(last.len());
        for (index, (key, value)) in items.into_iter().enumerate() {
            breathe(index).await;
            if last.get(&key) == Some(&index) {
                let value = self.prepare(operation, &key, value, SetOptions::default())?;
                prepared.push((key, value));
            }
        }
        self.set_batches(operation, prepared).await.into_iter().collect()
    }

    /// Writes distinct keys: same length and order. One round trip for each 512; others run in between.
    pub(crate) async fn set_batches(
        self: &Arc<Self>,
        operation: Operation,
        prepared: Vec<(String, Prepared<V>)>,
    ) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(prepared.len());
        let mut prepared = prepared.into_iter();
        while prepared.len() > 0 {
            let batch: Vec<_> = prepared.by_ref().take(self.batch()).collect();
            for (key, _) in &batch {
                self.loads.supersede(key);
            }
            results.extend(self.set_batch(operation, batch).await);
            tokio::task::yield_now().await;
        }
        results
    }

    /// Writes one batch of distinct keys. One round trip; each key ends by its own reply.
    pub(crate) async fn set_batch(
        self: &Arc<Self>,
        operation: Operation,
        batch: Vec<(String, Prepared<V>)>,
    ) -> Vec<Result<()>> {
        let size = batch.len();
        let written = async {
            let turn = self.turn(operation, size).await?;
            let mut writes = Vec::with_capacity(batch.len());
            let mut tickets = Vec::with_capacity(batch.len());
            for (key, Prepared { value, bytes, weight, ttl, life }) in batch {
                let ticket = self.local.as_ref().map(|local| local.begin_write(&key, Digest::of(&bytes)));
                tickets.push((ticket, value, weight, life));
                writes.push(Write::new(self.namespace.qualify(&key), bytes, ttl));
            }
            let shared = Arc::clone(self);
            let write = async move {
                let call = shared.backend.set_many(&writes);
                let results = shared.meter.call(Call::Write, call, any_failed).await;
                drop(turn);
                let results = Self::one_each(writes.len(), results);
                let ended = tickets.into_iter().zip(&writes).zip(results);
                let ended = ended.map(|(((ticket, value, weight, life), write), result)| {
                    let install = |ticket: Ticket<V>| ticket.install(Some(value), weight, Some(life));
                    shared.ended(operation, &write.key, ticket, result.map(drop), install)
                });
                Ok(ended.collect())
            };
            self.detached(operation, write).await
        };
        let results = self.within(operation, written).await;
        results.unwrap_or_else(|error| vec![Err(error); size])
    }

    pub(crate) async fn delete(self: &Arc<Self>, key: &str) -> Result<bool> {
        let operation = Operation::Delete;
        self.check_key(operation, key)?;
        self.open(operation)?;
        self.loads.supersede(key);
        let qualified = self.namespace.qualify(key);
        let delete = async {
            let turn = self.turn(operation, 1).await?;
            let ticket = self.local.as_ref().map(|local| local.begin_write(key, Digest::ABSENT));
            let shared = Arc::clone(self);
            let write = async move {
                let result = shared.meter.call(Call::Delete, shared.backend.delete(&qualified), Result::is_err).await;
                drop(turn);
                let life = shared.settings.negative_time_to_live;
                shared.ended(operation, &qualified, ticket, result, |ticket| ticket.install(None, 0, life))
            };
            self.detached(operation, write).await
        };
        self.within(operation, delete).await
    }

    /// Deletes many keys, and says how many were there. One round trip for each 512.
    pub(crate) async fn delete_many(self: &Arc<Self>, keys: &[&str]) -> Result<usize> {
        let operation = Operation::DeleteMany;
        self.check_keys(operation, keys).await?;
        self.open(operation)?;
        let mut distinct = keys.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let removed: Vec<bool> = self.delete_batches(operation, &distinct).await.into_iter().collect::<Result<_>>()?;
        Ok(removed.into_iter().filter(|was_there| *was_there).count())
    }

    /// Deletes distinct keys: same length and order. One round trip for each 512.
    pub(crate) async fn delete_batches(self: &Arc<Self>, operation: Operation, keys: &[&str]) -> Vec<Result<bool>> {
        let mut results = Vec::with_capacity(keys.len());
        for (index, batch) in keys.chunks(self.batch()).enumerate() {
            breathe(index * BATCH).await;
            results.extend(self.delete_batch(operation, batch).await);
        }
        results
    }

    async fn delete_batch(self: &Arc<Self>, operation: Operation, keys: &[&str]) -> Vec<Result<bool>> {
        let size = keys.len();
        let deleted = async {
            let turn = self.turn(operation, size).await?;
            let mut qualified: Vec<Bytes> = Vec::with_capacity(keys.len());
            let mut tickets = Vec::with_capacity(keys.len());
            for key in keys {
                self.loads.supersede(key);
                tickets.push(self.local.as_ref().map(|local| local.begin_write(key, Digest::ABSENT)));
                qualified.push(self.namespace.qualify(key).into());
            }
            let shared = Arc::clone(self);
            let write = async move {
                let call = shared.backend.delete_many(&qualified);
                let results = shared.meter.call(Call::Delete, call, any_failed).await;
                drop(turn);
                let results = Self::one_each(qualified.len(), results);
                let life = shared.settings.negative_time_to_live;
                let ended = tickets.into_iter().zip(&qualified).zip(results).map(|((ticket, key), result)| {
                    shared.ended(operation, key, ticket, result, |ticket| ticket.install(None, 0, life))
                });
                Ok(ended.collect())
            };
            self.detached(operation, write).await
        };
        let results = self.within(operation, deleted).await;
        results.unwrap_or_else(|error| vec![Err(error); size])
    }

    /// Removes every key of the namespace from both tiers.
    ///
    /// The copies go before, so that none is served once the first key is gone, and after; and nothing is kept in between,
    /// because removals by our own connection are not reported to us: a copy made before its key is reached would be
    /// served until the end.
    pub(crate) async fn clear(self: &Arc<Self>) -> Result<u64> {
        let operation = Operation::Clear;
        self.open(operation)?;
        let shared = Arc::clone(self);
        let turn = self.within(operation, self.turn(operation, 1)).await?;
        let clear = async move {
            let _turn = turn;
            shared.loads.supersede_all();
            let clearing = shared.local.as_ref().map(LocalTier::begin_clear);
            let call = shared.backend.clear(shared.namespace.prefix().as_bytes());
            let result = shared.meter.call(Call::Delete, call, Result::is_err).await;
            shared.loads.supersede_all();
            drop(clearing);
            result.map_err(|source| shared.backend_failed(operation, source))
        };
        self.detached(operation, clear).await
    }

    /// Encodes and checks a value, before anything is changed.
    pub(crate) fn prepare(
        &self,
        operation: Operation,
        key: &str,
        value: Arc<V>,
        options: SetOptions,
    ) -> Result<Prepared<V>> {
        let ttl = match options.ttl {
            None => self.settings.default_ttl(),
            Some(None) => None,
            Some(Some(ttl)) => {
                check_time_to_live("time_to_live", ttl).map_err(|source| Error::InvalidOption {
                    operation,
                    namespace: self.namespace.clone(),
                    source,
                })?;
                Some(ttl)
            }
        };
        let bytes = self.codec.encode_at(self.place(key), &value).map_err(|source| Error::Codec {
            operation,
            namespace: self.namespace.clone(),
            source,
        })?;
        let (size, limit) = (bytes.len(), self.settings.max_value_bytes);
        if size > limit {
            return Err(Error::ValueTooLarge { operation, namespace: self.namespace.clone(), size, limit });
        }
        let weight = self.weigh(key, &value, self.codec.weight(&bytes));
        let local = self.settings.local_ttl();
        let life = ttl.map_or(local, |ttl| ttl.min(local));
        Ok(Prepared { value, bytes, weight, ttl, life })
    }

    /// Ends the bookkeeping of one write by its own reply. Without an install the local copy stays gone.
    ///
    /// A load that began while the write was under way may have found the key as it was before: it is superseded too.
    fn ended<T>(
        &self,
        operation: Operation,
        qualified: &[u8],
        ticket: Option<Ticket<V>>,
        result: BackendResult<T>,
        install: impl FnOnce(Ticket<V>) -> bool,
    ) -> Result<T> {
        if let Some(Ok(key)) = self.namespace.strip(qualified).map(std::str::from_utf8) {
            self.loads.supersede(key);
        }
        match result {
            Ok(answer) => {
                if let Some(ticket) = ticket {
                    let _kept = install(ticket);
                }
                Ok(answer)
            }
            Err(source) => {
                drop(ticket);
                Err(self.backend_failed(operation, source))
            }
        }
    }
}

#[allow(clippy::ptr_arg, reason = "the type of the future's output")]
fn any_failed<T>(results: &Vec<BackendResult<T>>) -> bool {
    results.iter().any(Result::is_err)
}
