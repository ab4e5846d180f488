//! Clusters: who reports what as slots move and primaries are replaced, and which epochs rise.

use std::{
    thread,
    time::{Duration, Instant},
};

use twotier_testkit::{RedisCluster, RedisServer};

use crate::resp3::{Message, Raw};

fn cluster(replicas: usize) -> RedisCluster {
    RedisCluster::start(3, replicas, Duration::from_secs(1))
}

/// A key in a slot of a node.
fn key_of(cluster: &RedisCluster, node: usize) -> String {
    (0..).map(|number| format!("n:{number}")).find(|key| cluster.owner(cluster.slot(key)) == Some(node)).unwrap()
}

fn tracked(cluster: &RedisCluster) -> Vec<Raw> {
    cluster.nodes().iter().map(Raw::tracked).collect()
}

fn epoch(node: &RedisServer) -> u64 {
    let info = node.command(&["CLUSTER", "INFO"]);
    let field = info.as_str().lines().find_map(|line| line.strip_prefix("cluster_current_epoch:"));
    field.unwrap().trim().parse().unwrap()
}

#[track_caller]
fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what} did not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_write_is_pushed_by_the_owner_and_its_replica_and_by_nobody_else_and_a_flush_by_the_node_that_is_flushed() {
    let cluster = cluster(1);
    let (key, mut links) = (key_of(&cluster, 0), tracked(&cluster));
    let replica = cluster.replica_of(0).unwrap();
    cluster.nodes()[0].command(&["SET", &key, "v"]);
    wait("the replica applies it", || cluster.nodes()[replica].command(&["DBSIZE"]).as_int() == 1);
    for (node, link) in links.iter_mut().enumerate() {
        let expected: &[&str] = if node == 0 || node == replica { &[&key] } else { &[] };
        assert_eq!(link.keys_pushed(), expected, "{node}");
    }
    cluster.nodes()[1].command(&["FLUSHALL"]);
    assert!(links[0].pushed().is_empty() && links[2].pushed().is_empty());
    assert_eq!(links[1].pushed().iter().map(Message::invalidated).collect::<Vec<_>>(), [None]);
}

#[test]
fn a_key_that_migrates_is_pushed_at_both_ends_and_one_asked_for_at_the_other_end_is_pushed_there() {
    let cluster = cluster(0);
    let (key, mut links) = (key_of(&cluster, 0), tracked(&cluster));
    let slot = cluster.slot(&key);
    cluster.nodes()[0].command(&["SET", &key, "v"]);
    links[0].pushed();
    cluster.begin_migration(slot, 0, 1);
    cluster.migrate_keys(slot, 0, 1);
    assert_eq!((links[0].keys_pushed(), links[1].keys_pushed()), (vec![key.clone()], vec![key.clone()]));
    match Raw::connect(&cluster.nodes()[0]).ask(&["GET", &key]) {
        Message::Error(error) => assert!(error.starts_with("ASK "), "{error}"),
        other => panic!("{other:?}"),
    }
    let mut other = Raw::connect(&cluster.nodes()[1]);
    other.ask(&["ASKING"]);
    // The permission to ask holds for a whole transaction.
    other.ask(&["MULTI"]);
    other.ask(&["SET", &key, "w"]);
    assert_eq!(other.ask(&["EXEC"]), Message::Many(vec![Message::text("OK")]));
    assert_eq!((links[0].keys_pushed(), links[1].keys_pushed()), (vec![], vec![key.clone()]));
    match other.ask(&["GET", &key]) {
        Message::Error(error) => assert!(error.starts_with("MOVED "), "{error}"),
        other => panic!("{other:?}"),
    }
}

/// Why owners are compared and not epochs alone.
#[test]
fn a_slot_that_goes_to_the_node_of_the_latest_claim_raises_no_epoch() {
    let cluster = cluster(0);
    let keys: Vec<String> = (0..)
        .map(|number| format!("n:{number}"))
        .filter(|key| cluster.owner(cluster.slot(key)) == Some(0))
        .take(3)
        .collect();
    let mut epochs = vec![epoch(&cluster.nodes()[0])];
    for key in &keys {
        cluster.migrate(cluster.slot(key), 1);
        cluster.settle();
        epochs.push(epoch(&cluster.nodes()[0]));
    }
    assert_eq!(epochs, [3, 4, 4, 4]);
}

