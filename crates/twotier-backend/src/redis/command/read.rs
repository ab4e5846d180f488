//! The reads: value and remaining time to live, from one round trip.
//!
//! Values come first and the times after them: a reply too many or too few before a value makes one of these replies
//! the wrong shape, which ends the connection before the value is returned.

use redis::{Arg, Cmd, Pipeline, Value};
use twotier_core::{BackendError, RemainingTtl};

use crate::{
    BackendResult, Stored,
    redis::wire::{Connection, Reply, nonce},
};

use super::{connections::Connections, transaction};

/// What a read returns for one key.
pub(in crate::redis) type ReadResult = BackendResult<Option<Stored>>;

/// `GET` and `PTTL` in one round trip.
///
/// Where the server reports every write, one between the two is reported, and the reader keeps nothing; otherwise the
/// two are one transaction.
pub(in crate::redis) async fn get(connections: &Connections, key: &[u8]) -> ReadResult {
    let mut pipeline = Pipeline::with_capacity(5);
    let names = |index| if index == 0 { "GET" } else { "PTTL" };
    let mut replies = ask(connections, connections.reads_at_once(key), &mut pipeline, 2, names, |commands| {
        commands.add_command(of_key("GET", key)).add_command(of_key("PTTL", key));
    })
    .await?;
    let result = stored(&mut replies);
    if let Ok(found) = &result {
        connections.sizes().observe(found.as_ref().map_or(0, |stored| stored.value.len()), 1);
    }
    result
}

/// As [`get`], at a node of a cluster that does not own the slot yet: another one has redirected this command there.
/// Value and time are two steps: what came by a detour is not kept.
pub(in crate::redis) async fn get_asking(connections: &Connections, key: &[u8]) -> ReadResult {
    let mut commands = Pipeline::with_capacity(4);
    for name in ["GET", "PTTL"] {
        commands.cmd("ASKING").add_command(of_key(name, key));
    }
    let mut replies = connections.reading().ask(&commands, 4).await?;
    let (first, value) = (replies.okay("ASKING"), replies.bulk("GET"));
    let (second, ttl) = (replies.okay("ASKING"), remaining(&mut replies));
    if let Some(lost) = replies.connection().loss().cause() {
        return Err(lost);
    }
    first.and(second)?;
    match value? {
        Some(value) => Ok(Some(Stored::new(value, ttl?))),
        None => Ok(None),
    }
}

/// Adds a transaction that reads a key.
fn begin_read(commands: &mut Pipeline, key: &[u8]) {
    transaction::begin(commands);
    commands.add_command(of_key("GET", key)).add_command(of_key("PTTL", key)).cmd("EXEC");
}

fn end_read(replies: &mut Reply) -> ReadResult {
    let mut within = transaction::end(replies, 2, |index| if index == 0 { "GET" } else { "PTTL" }, true)?;
    stored(&mut within)
}

/// Reads each key in a transaction of its own, all in one round trip: one for all would be refused as a whole when one
/// of its keys is.
async fn get_in_transactions(connections: &Connections, keys: &[&[u8]]) -> Vec<ReadResult> {
    let (mut commands, mark) = (Pipeline::with_capacity(4 * keys.len() + 1), nonce());
    keys.iter().for_each(|key| begin_read(&mut commands, key));
    // The results come last: one more reply shows that they are those of these transactions.
    commands.cmd("PING").arg(&mark);
    let failed = |cause: BackendError| keys.iter().map(|_| Err(cause.clone())).collect();
    match connections.reading().ask(&commands, 4 * keys.len() + 1).await {
        Ok(mut replies) => {
            let results = keys.iter().map(|_| end_read(&mut replies)).collect();
            replies.pong(&mark).map_or_else(failed, |()| results)
        }
        Err(cause) => failed(cause),
    }
}

/// `GET` and `PTTL` of each key, all in one round trip; each result is its own.
pub(super) async fn get_singly(connections: &Connections, keys: &[&[u8]]) -> Vec<ReadResult> {
    if keys.is_empty() {
        return Vec::new();
    }
    if keys.iter().any(|key| connections.reads_at_once(key)) {
        return get_in_transactions(connections, keys).await;
    }
    let mut results = Vec::with_capacity(keys.len());
    let mut commands = Pipeline::with_capacity(2 * keys.len());
    let names = |index: usize| if index.is_multiple_of(2) { "GET" } else { "PTTL" };
    let asked = ask(connections, false, &mut commands, 2 * keys.len(), names, |commands| {
        for key in keys {
            commands.add_command(of_key("GET", key)).add_command(of_key("PTTL", key));
        }
    });
    match asked.await {
        Ok(mut replies) => {
            results.extend(keys.iter().map(|_| stored(&mut replies)));
            believed(replies.connection(), &mut results);
        }
        Err(cause) => results.extend(keys.iter().map(|_| Err(cause.clone()))),
    }
    results
}

/// A read of many keys that is being put together.
pub(super) struct BatchRead {
    /// The `MGET`.
    values: Cmd,
    length: usize,
}

/// The results of a [`BatchRead`].
pub(super) struct BatchReply {
    /// One for each key in the order of the keys. `None` is one that only `GET` can give.
    pub(super) results: Vec<Option<ReadResult>>,
    /// How many bytes the values have.
    pub(super) bytes: usize,
}

impl BatchRead {
    pub(super) fn new(capacity: usize) -> Self {
        let mut values = Cmd::with_capacity(capacity + 1, 32 * capacity);
        values.arg("MGET");
        Self { values, length: 0 }
    }

    pub(super) fn add(&mut self, key: &[u8]) {
        self.values.arg(key);
        self.length += 1;
    }

