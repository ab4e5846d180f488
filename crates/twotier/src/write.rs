//! The write path: backend first, then the local tier.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::runtime::Handle;
use twotier_backend::{BackendResult, Write};
use twotier_core::{Error, ErrorKind, LinkId, Operation};
use twotier_local::{Cleared, Digest, WriteTicket};

use crate::{
    Result,
    meter::Call,
    remote::{CachedValue, Cost, Links, Local, PendingWrite, Prepared, Remote, unanswered, writes_at_once},
    spans::spanned,
    tiers::{Tiers, yield_every, yield_now},
};

/// How many parts of one batch are on their way at once.
const PARTS: usize = 4;
/// How many entries are dropped at once in a task: the work of about a millisecond.
const DROPPED_IN_PLACE: usize = 10_000;

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
    pub(crate) ttl: Option<Option<Duration>>,
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

type Ticket<V> = WriteTicket<CachedValue<V>, Error>;

impl<V: Send + Sync + 'static> Tiers<V> {
    /// Writes one value. One round trip.
    pub(crate) async fn set(&self, key: &str, value: Arc<V>, options: SetOptions) -> Result<()> {
        let written = self.set_through(key, value, options).await;
        self.forget_if_unwritten(key, written.as_ref().err());
        written
    }

    /// The backend could not be given a change: the copy goes all the same, be it what was loaded while the backend did
    /// not answer. Whoever changed the origin before this call is not to be served what was there before.
    fn forget_if_unwritten(&self, key: &str, error: Option<&Error>) {
        if error.is_some_and(|error| matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)) {
            let _held = self.local.invalidate(key);
        }
    }

    /// As [`forget_if_unwritten`](Self::forget_if_unwritten), of a deletion, which may be made up for.
    fn forget_if_undeleted(&self, key: &str, error: Option<&Error>) {
        let Some(error) = error else { return };
        self.queue_if_away(key, error);
        self.forget_if_unwritten(key, Some(error));
    }

    async fn set_through(&self, key: &str, value: Arc<V>, options: SetOptions) -> Result<()> {
        let operation = Operation::Set;
        self.remote.check_key(operation, key)?;
        self.remote.open(operation)?;
        let prepared = self.remote.prepare(operation, key, value, options)?;
        let (local, remote, key) = (self.local.clone(), Arc::clone(&self.remote), key.to_owned());
        let cost = Cost::of_writes(std::iter::once(prepared.bytes.len()));
        let links = Links::One(self.local.route(&key));
        let write = self.remote.write(operation, links, cost, false, move |permit| {
            let own = remote.invalidations.writes(&key);
            let ticket = local.begin_write(&key, Digest::of(&prepared.bytes));
            async move {
                let Prepared { value, bytes, weight, ttl, life } = prepared;
                let qualified = remote.namespace.qualify(&key);
                let call = remote.backend.set(&qualified, bytes, ttl);
                let result = remote.call(Call::Write, ticket.mark().link, call).await;
                own.ended(result.is_ok());
                drop(permit);
                ended(&remote, operation, ticket, result, |ticket| ticket.install(Some(value), weight, Some(life)))
            }
        });
        spanned!("twotier.write", self.remote, operation, 1, outcome, self.remote.written(write))
    }

    pub(crate) async fn set_many(&self, items: Vec<(String, Arc<V>)>, options: SetOptions) -> Result<()> {
        let operation = Operation::SetMany;
        for (index, (key, _)) in items.iter().enumerate() {
            yield_every(index).await;
            self.remote.check_key(operation, key)?;
        }
        self.remote.open(operation)?;
        // Of two values for one key the later one wins; the others are written in the order in which they came.
        let mut last: HashMap<String, usize> = HashMap::with_capacity(items.len());
        for (index, (key, _)) in items.iter().enumerate() {
            yield_every(index).await;
            last.insert(key.clone(), index);
        }
        let mut prepared = Vec::with_capacity(last.len());
        for (index, (key, value)) in items.into_iter().enumerate() {
            yield_every(index).await;
            if last.get(&key) == Some(&index) {
                let value = self.remote.prepare(operation, &key, value, options)?;
                prepared.push((key, value));
            }
        }
        self.set_distinct(operation, prepared).await.into_iter().collect()
    }

    /// Writes many values: same length and order as `items`. Of two values for one key the later one wins, and what
    /// becomes of it is the result of both.
    pub(crate) async fn set_each(&self, items: Vec<(String, Arc<V>)>) -> Vec<Result<()>> {
        let operation = Operation::SetMany;
        if let Err(closed) = self.remote.open(operation) {
            return items.iter().map(|_| Err(closed.clone())).collect();
        }
        let last: HashMap<String, usize> =
            items.iter().enumerate().map(|(index, (key, _))| (key.clone(), index)).collect();
        let deciding: Vec<Option<usize>> = items.iter().map(|(key, _)| last.get(key).copied()).collect();
        let mut results = vec![Ok(()); items.len()];
        let (mut indices, mut prepared) = (Vec::new(), Vec::new());
        for (index, (key, value)) in items.into_iter().enumerate() {
            yield_every(index).await;
            if deciding[index] != Some(index) {
                continue;
            }
            let checked = self.remote.check_key(operation, &key);
            match checked.and_then(|()| self.remote.prepare(operation, &key, value, SetOptions::default())) {
                Ok(value) => {
                    indices.push(index);
                    prepared.push((key, value));
                }
                Err(refused) => results[index] = Err(refused),
            }
        }
        let written = self.set_distinct(operation, prepared).await;
        for (index, result) in indices.into_iter().zip(written) {
            results[index] = result;
        }
        deciding.into_iter().flatten().map(|index| results[index].clone()).collect()
    }

    /// Writes distinct keys: same length and order. One call of the backend for each 512 or each MiB.
    async fn set_distinct(&self, operation: Operation, prepared: Vec<(String, Prepared<V>)>) -> Vec<Result<()>> {
        let keys: Vec<String> = prepared.iter().map(|(key, _)| key.clone()).collect();
        let written = self.set_passing(operation, prepared).await;
        keys.iter().zip(&written).for_each(|(key, result)| self.forget_if_unwritten(key, result.as_ref().err()));
        written
    }

    async fn set_passing(&self, operation: Operation, prepared: Vec<(String, Prepared<V>)>) -> Vec<Result<()>> {
        let links = prepared.iter().map(|(key, _)| self.local.route(key));
        match self.remote.refusals(operation, Call::Write, links) {
            None => self.set_reachable(operation, prepared).await,
            Some(refusals) => {
                let (prepared, refused) = reachable(prepared, refusals);
                merged(refused, self.set_reachable(operation, prepared).await)
            }
        }
    }

    async fn set_reachable(&self, operation: Operation, prepared: Vec<(String, Prepared<V>)>) -> Vec<Result<()>> {
        let total = prepared.len();
        let mut left = VecDeque::from(prepared);
        let next = || {
            let sizes = left.iter().map(|(_, prepared)| prepared.bytes.len());
            let part: Vec<_> = {
                let count = writes_at_once(sizes, self.remote.batch());
                left.drain(..count.min(left.len())).collect()
            };
            (!part.is_empty()).then(|| (part.len(), self.set_part(operation, part)))
        };
        spanned!("twotier.batch", self.remote, operation, total, outcomes, self.in_parts(operation, total, next))
    }

    fn set_part(&self, operation: Operation, part: Vec<(String, Prepared<V>)>) -> PendingWrite<Vec<Result<()>>> {
        let cost = Cost::of_writes(part.iter().map(|(_, prepared)| prepared.bytes.len()));
        let (local, remote) = (self.local.clone(), Arc::clone(&self.remote));
        let links = Links::of(part.iter().map(|(key, _)| self.local.route(key)));
        self.remote.write(operation, links, cost, true, move |permit| {
            let mut writes = Vec::with_capacity(part.len());
            let mut tickets = Vec::with_capacity(part.len());
            for (key, Prepared { value, bytes, weight, ttl, life }) in part {
                let own = remote.invalidations.writes(&key);
                tickets.push((local.begin_write(&key, Digest::of(&bytes)), value, weight, life, own));
                writes.push(Write::new(remote.namespace.qualify(&key), bytes, ttl));
            }
            async move {
                let links: Vec<_> = tickets.iter().map(|(ticket, ..)| ticket.mark().link).collect();
                let results = remote.call_for_many(Call::Write, &links, remote.backend.set_many(&writes)).await;
                drop(permit);
                let results = one_each(writes.len(), results);
                let ended = tickets.into_iter().zip(results).map(|((ticket, value, weight, life, own), result)| {
                    own.ended(result.is_ok());
                    let install = |ticket: Ticket<V>| ticket.install(Some(value), weight, Some(life));
                    ended(&remote, operation, ticket, result.map(drop), install)
                });
                Ok(ended.collect())
            }
        })
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<bool> {
        let deleted = self.delete_through(key).await;
        self.forget_if_undeleted(key, deleted.as_ref().err());
        deleted
    }

    async fn delete_through(&self, key: &str) -> Result<bool> {
        let operation = Operation::Delete;
        self.remote.check_key(operation, key)?;
        self.remote.open(operation)?;
        let (local, remote, key) = (self.local.clone(), Arc::clone(&self.remote), key.to_owned());
        let links = Links::One(self.local.route(&key));
        let write = self.remote.write(operation, links, Cost::ONE, false, move |permit| {
            let own = remote.invalidations.writes(&key);
            let ticket = local.begin_write(&key, Digest::ABSENT);
            async move {
                let qualified = remote.namespace.qualify(&key);
                let call = remote.backend.delete(&qualified);
                let result = remote.call(Call::Delete, ticket.mark().link, call).await;
                own.ended(result.is_ok());
                drop(permit);
                let life = remote.settings.negative_time_to_live;
                ended(&remote, operation, ticket, result, |ticket| ticket.install(None, 0, life))
            }
        });
        spanned!("twotier.write", self.remote, operation, 1, outcome, self.remote.written(write))
    }

    /// Deletes many keys, and returns how many were there.
    pub(crate) async fn delete_many(&self, keys: &[&str]) -> Result<usize> {
        let operation = Operation::DeleteMany;
        self.check_keys(operation, keys).await?;
        self.remote.open(operation)?;
        let mut distinct = keys.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let removed: Vec<bool> = self.delete_distinct(operation, &distinct).await.into_iter().collect::<Result<_>>()?;
        Ok(removed.into_iter().filter(|was_there| *was_there).count())
    }

    /// Deletes many keys: same length and order as `keys`.
    pub(crate) async fn delete_each(&self, keys: &[&str]) -> Vec<Result<bool>> {
        let operation = Operation::DeleteMany;
        if let Err(closed) = self.remote.open(operation) {
            return keys.iter().map(|_| Err(closed.clone())).collect();
        }
        let mut results: HashMap<&str, Result<bool>> = HashMap::with_capacity(keys.len());
        let mut distinct = Vec::with_capacity(keys.len());
        for key in keys {
            if !results.contains_key(key) {
                let checked = self.remote.check_key(operation, key);
                if checked.is_ok() {
                    distinct.push(*key);
                }
                results.insert(key, checked.map(|()| false));
            }
        }
        let deleted = self.delete_distinct(operation, &distinct).await;
        results.extend(distinct.into_iter().zip(deleted));
        keys.iter().filter_map(|key| results.get(key).cloned()).collect()
    }

    /// Deletes distinct keys: same length and order. One call of the backend for each 512.
    async fn delete_distinct(&self, operation: Operation, keys: &[&str]) -> Vec<Result<bool>> {
        let deleted = self.delete_passing(operation, keys).await;
        keys.iter().zip(&deleted).for_each(|(key, result)| self.forget_if_undeleted(key, result.as_ref().err()));
        deleted
    }

    async fn delete_passing(&self, operation: Operation, keys: &[&str]) -> Vec<Result<bool>> {
        let links = keys.iter().map(|key| self.local.route(key));
        match self.remote.refusals(operation, Call::Delete, links) {
            None => self.delete_reachable(operation, keys).await,
            Some(refusals) => {
                let (keys, refused) = reachable(keys.to_vec(), refusals);
                merged(refused, self.delete_reachable(operation, &keys).await)
            }
        }
    }

    async fn delete_reachable(&self, operation: Operation, keys: &[&str]) -> Vec<Result<bool>> {
        let mut parts = keys.chunks(self.remote.batch());
        let next = || parts.next().map(|part| (part.len(), self.delete_part(operation, part)));
        let deleting = self.in_parts(operation, keys.len(), next);
        spanned!("twotier.batch", self.remote, operation, keys.len(), outcomes, deleting)
    }

    fn delete_part(&self, operation: Operation, keys: &[&str]) -> PendingWrite<Vec<Result<bool>>> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let (local, remote) = (self.local.clone(), Arc::clone(&self.remote));
        let links = Links::of(keys.iter().map(|key| self.local.route(key)));
        self.remote.write(operation, links, Cost::of_keys(keys.len()), true, move |permit| {
            let own: Vec<_> = keys.iter().map(|key| remote.invalidations.writes(key)).collect();
            let tickets: Vec<_> = keys.iter().map(|key| local.begin_write(key, Digest::ABSENT)).collect();
            let qualified: Vec<Bytes> = keys.iter().map(|key| remote.namespace.qualify(key).into()).collect();
            async move {
                let call = remote.backend.delete_many(&qualified);
                let links: Vec<_> = tickets.iter().map(|ticket| ticket.mark().link).collect();
                let results = remote.call_for_many(Call::Delete, &links, call).await;
                drop(permit);
                let life = remote.settings.negative_time_to_live;
                let results = one_each(qualified.len(), results);
                own.into_iter().zip(&results).for_each(|(own, result)| own.ended(result.is_ok()));
                let ended = tickets.into_iter().zip(results).map(|(ticket, result)| {
                    ended(&remote, operation, ticket, result, |ticket| ticket.install(None, 0, life))
                });
                Ok(ended.collect())
            }
        })
    }

    /// Writes the parts of a batch, a few at a time, and waits for each as long as anything moves. What comes after a
    /// part for which nothing moved is not sent.
    async fn in_parts<T>(
        &self,
        operation: Operation,
        items: usize,
        mut next: impl FnMut() -> Option<(usize, PendingWrite<Vec<Result<T>>>)>,
    ) -> Vec<Result<T>> {
        let mut results = Vec::with_capacity(items);
        let mut waiting = VecDeque::new();
        let mut stopped = None;
        loop {
            // Several go together where there is room; else the next one stands in line behind whoever came meanwhile.
            while waiting.len() < PARTS
                && (waiting.is_empty() || self.remote.admission.has_room(self.remote.batch()))
                && let Some(part) = next()
            {
                waiting.push_back(part);
                yield_now().await;
            }
            let Some((size, part)) = waiting.pop_front() else { break };
            match self.remote.part_written(part).await {
                Ok(part) => results.extend(part),
                Err(error) => {
                    results.extend((0..size).map(|_| Err(error.clone())));
                    if matches!(error, Error::Timeout { .. } | Error::Overloaded { .. }) {
                        stopped = Some(error);
                        break;
                    }
                }
            }
        }
        for (size, mut part) in waiting {
            match part.given_up_unless_done() {
                Some(Ok(part)) => results.extend(part),
                Some(Err(error)) => results.extend((0..size).map(|_| Err(error.clone()))),
                None => {
                    let sent = part.was_sent();
                    results.extend((0..size).map(|_| Err(self.remote.timed_out(operation, sent))));
                }
            }
        }
        // What was not asked for was not sent.
        let not_sent = stopped.filter(|error| !error.may_have_executed());
        results.resize_with(items, || Err(not_sent.clone().unwrap_or_else(|| self.remote.timed_out(operation, false))));
        results
    }

    /// Removes every key of the namespace that begins with this text from both tiers; with an empty one, all of them.
    ///
    /// All copies go, whatever their key: before, so that none is served once the first key is gone, and after; and
    /// nothing is kept in between, because removals by our own connection are not reported to us: a copy made before
    /// its key is reached would be served until the end.
    pub(crate) async fn clear_under(&self, beginning: &str) -> Result<u64> {
        self.remote.open(Operation::Clear)?;
        let clearing = clear_all(&self.local, &self.remote, Operation::Clear, beginning);
        spanned!("twotier.write", self.remote, Operation::Clear, 1, outcome, clearing)
    }
}

