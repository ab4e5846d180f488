//! The writes: the commands of each operation, and how its replies are read.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use bytes::Bytes;
use redis::{Pipeline, Value, cmd};
use tokio::sync::mpsc;
use twotier_core::{BackendError, BackendErrorKind, RemainingTtl};

use crate::{
    BackendResult, Counted,
    redis::wire::{Connection, Reply},
};

use super::{
    connections::{Connections, Reporting},
    order::OrderPermit,
    transaction,
};

/// The most commands in one part of a batch. More would hold up pushes and heartbeats behind them.
const PART: usize = 512;
/// The most bytes of values in one part of a batch, for the same reason.
const PART_BYTES: usize = 1024 * 1024;
/// From this many bytes on a write goes over the data connection: heartbeats and reports do not wait behind it.
const LARGE: usize = 256 * 1024;
/// How many keys one `SCAN` looks at.
const SCAN_COUNT: usize = 512;

/// One write.
#[derive(Clone)]
pub(in crate::redis) struct Change {
    pub(in crate::redis) key: Bytes,
    pub(in crate::redis) action: Action,
}

/// What a write does.
#[derive(Clone)]
pub(in crate::redis) enum Action {
    /// Replaces whatever is there.
    Set { value: Bytes, ttl: Option<Duration> },
    /// Writes where nothing is.
    SetAbsent { value: Bytes, ttl: Option<Duration> },
    /// Replaces whatever is there and keeps its life; what is not there lives so long.
    SetKeeping { value: Bytes, ttl: Option<Duration> },
    /// Writes, or removes, where exactly this is, or nothing.
    Replace { expected: Option<Bytes>, value: Option<Bytes>, life: Life },
    /// Adds to a number. One that is not there lives so long.
    Add { by: i64, ttl: Option<Duration> },
    /// Has a value live so long from now on.
    Touch { ttl: Duration },
    /// Removes.
    Remove,
}

/// How long a value lives that replaces another.
#[derive(Clone, Copy)]
pub(in crate::redis) enum Life {
    /// From now on; `None` is for ever.
    New(Option<Duration>),
    /// As long as the other would have.
    Unchanged,
}

/// What a change did.
#[derive(Clone, Copy)]
pub(in crate::redis) enum Effect {
    /// Whether anything.
    Changed(bool),
    /// The number is this now.
    Counted(Counted),
}

impl Effect {
    /// Returns whether it changed anything.
    pub(in crate::redis) fn is_change(self) -> bool {
        !matches!(self, Self::Changed(false))
    }

    /// Returns the number, of an addition.
    pub(in crate::redis) fn counted(self) -> BackendResult<Counted> {
        match self {
            Self::Counted(counted) => Ok(counted),
            Self::Changed(_) => Err(BackendError::new(BackendErrorKind::Protocol, "unexpected reply to INCRBY")),
        }
    }
}

impl Change {
    /// How many bytes are sent, but for what is small beside them.
    fn bytes(&self) -> usize {
        let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        self.key.len()
            + match &self.action {
                Action::Set { value, .. } | Action::SetAbsent { value, .. } => value.len(),
                Action::SetKeeping { value, .. } => 2 * value.len(),
                Action::Replace { expected, value, .. } => of(expected) + of(value),
                Action::Add { .. } | Action::Touch { .. } | Action::Remove => 0,
            }
    }

