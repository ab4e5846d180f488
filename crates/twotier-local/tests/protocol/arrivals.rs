// Raw answers, and who makes values of them: included by `main.rs` once for each eviction policy, `EVICTION`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use twotier_core::{LinkId, ChangeListener, Lease, ManualClock};
use twotier_local::{Joined, LocalOptions, Read};

use crate::common::{Text, Tier, join, lead, lead_and_join, linked_by, namespace, push, outcome, waits};

type Texts = Tier<&'static str>;

fn linked() -> Texts {
    linked_by(EVICTION, 500)
}

#[test]
fn whoever_registered_a_read_waits_for_its_answer_as_everybody_does() {
    let tier = linked();
    let (ticket, joiner) = lead_and_join(tier.read("k"));
    assert!(waits(&joiner));
    ticket.arrived(|ticket| assert!(ticket.fill_text("v")));
    assert_eq!(tier.get("k"), None, "an answer is raw until somebody is polled");
    assert_eq!(outcome(joiner), Joined::Value("v"));
    assert_eq!(tier.get("k"), Some("v"));
}

#[test]
fn the_first_joiner_polled_finishes_the_read_for_those_who_are_not() {
    let tier = linked();
    let (ticket, unpolled) = lead_and_join(tier.read("k"));
    let polled = join(tier.read("k"));
    let decoded = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&decoded);
    ticket.arrived(move |ticket| {
        counter.fetch_add(1, Ordering::Relaxed);
        assert!(ticket.fill_text("v"));
    });
    assert_eq!(outcome(polled), Joined::Value("v"));
    assert_eq!(tier.get("k"), Some("v"), "somebody who is not polled held it up");
    assert_eq!(outcome(unpolled), Joined::Value("v"));
    assert_eq!(decoded.load(Ordering::Relaxed), 1, "decoded more than once");
}

#[test]
fn a_read_that_arrived_and_was_not_finished_is_finished_by_whoever_comes_next() {
    let tier = linked();
    let (ticket, _unpolled) = lead_and_join(tier.read("k"));
    ticket.arrived(|ticket| assert!(ticket.fill_text("v")));
    assert_eq!(outcome(join(tier.read("k"))), Joined::Value("v"));
    assert_eq!(tier.get("k"), Some("v"));
}

#[test]
fn an_answer_wakes_everybody_who_waits_since_any_of_them_may_never_be_polled() {
    struct Counted(AtomicUsize);
    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let tier = linked();
    let (ticket, first) = lead_and_join(tier.read("k"));
    let second = join(tier.read("k"));
    let wakers = [(); 2].map(|()| Arc::new(Counted(AtomicUsize::new(0))));
    let (mut waits_first, mut waits_second) = (pin!(first.wait()), pin!(second.wait()));
    assert!(waits_first.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&wakers[0])))).is_pending());
    assert!(waits_second.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&wakers[1])))).is_pending());
    ticket.arrived(|ticket| _ = ticket.fill_text("v"));
    assert_eq!(wakers.map(|waker| waker.0.load(Ordering::Relaxed)), [1, 1]);
}

#[test]
fn a_wait_that_was_dropped_starts_again() {
    let tier = linked();
    let (ticket, joiner) = lead_and_join(tier.read("k"));
    assert!(waits(&joiner));
    assert!(waits(&joiner));
    ticket.arrived(|ticket| assert!(ticket.fill_text("v")));
    assert_eq!(outcome(&joiner), Joined::Value("v"));
    assert_eq!(outcome(&joiner), Joined::Value("v"));
}

#[test]
fn an_answer_that_nobody_waits_for_is_dropped_undecoded() {
    let tier = linked();
    let ticket = lead(tier.read("k"));
    ticket.arrived(|_ticket| panic!("decoded for nobody"));
    assert!(matches!(tier.read("k"), Read::Lead(..)), "the read was left behind");
}

#[test]
fn an_answer_goes_with_the_last_of_those_who_wait_for_it() {
    let tier = linked();
    let (ticket, first) = lead_and_join(tier.read("k"));
    let second = join(tier.read("k"));
    let raw = Arc::new(());
    let left = Arc::downgrade(&raw);
    ticket.arrived(move |_ticket| panic!("decoded for nobody: {raw:?}"));
    drop(first);
    assert_eq!(Weak::strong_count(&left), 1, "somebody waits");
    drop(second);
    assert_eq!(Weak::strong_count(&left), 0, "a raw answer was left behind");
    assert!(matches!(tier.read("k"), Read::Lead(..)), "the read was left behind");
}