/// Removes every key of the namespace that begins with this text from both tiers.
pub(crate) async fn clear_all<V: Send + Sync + 'static>(
    local: &Local<V>,
    remote: &Arc<Remote<V>>,
    operation: Operation,
    beginning: &str,
) -> Result<u64> {
    let waiting = if beginning.is_empty() { remote.invalidations.some(usize::MAX) } else { Vec::new() };
    let (local, owner) = (local.clone(), Arc::clone(remote));
    let remote = Arc::clone(remote);
    let prefix = remote.namespace.qualify(beginning);
    let write = owner.write(operation, Links::One(LinkId::ONLY), Cost::ONE, false, move |permit| {
        let (clearing, cleared) = local.begin_clear();
        drop_aside(cleared);
        async move {
            let call = remote.backend.clear(&prefix);
            let result = remote.call(Call::Delete, LinkId::ONLY, call).await;
            drop(permit);
            drop(clearing);
            if result.is_ok() {
                remote.invalidations.done(&waiting);
            }
            result.map_err(|source| remote.backend_failed(operation, source))
        }
    });
    owner.written_at_last(write).await
}

/// Leaves out the items of a batch that would be refused, and returns why they would, in their places.
fn reachable<T>(items: Vec<T>, refusals: Vec<Option<Error>>) -> (Vec<T>, Vec<Option<Error>>) {
    let kept = items.into_iter().zip(&refusals).filter_map(|(item, refusal)| refusal.is_none().then_some(item));
    (kept.collect(), refusals)
}