    /// The commands that are sent for it.
    fn commands(&self) -> &'static [&'static str] {
        match self.action {
            Action::Set { .. } | Action::SetAbsent { .. } => &["SET"],
            Action::SetKeeping { .. } => &["SET", "SET"],
            Action::Replace { .. } => &["EVAL"],
            Action::Add { ttl: None, .. } => &["INCRBY", "PTTL"],
            Action::Add { ttl: Some(_), .. } => &["SET", "INCRBY", "PTTL"],
            Action::Touch { .. } => &["PEXPIRE"],
            Action::Remove => &["UNLINK"],
        }
    }

    /// Whether its commands must be executed as one.
    fn is_transaction(&self) -> bool {
        matches!(self.action, Action::SetKeeping { .. } | Action::Add { ttl: Some(_), .. })
    }

    fn encode(&self, commands: &mut Pipeline) {
        let key = &self.key[..];
        match &self.action {
            Action::Set { value, ttl } => {
                commands.cmd("SET").arg(key).arg(&value[..]);
                if let Some(ttl) = ttl {
                    commands.arg("PX").arg(millis(*ttl));
                }
            }
            Action::SetAbsent { value, ttl } => set_absent(commands, key, value, *ttl),
            Action::SetKeeping { value, ttl } => {
                commands.cmd("SET").arg(key).arg(&value[..]).arg("XX").arg("KEEPTTL");
                set_absent(commands, key, value, *ttl);
            }
            Action::Replace { expected, value, life } => {
                let flag = |given: bool| if given { "1" } else { "0" };
                commands.cmd("EVAL").arg(REPLACE).arg(1).arg(key);
                commands.arg(flag(expected.is_some())).arg(expected.as_deref().unwrap_or_default());
                commands.arg(flag(value.is_some())).arg(value.as_deref().unwrap_or_default());
                commands.arg(match life {
                    Life::New(ttl) => ttl.map_or_else(String::new, |ttl| millis(ttl).to_string()),
                    Life::Unchanged => "keep".to_owned(),
                });
            }
            // By commands and not by a script: of what a script does even its own client is notified.
            Action::Add { by, ttl } => {
                if ttl.is_some() {
                    set_absent(commands, key, b"0", *ttl);
                }
                commands.cmd("INCRBY").arg(key).arg(*by);
                commands.cmd("PTTL").arg(key);
            }
            Action::Touch { ttl } => {
                commands.cmd("PEXPIRE").arg(key).arg(millis(*ttl));
            }
            // It frees large values without stopping the server.
            Action::Remove => {
                commands.cmd("UNLINK").arg(key);
            }
        }
    }

    /// Reads what it did: one reply for each command, whatever the others are.
    fn effect(&self, replies: &mut Reply) -> BackendResult<Effect> {
        match &self.action {
            Action::Set { .. } => replies.okay("SET").map(|()| Effect::Changed(true)),
            Action::SetAbsent { .. } => replies.okay_or_nil("SET").map(Effect::Changed),
            Action::SetKeeping { .. } => {
                let (replaced, written) = (replies.okay_or_nil("SET"), replies.okay_or_nil("SET"));
                Ok(Effect::Changed(replaced? | written?))
            }
            Action::Replace { .. } => Ok(Effect::Changed(replies.integer("EVAL")? == 1)),
            Action::Add { ttl, .. } => {
                let made = if ttl.is_some() { replies.okay_or_nil("SET") } else { Ok(false) };
                let (sum, left) = (replies.integer("INCRBY"), replies.integer("PTTL"));
                let _existed = made?;
                Ok(Effect::Counted(Counted::new(sum?, RemainingTtl::from_pttl(left?))))
            }
            Action::Touch { .. } => Ok(Effect::Changed(replies.integer("PEXPIRE")? == 1)),
            Action::Remove => Ok(Effect::Changed(replies.integer("UNLINK")? > 0)),
        }
    }
}

fn set_absent(commands: &mut Pipeline, key: &[u8], value: &[u8], ttl: Option<Duration>) {
    commands.cmd("SET").arg(key).arg(value).arg("NX");
    if let Some(ttl) = ttl {
        commands.arg("PX").arg(millis(ttl));
    }
}

/// Replaces a value if it still is the expected one:
/// [scripts are executed atomically](https://redis.io/docs/latest/develop/programmability/).
///
/// The script is sent each time: it is shorter than the round trip that a server without it would cost.
const REPLACE: &str = "local held = redis.call('GET', KEYS[1]) \
    if ARGV[1] == '1' then if held ~= ARGV[2] then return 0 end elseif held then return 0 end \
    if ARGV[3] == '0' then redis.call('UNLINK', KEYS[1]) \
    elseif ARGV[5] == '' then redis.call('SET', KEYS[1], ARGV[4]) \
    elseif ARGV[5] == 'keep' then redis.call('SET', KEYS[1], ARGV[4], 'KEEPTTL') \
    else redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5]) end \
    return 1";

