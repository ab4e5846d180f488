//! The writes: how each operation is said in Redis, and how its replies are read.

use std::time::Duration;

use crate::{BackendResult, Write};
use bytes::Bytes;
use redis::{Pipeline, Value, cmd};

use super::{
    connection::{Connection, Reporting},
    error,
};

/// The most keys in one pipeline. More would hold up pushes and heartbeats behind them.
const BATCH: usize = 512;
/// How many keys one `SCAN` looks at.
const SCAN_COUNT: usize = 512;

/// `SET` with `PX`.
pub(super) async fn set(connection: &Connection, key: &[u8], value: &[u8], ttl: Option<Duration>) -> BackendResult<()> {
    let mut commands = Pipeline::with_capacity(1);
    push_set(&mut commands, key, value, ttl);
    okay(write_one(connection, commands, key).await?)
}

/// `UNLINK`, which frees large values without stopping the server.
pub(super) async fn delete(connection: &Connection, key: &[u8]) -> BackendResult<bool> {
    let mut commands = Pipeline::with_capacity(1);
    commands.cmd("UNLINK").arg(key);
    Ok(count(write_one(connection, commands, key).await?)? > 0)
}

/// `EVAL` of a few lines: [scripts are executed atomically](https://redis.io/docs/latest/develop/programmability/).
///
/// The script is sent each time: it is shorter than the round trip that a server without it would cost.
pub(super) async fn compare_and_set(
    connection: &Connection,
    key: &[u8],
    expected: Option<&[u8]>,
    value: Option<&[u8]>,
    ttl: Option<Duration>,
) -> BackendResult<bool> {
    const SCRIPT: &str = "local held = redis.call('GET', KEYS[1]) \
        if ARGV[1] == '1' then if held ~= ARGV[2] then return 0 end elseif held then return 0 end \
        if ARGV[3] == '0' then redis.call('UNLINK', KEYS[1]) \
        elseif ARGV[5] == '' then redis.call('SET', KEYS[1], ARGV[4]) \
        else redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5]) end \
        return 1";
    let flag = |given: bool| if given { "1" } else { "0" };
    let mut commands = Pipeline::with_capacity(1);
    commands.cmd("EVAL").arg(SCRIPT).arg(1).arg(key);
    commands.arg(flag(expected.is_some())).arg(expected.unwrap_or_default());
    commands.arg(flag(value.is_some())).arg(value.unwrap_or_default());
    commands.arg(ttl.map_or_else(String::new, |ttl| millis(ttl).to_string()));
    Ok(count(write_one(connection, commands, key).await?)? == 1)
}

/// `SCAN` with the prefix, and `UNLINK` for what it finds.
///
/// `SCAN` returns every key that was there from start to end at least once; how many there were comes from `UNLINK`.
pub(super) async fn clear(connection: &Connection, prefix: &[u8]) -> BackendResult<u64> {
    let pattern = pattern(prefix);
    let mut cursor = b"0".to_vec();
    let mut removed = 0;
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(&cursor[..]).arg("MATCH").arg(&pattern[..]).arg("COUNT").arg(SCAN_COUNT);
        let (next, keys) = page(connection.one(&scan).await?)?;
        if !keys.is_empty() {
            let mut commands = Pipeline::with_capacity(1);
            commands.cmd("UNLINK");
            for key in &keys {
                commands.arg(&key[..]);
            }
            for reply in write(connection, commands, 1, keys.iter().map(|key| &key[..])).await? {
                removed += count(reply)?;
            }
        }
        if next == b"0" {
            return Ok(removed);
        }
        cursor = next;
    }
}

/// One pipeline of `SET`s for each batch.
pub(super) async fn set_many(connection: &Connection, writes: &[Write]) -> Vec<BackendResult<bool>> {
    let mut results = Vec::with_capacity(writes.len());
    for batch in writes.chunks(BATCH) {
        let mut commands = Pipeline::with_capacity(batch.len());
        for write in batch {
            push_set(&mut commands, &write.key, &write.value, write.ttl);
        }
        let replies = write(connection, commands, batch.len(), batch.iter().map(|write| &write.key[..])).await;
        each(&mut results, replies, batch.len(), |reply| okay(reply).map(|()| true));
    }
    results
}

