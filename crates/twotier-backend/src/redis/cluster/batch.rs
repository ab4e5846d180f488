//! Batches: split by the primaries that own the slots, answered item by item, and followed like single commands.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet};
use twotier_core::{BackendError, BackendErrorKind, LinkId};

use crate::{
    AnswerSink, BackendResult,
    redis::command::{self, Action, Change, Cursor, Effect, ReadResult, scan},
};

use super::{
    Cluster, Inner, Network, Peer,
    follow::{ended, is_elsewhere},
};

/// How often everything is removed anew because slots have moved meanwhile.
const CLEARINGS: usize = 5;

impl Cluster {
    /// Reads many values; those of each primary as from a server of its own. Each is answered when it comes.
    pub(in crate::redis) async fn get_each(&self, keys: &[Bytes], answers: AnswerSink<'_>) {
        let network = match self.inner.network().await {
            Ok(network) => network,
            Err(cause) => return (0..keys.len()).for_each(|index| answers(index, Err(cause.clone()))),
        };
        let (sender, mut answered) = mpsc::unbounded_channel::<(usize, ReadResult)>();
        // Aborted when the caller goes away.
        let mut tasks = JoinSet::new();
        let (parts, refused) = split(&network, keys, |key| key);
        for (index, cause) in refused {
            answers(index, Err(cause));
        }
        for (peer, indices) in parts {
            let (inner, sender) = (Arc::clone(&self.inner), sender.clone());
            let keys: Vec<Bytes> = indices.iter().map(|index| keys[*index].clone()).collect();
            tasks.spawn(async move {
                let commands = peer.link.ready().await;
                let redirected = parking_lot::Mutex::new(Vec::new());
                let answered = |place: usize, answer: ReadResult| match is_elsewhere(&answer) {
                    true => redirected.lock().push((place, answer)),
                    // Nobody waits any more when the receiver is gone.
                    false => drop(indices.get(place).map(|index| sender.send((*index, answer)))),
                };
                match commands {
                    Ok(commands) => command::get_each(&commands, &keys, &answered).await,
                    Err(cause) => (0..keys.len()).for_each(|place| answered(place, Err(cause.clone()))),
                }
                let mut followed = JoinSet::new();
                for (place, answer) in redirected.into_inner() {
                    let (Some(index), Some(key)) = (indices.get(place).copied(), keys.get(place).cloned()) else {
                        continue;
                    };
                    let (inner, peer, sender) = (Arc::clone(&inner), Arc::clone(&peer), sender.clone());
                    followed.spawn(async move {
                        let answer = inner.followed_read(&peer, &key, answer).await;
                        let _ = sender.send((index, answer));
                    });
                }
                followed.join_all().await;
            });
        }
        drop(sender);
        while let Some((index, answer)) = answered.recv().await {
            answers(index, answer);
        }
    }

    pub(in crate::redis) async fn get_many(&self, keys: &[Bytes]) -> Vec<ReadResult> {
        let results = parking_lot::Mutex::new((0..keys.len()).map(|_| None).collect::<Vec<Option<ReadResult>>>());
        self.get_each(keys, &|index, result| {
            if let Some(place) = results.lock().get_mut(index) {
                *place = Some(result);
            }
        })
        .await;
        results.into_inner().into_iter().map(|result| result.unwrap_or_else(|| Err(ended()))).collect()
    }

    /// Makes many changes, each key's in the order of the calls.
    pub(in crate::redis) async fn change_many(&self, changes: Vec<Change>) -> Vec<BackendResult<bool>> {
        self.inner.change_many(changes).await
    }

