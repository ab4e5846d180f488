//! What each command does.

use std::time::Duration;

use super::{
    bus::Membership,
    history::{Deletion, Version, Writer},
    resp::{Command, Output},
    script::evaluate,
    state::State,
    tracking::Tracked,
};

/// The version that the server reports.
const VERSION: &str = "7.2.0";

/// Executes one command of a client; the reply goes to the client's output.
///
/// # Panics
///
/// On a command that the library does not send, so that a new one is noticed.
pub(super) fn execute(state: &mut State, client: u64, command: &Command, now: Duration) {
    let words: Vec<&str> = command.iter().map(|word| std::str::from_utf8(word).expect("keys are text here")).collect();
    let mut output = Output::default();
    let name = words[0].to_ascii_uppercase();
    let asks = std::mem::take(&mut state.client(client).asks);
    if let Some(refusal) = key_of(&name, &words).and_then(|key| state.membership.as_ref()?.refusal(key, asks, now)) {
        output.error(&refusal);
        state.client(client).output.0.append(&mut output.0);
        return;
    }
    match (name.as_str(), &words[1..]) {
        ("HELLO", _) => hello(client, state.membership.as_ref(), &mut output),
        ("CLUSTER", ["INFO"]) => output.bulk(node(state).info(now).as_bytes()),
        ("CLUSTER", ["NODES"]) => output.bulk(node(state).nodes(now).as_bytes()),
        ("ASKING", []) => {
            state.client(client).asks = true;
            output.okay();
        }
        ("PING", []) => output.simple("PONG"),
        ("PING", [text]) => output.bulk(text.as_bytes()),
        ("INFO", ["server"]) => {
            let node = state.membership.as_ref().map_or(0, |membership| membership.node);
            output.bulk(format!("# Server\r\nrun_id:{node:08x}{:032x}\r\n", state.life).as_bytes());
        }
        ("CLIENT", ["KILL", "ID", id]) => {
            let ended = id.parse().is_ok_and(|id| state.end(id));
            output.int(i64::from(ended));
        }
        ("SELECT", [_]) => output.okay(),
        ("CLIENT", ["SETINFO", ..]) => output.okay(),
        // All clients of a simulation share a prefix.
        ("INFO", ["stats"]) => output.bulk(b"# Stats\r\ntracking_total_prefixes:1\r\n"),
        ("CLIENT", ["TRACKING", "ON", "BCAST", "PREFIX", prefix, options @ ..]) => {
            let noloop = options.contains(&"NOLOOP");
            state.client(client).tracked = Some(Tracked { prefix: (*prefix).to_owned(), noloop });
            output.okay();
        }
        ("CLIENT", ["TRACKINGINFO"]) => tracking_info(state.client(client).tracked.as_ref(), &mut output),
        ("GET", [key]) => {
            state.touch(key, now);
            let held = state.present(key, now).value;
            output.bulk_or_null(held.as_deref());
            if state.lost_since(key).is_some() {
                let link = state.client(client).link;
                state.histories.store().deceives(key, link, now, held);
            }
        }
        ("MGET", keys) => {
            output.array(keys.len());
            for key in keys {
                state.touch(key, now);
                output.bulk_or_null(state.present(key, now).value.as_deref());
            }
        }
        ("PTTL", [key]) => {
            state.touch(key, now);
            output.int(remaining(state, key, now));
        }
        ("SET", [key, value, options @ ..]) => {
            let (absent, options) = match options {
                ["NX", rest @ ..] => (true, rest),
                rest => (false, rest),
            };
            let expires = match options {
                [] => None,
                ["PX", millis] => Some(now + Duration::from_millis(millis.parse().expect("a time is a number"))),
                other => panic!("SET with {other:?} is not simulated"),
            };
            state.touch(key, now);
            if absent && state.present(key, now).value.is_some() {
                output.null();
                state.client(client).output.0.append(&mut output.0);
                return;
            }
            state.write(Some(client), key, Some((*value).to_owned()), expires, now);
            output.okay();
        }
        ("DEL" | "UNLINK", keys) => {
            let removed = keys.iter().filter(|key| unlink(state, client, key, now)).count();
            output.int(i64::try_from(removed).unwrap_or(i64::MAX));
        }
        ("INCRBY", [key, by]) => {
            state.touch(key, now);
            let Version { value: held, expires, .. } = state.present(key, now);
            let sum = held.as_deref().unwrap_or("0").parse::<i64>().ok().zip(by.parse::<i64>().ok());
            let sum = sum.map(|(held, by)| held + by).expect("only numbers are counted");
            state.write(Some(client), key, Some(sum.to_string()), expires.filter(|_| held.is_some()), now);
            output.int(sum);
        }
        ("PEXPIRE", [key, millis]) => {
            state.touch(key, now);
            let held = state.present(key, now).value;
            output.int(i64::from(held.is_some()));
            if held.is_some() {
                let life = Duration::from_millis(millis.parse().expect("a time is a number"));
                state.write(Some(client), key, held, Some(now + life), now);
            }
        }
        ("EVAL", [script, "1", key, arguments @ ..]) => {
            evaluate(state, client, script, key, arguments, &mut output, now);
        }
        ("SCAN", [cursor, "MATCH", pattern, "COUNT", _]) => scan(state, cursor, pattern, &mut output, now),
        (name, rest) => panic!("{name} {rest:?} is not simulated"),
    }
    // What was pushed meanwhile, such as an expiry that the command found, goes before the reply.
    state.client(client).output.0.append(&mut output.0);
}

