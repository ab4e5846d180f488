//! What `NOLOOP` leaves out: the writes whose last writer is the tracked connection itself, and nothing else.

use std::collections::BTreeSet;

use twotier_testkit::RedisServer;

use crate::resp3::{Message, Raw};

#[test]
fn an_own_write_alone_is_not_pushed() {
    let server = RedisServer::start();
    let mut own = Raw::tracked(&server);
    for command in [
        &["SET", "n:k", "1"][..],
        &["APPEND", "n:k", "2"],
        &["INCR", "n:k"],
        &["PEXPIRE", "n:k", "60000"],
        &["COPY", "n:k", "n:copy"],
        &["RENAME", "n:k", "n:other"],
        &["UNLINK", "n:other"],
        &["DEL", "n:copy"],
        &["MSET", "n:a", "1", "n:b", "2"],
        &["GETDEL", "n:a"],
    ] {
        assert!(!matches!(own.ask(command), Message::Error(_)), "{command:?}");
        assert_eq!(own.pushed(), [], "{command:?}");
    }
    own.send(&[&["MULTI"], &["SET", "n:a", "1"], &["DEL", "n:b"], &["EXEC"]]);
    for _ in 0..4 {
        assert!(!matches!(own.next(), Message::Push(_) | Message::Error(_)));
    }
    assert_eq!(own.pushed(), []);
}

#[test]
fn an_own_script_is_pushed_to_its_own_connection() {
    let server = RedisServer::start();
    let mut own = Raw::tracked(&server);
    own.ask(&["EVAL", "return redis.call('SET', KEYS[1], 'v')", "1", "n:k"]);
    assert_eq!(own.keys_pushed(), ["n:k"]);
}

#[test]
fn a_foreign_write_after_ours_is_pushed() {
    let server = RedisServer::start();
    let mut own = Raw::tracked(&server);
    own.ask(&["SET", "n:k", "own"]);
    server.command(&["SET", "n:k", "foreign"]);
    assert_eq!(own.keys_pushed(), ["n:k"]);
    own.ask(&["GET", "n:k"]);
    server.command(&["SET", "n:k", "again"]);
    assert_eq!(own.keys_pushed(), ["n:k"], "whether or not it was read");
}

#[test]
fn of_two_writes_in_one_cycle_the_last_writer_decides() {
    let server = RedisServer::start();
    let (mut own, mut foreign) = (Raw::tracked(&server), Raw::connect(&server));
    let mut foreign_last = 0;
    for round in 0..40 {
        // Both wait at the server when it goes on, and are executed in one cycle.
        server.pause();
        if round % 2 == 0 {
            own.send(&[&["SET", "n:k", "own"]]);
            foreign.send(&[&["SET", "n:k", "foreign"]]);
        } else {
            foreign.send(&[&["SET", "n:k", "foreign"]]);
            own.send(&[&["SET", "n:k", "own"]]);
        }
        server.resume();
        assert_eq!(own.next(), Message::text("OK"));
        assert_eq!(foreign.next(), Message::text("OK"));
        let keys = own.keys_pushed();
        match own.ask(&["GET", "n:k"]).as_text() {
            "foreign" => {
                foreign_last += 1;
                assert_eq!(keys, ["n:k"], "a foreign write after ours is pushed, also in the same cycle");
            }
            // A cycle apart the foreign one is pushed; either is right for us, since ours is the final value.
            _own => assert!(keys.is_empty() || keys == ["n:k"], "{keys:?}"),
        }
    }
    assert!(foreign_last > 0, "the foreign write was never the last one");
}

#[test]
fn a_flush_by_anyone_in_any_database_is_pushed_as_everything() {
    let server = RedisServer::start();
    let mut own = Raw::tracked(&server);
    for flush in ["FLUSHDB", "FLUSHALL"] {
        let pushes = own.pushed_by(&[flush]);
        assert!(pushes.iter().any(|push| push.invalidated().is_none()), "{pushes:?}");
        server.command(&[flush]);
        let pushes = own.pushed();
        assert!(pushes.iter().any(|push| push.invalidated().is_none()), "{pushes:?}");
    }
    let mut elsewhere = server.client();
    elsewhere.command(&["SELECT", "3"]);
    elsewhere.command(&["FLUSHDB"]);
    assert!(own.pushed().iter().any(|push| push.invalidated().is_none()));
}

#[test]
fn every_eviction_caused_by_our_own_writes_is_pushed() {
    let server = RedisServer::builder().arg("maxmemory-policy", "allkeys-random").start();
    let mut own = Raw::tracked(&server);
    let used: usize = server.info("memory")["used_memory"].parse().unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", &(used + 300_000).to_string()]);
    let value = "v".repeat(1000);
    let mut pushed = BTreeSet::new();
    let mut collect = |message: Message| {
        let Message::Push(_) = message else { return true };
        for key in message.invalidated().expect("nothing was flushed") {
            assert!(pushed.insert(key), "a key that is never written again is evicted once");
        }
        false
    };
    for number in 0..1000 {
        own.send(&[&["SET", &format!("n:{number}"), &value]]);
        while !collect(own.next()) {}
    }
    own.pushed().into_iter().for_each(|push| {
        collect(push);
    });
    let evicted: usize = server.info("stats")["evicted_keys"].parse().unwrap();
    assert!(evicted >= 100, "{evicted}");
    assert_eq!(pushed.len(), evicted);
}