/// Makes one change, and returns whether it changed anything. Accepted when this is polled for the first time.
pub(in crate::redis) async fn change(connections: &Connections, change: Change) -> BackendResult<bool> {
    make(connections, change).await.map(Effect::is_change)
}

/// Adds to a number, and returns what it is then. Accepted when this is polled for the first time.
pub(in crate::redis) async fn add(
    connections: &Connections,
    key: Bytes,
    by: i64,
    ttl: Option<Duration>,
) -> BackendResult<Counted> {
    make(connections, Change { key, action: Action::Add { by, ttl } }).await?.counted()
}

/// Makes one change, and returns what it did. Accepted when this is polled for the first time.
pub(in crate::redis) async fn make(connections: &Connections, change: Change) -> BackendResult<Effect> {
    let mut results = send(connections, vec![change]).await;
    results.pop().unwrap_or_else(|| Err(connections.data().out_of_step("a write")))
}

/// As [`make`], at a node of a cluster that does not own the slot yet: another one has redirected this command there.
/// It is sent at once, whatever is under way to that node.
pub(in crate::redis) async fn make_asking(connections: &Connections, change: Change) -> BackendResult<Effect> {
    let part = [change];
    let over = if is_large(&part) { connections.data() } else { connections.writing() };
    let mut results = dispatch(connections, over, &part, true).await;
    results.pop().unwrap_or_else(|| Err(over.out_of_step("a write")))
}

/// Makes many changes, in order, in parts of a bounded size. All of them are accepted when this is polled for the first
/// time.
pub(in crate::redis) async fn change_many(connections: &Connections, changes: Vec<Change>) -> Vec<BackendResult<bool>> {
    let length = changes.len();
    let mut parts = parts(changes);
    let Some(first) = parts.next() else { return Vec::new() };
    let mut first = pin!(send(connections, first));
    // Accepted before the later parts, which may hold the same keys.
    let early = poll_fn(|context| {
        Poll::Ready(match first.as_mut().poll(context) {
            Poll::Ready(results) => Some(results),
            Poll::Pending => None,
        })
    })
    .await;
    let mut later = later(connections, parts.collect());
    let changed = |result: BackendResult<Effect>| result.map(Effect::is_change);
    let mut results: Vec<_> = match early {
        Some(results) => results.into_iter().map(changed).collect(),
        None => first.await.into_iter().map(changed).collect(),
    };
    while let Some(more) = later.next().await {
        results.extend(more.into_iter().map(changed));
    }
    // Those whose task ended with its runtime.
    results.resize_with(length, || Err(ended()));
    results
}

/// Cuts a batch into parts.
fn parts(changes: Vec<Change>) -> impl Iterator<Item = Vec<Change>> {
    let mut changes = changes.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = changes.next()?;
        let (mut bytes, mut part) = (first.bytes(), vec![first]);
        while part.len() < PART
            && let Some(next) = changes.next_if(|next| bytes + next.bytes() <= PART_BYTES)
        {
            bytes += next.bytes();
            part.push(next);
        }
        Some(part)
    })
}

/// Sends changes together: at once, when this is polled for the first time, or when it is their turn.
async fn send(connections: &Connections, part: Vec<Change>) -> Vec<BackendResult<Effect>> {
    let large = is_large(&part);
    let over = connections.writing();
    let detour = large && !over.is(connections.data());
    if !detour && !connections.order().holds(part.iter().map(|change| &change.key)) {
        return dispatch(connections, over, &part, false).await;
    }
    let length = part.len();
    let mut results = later(connections, vec![part]).next().await.unwrap_or_default();
    results.resize_with(length, || Err(ended()));
    results
}

/// The results of parts that are sent later, in order.
struct Later(Option<mpsc::UnboundedReceiver<Vec<BackendResult<Effect>>>>);