/// # Panics
///
/// At a server that stands for itself, which is not asked for its cluster.
fn node(state: &State) -> &Membership {
    state.membership.as_ref().expect("only a node of a cluster is asked for it")
}

/// Returns the key that a command is about, if it is about one.
fn key_of<'w>(name: &str, words: &[&'w str]) -> Option<&'w str> {
    match name {
        "GET" | "MGET" | "PTTL" | "SET" | "DEL" | "UNLINK" | "INCRBY" | "PEXPIRE" => words.get(1).copied(),
        "EVAL" => words.get(3).copied(),
        _ => None,
    }
}

fn hello(client: u64, membership: Option<&Membership>, output: &mut Output) {
    output.map(7);
    let mode = if membership.is_some() { "cluster" } else { "standalone" };
    let role = if membership.is_none_or(Membership::is_primary) { "master" } else { "replica" };
    for (field, value) in [("server", "redis"), ("version", VERSION), ("mode", mode), ("role", role)] {
        output.bulk(field.as_bytes());
        output.bulk(value.as_bytes());
    }
    output.bulk(b"proto");
    output.int(3);
    output.bulk(b"id");
    output.int(i64::try_from(client).unwrap_or(i64::MAX));
    output.bulk(b"modules");
    output.array(0);
}

fn tracking_info(tracked: Option<&Tracked>, output: &mut Output) {
    let flags: &[&str] = match tracked {
        None => &["off"],
        Some(Tracked { noloop: false, .. }) => &["on", "bcast"],
        Some(Tracked { noloop: true, .. }) => &["on", "bcast", "noloop"],
    };
    output.map(3);
    output.bulk(b"flags");
    output.set(flags.len());
    for flag in flags {
        output.bulk(flag.as_bytes());
    }
    output.bulk(b"redirect");
    output.int(-1);
    output.bulk(b"prefixes");
    output.set(usize::from(tracked.is_some()));
    if let Some(Tracked { prefix, .. }) = tracked {
        output.bulk(prefix.as_bytes());
    }
}

fn remaining(state: &State, key: &str, now: Duration) -> i64 {
    let present = state.present(key, now);
    match (&present.value, present.expires) {
        (None, _) => -2,
        (Some(_), None) => -1,
        (Some(_), Some(expires)) => i64::try_from((expires - now).as_millis()).unwrap_or(i64::MAX),
    }
}

fn unlink(state: &mut State, client: u64, key: &str, now: Duration) -> bool {
    state.touch(key, now);
    let there = state.present(key, now).value.is_some();
    if there {
        state.write(Some(client), key, None, None, now);
    }
    let is_lost = state.lost_since(key).is_some();
    if let Writer::Link(link) = state.writer(Some(client)) {
        let mut store = state.histories.store();
        let index = store.present_index(key, now);
        store.deletions.push(Deletion { key: key.to_owned(), link, at: now, index, is_lost });
    }
    there
}

/// Small pages, so that `clear` has something to go on with.
fn scan(state: &mut State, cursor: &str, pattern: &str, output: &mut Output, now: Duration) {
    let prefix = pattern.strip_suffix('*').expect("a prefix is scanned for");
    let after = state.cursors.get(cursor).cloned();
    let mut keys = state.keys_after(prefix, after.as_deref(), now);
    let page = state.rng.usize(1..=3);
    let next = if keys.len() > page {
        keys.truncate(page);
        let cursor = (state.cursors.len() + 1).to_string();
        state.cursors.insert(cursor.clone(), keys[page - 1].clone());
        cursor
    } else {
        "0".to_owned()
    };
    output.array(2);
    output.bulk(next.as_bytes());
    output.array(keys.len());
    for key in &keys {
        output.bulk(key.as_bytes());
    }
}
