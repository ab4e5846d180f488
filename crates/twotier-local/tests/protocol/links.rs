// The rules of several links: included by `main.rs` once for each eviction policy, `EVICTION`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use twotier_core::{ChangeListener, Lease, LinkId, ManualClock};
use twotier_local::{Digest, LocalOptions, Read};

use crate::common::{LIFE, Text, Tier, join, join_load, lead, lead_load, outcome, push, routed};

type Texts = Tier<&'static str>;

const SECOND: Duration = Duration::from_secs(1);
const P: LinkId = LinkId::new(1);
const Q: LinkId = LinkId::new(2);

fn options() -> LocalOptions {
    LocalOptions::new(500, 1_000_000, Duration::from_secs(2)).eviction(EVICTION)
}

fn of(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// Keys that begin with a `p` lie behind `P`, the others behind `Q`, and both are up.
fn two_links(lease: Lease) -> (ManualClock, Texts) {
    let clock = ManualClock::new();
    let tier = routed(options(), &clock, |key| if key.starts_with('p') { P } else { Q });
    for link in [P, Q] {
        tier.link_up(link, lease);
        tier.proof_of_life(tier.mark(link));
    }
    (clock, tier)
}

fn put(tier: &Texts, key: &str, text: &'static str) {
    assert!(lead(tier.read(key)).fill_text(text));
}

/// Routes that are asked one after the other; the last one stays.
fn routes(routes: &'static [LinkId]) -> (Arc<AtomicU16>, Texts) {
    let asked = Arc::new(AtomicU16::new(0));
    let count = Arc::clone(&asked);
    let tier = routed(options(), &ManualClock::new(), move |_key| {
        let asked = usize::from(count.fetch_add(1, Ordering::Relaxed));
        routes[asked.min(routes.len() - 1)]
    });
    for link in [P, Q] {
        tier.link_up(link, Lease::Unlimited);
    }
    (asked, tier)
}

#[test]
fn the_loss_of_a_link_or_its_flush_outdates_what_came_over_it_and_nothing_else() {
    let (_, tier) = two_links(Lease::Unlimited);
    put(&tier, "p1", "v");
    put(&tier, "q1", "v");
    assert!(tier.begin_write("q2", of("w")).install("w", 1, LIFE));
    let (read, load) = (lead(tier.read("q3")), lead_load(tier.load("q4")));
    tier.flushed(P);
    assert_eq!((tier.get("p1"), tier.get("q1")), (None, Some("v")));
    put(&tier, "p1", "v");
    tier.link_down(P);
    assert_eq!((tier.get("p1"), tier.get("q1"), tier.get("q2")), (None, Some("v"), Some("w")));
    assert!(matches!(tier.read("p1"), Read::Bypass(..)), "nothing is kept without its link");
    assert!(read.fill_text("v") && load.is_live(), "what is under way over the other link goes on");
    assert_eq!((tier.is_serving(P), tier.is_serving(Q)), (false, true));
    tier.link_up(P, Lease::Unlimited);
    assert_eq!(tier.get("p1"), None, "it is from before");
    put(&tier, "p1", "v");
    assert_eq!(tier.stats().outdated, 2);
}

#[test]
fn a_proof_of_life_is_worth_something_for_its_own_link() {
    let (clock, tier) = two_links(Lease::Renewed);
    put(&tier, "p", "v");
    put(&tier, "q", "v");
    clock.advance(SECOND);
    tier.proof_of_life(tier.mark(Q));
    clock.advance(SECOND);
    assert_eq!((tier.get("p"), tier.get("q")), (None, Some("v")));
    assert_eq!((tier.lease_remaining(P), tier.lease_remaining(Q)), (Some(Duration::ZERO), Some(SECOND)));
    tier.proof_of_life(tier.mark(P));
    assert_eq!(tier.get("p"), Some("v"), "its changes have been reported all along");
}

#[test]
fn a_report_kills_entry_and_tickets_whichever_link_brings_it() {
    let (_, tier) = two_links(Lease::Unlimited);
    put(&tier, "p1", "v");
    let (read, write, load) = (lead(tier.read("p2")), tier.begin_write("p3", of("w")), lead_load(tier.load("p4")));
    for key in ["p1", "p2", "p3", "p4"] {
        push(&tier, key);
    }
    assert_eq!(tier.get("p1"), None);
    assert!(!read.fill_text("v") && !write.install("w", 1, LIFE) && !load.is_live());
}

#[test]
fn a_ticket_is_of_the_link_that_its_key_lies_behind_after_it_was_registered() {
    let (asked, tier) = routes(&[P, Q]);
    let read = lead(tier.read("k"));
    assert_eq!((read.mark().link, asked.load(Ordering::Relaxed)), (Q, 3), "asked anew after the second ticket");
    tier.link_down(P);
    assert!(read.fill_text("v"), "the link that it is not of is down");
    tier.link_down(Q);
    assert_eq!(tier.get("k"), None);
    let (_, tier) = routes(&[P, Q]);
    let write = tier.begin_write("k", of("w"));
    assert_eq!(write.mark().link, Q);
    assert!(write.install("w", 1, LIFE), "the ticket by the first route has ended");
    let (_, tier) = routes(&[P, Q]);
    let load = lead_load(tier.load("k"));
    tier.link_down(P);
    assert!(load.is_live());
    tier.link_down(Q);
    assert!(!load.is_live());
}

#[test]
fn a_read_or_load_over_another_link_is_not_joined() {
    let clock = ManualClock::new();
    let link = Arc::new(AtomicU16::new(1));
    let now = Arc::clone(&link);
    let tier: Texts = routed(options(), &clock, move |_key| LinkId::new(now.load(Ordering::Relaxed)));
    for link in [P, Q] {
        tier.link_up(link, Lease::Unlimited);
    }
    let (read, load) = (lead(tier.read("k")), lead_load(tier.load("k")));
    let (reader, loader) = (join(tier.read("k")), join_load(tier.load("k")));
    link.store(2, Ordering::Relaxed);
    let (new_read, new_load) = (lead(tier.read("k")), lead_load(tier.load("k")));
    assert!(!read.fill_text("v0"), "another read has its place");
    assert!(!load.is_live() && new_load.is_live());
    assert!(matches!(outcome(reader), twotier_local::Joined::Value("v0")));
    assert!(!new_read.fill_text("v1"), "what was refused may be newer");
    load.finish(Ok("v0"));
    drop(loader);
}

#[test]
fn a_key_whose_route_never_rests_is_read_and_never_kept() {
    let clock = ManualClock::new();
    let asked = AtomicU16::new(0);
    let tier: Texts = routed(options(), &clock, move |_key| LinkId::new(1 + asked.fetch_add(1, Ordering::Relaxed) % 2));
    for link in [P, Q] {
        tier.link_up(link, Lease::Unlimited);
    }
    let Read::Bypass(ticket, _) = tier.read("k") else { panic!("it is kept") };
    assert!(!ticket.fill_text("v"));
    assert!(!tier.begin_write("k", of("w")).install("w", 1, LIFE));
    assert!(lead_load(tier.load("k")).begin_store(of("w")).is_none());
    assert_eq!(tier.get("k"), None);
}

#[test]
fn the_one_link_of_a_backend_without_others_is_never_asked_for_while_it_is_up() {
    let (asked, tier) = routes(&[Q]);
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    put(&tier, "k", "v");
    assert!(tier.begin_write("l", of("w")).install("w", 1, LIFE));
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[test]
fn to_clear_or_to_flush_the_tier_concerns_every_link() {
    let (_, tier) = two_links(Lease::Unlimited);
    let keys = ["p", "q"];
    let fill = || keys.map(|key| put(&tier, key, "v"));
    fill();
    tier.flush();
    assert_eq!(keys.map(|key| tier.get(key)), [None; 2]);
    let before = keys.map(|key| lead(tier.read(key)));
    let (clearing, cleared) = tier.begin_clear();
    drop(cleared);
    let during = keys.map(|key| lead(tier.read(key)));
    for ticket in before.into_iter().chain(during) {
        assert!(!ticket.fill_text("v"));
    }
    let last = keys.map(|key| lead(tier.read(key)));
    drop(clearing);
    for ticket in last {
        assert!(!ticket.fill_text("v"), "registered before the end");
    }
    fill();
    tier.unlink();
    assert_eq!(keys.map(|key| tier.get(key)), [None; 2]);
}
