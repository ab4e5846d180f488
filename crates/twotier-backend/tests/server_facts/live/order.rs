//! Where pushes come between replies.

use twotier_testkit::RedisServer;

use crate::resp3::{Message, Raw};

#[test]
fn pushes_come_after_the_replies_of_their_cycle() {
    let server = RedisServer::start();
    let (mut own, mut foreign) = (Raw::tracked(&server), Raw::connect(&server));
    for _ in 0..20 {
        server.pause();
        own.send(&[&["SET", "n:own", "v"], &["GET", "n:own"], &["PING"]]);
        foreign.send(&[&["SET", "n:foreign", "v"]]);
        server.resume();
        let received: Vec<Message> = (0..4).map(|_| own.next()).collect();
        let [ok, value, pong, push] = &received[..] else { unreachable!() };
        assert_eq!([ok, value, pong].map(Message::as_text), ["OK", "v", "PONG"]);
        assert_eq!(push.invalidated().as_deref(), Some(&["n:foreign".to_owned()][..]));
    }
}

#[test]
fn a_message_that_we_publish_to_ourselves_may_come_inside_the_reply_to_our_transaction() {
    let server = RedisServer::start();
    let mut own = Raw::connect(&server);
    own.send(&[&["SUBSCRIBE", "channel"]]);
    assert!(matches!(own.next(), Message::Push(_)));
    let message = Message::Push(["message", "channel", "text"].map(Message::text).to_vec());
    own.send(&[&["MULTI"], &["SET", "k", "v"], &["PUBLISH", "channel", "text"], &["EXEC"], &["PING"]]);
    let received: Vec<Message> = (0..6).map(|_| own.next()).collect();
    let result = Message::Number(1);
    let (inside, after) = (
        Message::Many(vec![received[0].clone(), message.clone()]),
        Message::Many(vec![received[0].clone(), result.clone()]),
    );
    // Inside, one reply is left over: a reader that takes the push for an element gives every later reply to the wrong
    // command.
    assert!(received[3..5] == [inside, result] || received[3..5] == [after, message.clone()], "{received:?}");
    assert_eq!(received[5], Message::text("PONG"));
    let script = "redis.call('PUBLISH', 'channel', 'text') return 'done'";
    own.send(&[&["EVAL", script, "0"]]);
    let received = [own.next(), own.next()];
    let done = Message::text("done");
    assert!(
        received == [message.clone(), done.clone()] || received == [done, message],
        "around that to a script: {received:?}"
    );
}

/// Lets a foreign client write again and again; after each acknowledgement asks twice, the second time after the first
/// reply, and expects the push by then.
fn fence(server: &RedisServer) {
    let (mut own, mut foreign) = (Raw::tracked(server), server.client());
    for round in 0..2000 {
        let key = format!("n:{round}");
        assert!(foreign.command(&["SET", &key, "v"]).is_ok());
        assert_eq!(own.keys_pushed(), [key]);
    }
}

#[test]
fn what_was_acknowledged_before_a_request_is_pushed_before_the_reply_to_the_request_after_it() {
    fence(&RedisServer::start());
}

#[test]
fn that_holds_with_several_io_threads_too() {
    fence(&RedisServer::builder().arg("io-threads", "4").start());
}

#[test]
fn that_holds_with_writes_that_are_synchronised_to_disk_too() {
    fence(&RedisServer::builder().arg("appendonly", "yes").arg("appendfsync", "always").start());
}

#[test]
fn a_message_from_another_connection_never_comes_inside_the_reply_to_our_transaction() {
    let server = RedisServer::start();
    let (mut own, mut foreign) = (Raw::connect(&server), Raw::connect(&server));
    own.send(&[&["SUBSCRIBE", "channel"]]);
    assert!(matches!(own.next(), Message::Push(_)));
    let message = Message::Push(["message", "channel", "text"].map(Message::text).to_vec());
    for _ in 0..200 {
        server.pause();
        own.send(&[&["MULTI"], &["PING", "one"], &["PING", "two"], &["EXEC"], &["PING", "end"]]);
        foreign.send(&[&["MULTI"], &["SET", "k", "v"], &["PUBLISH", "channel", "text"], &["EXEC"]]);
        server.resume();
        let mut replies: Vec<Message> = (0..6).map(|_| own.next()).collect();
        let place = replies.iter().position(|reply| *reply == message).expect("the message comes, and whole");
        replies.remove(place);
        let both = Message::Many(vec![Message::text("one"), Message::text("two")]);
        assert_eq!(
            replies,
            [Message::text("OK"), Message::text("QUEUED"), Message::text("QUEUED"), both, Message::text("end")]
        );
        for _ in 0..4 {
            foreign.next();
        }
    }
}