/// Puts the results of the items that were left and the refusals of the others together, in the order of the items.
fn merged<T>(refusals: Vec<Option<Error>>, results: Vec<Result<T>>) -> Vec<Result<T>> {
    let mut results = results.into_iter();
    refusals.into_iter().filter_map(|refusal| refusal.map(Err).or_else(|| results.next())).collect()
}

/// Drops what a tier held: much of it aside, in tokio's place for what blocks, where there is one.
pub(crate) fn drop_aside<T: Send + Sync + 'static, E: Send + Sync + 'static>(cleared: Cleared<T, E>) {
    if cleared.len() > DROPPED_IN_PLACE
        && let Ok(runtime) = Handle::try_current()
    {
        runtime.spawn_blocking(move || drop(cleared));
    }
}

/// Ends the bookkeeping of one write by its own reply. Without an install the local copy stays gone.
pub(crate) fn ended<V: Send + Sync + 'static, T>(
    remote: &Remote<V>,
    operation: Operation,
    ticket: Ticket<V>,
    result: BackendResult<T>,
    install: impl FnOnce(Ticket<V>) -> bool,
) -> Result<T> {
    match result {
        Ok(answer) => {
            let _kept = install(ticket);
            Ok(answer)
        }
        Err(source) => {
            drop(ticket);
            Err(remote.backend_failed(operation, source))
        }
    }
}

/// When a backend returned more or fewer results than there are items, nobody knows which belongs to which.
pub(crate) fn one_each<T>(items: usize, results: Vec<BackendResult<T>>) -> Vec<BackendResult<T>> {
    if results.len() == items {
        return results;
    }
    std::iter::repeat_with(|| Err(unanswered())).take(items).collect()
}
