//! The reads: value and remaining time to live, from one round trip.

use bytes::Bytes;
use redis::{Arg, Cmd, Pipeline, Value};
use twotier_core::{BackendErrorKind, RemainingTtl};

use crate::{BackendResult, Stored};

use super::{
    connection::{Connection, Reporting},
    error,
};

/// The most keys in one round trip of `get_many`. More would hold up pushes and heartbeats behind them.
const BATCH: usize = 512;

/// What is known about one key.
pub(super) type Answer = BackendResult<Option<Stored>>;

/// `PTTL` and `GET` in one round trip.
///
/// Where the server reports every write, one between the two is reported, and the reader keeps nothing; otherwise the
/// two are one transaction.
pub(super) async fn get(connection: &Connection, key: &[u8]) -> Answer {
    let mut commands = Pipeline::with_capacity(2);
    commands.add_command(of_key("PTTL", key)).add_command(of_key("GET", key));
    let mut replies = read_only(connection, &mut commands, 2).await?.into_iter();
    match (replies.next(), replies.next()) {
        (Some(ttl), Some(value)) => {
            connection.carried(size(&value), 1);
            stored(value, ttl)
        }
        _ => Err(error::unexpected("PTTL, GET")),
    }
}

/// One `PTTL` for each key and one `MGET`, in one round trip for each batch.
pub(super) async fn get_many(connection: &Connection, keys: &[Bytes]) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(keys.len());
    let mut rest = keys;
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(rest.len().min(connection.keys_at_once(BATCH)));
        rest = later;
        let mut question = Question::new(batch.len());
        batch.iter().for_each(|key| question.add(key));
        let Told { answers: told, .. } = question.ask(connection).await;
        let untold = batch.iter().zip(&told).filter(|(_, told)| told.is_none()).map(|(key, _)| &key[..]);
        let mut told_singly = get_each(connection, &untold.collect::<Vec<_>>()).await.into_iter();
        let missing = || Err(error::unexpected("MGET"));
        answers.extend(told.into_iter().map(|told| told.or_else(|| told_singly.next()).unwrap_or_else(missing)));
    }
    answers
}

/// `PTTL` and `GET` of each key, all in one round trip where they need not be transactions; each answer is its own.
pub(super) async fn get_each(connection: &Connection, keys: &[&[u8]]) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(keys.len());
    let Reporting::Broadcast = connection.reporting() else {
        // One transaction for all would be refused as a whole when one of its keys is.
        for key in keys {
            answers.push(get(connection, key).await);
        }
        return answers;
    };
    if keys.is_empty() {
        return answers;
    }
    let mut commands = Pipeline::with_capacity(2 * keys.len());
    for key in keys {
        commands.add_command(of_key("PTTL", key)).add_command(of_key("GET", key));
    }
    match connection.pipeline(&commands, 2 * keys.len()).await {
        Ok(replies) => {
            let mut replies = replies.into_iter();
            while let (Some(ttl), Some(value)) = (replies.next(), replies.next()) {
                answers.push(stored(value, ttl));
            }
        }
        Err(cause) => answers.extend(keys.iter().map(|_| Err(cause.clone()))),
    }
    answers
}

/// A read of many keys that is being put together.
pub(super) struct Question {
    /// One `PTTL` for each key, and the `MGET` once it is asked.
    commands: Pipeline,
    values: Cmd,
    length: usize,
}

/// What a question was told.
pub(super) struct Told {
    /// One answer for each key in the order of the keys. `None` is one that only `GET` can give.
    pub(super) answers: Vec<Option<Answer>>,
    /// The server refused the `MGET` as such.
    pub(super) refused: bool,
}

impl Question {
    pub(super) fn new(capacity: usize) -> Self {
        let mut values = Cmd::with_capacity(capacity + 1, 32 * capacity);
        values.arg("MGET");
        Self { commands: Pipeline::with_capacity(capacity + 1), values, length: 0 }
    }

