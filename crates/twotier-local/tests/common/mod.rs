//! What several tests need.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    borrow::Borrow,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use twotier_core::{ChangeListener, Eviction, Lease, LinkId, ManualClock, Namespace, RemovalCause};
use twotier_local::{
    Digest, FillTicket, Joined, Joiner, Load, LoadJoiner, LoadTicket, Loaded, LocalOptions, LocalTier, Read,
    RemovalListener,
};

pub(crate) type Tier<T> = LocalTier<T, ()>;

/// Long enough to be out of the way.
pub(crate) const LIFE: Option<Duration> = Some(Duration::from_secs(3600));

pub(crate) fn namespace() -> Namespace {
    Namespace::new("n").unwrap()
}

/// A tier of one shard on a clock that stands still, with a link that never needs proof.
pub(crate) fn linked<T: Clone + Send + Sync + 'static>(max_entries: usize) -> Tier<T> {
    linked_by(Eviction::Lru, max_entries)
}

/// The same by another policy.
pub(crate) fn linked_by<T: Clone + Send + Sync + 'static>(eviction: Eviction, max_entries: usize) -> Tier<T> {
    sharded_by(eviction, max_entries, 1)
}

/// The same in several shards.
pub(crate) fn sharded_by<T>(eviction: Eviction, max_entries: usize, shards: usize) -> Tier<T>
where
    T: Clone + Send + Sync + 'static,
{
    seeded_by(eviction, max_entries, shards, 1)
}

/// The same with the hash of this seed, which decides who shares a shard.
pub(crate) fn seeded_by<T>(eviction: Eviction, max_entries: usize, shards: usize, seed: u64) -> Tier<T>
where
    T: Clone + Send + Sync + 'static,
{
    let mut options = LocalOptions::new(max_entries, 1_000_000_000, Duration::from_secs(2)).eviction(eviction);
    options.shards = Some(shards);
    options.seed = Some(seed);
    let tier = Tier::new(namespace(), options, Arc::new(ManualClock::new()));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    tier
}

/// A tier of several links, all of them down, whose keys lie behind them as `route` says.
pub(crate) fn routed<T>(
    options: LocalOptions,
    clock: &ManualClock,
    route: impl Fn(&str) -> LinkId + Send + Sync + 'static,
) -> Tier<T>
where
    T: Clone + Send + Sync + 'static,
{
    Tier::with_listener(namespace(), options, Arc::new(clock.clone()), Box::new(Nobody), Box::new(route))
}

struct Nobody;

impl<T> RemovalListener<T> for Nobody {
    fn is_listening(&self) -> bool {
        false
    }

    fn removed(&self, _key: &str, _value: T, _cause: RemovalCause) {}
}

/// Every policy, each once.
pub(crate) const POLICIES: [Eviction; 6] =
    [Eviction::Lru, Eviction::Lfu, Eviction::Fifo, Eviction::Random { seed: 42 }, Eviction::S3Fifo, Eviction::WTinyLfu];

#[track_caller]
pub(crate) fn lead<T>(read: Read<T, ()>) -> FillTicket<T, ()> {
    let Read::Lead(ticket, _) = read else { panic!("somebody else leads, or nothing is to be read") };
    ticket
}

/// Leads a read, and waits for it as everybody else does.
#[track_caller]
pub(crate) fn lead_and_join<T>(read: Read<T, ()>) -> (FillTicket<T, ()>, Joiner<T, ()>) {
    let Read::Lead(ticket, joiner) = read else { panic!("somebody else leads, or nothing is to be read") };
    (ticket, joiner)
}

#[track_caller]
pub(crate) fn join<T>(read: Read<T, ()>) -> Joiner<T, ()> {
    let Read::Join(joiner) = read else { panic!("there is nobody to join") };
    joiner
}

/// Returns what a joiner receives by now. A read that has ended, in whatever way, has notified its joiners before the
/// call that ended it returned, so a test that would wait fails instead.
#[track_caller]
pub(crate) fn outcome<T: Clone>(joiner: impl Borrow<Joiner<T, ()>>) -> Joined<T, ()> {
    match pin!(joiner.borrow().wait()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("the joiner was not woken by the end of the read"),
    }
}

#[track_caller]
pub(crate) fn lead_load<T>(load: Load<T, ()>) -> LoadTicket<T, ()> {
    let Load::Lead(ticket) = load else { panic!("somebody else loads") };
    ticket
}

#[track_caller]
pub(crate) fn join_load<T>(load: Load<T, ()>) -> LoadJoiner<T, ()> {
    let Load::Join(joiner) = load else { panic!("nobody loads") };
    joiner
}

/// Returns the outcome of a load that has ended by now, as [`outcome`] does for a read.
#[track_caller]
pub(crate) fn loaded<T: Clone>(joiner: impl Borrow<LoadJoiner<T, ()>>) -> Loaded<T, ()> {
    match pin!(joiner.borrow().wait()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("the joiner was not woken by the end of the load"),
    }
}

/// Returns whether somebody who waits for the read would go on waiting.
pub(crate) fn waits<T: Clone>(joiner: &Joiner<T, ()>) -> bool {
    pin!(joiner.wait()).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Reports a change by somebody else.
pub(crate) fn push<T: Clone + Send + Sync + 'static>(tier: &Tier<T>, key: &str) {
    tier.changed(&namespace().qualify(key));
}

pub(crate) trait Text {
    fn fill_text(self, text: &'static str) -> bool;
}

impl Text for FillTicket<&'static str, ()> {
    fn fill_text(self, text: &'static str) -> bool {
        self.fill(text, Digest::of(text.as_bytes()), text.len(), LIFE)
    }
}