/// One pipeline of `UNLINK`s for each batch.
pub(super) async fn delete_many(connection: &Connection, keys: &[Bytes]) -> Vec<BackendResult<bool>> {
    let mut results = Vec::with_capacity(keys.len());
    for batch in keys.chunks(BATCH) {
        let mut commands = Pipeline::with_capacity(batch.len());
        for key in batch {
            commands.cmd("UNLINK").arg(&key[..]);
        }
        let replies = write(connection, commands, batch.len(), batch.iter().map(|key| &key[..])).await;
        each(&mut results, replies, batch.len(), |reply| count(reply).map(|removed| removed > 0));
    }
    results
}

/// Reads each reply of a batch by itself; a batch that failed as a whole is one error for each item.
fn each<T>(
    results: &mut Vec<BackendResult<T>>,
    replies: BackendResult<Vec<Value>>,
    length: usize,
    read: impl Fn(Value) -> BackendResult<T>,
) {
    match replies {
        Ok(replies) => results.extend(replies.into_iter().map(read)),
        Err(cause) => results.extend((0..length).map(|_| Err(cause.clone()))),
    }
}

fn push_set(commands: &mut Pipeline, key: &[u8], value: &[u8], ttl: Option<Duration>) {
    commands.cmd("SET").arg(key).arg(value);
    if let Some(ttl) = ttl {
        commands.arg("PX").arg(millis(ttl));
    }
}

/// Sends commands that write these keys, and returns one reply for each command. Where writers tell each other of their
/// writes, the telling is part of one transaction with them, so that messages come in the order of the writes.
async fn write<'k>(
    connection: &Connection,
    mut commands: Pipeline,
    count: usize,
    keys: impl IntoIterator<Item = &'k [u8]>,
) -> BackendResult<Vec<Value>> {
    let Reporting::Channel(channel) = connection.reporting() else {
        return connection.pipeline(&commands, count).await;
    };
    commands.atomic().cmd("PUBLISH").arg(channel.name()).arg(channel.keys(keys));
    let mut replies = connection.transaction(&commands, count + 1).await?;
    replies.truncate(count);
    Ok(replies)
}

/// Sends one command that writes this key.
async fn write_one(connection: &Connection, commands: Pipeline, key: &[u8]) -> BackendResult<Value> {
    let replies = write(connection, commands, 1, [key]).await?;
    replies.into_iter().next().ok_or_else(|| error::unexpected("a write"))
}

/// Whole milliseconds, rounded down: a value never lives longer than it was asked to. Callers give at least one.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn okay(reply: Value) -> BackendResult<()> {
    match reply {
        Value::Okay => Ok(()),
        reply => Err(error::refusal(&reply, "SET")),
    }
}

fn count(reply: Value) -> BackendResult<u64> {
    match reply {
        Value::Int(count) => Ok(u64::try_from(count).unwrap_or(0)),
        reply => Err(error::refusal(&reply, "UNLINK")),
    }
}

fn page(reply: Value) -> BackendResult<(Vec<u8>, Vec<Vec<u8>>)> {
    let unexpected = || error::unexpected("SCAN");
    let Value::Array(parts) = reply else { return Err(error::refusal(&reply, "SCAN")) };
    let [Value::BulkString(cursor), Value::Array(keys)] =
        <[Value; 2]>::try_from(parts).map_err(|_other| unexpected())?
    else {
        return Err(unexpected());
    };
    let keys = keys.into_iter().map(|key| match key {
        Value::BulkString(key) => Ok(key),
        _ => Err(unexpected()),
    });
    Ok((cursor, keys.collect::<Result<_, _>>()?))
}

/// A glob that matches exactly the keys with this prefix.
fn pattern(prefix: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(prefix.len() + 1);
    for &byte in prefix {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^') {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern.push(b'*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_with_glob_characters_matches_only_itself() {
        assert_eq!(pattern(b"users:"), b"users:*");
        assert_eq!(pattern(br"a*b?[c]\^:"), br"a\*b\?\[c\]\\\^:*");
    }

    #[test]
    fn a_time_to_live_is_rounded_down_and_never_to_zero() {
        assert_eq!(millis(Duration::from_micros(1999)), 1);
        assert_eq!(millis(Duration::from_micros(1)), 1);
        assert_eq!(millis(Duration::MAX), u64::MAX);
    }
}