    /// Sends it in one round trip.
    ///
    /// `MGET` answers nil for a key of another type too: when its `PTTL` says that it exists, or did a moment ago,
    /// `GET` tells. And a user may be allowed `GET` where `MGET` is refused.
    ///
    /// In a cluster, and where `MGET` is refused, it is a `GET` and a `PTTL` for each key.
    pub(super) async fn ask(self, connections: &Connections) -> BatchReply {
        let length = self.length;
        if !connections.reads_with_mget() {
            let keys: Vec<&[u8]> = self.values.args_iter().skip(1).map(key_in).collect();
            let results = get_singly(connections, &keys).await;
            let size = |result: &ReadResult| result.iter().flatten().map(|stored| stored.value.len()).sum::<usize>();
            let bytes = results.iter().map(size).sum();
            connections.sizes().observe(bytes, length);
            return BatchReply { results: results.into_iter().map(Some).collect(), bytes };
        }
        match self.replies(connections).await {
            Ok((values, mut replies)) => {
                let bytes = values.iter().map(size).sum();
                connections.sizes().observe(bytes, length);
                let mut results: Vec<_> = values.into_iter().map(|value| found(value, &mut replies)).collect();
                if let Some(cause) = replies.connection().loss().cause() {
                    results.fill_with(|| Some(Err(cause.clone())));
                }
                BatchReply { results, bytes }
            }
            Err(cause) => {
                let refused = is_not_allowed(&cause);
                if refused {
                    connections.mget_is_refused();
                }
                let results = (0..length).map(|_| if refused { None } else { Some(Err(cause.clone())) });
                BatchReply { results: results.collect(), bytes: 0 }
            }
        }
    }

    async fn replies(self, connections: &Connections) -> BackendResult<(Vec<Value>, Reply)> {
        let Self { values, length } = self;
        let times: Vec<Cmd> = values.args_iter().skip(1).map(|key| of_key("PTTL", key_in(key))).collect();
        let mut commands = Pipeline::with_capacity(length + 4);
        let at_once = values.args_iter().skip(1).any(|key| connections.reads_at_once(key_in(key)));
        let names = |index| if index == 0 { "MGET" } else { "PTTL" };
        let mut replies = ask(connections, at_once, &mut commands, length + 1, names, |commands| {
            commands.add_command(values);
            for time in times {
                commands.add_command(time);
            }
        })
        .await?;
        let values = replies.array("MGET")?;
        if values.len() == length { Ok((values, replies)) } else { Err(replies.connection().out_of_step("MGET")) }
    }
}

fn key_in(argument: Arg<&[u8]>) -> &[u8] {
    match argument {
        Arg::Simple(key) => key,
        _ => &[],
    }
}

/// Returns whether a command is refused for good, and not by a state that passes.
fn is_not_allowed(cause: &BackendError) -> bool {
    matches!(cause.code(), Some("NOPERM" | "ERR"))
}

/// A command with a key, of which there are many in a batch: allocated once in the size it has.
fn of_key(name: &str, key: &[u8]) -> Cmd {
    let mut command = Cmd::with_capacity(2, name.len() + key.len());
    command.arg(name).arg(key);
    command
}

/// Asks `count` commands that change nothing, in one step or not.
async fn ask(
    connections: &Connections,
    at_once: bool,
    commands: &mut Pipeline,
    count: usize,
    command: impl Fn(usize) -> &'static str,
    add: impl FnOnce(&mut Pipeline),
) -> BackendResult<Reply> {
    let connection = connections.reading();
    if !at_once {
        add(commands);
        return connection.ask(commands, count).await;
    }
    transaction::begin(commands);
    add(commands);
    commands.cmd("EXEC");
    // The results come last: one more reply shows that they are those of this transaction.
    let mark = nonce();
    commands.cmd("PING").arg(&mark);
    let mut replies = connection.ask(commands, count + 3).await?;
    let within = transaction::end(&mut replies, count, command, true);
    replies.pong(&mark)?;
    within
}

/// What `MGET` and `PTTL` say about a key, unless only `GET` can say.
fn found(value: Value, times: &mut Reply) -> Option<ReadResult> {
    let ttl = remaining(times);
    match (value, ttl) {
        (_, Err(cause)) => Some(Err(cause)),
        (Value::BulkString(value), Ok(ttl)) => Some(Ok(Some(Stored::new(value, ttl)))),
        (Value::Nil, Ok(RemainingTtl::Unknown)) => Some(Ok(None)),
        (Value::Nil, Ok(_exists)) => None,
        (Value::ServerError(refused), Ok(_)) => Some(Err(times.connection().refused("MGET", &refused))),
        (_, Ok(_)) => Some(Err(times.connection().out_of_step("MGET"))),
    }
}

fn stored(replies: &mut Reply) -> ReadResult {
    // Both are taken, so that the next pair begins where it does.
    let (value, ttl) = (replies.bulk("GET"), remaining(replies));
    if let Some(lost) = replies.connection().loss().cause() {
        return Err(lost);
    }
    match value? {
        Some(value) => Ok(Some(Stored::new(value, ttl?))),
        None => Ok(None),
    }
}

/// Takes back results that were read before the replies turned out to be out of step.
fn believed(connection: &Connection, results: &mut [ReadResult]) {
    if let Some(cause) = connection.loss().cause() {
        results.fill_with(|| Err(cause.clone()));
    }
}

fn remaining(replies: &mut Reply) -> BackendResult<RemainingTtl> {
    replies.integer("PTTL").map(RemainingTtl::from_pttl)
}

/// How many bytes a value has.
fn size(reply: &Value) -> usize {
    match reply {
        Value::BulkString(bytes) => bytes.len(),
        _ => 0,
    }
}