    /// Removes every key with this prefix, at every primary, until no slot has moved meanwhile.
    pub(in crate::redis) async fn clear(&self, prefix: &[u8]) -> BackendResult<u64> {
        let inner = &self.inner;
        let mut removed = 0;
        for _ in 0..CLEARINGS {
            let network = inner.current()?;
            for peer in network.peers.values() {
                let mut cursor = Some(Cursor::start());
                while let Some(from) = cursor {
                    let commands = peer.link.current()?;
                    let (next, keys) = scan(&commands, prefix, from).await?;
                    let change = |key: Vec<u8>| Change { key: key.into(), action: Action::Remove };
                    for result in inner.change_many(keys.into_iter().map(change).collect()).await {
                        removed += u64::from(result?);
                    }
                    cursor = next;
                }
            }
            if inner.network.read().as_ref().is_some_and(|now| Arc::ptr_eq(now, &network)) {
                return Ok(removed);
            }
        }
        let message = "slots kept moving while their keys were removed";
        Err(BackendError::new(BackendErrorKind::Unavailable, message))
    }
}

impl Inner {
    async fn change_many(self: &Arc<Self>, changes: Vec<Change>) -> Vec<BackendResult<bool>> {
        if changes.is_empty() {
            return Vec::new();
        }
        let (length, inner) = (changes.len(), Arc::clone(self));
        let keys = changes.iter().map(|change| change.key.clone()).collect();
        let results = self.in_order(keys, async move { inner.change_all(changes).await }).await;
        results.unwrap_or_else(|| (0..length).map(|_| Err(ended())).collect())
    }

    async fn change_all(self: &Arc<Self>, changes: Vec<Change>) -> Vec<BackendResult<bool>> {
        let mut results: Vec<BackendResult<bool>> = (0..changes.len()).map(|_| Err(ended())).collect();
        let network = match self.current() {
            Ok(network) => network,
            Err(cause) => {
                results.fill_with(|| Err(cause.clone()));
                return results;
            }
        };
        let (parts, refused) = split(&network, &changes, |change| &change.key);
        for (index, cause) in refused {
            results[index] = Err(cause);
        }
        let mut tasks = JoinSet::new();
        for (peer, indices) in parts {
            let inner = Arc::clone(self);
            let changes: Vec<Change> = indices.iter().map(|index| changes[*index].clone()).collect();
            tasks.spawn(async move {
                let answers = match peer.link.current() {
                    Ok(commands) => command::change_many(&commands, changes.clone()).await,
                    Err(cause) => changes.iter().map(|_| Err(cause.clone())).collect(),
                };
                // Those of one key in their order, those of different keys at the same time.
                let (mut answered, mut redirected) = (Vec::new(), BTreeMap::<Bytes, Vec<_>>::new());
                for ((index, change), answer) in indices.into_iter().zip(changes).zip(answers) {
                    let is_elsewhere = is_elsewhere(&answer);
                    match answer {
                        Err(cause) if is_elsewhere => {
                            redirected.entry(change.key.clone()).or_default().push((index, change, cause));
                        }
                        answer => answered.push((index, answer)),
                    }
                }
                let mut followed = JoinSet::new();
                for (_key, changes) in redirected {
                    let (inner, peer) = (Arc::clone(&inner), Arc::clone(&peer));
                    followed.spawn(async move {
                        let mut answered = Vec::new();
                        for (index, change, cause) in changes {
                            let effect = inner.followed_change(&peer, change, Err(cause)).await;
                            answered.push((index, effect.map(Effect::is_change)));
                        }
                        answered
                    });
                }
                while let Some(later) = followed.join_next().await {
                    answered.extend(later.into_iter().flatten());
                }
                answered
            });
        }
        while let Some(part) = tasks.join_next().await {
            for (index, answer) in part.into_iter().flatten() {
                results[index] = answer;
            }
        }
        results
    }
}

/// The items of a batch for one primary, by their places.
type Part = (Arc<Peer>, Vec<usize>);

/// Splits a batch by the primaries that own the slots of its keys. Where nobody does, it is an error.
fn split<I>(network: &Network, items: &[I], key: impl Fn(&I) -> &[u8]) -> (Vec<Part>, Vec<(usize, BackendError)>) {
    let (mut parts, mut refused) = (BTreeMap::<LinkId, Part>::new(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        match network.owner(key(item)) {
            Ok(peer) => {
                let part = parts.entry(peer.number).or_insert_with(|| (Arc::clone(peer), Vec::new()));
                part.1.push(index);
            }
            Err(cause) => refused.push((index, cause)),
        }
    }
    (parts.into_values().collect(), refused)
}
