//! Writers that know nothing of the cache: another client, Lua, and commands of every kind.

use std::{
    io,
    sync::atomic::Ordering::SeqCst,
    thread,
    time::{Duration, Instant},
};

use twotier_testkit::{
    Client, Reply,
    history::{Change, Recorder, WriteOutcome},
};

use crate::{
    group::{CACHED_KEYS, FOREIGN_KEYS, Group},
    value::Value,
};

/// Renames a key that may be absent.
const RENAME_AWAY: &str =
    "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end return 1";

/// The commands of one write.
struct Script {
    name: &'static str,
    change: Change,
    commands: Vec<Vec<String>>,
}

pub(crate) fn run(group: &Group, part: usize, seed: u64) {
    let mut recorder = Recorder::new(&group.history, format!("foreign writer {part}"), 0);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut client = None;
    let mut primary = group.failed_over.load(SeqCst);
    while group.goes_on() {
        thread::sleep(Duration::from_micros(random.u64(300..3000)));
        if std::mem::replace(&mut primary, group.failed_over.load(SeqCst)) != primary {
            client = None;
        }
        let Some(connected) = &mut client else {
            client = connect(group).ok();
            continue;
        };
        let key = CACHED_KEYS - FOREIGN_KEYS + random.usize(..FOREIGN_KEYS / 2) * 2 + part;
        let kind = random.u8(..16);
        let change = if kind < 11 { Change::Value } else { Change::Absence };
        let writing = recorder.begin_write(key, change);
        let script = script(kind, group, key, Value::new(writing.version, &mut random));
        assert_eq!(script.change, change);
        let acknowledged = perform(connected, &script.commands);
        // A script of several commands may have been executed in part.
        let outcome = if acknowledged { WriteOutcome::Acknowledged } else { WriteOutcome::Unknown };
        recorder.end_write(script.name, writing, outcome);
        group.counts.foreign.fetch_add(1, SeqCst);
        if !acknowledged {
            client = None;
        }
    }
    group.counts.operations.fetch_add(recorder.count() as u64, SeqCst);
}

/// Connects, and waits until nothing that an older connection sent can still be waiting at the server.
fn connect(group: &Group) -> io::Result<Client> {
    let mut client = Client::tcp(group.primary().addr())?;
    let until = Instant::now() + Duration::from_millis(20);
    while Instant::now() < until {
        client.try_command(&["PING"])?;
        thread::sleep(Duration::from_millis(2));
    }
    Ok(client)
}

fn perform(client: &mut Client, commands: &[Vec<String>]) -> bool {
    commands.iter().all(|command| matches!(client.try_command(command), Ok(reply) if !refused(&reply)))
}

fn refused(reply: &Reply) -> bool {
    match reply {
        Reply::Error(_) => true,
        Reply::Array(parts) => parts.iter().any(refused),
        _ => false,
    }
}

fn script(kind: u8, group: &Group, key: usize, value: Value) -> Script {
    let name = group.qualified(key);
    let other = format!("{name}-elsewhere");
    let text = value.text();
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let set = |name: &str| words(&["SET", name, &text]);
    let (name, change, commands) = match kind {
        0..4 => ("SET", Change::Value, vec![set(&name)]),
        4 => ("SET PX", Change::Value, vec![words(&["SET", &name, &text, "PX", "3600000"])]),
        5 => (
            "EVAL",
            Change::Value,
            vec![words(&["EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", "1", &name, &text])],
        ),
        6 => ("RENAME", Change::Value, vec![set(&other), words(&["RENAME", &other, &name])]),
        7 => ("COPY", Change::Value, vec![set(&other), words(&["COPY", &other, &name, "REPLACE"])]),
        8 => ("MULTI", Change::Value, vec![words(&["MULTI"]), words(&["DEL", &name]), set(&name), words(&["EXEC"])]),
        9 => ("APPEND", Change::Value, vec![words(&["APPEND", &name, &format!("|{}{}", value.version, value.twin)])]),
        10 => ("GETSET", Change::Value, vec![words(&["GETSET", &name, &text])]),
        11 => ("DEL", Change::Absence, vec![words(&["DEL", &name])]),
        12 => ("UNLINK", Change::Absence, vec![words(&["UNLINK", &name])]),
        13 => ("GETDEL", Change::Absence, vec![words(&["GETDEL", &name])]),
        14 => ("PEXPIRE 0", Change::Absence, vec![words(&["PEXPIRE", &name, "0"])]),
        _ => ("RENAME away", Change::Absence, vec![words(&["EVAL", RENAME_AWAY, "2", &name, &other])]),
    };
    Script { name, change, commands }
}