#[test]
fn a_request_outlives_those_who_wait_for_it_and_serves_those_who_join_later() {
    let tier = linked();
    let (ticket, gone) = lead_and_join(tier.read("k"));
    drop(gone);
    let later = join(tier.read("k"));
    ticket.arrived(|ticket| assert!(ticket.fill_text("v")));
    assert_eq!(outcome(later), Joined::Value("v"));
}

#[test]
fn a_panic_while_decoding_is_one_joiners_and_the_others_elect_again() {
    let tier = linked();
    let (ticket, first) = lead_and_join(tier.read("k"));
    let second = join(tier.read("k"));
    ticket.arrived(|_ticket| resume_unwind(Box::new("the codec dies")));
    assert!(catch_unwind(AssertUnwindSafe(|| outcome(&first))).is_err());
    assert_eq!(outcome(&second), Joined::ElectAgain);
    let (ticket, joiner) = lead_and_join(tier.read_again("k", &second));
    ticket.arrived(|ticket| assert!(ticket.fill_text("v")));
    assert_eq!(outcome(joiner), Joined::Value("v"));
}

#[test]
fn an_answer_that_arrived_before_a_change_is_given_and_not_kept() {
    let tier = linked();
    let (ticket, joiner) = lead_and_join(tier.read("k"));
    ticket.arrived(|ticket| assert!(!ticket.fill_text("v0")));
    push(&tier, "k");
    let after = lead(tier.read("k"));
    assert_eq!(outcome(joiner), Joined::Value("v0"), "it began before the change was reported");
    assert_eq!(tier.get("k"), None);
    drop(after);
}

#[test]
fn an_answer_to_a_key_that_was_forgotten_is_not_decoded() {
    let tier = linked();
    let (ticket, joiner) = lead_and_join(tier.read("k"));
    ticket.arrived(|_ticket| panic!("decoded for nobody"));
    tier.invalidate("k");
    assert_eq!(outcome(joiner), Joined::ElectAgain);
}

#[test]
fn whoever_reads_while_the_link_is_down_is_given_the_answer() {
    let tier = linked();
    tier.link_down(LinkId::ONLY);
    let Read::Bypass(ticket, joiner) = tier.read("k") else { panic!("the link is down") };
    ticket.arrived(|ticket| assert!(!ticket.fill_text("v")));
    assert_eq!(outcome(joiner), Joined::Value("v"));
}

/// A tier that keeps nothing has all else: reads are joined, and nothing of them stays.
#[test]
fn a_tier_that_keeps_nothing_joins_reads_and_has_nothing_to_show() {
    let options = LocalOptions::keep_nothing(Duration::from_secs(2)).eviction(EVICTION);
    let tier = Texts::new(namespace(), options, Arc::new(ManualClock::new()));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    let (ticket, first) = lead_and_join(tier.read("k"));
    let second = join(tier.read("k"));
    ticket.arrived(|ticket| assert!(!ticket.fill_text("v")));
    assert_eq!([outcome(first), outcome(second)], [Joined::Value("v"), Joined::Value("v")]);
    assert!(!tier.begin_write("k", twotier_local::Digest::of(b"w")).install("w", 1, crate::common::LIFE));
    assert_eq!(tier.get("k"), None);
    assert!(matches!(tier.read("k"), Read::Lead(..)));
    assert_eq!(tier.stats(), twotier_core::LocalStats::default());
    assert!(!tier.stats().enabled);
    let counters = tier.counters();
    assert_eq!((counters.refused_fills, counters.refused_writes), (0, 0), "nothing overtook them");
    assert_eq!((tier.keys().len(), tier.clear()), (0, 0));
}

#[test]
fn a_tier_that_keeps_nothing_refuses_reads_that_were_overtaken_as_any_tier_does() {
    let options = LocalOptions::keep_nothing(Duration::from_secs(2)).eviction(EVICTION);
    let tier = Texts::new(namespace(), options, Arc::new(ManualClock::new()));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    let first = lead(tier.read("k"));
    push(&tier, "k");
    let second = lead(tier.read("k"));
    assert!(!first.fill_text("new"));
    let joiner = join(tier.read("k"));
    assert!(!second.fill_text("old"));
    assert_eq!(outcome(joiner), Joined::ElectAgain, "it began after something newer was returned");
    assert_eq!(tier.counters().refused_fills, 2);
}
