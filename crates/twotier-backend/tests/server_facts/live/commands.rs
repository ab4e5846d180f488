//! Which commands are pushed, and which are not.

use twotier_testkit::{Client, RedisServer};

use crate::resp3::Raw;

/// Runs commands on a foreign connection, and returns what each of them pushes.
fn pushed_by(preparation: &[&[&str]], command: &[&str]) -> Vec<String> {
    let server = RedisServer::start();
    let mut foreign = server.client();
    for command in preparation {
        run(&mut foreign, command);
    }
    let mut own = Raw::tracked(&server);
    run(&mut foreign, command);
    let mut keys = own.keys_pushed();
    keys.sort();
    keys
}

fn run(client: &mut Client, command: &[&str]) {
    let reply = client.command(command);
    assert!(!reply.is_error(), "{command:?}: {reply:?}");
}

#[test]
fn every_command_that_changes_a_key_or_its_time_to_live_is_pushed() {
    let text: &[&[&str]] = &[&["SET", "n:k", "7"]];
    let mortal: &[&[&str]] = &[&["SET", "n:k", "7", "PX", "60000"]];
    for (preparation, command) in [
        (text, &["SET", "n:k", "8"][..]),
        (text, &["SET", "n:k", "7"]),
        (text, &["SETRANGE", "n:k", "0", "8"]),
        (text, &["APPEND", "n:k", "8"]),
        (text, &["INCR", "n:k"]),
        (text, &["GETSET", "n:k", "8"]),
        (text, &["DEL", "n:k"]),
        (text, &["UNLINK", "n:k"]),
        (text, &["GETDEL", "n:k"]),
        (text, &["EXPIRE", "n:k", "60"]),
        (text, &["PEXPIRE", "n:k", "0"]),
        (mortal, &["PERSIST", "n:k"]),
        (text, &["GETEX", "n:k", "EX", "60"]),
        (mortal, &["GETEX", "n:k", "PERSIST"]),
        (text, &["MOVE", "n:k", "3"]),
        (text, &["COPY", "other:k", "n:k", "REPLACE"]),
        (&[], &["SETNX", "n:k", "1"]),
        (&[], &["HSET", "n:k", "f", "v"]),
        (&[], &["LPUSH", "n:k", "v"]),
        (&[], &["MSET", "n:k", "1"]),
        (text, &["EVAL", "return redis.call('DEL', KEYS[1])", "1", "n:k"]),
        (
            text,
            &["EVAL", "return redis.call('RESTORE', KEYS[1], 0, redis.call('DUMP', KEYS[1]), 'REPLACE')", "1", "n:k"],
        ),
    ] {
        let mut preparation = preparation.to_vec();
        preparation.push(&["SET", "other:k", "v"]);
        assert_eq!(pushed_by(&preparation, command), ["n:k"], "{command:?}");
    }
}

#[test]
fn both_names_of_a_rename_are_pushed() {
    assert_eq!(pushed_by(&[&["SET", "n:from", "v"]], &["RENAME", "n:from", "n:to"]), ["n:from", "n:to"]);
    let by_script = &["EVAL", "return redis.call('RENAME', KEYS[1], KEYS[2])", "2", "n:from", "n:to"];
    assert_eq!(pushed_by(&[&["SET", "n:from", "v"]], by_script), ["n:from", "n:to"]);
}

#[test]
fn commands_that_change_nothing_are_not_pushed() {
    let text: &[&[&str]] = &[&["SET", "n:k", "7"]];
    for (preparation, command) in [
        (text, &["SETNX", "n:k", "8"][..]),
        (text, &["SET", "n:k", "8", "NX"]),
        (&[], &["SET", "n:k", "8", "XX"]),
        (&[], &["DEL", "n:k"]),
        (&[], &["EXPIRE", "n:k", "60"]),
        (text, &["PERSIST", "n:k"]),
        (text, &["TOUCH", "n:k"]),
        (text, &["GET", "n:k"]),
        (text, &["GETEX", "n:k"]),
        (text, &["SET", "other:k", "8"]),
    ] {
        assert_eq!(pushed_by(preparation, command), <[&str; 0]>::default(), "{command:?}");
    }
}

#[test]
fn a_write_in_any_database_is_pushed() {
    let server = RedisServer::start();
    let mut own = Raw::tracked(&server);
    let mut foreign = server.client();
    run(&mut foreign, &["SELECT", "3"]);
    run(&mut foreign, &["SET", "n:k", "v"]);
    assert_eq!(own.keys_pushed(), ["n:k"]);
}

#[test]
fn an_exchange_of_databases_changes_values_and_is_not_pushed() {
    let server = RedisServer::start();
    let mut foreign = server.client();
    run(&mut foreign, &["SET", "n:k", "here"]);
    let mut own = Raw::tracked(&server);
    run(&mut foreign, &["SWAPDB", "0", "3"]);
    assert_eq!(own.pushed(), [], "so a copy has a greatest age");
}

#[test]
fn a_script_that_writes_5000_keys_pushes_all_of_them() {
    let server = RedisServer::start();
    let mut own = Raw::tracked(&server);
    let script = "for i = 1, 5000 do redis.call('SET', 'n:' .. i, 'v') end return 1";
    run(&mut server.client(), &["EVAL", script, "0"]);
    let pushes = own.pushed();
    assert_eq!(pushes.len(), 1, "in one push");
    let mut keys = pushes[0].invalidated().expect("keys are named");
    keys.sort_by_key(|key| key[2..].parse::<u32>().unwrap());
    let written: Vec<String> = (1..=5000).map(|number| format!("n:{number}")).collect();
    assert_eq!(keys, written);
}
