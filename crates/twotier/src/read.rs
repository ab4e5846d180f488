//! The read path: local tier, then backend, one read per key at a time.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use twotier_backend::{BackendResult, Stored};
use twotier_core::{Error, Operation};
use twotier_local::{Digest, FillTicket, Joined, Joiner, Read};

use crate::{
    Freshness, Lookup, Result, Tier,
    meter::Call,
    shared::{Kept, Local, Shared},
};

/// The most keys that go to the backend in one call.
pub(crate) const BATCH: usize = 512;

/// Lets others run after so many steps of a loop that may be long, and has nothing to wait for by itself.
#[inline]
pub(crate) async fn breathe(step: usize) {
    if step > 0 && step.is_multiple_of(BATCH) {
        tokio::task::yield_now().await;
    }
}

/// What the first look at the local tier, on the caller's own stack, found.
pub(crate) enum Early<V> {
    Hit(Kept<V>),
    Miss,
    /// Boxed, so that a hit does not carry the room for an error around.
    Refused(Box<Error>),
}

/// What the backend said about one key.
struct Fetched<V> {
    value: Kept<V>,
    digest: Digest,
    weight: usize,
    /// How long a local copy may live; `None` when it may not be kept.
    life: Option<Duration>,
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// Looks into the local tier and counts the read as a hit or a miss.
    #[inline]
    pub(crate) fn early(&self, key: &str) -> Early<V> {
        if let Err(error) = self.check_key(Operation::Get, key) {
            return Early::Refused(Box::new(error));
        }
        match self.local.as_ref().and_then(|local| local.get(key)) {
            Some(value) => Early::Hit(value),
            None => Early::Miss,
        }
    }

    /// As [`early`](Self::early), with the age of the copy.
    pub(crate) fn early_lookup(&self, key: &str) -> Result<Option<Lookup<V>>> {
        self.check_key(Operation::Get, key)?;
        let hit = self.local.as_ref().and_then(|local| local.get_with_age(key));
        Ok(hit.map(|(value, age)| self.local_lookup(value, age)))
    }

    fn local_lookup(&self, value: Kept<V>, age: Duration) -> Lookup<V> {
        let freshness = match self.settings.staleness_bound() {
            Some(bound) => Freshness::Within(bound),
            None => Freshness::UntilExpiry,
        };
        Lookup { value, tier: Tier::Local, age, freshness }
    }

    /// Reads a key that was just missed: joins the read under way, or leads one. One round trip.
    pub(crate) async fn read_through(&self, key: &str, operation: Operation) -> Result<Lookup<V>> {
        self.open(operation)?;
        // Pinned here, where it is made: handed over by value it would be stored once more at every step of the way, and
        // a future of over a kilobyte is beyond what allocators keep at hand.
        let read = pin!(self.read_either(key, operation));
        self.within(operation, read).await
    }

    async fn read_either(&self, key: &str, operation: Operation) -> Result<Lookup<V>> {
        let Some(local) = &self.local else {
            let fetched = self.fetch(key, operation).await?;
            return Ok(Lookup::current(fetched.value, Tier::Remote));
        };
        self.read_on(local, key, operation, local.read(key)).await
    }

    /// Reads on from what the local tier said, until there is an answer.
    async fn read_on(
        &self,
        local: &Local<V>,
        key: &str,
        operation: Operation,
        mut read: Read<Kept<V>, Error>,
    ) -> Result<Lookup<V>> {
        loop {
            let value = match read {
                // Another read filled it since; how long ago is not known, but not before this call.
                Read::Hit(value) => return Ok(self.local_lookup(value, Duration::ZERO)),
                Read::Lead(ticket, _joiner) | Read::Bypass(ticket, _joiner) => {
                    self.lead_read(ticket, key, operation).await?
                }
                Read::Join(joiner) => match Self::joined(&joiner).await {
                    Some(result) => result?,
                    None => {
                        read = local.read_again(key, &joiner);
                        continue;
                    }
                },
            };
            return Ok(Lookup::current(value, Tier::Remote));
        }
    }