/// Why a link that lost slots is outdated by the map, and not by what is pushed.
#[test]
fn keys_of_a_slot_that_goes_without_them_vanish_and_absent_keys_are_pushed_by_nobody() {
    let cluster = cluster(0);
    let (key, mut links) = (key_of(&cluster, 0), tracked(&cluster));
    let slot = cluster.slot(&key);
    cluster.nodes()[0].command(&["SET", &key, "v"]);
    links[0].pushed();
    cluster.begin_migration(slot, 0, 1);
    let given = cluster.nodes()[1].command(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &cluster.id(1)]);
    assert!(given.is_ok());
    wait("the source knows", || cluster.owner(slot) == Some(1) && cluster.is_settled());
    assert!(Raw::connect(&cluster.nodes()[1]).ask(&["GET", &key]) == Message::Nothing);
    // Redis before 7.2 pushes nothing, later ones the key.
    let pushed = links[0].keys_pushed();
    let pushes = cluster.nodes()[0].is_valkey() || cluster.nodes()[0].version() >= (7, 2, 0);
    assert_eq!(pushed, if pushes { vec![key] } else { vec![] });
    assert!(links[1].pushed().is_empty(), "at the other end it was absent before, too");
}

/// Why a promotion is noticed by asking, and by whom.
#[test]
fn a_promotion_pushes_nothing_and_the_primaries_that_voted_show_its_epoch_no_later_than_the_replica_its_role() {
    let cluster = cluster(1);
    let replica = cluster.replica_of(0).unwrap();
    let mut links = tracked(&cluster);
    let mut primary = Raw::connect(&cluster.nodes()[0]);
    let before = epoch(&cluster.nodes()[1]);
    cluster.failover(replica, None);
    let mut is_promoted = false;
    while !is_promoted {
        // In this order: if it is a primary now, a majority had voted before.
        is_promoted = cluster.nodes()[replica].info("replication")["role"] == "master";
        let voters = [1, 2].into_iter().filter(|node| epoch(&cluster.nodes()[*node]) > before).count();
        assert!(!is_promoted || voters >= 1, "no voter shows the epoch");
        if is_promoted {
            // Of three primaries the one that is replaced may have voted too: two of them are a majority.
            let own = usize::from(epoch(&cluster.nodes()[0]) > before);
            assert!(voters + own >= 2, "{voters} and {own}");
        }
    }
    wait("the old one knows", || primary.ask(&["HELLO", "3"]).field("role").as_text() == "replica");
    // The stream to a new replica may begin with a whole copy, which is pushed as everything: later, and not the
    // promotion.
    assert!(links[replica].pushed().is_empty());
    let tracking = links[0].ask_past_pushes(&["CLIENT", "TRACKINGINFO"]);
    let Message::Many(flags) = tracking.field("flags") else { panic!("{tracking:?}") };
    assert!(flags.contains(&Message::text("on")), "the socket stays open, and tracking on");
}

#[test]
fn an_election_is_what_raises_the_epoch_beyond_every_claim() {
    let cluster = cluster(1);
    let replica = cluster.replica_of(0).unwrap();
    let before = epoch(&cluster.nodes()[1]);
    cluster.nodes()[0].kill();
    wait("a promotion", || cluster.is_promoted(replica));
    let nodes = cluster.nodes()[1].command(&["CLUSTER", "NODES"]);
    let line = nodes.as_str().lines().find(|line| line.starts_with(&cluster.id(replica))).unwrap().to_owned();
    let claimed_in: u64 = line.split(' ').nth(6).unwrap().parse().unwrap();
    assert!(claimed_in > before && epoch(&cluster.nodes()[1]) >= claimed_in, "{line}");
}
