//! Primaries, replicas, and what a connection receives of their changes.

use std::{
    thread,
    time::{Duration, Instant},
};

use twotier_testkit::RedisServer;

use crate::resp3::{Message, Raw};

fn role(raw: &mut Raw) -> String {
    // Pushes may come first, since a replica changes what it holds.
    raw.send(&[&["HELLO", "3"]]);
    loop {
        match raw.next() {
            Message::Push(_) => {}
            hello => return hello.field("role").as_text().to_owned(),
        }
    }
}

fn follow(replica: &RedisServer, primary: &RedisServer) {
    let port = primary.port().to_string();
    assert!(replica.command(&["REPLICAOF", "127.0.0.1", &port]).is_ok());
}

fn until_synchronised(replica: &RedisServer) {
    let start = Instant::now();
    while replica.info("replication").get("master_link_status").is_none_or(|status| status != "up") {
        assert!(start.elapsed() < Duration::from_secs(20), "the replica does not follow");
        thread::sleep(Duration::from_millis(10));
    }
}

fn server() -> RedisServer {
    RedisServer::builder().arg("repl-diskless-sync-delay", "0").start()
}

#[test]
fn a_demoted_primary_keeps_its_sockets_and_only_hello_and_readonly_tell() {
    let (server, other) = (server(), server());
    let mut own = Raw::tracked(&server);
    assert_eq!(role(&mut own), "master");
    follow(&server, &other);
    assert_eq!(role(&mut own), "replica");
    until_synchronised(&server);
    own.pushed();
    match own.ask(&["SET", "n:k", "v"]) {
        Message::Error(error) => assert!(error.starts_with("READONLY"), "{error}"),
        other => panic!("a replica took a write: {other:?}"),
    }
    let info = own.ask(&["CLIENT", "TRACKINGINFO"]);
    let Message::Many(flags) = info.field("flags") else { panic!("{info:?}") };
    assert!(flags.contains(&Message::text("on")), "tracking stays on");
    server.command(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(role(&mut own), "master");
}

#[test]
fn a_full_resynchronisation_is_pushed_as_everything_and_a_replica_pushes_what_it_applies() {
    let (server, primary) = (server(), server());
    server.command(&["SET", "n:old", "v"]);
    let mut own = Raw::tracked(&server);
    follow(&server, &primary);
    until_synchronised(&server);
    let pushes = own.pushed();
    assert!(pushes.iter().any(|push| push.invalidated().is_none()), "{pushes:?}");
    primary.command(&["SET", "n:k", "v"]);
    let start = Instant::now();
    let mut keys = Vec::new();
    while keys.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "the replica pushes nothing");
        keys = own.keys_pushed();
    }
    assert_eq!(keys, ["n:k"]);
}