impl Later {
    async fn next(&mut self) -> Option<Vec<BackendResult<Effect>>> {
        self.0.as_mut()?.recv().await
    }
}

/// Accepts parts, to be sent by a task one after the other when it is their turn. What is not sent yet when nobody
/// waits for it any more is never sent.
fn later(connections: &Connections, parts: Vec<Vec<Change>>) -> Later {
    if parts.is_empty() {
        return Later(None);
    }
    let keys = parts.iter().flatten().map(|change| change.key.clone()).collect();
    let mut permit = connections.order().accept(keys);
    let (sender, results) = mpsc::unbounded_channel();
    let link = connections.clone();
    connections.runtime().spawn(async move {
        acquire(&link, &mut permit).await;
        for part in parts {
            if sender.is_closed() {
                return;
            }
            let _ = sender.send(send_in_turn(&link, &part).await);
        }
    });
    Later(Some(results))
}

/// Waits for a permit, unless the link is lost first.
async fn acquire(connections: &Connections, permit: &mut OrderPermit) {
    tokio::select! {
        biased;
        _cause = connections.loss().wait() => {}
        () = permit.acquire() => {}
    }
}

/// Sends a part whose turn it is.
async fn send_in_turn(connections: &Connections, part: &[Change]) -> Vec<BackendResult<Effect>> {
    let over = connections.writing();
    if !is_large(part) || over.is(connections.data()) {
        return dispatch(connections, over, part, false).await;
    }
    let _counted = connections.large_write();
    // What was written before over the other connection has been executed once this is answered.
    if let Err(cause) = over.ping().await {
        return part.iter().map(|_| Err(cause.clone().not_sent())).collect();
    }
    dispatch(connections, connections.data(), part, false).await
}

fn is_large(part: &[Change]) -> bool {
    part.iter().any(|change| change.bytes() >= LARGE)
}

/// Sends changes over a connection: as one transaction where one of them must be executed as one, or where writers
/// notify each other of their writes. Then the notice is part of it, so that messages come in the order of the writes.
/// In a cluster, where they may lie in several slots, it is a transaction for each. To be `for_once` is for one change.
async fn dispatch(
    connections: &Connections,
    over: &Connection,
    part: &[Change],
    for_once: bool,
) -> Vec<BackendResult<Effect>> {
    let channels = match connections.reporting() {
        Reporting::Channel(channels) => Some(channels),
        _ => None,
    };
    let together = if connections.are_in_slots() { 1 } else { part.len().max(1) };
    let mut commands = Pipeline::with_capacity(part.len() + 4);
    let mut steps = Vec::with_capacity(part.len().div_ceil(together));
    let mut count = usize::from(for_once);
    if for_once {
        // For the next command, or transaction.
        commands.cmd("ASKING");
    }
    for changes in part.chunks(together) {
        let names: Vec<_> = changes.iter().flat_map(|change| change.commands()).copied().collect();
        let as_one = channels.is_some() || changes.iter().any(Change::is_transaction) || (for_once && names.len() > 1);
        if as_one {
            transaction::begin(&mut commands);
        }
        changes.iter().for_each(|change| change.encode(&mut commands));
        let keys = changes.iter().map(|change| &change.key[..]);
        let messages = channels.map(|channels| channels.messages(keys)).unwrap_or_default();
        for (channel, message) in &messages {
            commands.cmd("PUBLISH").arg(channel).arg(message);
        }
        if as_one {
            commands.cmd("EXEC");
            count += 2;
        }
        count += names.len() + messages.len();
        steps.push((changes, names, messages.len(), as_one));
    }
    let mut replies = match over.ask(&commands, count).await {
        Ok(replies) => replies,
        Err(cause) => return part.iter().map(|_| Err(cause.clone())).collect(),
    };
    let asked = if for_once { replies.okay("ASKING") } else { Ok(()) };
    let mut results = Vec::with_capacity(part.len());
    for (changes, names, messages, as_one) in steps {
        if !as_one {
            results.extend(changes.iter().map(|change| change.effect(&mut replies)));
            continue;
        }
        let name = |index: usize| names.get(index).copied().unwrap_or("PUBLISH");
        match transaction::end(&mut replies, names.len() + messages, name, channels.is_some()) {
            Ok(mut within) => results.extend(changes.iter().map(|change| change.effect(&mut within))),
            Err(cause) => results.extend(changes.iter().map(|_| Err(cause.clone()))),
        }
    }
    if let Some(cause) = over.loss().cause().or_else(|| asked.err()) {
        // What was read before the replies turned out to be out of step is not believed.
        results.fill_with(|| Err(cause.clone()));
    }
    results
}

