//! What is pushed of keys whose time is over: perhaps nothing.

use std::{thread, time::Duration};

use twotier_testkit::RedisServer;

use crate::resp3::Raw;

#[test]
fn a_key_whose_time_is_over_is_gone_for_readers_and_pushed_only_when_the_server_gets_round_to_it() {
    let server = RedisServer::builder().arg("enable-debug-command", "yes").start();
    // No round is made: the extreme of being late.
    server.command(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    server.command(&["SET", "n:k", "v", "PX", "20"]);
    let mut own = Raw::tracked(&server);
    thread::sleep(Duration::from_millis(60));
    assert_eq!(own.pushed(), [], "so the deadline of a copy comes from the time to live, not from a push");
    assert_eq!(server.command(&["PTTL", "n:k"]).as_int(), -2, "it is gone all the same");
    assert_eq!(own.keys_pushed(), ["n:k"], "and pushed once somebody looks");
}

#[test]
fn our_own_write_over_an_expired_key_may_push_that_key_and_nothing_else() {
    let server = RedisServer::builder().arg("enable-debug-command", "yes").start();
    server.command(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    server.command(&["SET", "n:k", "v", "PX", "20"]);
    let mut own = Raw::tracked(&server);
    thread::sleep(Duration::from_millis(60));
    // Before its reply, after it, or not at all: servers differ.
    for push in own.pushed_by(&["SET", "n:k", "new"]) {
        assert_eq!(push.invalidated().as_deref(), Some(&["n:k".to_owned()][..]));
    }
}