    /// Reads the backend for everyone who waits for this key. Dropping this future lets them elect another leader.
    async fn lead_read(&self, ticket: FillTicket<Kept<V>, Error>, key: &str, operation: Operation) -> Result<Kept<V>> {
        let fetched = self.fetch(key, operation).await;
        Self::finish(ticket, fetched)
    }

    /// Hands the outcome of a read to the local tier and to whoever joined it.
    fn finish(ticket: FillTicket<Kept<V>, Error>, fetched: Result<Fetched<V>>) -> Result<Kept<V>> {
        match fetched {
            Ok(Fetched { value, digest, weight, life }) => {
                let _kept = ticket.fill(value.clone(), digest, weight, life);
                Ok(value)
            }
            Err(error) => {
                ticket.fail(error.clone());
                Err(error)
            }
        }
    }

    /// Waits for a read led by somebody else; `None` is to look again.
    async fn joined(joiner: &Joiner<Kept<V>, Error>) -> Option<Result<Kept<V>>> {
        match joiner.wait().await {
            Joined::Value(value) => Some(Ok(value)),
            Joined::Failed(error) => Some(Err(error)),
            Joined::ElectAgain => None,
        }
    }

    async fn fetch(&self, key: &str, operation: Operation) -> Result<Fetched<V>> {
        let qualified = self.namespace.qualify(key);
        let turn = self.turn(operation, 1).await?;
        let stored = self.meter.call(Call::Read, self.backend.get(&qualified), Result::is_err).await;
        drop(turn);
        self.understood(key, operation, stored)
    }

    /// Decodes what the backend said, outside every lock.
    fn understood(&self, key: &str, operation: Operation, stored: BackendResult<Option<Stored>>) -> Result<Fetched<V>> {
        let stored = stored.map_err(|source| self.backend_failed(operation, source))?;
        let Some(Stored { value: bytes, ttl }) = stored else {
            let life = self.settings.negative_time_to_live;
            return Ok(Fetched { value: None, digest: Digest::ABSENT, weight: 0, life });
        };
        if bytes.len() > self.settings.max_value_bytes {
            let (size, limit) = (bytes.len(), self.settings.max_value_bytes);
            return Err(Error::ValueTooLarge { operation, namespace: self.namespace.clone(), size, limit });
        }
        let decoded = self.codec.decode_at(self.place(key), &bytes).map_err(|source| {
            self.meter.undecodable();
            Error::Codec { operation, namespace: self.namespace.clone(), source }
        })?;
        let Some(value) = decoded else {
            self.meter.foreign();
            // Kept as an absent key is, but under the digest of what is there: to the local tier these bytes are one
            // version of the key and true absence is another, and it must not take news of the one for the other.
            let life = self.settings.negative_time_to_live;
            return Ok(Fetched { value: None, digest: Digest::of(&bytes), weight: 0, life });
        };
        let weight = self.weigh(key, &value, self.codec.weight(&bytes));
        let life = ttl.cap(self.settings.local_ttl());
        Ok(Fetched { value: Some(Arc::new(value)), digest: Digest::of(&bytes), weight, life })
    }

    /// The most keys that go to the backend in one call of this cache.
    pub(crate) fn batch(&self) -> usize {
        BATCH.min(self.admission.max_in_flight())
    }

    /// Checks every key of a batch, before anything is done about one of them.
    pub(crate) async fn check_keys(&self, operation: Operation, keys: &[&str]) -> Result<()> {
        for (index, key) in keys.iter().enumerate() {
            breathe(index).await;
            self.check_key(operation, key)?;
        }
        Ok(())
    }

    /// Reads many keys: same length and order. Local hits first, then one backend call for each 512 of the rest.
    ///
    /// `counted` says whether these are reads of the user's, to be counted as hits and misses.
    pub(crate) async fn read_many(&self, keys: &[&str], operation: Operation, counted: bool) -> Result<Vec<Kept<V>>> {
        self.check_keys(operation, keys).await?;
        self.read_each(keys, operation, counted).await.into_iter().collect()
    }

