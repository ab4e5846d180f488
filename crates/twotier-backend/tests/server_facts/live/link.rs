//! Turning tracking on, and seeing that it is.

use twotier_testkit::RedisServer;

use crate::resp3::{Message, Raw};

fn flags(raw: &mut Raw) -> Vec<String> {
    let info = raw.ask(&["CLIENT", "TRACKINGINFO"]);
    let Message::Many(flags) = info.field("flags") else { panic!("{info:?}") };
    flags.iter().map(|flag| flag.as_text().to_owned()).collect()
}

#[test]
fn tracking_info_names_the_mode_and_the_prefix() {
    let server = RedisServer::start();
    let mut own = Raw::tracked(&server);
    assert_eq!(flags(&mut own), ["on", "bcast", "noloop"]);
    let info = own.ask(&["CLIENT", "TRACKINGINFO"]);
    assert_eq!(*info.field("prefixes"), Message::Many(vec![Message::text("n:")]));
}

#[test]
fn a_new_connection_tracks_nothing() {
    let server = RedisServer::start();
    let mut own = Raw::tracked(&server);
    own.ask(&["PING"]);
    assert_eq!(flags(&mut Raw::connect(&server)), ["off"]);
}

#[test]
fn overlapping_prefixes_are_refused() {
    let server = RedisServer::start();
    let mut own = Raw::connect(&server);
    let both = own.ask(&["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "n:", "PREFIX", "n:a"]);
    assert!(matches!(both, Message::Error(_)), "{both:?}");
    let mut own = Raw::tracked(&server);
    let another = own.ask(&["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "n:a", "NOLOOP"]);
    assert!(matches!(another, Message::Error(_)), "{another:?}");
}