    pub(super) fn add(&mut self, key: &[u8]) {
        self.commands.add_command(of_key("PTTL", key));
        self.values.arg(key);
        self.length += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The key in this place.
    pub(super) fn key(&self, index: usize) -> &[u8] {
        match self.commands.cmd_iter().nth(index).and_then(|ttl| ttl.args_iter().nth(1)) {
            Some(Arg::Simple(key)) => key,
            _ => &[],
        }
    }

    /// Sends it, once, in one round trip.
    ///
    /// `MGET` answers nil for a key of another type too: when its `PTTL` says that it exists, or did a moment ago, `GET`
    /// tells. And a user may be allowed `GET` where `MGET` is refused.
    pub(super) async fn ask(&mut self, connection: &Connection) -> Told {
        match self.replies(connection).await {
            Ok((ttls, values)) => {
                connection.carried(values.iter().map(size).sum(), self.length);
                let answers = values.into_iter().zip(ttls).map(|(value, ttl)| told(value, ttl));
                Told { answers: answers.collect(), refused: false }
            }
            Err(cause) => {
                let refused = matches!(cause.kind(), BackendErrorKind::Denied | BackendErrorKind::Rejected);
                let answers = (0..self.length).map(|_| if refused { None } else { Some(Err(cause.clone())) });
                Told { answers: answers.collect(), refused }
            }
        }
    }

    async fn replies(&mut self, connection: &Connection) -> BackendResult<(Vec<Value>, Vec<Value>)> {
        self.commands.add_command(std::mem::take(&mut self.values));
        let mut ttls = read_only(connection, &mut self.commands, self.length + 1).await?;
        match ttls.pop() {
            Some(Value::Array(values)) if values.len() == self.length => Ok((ttls, values)),
            Some(Value::ServerError(refused)) => Err(error::from_server(&refused)),
            _ => Err(error::unexpected("MGET")),
        }
    }
}

/// A command with a key, of which there are many in a batch: allocated once in the size it has.
fn of_key(name: &str, key: &[u8]) -> Cmd {
    let mut command = Cmd::with_capacity(2, name.len() + key.len());
    command.arg(name).arg(key);
    command
}

/// What `MGET` and `PTTL` say about a key, unless only `GET` can say.
fn told(value: Value, ttl: Value) -> Option<Answer> {
    match (bulk(value, "MGET"), remaining(ttl)) {
        (Ok(Some(value)), Ok(ttl)) => Some(Ok(Some(Stored { value, ttl }))),
        (Ok(None), Ok(RemainingTtl::Unknown)) => Some(Ok(None)),
        (Ok(None), Ok(_exists)) => None,
        (Err(cause), _) | (_, Err(cause)) => Some(Err(cause)),
    }
}

fn stored(value: Value, ttl: Value) -> Answer {
    match bulk(value, "GET")? {
        Some(value) => Ok(Some(Stored { value, ttl: remaining(ttl)? })),
        None => Ok(None),
    }
}

async fn read_only(connection: &Connection, commands: &mut Pipeline, count: usize) -> BackendResult<Vec<Value>> {
    if let Reporting::Broadcast = connection.reporting() {
        connection.pipeline(commands, count).await
    } else {
        commands.atomic();
        connection.transaction(commands, count).await
    }
}

/// How many bytes a value has.
fn size(reply: &Value) -> usize {
    match reply {
        Value::BulkString(bytes) => bytes.len(),
        _ => 0,
    }
}

fn bulk(reply: Value, command: &'static str) -> BackendResult<Option<Bytes>> {
    match reply {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        reply => Err(error::refusal(&reply, command)),
    }
}

fn remaining(reply: Value) -> BackendResult<RemainingTtl> {
    match reply {
        Value::Int(pttl) => Ok(RemainingTtl::from_pttl(pttl)),
        reply => Err(error::refusal(&reply, "PTTL")),
    }
}