    /// As [`read_many`](Self::read_many), each key with a result of its own.
    pub(crate) async fn read_each(&self, keys: &[&str], operation: Operation, counted: bool) -> Vec<Result<Kept<V>>> {
        if let Err(closed) = self.open(operation) {
            return keys.iter().map(|_| Err(closed.clone())).collect();
        }
        let mut found: Vec<Result<Kept<V>>> = Vec::with_capacity(keys.len());
        let mut missed: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut order = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            breathe(index).await;
            let hit = if counted { self.early(key) } else { Early::Miss };
            found.push(match (hit, self.check_key(operation, key)) {
                (_, Err(refused)) => Err(refused),
                (Early::Hit(value), Ok(())) => Ok(value),
                (Early::Miss | Early::Refused(_), Ok(())) => {
                    let indices = missed.entry(key).or_default();
                    if indices.is_empty() {
                        order.push(*key);
                    }
                    indices.push(index);
                    // Until its batch was read.
                    Ok(None)
                }
            });
        }
        let mut admitted = Ok(());
        for (index, batch) in order.chunks(self.batch()).enumerate() {
            breathe(index * BATCH).await;
            let mut values = vec![None; batch.len()];
            // A backend that let one batch wait for the whole deadline is not given another for each that follows, nor
            // does a call that was refused knock again.
            if admitted.is_ok() {
                admitted = self.within(operation, self.read_batch(batch, operation, &mut values)).await;
            }
            for (key, value) in batch.iter().zip(values) {
                let value = value.unwrap_or_else(|| admitted.clone().and(Err(self.unanswered(operation))));
                for &index in missed.get(key).into_iter().flatten() {
                    found[index] = value.clone();
                }
            }
        }
        found
    }

    /// Reads distinct keys that were missed, and puts each answer in its place as soon as it is there: same length and
    /// order. An error says that the batch was not admitted; joined keys may have their answers all the same.
    async fn read_batch(
        &self,
        keys: &[&str],
        operation: Operation,
        values: &mut [Option<Result<Kept<V>>>],
    ) -> Result<()> {
        let mut admitted = Ok(());
        let mut led = Vec::new();
        let mut joined = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            match self.local.as_ref().map(|local| local.read(key)) {
                Some(Read::Hit(value)) => values[index] = Some(Ok(value)),
                Some(Read::Join(joiner)) => joined.push((index, joiner)),
                Some(Read::Lead(ticket, _) | Read::Bypass(ticket, _)) => led.push((index, Some(ticket))),
                None => led.push((index, None)),
            }
        }
        // What this call leads it ends before it waits for others, so two batches cannot wait for each other.
        if !led.is_empty() {
            let qualified: Vec<Bytes> =
                led.iter().map(|(index, _)| self.namespace.qualify(keys[*index]).into()).collect();
            let results = match self.turn(operation, qualified.len()).await {
                Ok(_turn) => {
                    let call = self.backend.get_many(&qualified);
                    let failed = |results: &Vec<BackendResult<_>>| results.iter().any(Result::is_err);
                    Ok(Self::one_each(led.len(), self.meter.call(Call::Read, call, failed).await))
                }
                Err(refused) => Err(refused),
            };
            admitted = results.as_ref().map(drop).map_err(Clone::clone);
            for (place, (index, ticket)) in led.into_iter().enumerate() {
                let fetched = match &results {
                    Ok(results) => self.understood(keys[index], operation, results[place].clone()),
                    Err(refused) => Err(refused.clone()),
                };
                values[index] = Some(match ticket {
                    Some(ticket) => Self::finish(ticket, fetched),
                    None => fetched.map(|fetched| fetched.value),
                });
            }
        }
        for (index, joiner) in joined {
            let Some(local) = &self.local else { continue };
            let read = self.read_on(local, keys[index], operation, Read::Join(joiner)).await;
            values[index] = Some(read.map(|found| found.value));
        }
        admitted
    }
}