/// `SCAN` with the prefix, and `UNLINK` for what it finds.
///
/// `SCAN` returns every key that was there from start to end at least once; how many there were comes from `UNLINK`.
pub(in crate::redis) async fn clear(connections: &Connections, prefix: &[u8]) -> BackendResult<u64> {
    let (mut cursor, mut removed) = (Some(Cursor::start()), 0);
    while let Some(from) = cursor {
        let (next, keys) = scan(connections, prefix, from).await?;
        let changes = keys.into_iter().map(|key| Change { key: key.into(), action: Action::Remove });
        for result in change_many(connections, changes.collect()).await {
            removed += u64::from(result?);
        }
        cursor = next;
    }
    Ok(removed)
}

/// Where a server goes on with its keys.
pub(in crate::redis) struct Cursor(Vec<u8>);

impl Cursor {
    pub(in crate::redis) fn start() -> Self {
        Self(b"0".to_vec())
    }
}

/// Asks a server for some of its keys with this prefix, and where to go on, unless there are no more.
pub(in crate::redis) async fn scan(
    connections: &Connections,
    prefix: &[u8],
    from: Cursor,
) -> BackendResult<(Option<Cursor>, Vec<Vec<u8>>)> {
    let mut scan = cmd("SCAN");
    scan.arg(&from.0[..]).arg("MATCH").arg(&pattern(prefix)[..]).arg("COUNT").arg(SCAN_COUNT);
    let (next, keys) = page(&mut connections.data().one(scan).await?)?;
    Ok(((next != b"0").then_some(Cursor(next)), keys))
}

fn page(replies: &mut Reply) -> BackendResult<(Vec<u8>, Vec<Vec<u8>>)> {
    let parts = <[Value; 2]>::try_from(replies.array("SCAN")?);
    let out_of_step = || Err(replies.connection().out_of_step("SCAN"));
    let Ok([Value::BulkString(cursor), Value::Array(keys)]) = parts else { return out_of_step() };
    let keys = keys.into_iter().map(|key| match key {
        Value::BulkString(key) => Some(key),
        _ => None,
    });
    match keys.collect::<Option<_>>() {
        Some(keys) => Ok((cursor, keys)),
        None => out_of_step(),
    }
}

/// Whole milliseconds, rounded down: a value never lives longer than it was asked to. Callers give at least one.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
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

fn ended() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the write was ended by the end of the runtime")
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

    #[test]
    fn parts_are_bounded_in_commands_and_bytes_and_keep_every_change_in_order() {
        let sizes = (0..2000).map(|number| if number % 300 == 7 { 3 * PART_BYTES / 2 } else { 5000 });
        let changes: Vec<_> = sizes
            .enumerate()
            .map(|(number, size)| Change {
                key: number.to_string().into(),
                action: Action::Set { value: vec![0; size].into(), ttl: None },
            })
            .collect();
        let keys: Vec<_> = changes.iter().map(|change| change.key.clone()).collect();
        let parts: Vec<_> = parts(changes).collect();
        assert!(parts.iter().flatten().map(|change| change.key.clone()).eq(keys));
        for part in &parts {
            let bytes: usize = part.iter().map(Change::bytes).sum();
            assert!(part.len() <= PART && (bytes <= PART_BYTES || part.len() == 1), "{} in {bytes}", part.len());
        }
    }
}
