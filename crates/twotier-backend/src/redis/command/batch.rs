//! Reads of many keys: parts in a window that is bounded in bytes, each answered when it comes.

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet};
use twotier_core::{BackendError, BackendErrorKind};

use crate::AnswerSink;

use super::{
    connections::Connections,
    read::{self, BatchRead, BatchReply, ReadResult},
};

/// The most keys in one part. The parts of a call go together; a larger one would be answered later and hold up
/// whatever is read over the connection at the same time.
const PART: usize = 128;
/// The most bytes that one part is expected to bring.
const PART_BYTES: usize = 1024 * 1024;
/// The most bytes that are expected to be under way for one call.
const WINDOW: usize = 16 * 1024 * 1024;
/// The most keys that are under way before the call has seen one of its own values.
const FIRST_KEYS: usize = 1024;

/// Reads many values as [`get_each`] does, and returns the results in the order of the keys.
pub(in crate::redis) async fn get_many(connections: &Connections, keys: &[Bytes]) -> Vec<ReadResult> {
    let results = parking_lot::Mutex::new((0..keys.len()).map(|_| None).collect::<Vec<Option<ReadResult>>>());
    get_each(connections, keys, &|index, result| {
        if let Some(place) = results.lock().get_mut(index) {
            *place = Some(result);
        }
    })
    .await;
    results.into_inner().into_iter().map(|result| result.unwrap_or_else(|| Err(ended()))).collect()
}

/// Reads many values: one `MGET` and a `PTTL` for each key in each part. As many parts are under way as are expected to
/// bring 16 MiB, by what the keys before brought: first those of other calls, then those of this one.
///
/// Several parts are tasks: they make progress whether or not this is polled.
pub(in crate::redis) async fn get_each(connections: &Connections, keys: &[Bytes], answers: AnswerSink<'_>) {
    if keys.len() <= connections.sizes().keys_within(PART_BYTES, PART) {
        return get_together(connections, keys, answers).await;
    }
    let (sender, mut parts) = mpsc::unbounded_channel();
    // Aborted when the caller goes away.
    let mut tasks = JoinSet::new();
    let mut answered = vec![false; keys.len()];
    let (mut next, mut under_way, mut seen) = (0, Window::default(), Seen::default());
    loop {
        let size = seen.mean().unwrap_or_else(|| connections.sizes().estimate()).max(1);
        while next < keys.len() {
            let room = match WINDOW.saturating_sub(under_way.bytes) / size {
                // One is always under way, however large it is.
                0 if under_way.keys == 0 => 1,
                room if seen.keys == 0 => room.min(FIRST_KEYS.saturating_sub(under_way.keys)),
                room => room,
            };
            let length = (PART_BYTES / size).clamp(1, PART).min(room).min(keys.len() - next);
            if length == 0 {
                break;
            }
            let part = Part { first: next, keys: keys[next..next + length].to_vec(), expected: length * size };
            next += length;
            under_way.keys += length;
            under_way.bytes += part.expected;
            let (link, sender) = (connections.clone(), sender.clone());
            let read = async move {
                let (results, bytes) = part.read(&link).await;
                // Nobody waits any more when the receiver is gone.
                let _ = sender.send((part, results, bytes));
            };
            tasks.spawn_on(read, connections.runtime());
        }
        if under_way.keys == 0 {
            break;
        }
        let ended = tokio::select! {
            biased;
            part = parts.recv() => part,
            // A task that ends without having sent its part was ended with its runtime.
            Some(Err(_ended)) = tasks.join_next() => None,
        };
        let Some((part, results, bytes)) = ended else { break };
        under_way.keys -= part.keys.len();
        under_way.bytes -= part.expected;
        seen.keys += part.keys.len();
        seen.bytes += bytes;
        for (index, result) in results.into_iter().enumerate().take(part.keys.len()) {
            answered[part.first + index] = true;
            answers(part.first + index, result);
        }
    }
    for (index, answered) in answered.into_iter().enumerate() {
        if !answered {
            answers(index, Err(ended()));
        }
    }
}

/// Reads as many keys as one part has, in no task.
async fn get_together(connections: &Connections, keys: &[Bytes], answers: AnswerSink<'_>) {
    if let [key] = keys {
        // Which says of itself what `MGET` leaves open.
        return answers(0, read::get(connections, key).await);
    }
    let mut read = BatchRead::new(keys.len());
    keys.iter().for_each(|key| read.add(key));
    let BatchReply { results, .. } = read.ask(connections).await;
    let mut singly = Vec::new();
    for (index, result) in results.into_iter().enumerate() {
        match result {
            Some(result) => answers(index, result),
            None => singly.push(index),
        }
    }
    // Everybody else has a result: keys that need `GET` hold nobody up.
    let keys: Vec<&[u8]> = singly.iter().filter_map(|index| Some(&keys.get(*index)?[..])).collect();
    for (index, result) in singly.iter().zip(read::get_singly(connections, &keys).await) {
        answers(*index, result);
    }
}

/// What is under way for a call.
#[derive(Default)]
struct Window {
    keys: usize,
    bytes: usize,
}

/// What a call has seen of the values it reads.
#[derive(Default)]
struct Seen {
    keys: usize,
    bytes: usize,
}

impl Seen {
    fn mean(&self) -> Option<usize> {
        self.bytes.checked_div(self.keys)
    }
}

/// Keys that are read in one round trip.
struct Part {
    /// The place of the first one in the call.
    first: usize,
    keys: Vec<Bytes>,
    /// How many bytes they are expected to bring.
    expected: usize,
}

impl Part {
    async fn read(&self, connections: &Connections) -> (Vec<ReadResult>, usize) {
        let mut read = BatchRead::new(self.keys.len());
        self.keys.iter().for_each(|key| read.add(key));
        let BatchReply { results, bytes } = read.ask(connections).await;
        let fallback = self.keys.iter().zip(&results).filter(|(_, result)| result.is_none()).map(|(key, _)| &key[..]);
        let mut singly = read::get_singly(connections, &fallback.collect::<Vec<_>>()).await.into_iter();
        let missing = || Err(BackendError::new(BackendErrorKind::Protocol, "unexpected reply to MGET"));
        let results = results.into_iter().map(|result| result.or_else(|| singly.next()).unwrap_or_else(missing));
        (results.collect(), bytes)
    }
}

fn ended() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the read was ended by the end of the runtime")
}
