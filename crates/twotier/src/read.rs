//! The read path: local tier, then backend, one read per key at a time.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use smol_str::SmolStr;
use twotier_core::{BackendError, BackendErrorKind, Error, Operation};
use twotier_local::{Joined, LocalCopy, Read};

use crate::{
    Freshness, Lookup, Result, Tier,
    meter::Call,
    miss::{Miss, Waiter},
    remote::CachedValue,
    spans::spanned,
    tiers::{Tiers, yield_every, yield_now},
};

/// How many calls for parts of one batch are under way at once.
const PARTS: usize = 4;

/// What the look into the local tier, on the caller's own stack, found.
pub(crate) enum LocalRead<V> {
    Hit(CachedValue<V>),
    Miss,
    /// Boxed, so that a hit does not carry the room for an error around.
    Refused(Box<Error>),
}

impl<V: Send + Sync + 'static> Tiers<V> {
    /// Looks into the local tier and counts the read as a hit or a miss.
    #[inline]
    pub(crate) fn lookup_local(&self, operation: Operation, key: &str) -> LocalRead<V> {
        if let Err(error) = self.remote.check_key(operation, key) {
            return LocalRead::Refused(Box::new(error));
        }
        match self.local.get(key) {
            Some(value) => {
                self.audit_hit(key);
                if value.is_some() {
                    self.slide_hit(key);
                }
                LocalRead::Hit(value)
            }
            None => LocalRead::Miss,
        }
    }

    /// Has the life of what was hit extended where reads do that and enough of it has passed.
    #[inline]
    fn slide_hit(&self, key: &str) {
        if let Some(slider) = &self.slider
            && let Some(sliding) = self.remote.settings.sliding_by_hits()
            && self.local.remaining(key).is_some_and(|remaining| sliding.is_due(remaining))
        {
            slider.want(key);
        }
    }

    #[inline]
    fn audit_hit(&self, key: &str) {
        if let Some(auditor) = &self.auditor
            && auditor.wants_hit()
        {
            auditor.sample(&self.local, key);
        }
    }

    /// Looks as [`lookup_local`](Self::lookup_local) does, and returns the age of the copy too.
    pub(crate) fn lookup_local_with_age(&self, operation: Operation, key: &str) -> Result<Option<Lookup<V>>> {
        self.remote.check_key(operation, key)?;
        Ok(self.local.get_copy(key).map(|LocalCopy { value, age, is_loaded, .. }| {
            self.audit_hit(key);
            match is_loaded {
                true => Lookup { value, tier: Tier::Local, age, freshness: Freshness::Outage { at_most: age } },
                false => {
                    if value.is_some() {
                        self.slide_hit(key);
                    }
                    self.local_hit(value, age)
                }
            }
        }))
    }

    pub(crate) fn local_hit(&self, value: CachedValue<V>, age: Duration) -> Lookup<V> {
        let freshness = match self.remote.settings.staleness_bound() {
            Some(bound) => Freshness::Within(bound),
            None => Freshness::UntilExpiry,
        };
        Lookup { value, tier: Tier::Local, age, freshness }
    }

    /// Reads a key that was just missed: joins the read under way, or starts one. One round trip. A copy that may be
    /// stale is the answer where the backend has none and that is wanted.
    pub(crate) fn read_through<'a>(
        &'a self,
        key: impl Into<SmolStr>,
        operation: Operation,
    ) -> Pin<Box<dyn Future<Output = Result<Lookup<V>>> + Send + 'a>> {
        let key = key.into();
        let Some(options) = &self.remote.settings.stale else { return self.read_current(key, operation) };
        Box::pin(async move {
            let read = self.read_or_stale(&key, operation, options, Miss::new(self, key.clone(), operation));
            spanned!("twotier.read", self.remote, operation, 1, read, read)
        })
    }

    /// As [`read_through`](Self::read_through), but that no copy is the answer that may be stale.
    pub(crate) fn read_current<'a>(
        &'a self,
        key: impl Into<SmolStr>,
        operation: Operation,
    ) -> Pin<Box<dyn Future<Output = Result<Lookup<V>>> + Send + 'a>> {
        let read = Miss::new(self, key.into(), operation);
        #[cfg(feature = "spans")]
        let read = async move { spanned!("twotier.read", self.remote, operation, 1, read, read) };
        Box::pin(read)
    }

    /// Takes part in the read of a key: joins the one under way, or starts one.
    pub(crate) fn joined_now(&self, key: &str, operation: Operation) -> Option<Waiter<V>> {
        match self.local.read(key) {
            Read::Hit(_) => None,
            Read::Join(joiner) => Some(joiner),
            Read::Lead(ticket, joiner) | Read::Bypass(ticket, joiner) => {
                let _began = self.remote.start_read(operation, ticket);
                Some(joiner)
            }
        }
    }

    pub(crate) fn abandoned(&self, operation: Operation) -> Error {
        let source = BackendError::new(BackendErrorKind::Unavailable, "the read was abandoned again and again");
        self.remote.backend_failed(operation, source)
    }

    /// Checks every key of a batch, before anything is done about one of them.
    pub(crate) async fn check_keys(&self, operation: Operation, keys: &[&str]) -> Result<()> {
        for (index, key) in keys.iter().enumerate() {
            yield_every(index).await;
            self.remote.check_key(operation, key)?;
        }
        Ok(())
    }

    /// Reads many keys: same length and order. Local hits first, then one backend call for each 512 of the rest.
    ///
    /// `counted` says whether these are reads of the user's, to be counted as hits and misses.
    pub(crate) async fn read_many(
        &self,
        keys: &[&str],
        operation: Operation,
        counted: bool,
    ) -> Result<Vec<CachedValue<V>>> {
        self.check_keys(operation, keys).await?;
        self.read_each(keys, operation, counted).await.into_iter().collect()
    }

    /// As [`read_many`](Self::read_many), each key with a result of its own.
    pub(crate) async fn read_each(
        &self,
        keys: &[&str],
        operation: Operation,
        counted: bool,
    ) -> Vec<Result<CachedValue<V>>> {
        if let Err(closed) = self.remote.open(operation) {
            return keys.iter().map(|_| Err(closed.clone())).collect();
        }
        let mut found: Vec<Result<CachedValue<V>>> = Vec::with_capacity(keys.len());
        let mut missed: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut order = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            yield_every(index).await;
            let hit = if counted { self.lookup_local(operation, key) } else { LocalRead::Miss };
            found.push(match (hit, self.remote.check_key(operation, key)) {
                (_, Err(refused)) => Err(refused),
                (LocalRead::Hit(value), Ok(())) => Ok(value),
                (LocalRead::Miss | LocalRead::Refused(_), Ok(())) => {
                    let indices = missed.entry(key).or_default();
                    if indices.is_empty() {
                        order.push(*key);
                    }
                    indices.push(index);
                    // Until it was read.
                    Ok(None)
                }
            });
        }
        if order.is_empty() {
            return found;
        }
        let reading = self.read_distinct(&order, operation);
        let mut values = spanned!("twotier.batch", self.remote, operation, order.len(), outcomes, reading);
        self.stale_instead_of_each(&order, operation, &mut values);
        for (key, value) in order.iter().zip(values) {
            for &index in missed.get(key).into_iter().flatten() {
                found[index] = value.clone();
            }
        }
        found
    }

    /// Reads distinct keys that were missed: same length and order. Several calls of the backend are under way at once.
    ///
    /// The deadline is one of progress: it passes when nothing came for the operation timeout. What has come by then is
    /// kept and returned.
    async fn read_distinct(&self, keys: &[&str], operation: Operation) -> Vec<Result<CachedValue<V>>> {
        self.settle_many(operation, keys).await;
        let answered = Arc::new(AtomicU64::new(0));
        let progress = || answered.load(Ordering::Relaxed);
        let mut parts = keys.chunks(self.remote.batch());
        let mut waiting = std::collections::VecDeque::new();
        let mut values = Vec::with_capacity(keys.len());
        // Why no more parts are asked for: nothing came for a whole deadline, or too many calls wait.
        let mut stopped: Option<Error> = None;
        loop {
            // Several go together where there is room; else the next one stands in line behind whoever came meanwhile.
            while waiting.len() < PARTS
                && stopped.is_none()
                && (waiting.is_empty() || self.remote.admission.has_room(self.remote.batch()))
                && let Some(part) = parts.next()
            {
                waiting.push_back(self.start_part(part, operation, &answered));
                yield_now().await;
            }
            let Some(part) = waiting.pop_front() else { break };
            for (key, started) in part {
                values.push(match started {
                    Started::Hit(value) => Ok(value),
                    Started::Refused(error) => Err(*error),
                    Started::Waiting(joiner) => {
                        let mut joined = pin!(self.joined(key, operation, joiner));
                        let joined = match stopped {
                            None => self.remote.while_progressing(progress, joined.as_mut()).await,
                            // What is there is taken, and nothing more is waited for.
                            Some(_) => match joined.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                                Poll::Ready(joined) => Some(joined),
                                Poll::Pending => None,
                            },
                        };
                        let joined = joined.unwrap_or_else(|| {
                            if stopped.is_none() {
                                self.remote.meter.timed_out(Call::Read);
                            }
                            Err(self.remote.timed_out(operation, true))
                        });
                        if let Err(error @ (Error::Timeout { .. } | Error::Overloaded { .. })) = &joined {
                            stopped.get_or_insert_with(|| error.clone());
                        }
                        joined
                    }
                });
            }
        }
        values.resize_with(keys.len(), || Err(stopped.clone().unwrap_or_else(|| self.abandoned(operation))));
        values
    }

    fn start_part<'k>(
        &self,
        keys: &[&'k str],
        operation: Operation,
        answered: &Arc<AtomicU64>,
    ) -> Vec<(&'k str, Started<V>)> {
        let mut tickets = Vec::with_capacity(keys.len());
        let started = keys.iter().map(|key| {
            if let Some(refused) = self.remote.refused_over(operation, Call::Read, || self.local.route(key)) {
                return (*key, Started::Refused(Box::new(refused)));
            }
            let started = match self.local.read(key) {
                Read::Hit(value) => Started::Hit(value),
                Read::Join(joiner) => Started::Waiting(joiner),
                Read::Lead(ticket, joiner) | Read::Bypass(ticket, joiner) => {
                    tickets.push(ticket);
                    Started::Waiting(joiner)
                }
            };
            (*key, started)
        });
        let started = started.collect();
        if !tickets.is_empty() {
            self.remote.start_reads(operation, tickets, Arc::clone(answered));
        }
        started
    }

    /// Waits for the read of one key of a batch.
    async fn joined(&self, key: &str, operation: Operation, joiner: Waiter<V>) -> Result<CachedValue<V>> {
        match joiner.wait().await {
            Joined::Value(value) => Ok(value),
            Joined::Failed(error) => Err(error),
            Joined::ElectAgain => Miss::new(self, key.into(), operation).untimed().await.map(|found| found.value),
        }
    }
}

/// A read of a batch that was asked for.
enum Started<V> {
    Hit(CachedValue<V>),
    Waiting(Waiter<V>),
    Refused(Box<Error>),
}
