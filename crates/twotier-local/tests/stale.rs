//! A stale copy is one that was current within the bound it states, and none is returned after a newer value was.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use proptest::{prelude::*, sample::Index};
use twotier_core::{ChangeListener, Clock, Lease, LinkId, ManualClock, Timestamp};
use twotier_local::{Digest, FillTicket, Load, LoadTicket, LocalOptions, Read, WriteTicket};

use crate::common::{Tier, namespace};

const KEY: &str = "k";
const BOUND: Duration = Duration::from_secs(2);
const SOFT: Duration = Duration::from_secs(3);
const LIFE: Duration = Duration::from_secs(60);
const LINK: LinkId = LinkId::ONLY;

#[derive(Clone, Debug)]
enum Step {
    /// Somebody else writes the key, and is acknowledged.
    ForeignWrite,
    /// What was reported arrives.
    Deliver,
    /// The server answers a request that was sent now.
    Proof,
    LinkUp,
    LinkDown,
    Flush,
    Read,
    Fill(Index),
    FailRead(Index),
    BeginWrite,
    Execute(Index),
    EndWrite(Index, bool),
    Load,
    /// The loader reads its row.
    ReadRow(Index),
    EndLoad(Index, bool),
    Invalidate,
    Get,
    Stale(u64),
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let open = any::<Index>;
    prop_oneof![
        4 => Just(Step::ForeignWrite),
        3 => Just(Step::Deliver),
        4 => Just(Step::Proof),
        4 => Just(Step::LinkUp),
        4 => Just(Step::LinkDown),
        1 => Just(Step::Flush),
        8 => Just(Step::Read),
        9 => open().prop_map(Step::Fill),
        1 => open().prop_map(Step::FailRead),
        2 => Just(Step::BeginWrite),
        3 => open().prop_map(Step::Execute),
        3 => (open(), any::<bool>()).prop_map(|(write, succeeds)| Step::EndWrite(write, succeeds)),
        8 => Just(Step::Load),
        8 => open().prop_map(Step::ReadRow),
        8 => (open(), any::<bool>()).prop_map(|(load, keeps)| Step::EndLoad(load, keeps)),
        1 => Just(Step::Invalidate),
        6 => Just(Step::Get),
        16 => (0..20_000u64).prop_map(Step::Stale),
        6 => (0..1500u64).prop_map(Step::Advance),
    ]
}

/// The tier, one key at a server, and everything that was returned of it.
struct World {
    clock: ManualClock,
    tier: Tier<u32>,
    /// When each version was acknowledged; the last one is current.
    versions: Vec<Timestamp>,
    /// Reports on their way.
    reports: VecDeque<()>,
    is_up: bool,
    /// With what the server answered. Each command is executed as it is sent.
    reads: Vec<(FillTicket<u32, ()>, u32)>,
    /// With the version that the write made, once it was executed.
    writes: Vec<(WriteTicket<u32, ()>, Option<u32>)>,
    loads: Vec<(LoadTicket<u32, ()>, Option<u32>)>,
    /// The newest version that was returned, or acknowledged as written.
    seen: u32,
    stale: usize,
}

fn digest(version: u32) -> Digest {
    Digest::of(&version.to_le_bytes())
}

fn take<T>(open: &mut Vec<T>, at: &Index) -> Option<T> {
    if open.is_empty() { None } else { Some(open.swap_remove(at.index(open.len()))) }
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::new();
        let mut options = LocalOptions::new(2, 1_000_000, BOUND).keep_lost(true);
        options.shards = Some(1);
        let tier = Tier::new(namespace(), options, Arc::new(clock.clone()));
        tier.set_soft_life(SOFT);
        let versions = vec![clock.now()];
        Self {
            clock,
            tier,
            versions,
            reports: VecDeque::new(),
            is_up: false,
            reads: vec![],
            writes: vec![],
            loads: vec![],
            seen: 0,
            stale: 0,
        }
    }

    fn current(&self) -> u32 {
        u32::try_from(self.versions.len() - 1).unwrap()
    }

    fn write(&mut self) -> u32 {
        self.versions.push(self.clock.now());
        self.current()
    }

    fn deliver(&mut self) {
        for () in self.reports.drain(..) {
            self.tier.changed(&namespace().qualify(KEY));
        }
    }

    fn returned(&mut self, version: u32) {
        self.seen = self.seen.max(version);
    }

    /// Holds that a copy was current no longer ago than that.
    fn assert_current_since(&self, version: u32, at_most: Duration, what: &str) {
        let now = self.clock.now();
        if let Some(overwritten) = self.versions.get(version as usize + 1) {
            assert!(now.since(*overwritten) <= at_most, "{what}: overwritten {:?} ago", now.since(*overwritten));
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::ForeignWrite => {
                self.write();
                if self.is_up {
                    self.reports.push_back(());
                }
            }
            Step::Deliver => self.deliver(),
            Step::Proof if self.is_up => {
                let mark = self.tier.mark(LINK);
                self.deliver();
                self.tier.proof_of_life(mark);
            }
            Step::LinkUp if !self.is_up => {
                self.is_up = true;
                self.tier.link_up(LINK, Lease::Renewed);
            }
            Step::LinkDown if self.is_up => {
                self.is_up = false;
                self.reports.clear();
                self.tier.link_down(LINK);
            }
            Step::Flush if self.is_up => {
                self.write();
                self.tier.flushed(LINK);
            }
            Step::Read => match self.tier.read(KEY) {
                Read::Hit(version) => self.hit(version),
                Read::Join(_) => {}
                Read::Lead(ticket, _) | Read::Bypass(ticket, _) => self.reads.push((ticket, self.current())),
            },
            Step::Fill(at) => {
                if let Some((ticket, version)) = take(&mut self.reads, &at) {
                    let _kept = ticket.fill(version, digest(version), 4, Some(LIFE));
                    self.returned(version);
                }
            }
            Step::FailRead(at) => drop(take(&mut self.reads, &at)),
            Step::BeginWrite => self.writes.push((self.tier.begin_write(KEY, Digest::UNKNOWN), None)),
            Step::Execute(at) => {
                if !self.writes.is_empty() {
                    let index = at.index(self.writes.len());
                    if self.writes[index].1.is_none() {
                        self.writes[index].1 = Some(self.write());
                    }
                }
            }
            Step::EndWrite(at, succeeds) => match take(&mut self.writes, &at) {
                Some((ticket, Some(version))) if succeeds => {
                    let _kept = ticket.wrote(digest(version)).install(version, 4, Some(LIFE));
                    self.returned(version);
                }
                _failed => {}
            },
            Step::Load if !self.is_up => {
                if let Load::Lead(ticket) = self.tier.load(KEY) {
                    let _live = ticket.saw(Digest::ABSENT);
                    self.loads.push((ticket, None));
                }
            }
            Step::ReadRow(at) => {
                if !self.loads.is_empty() {
                    let index = at.index(self.loads.len());
                    self.loads[index].1 = Some(self.current());
                }
            }
            Step::EndLoad(at, keeps) => match take(&mut self.loads, &at) {
                Some((ticket, Some(version))) => {
                    if keeps {
                        let _kept = ticket.keep_in_outage(version, digest(version), 4, BOUND);
                    } else {
                        ticket.supersede();
                    }
                    ticket.finish(Ok(version));
                    self.returned(version);
                }
                _failed => {}
            },
            Step::Invalidate => _ = self.tier.invalidate(KEY),
            Step::Get => {
                if let Some(version) = self.tier.get(KEY) {
                    self.hit(version);
                }
            }
            Step::Stale(longest) => {
                let longest = Duration::from_millis(longest);
                if let Some(copy) = self.tier.stale(KEY, longest, |_| true) {
                    self.stale += 1;
                    assert!(copy.at_most <= longest);
                    assert!(copy.value >= self.seen, "stale {} after {}", copy.value, self.seen);
                    self.assert_current_since(copy.value, copy.at_most, "a stale copy");
                    self.returned(copy.value);
                }
            }
            Step::Advance(millis) => self.clock.advance(Duration::from_millis(millis)),
            Step::Proof | Step::LinkUp | Step::LinkDown | Step::Flush | Step::Load => {}
        }
    }

    fn hit(&mut self, version: u32) {
        assert!(version >= self.seen, "a hit on {version} after {}", self.seen);
        self.assert_current_since(version, BOUND, "a hit");
        self.returned(version);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_stale_copy_was_current_when_it_says_and_none_follows_a_newer_value(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A tier with a copy of the key, fetched at the moment of the last proof of life.
fn filled() -> (Tier<u32>, ManualClock) {
    let World { tier, clock, .. } = World::new();
    tier.link_up(LINK, Lease::Renewed);
    tier.proof_of_life(tier.mark(LINK));
    fill(&tier, 1);
    (tier, clock)
}

fn fill(tier: &Tier<u32>, version: u32) {
    let Read::Lead(ticket, _) = tier.read(KEY) else { panic!("nobody else reads") };
    assert!(ticket.fill(version, digest(version), 4, Some(LIFE)));
}

fn stale(tier: &Tier<u32>, longest: Duration) -> Option<(u32, Duration)> {
    tier.stale(KEY, longest, |_| true).map(|copy| (copy.value, copy.at_most))
}

#[test]
fn a_copy_of_a_lost_link_is_as_old_as_the_last_proof_of_life_and_no_hit() {
    let (tier, clock) = filled();
    clock.advance(millis(500));
    tier.proof_of_life(tier.mark(LINK));
    clock.advance(millis(700));
    assert_eq!(stale(&tier, BOUND), Some((1, millis(700))), "one that would be a hit has its age too");
    tier.link_down(LINK);
    assert_eq!((tier.get(KEY), tier.stats().miss_causes.outdated), (None, 1));
    assert_eq!(stale(&tier, millis(700)), Some((1, millis(700))));
    assert_eq!(stale(&tier, millis(699)), None);
    assert!(tier.stale(KEY, BOUND, |_| false).is_none(), "nobody wants it");
    assert_eq!((tier.stats().stale, tier.stats().hits), (2, 0));
    assert!(!tier.is_lost(KEY), "there is no link over which to read it again");
    tier.link_up(LINK, Lease::Renewed);
    assert_eq!(tier.get(KEY), None, "the new link has not said a word about it");
    assert!(tier.is_lost(KEY));
    fill(&tier, 1);
    assert!(!tier.is_lost(KEY));
    clock.advance(LIFE);
    assert_eq!(stale(&tier, 2 * LIFE), None, "it is past its deadline");
}

type Happens = fn(&Tier<u32>);

#[test]
fn what_may_have_changed_is_not_stale_but_gone() {
    let gone: [(&str, Happens); 7] = [
        ("a report", |tier| tier.changed(&namespace().qualify(KEY))),
        ("a flush", |tier| tier.flushed(LINK)),
        ("an own clear", |tier| tier.flush()),
        ("the end of the cache", |tier| tier.unlink()),
        ("an own write", |tier| drop(tier.begin_write(KEY, Digest::ABSENT))),
        ("an invalidation", |tier| _ = tier.invalidate(KEY)),
        ("another answer while the link is down", |tier| {
            let Read::Bypass(ticket, _) = tier.read(KEY) else { panic!("the link is down") };
            let _kept = ticket.fill(2, digest(2), 4, Some(LIFE));
        }),
    ];
    for (what, happens) in gone {
        let (tier, _clock) = filled();
        tier.link_down(LINK);
        assert!(stale(&tier, BOUND).is_some());
        if what == "a flush" {
            tier.link_up(LINK, Lease::Renewed);
            assert!(tier.is_lost(KEY));
        }
        happens(&tier);
        assert_eq!(stale(&tier, BOUND), None, "{what}");
        assert!(!tier.is_lost(KEY), "{what}");
    }
}

#[test]
fn past_its_soft_life_a_copy_is_no_hit_but_may_be_stale() {
    let (tier, clock) = filled();
    clock.advance(SOFT.mul_f64(0.9) - millis(1));
    tier.proof_of_life(tier.mark(LINK));
    assert_eq!(tier.get(KEY), Some(1), "a tenth is drawn at most");
    clock.advance(SOFT.mul_f64(0.1) + millis(1));
    assert_eq!((tier.get(KEY), tier.stats().miss_causes.expired), (None, 1));
    assert_eq!(stale(&tier, BOUND), Some((1, SOFT.mul_f64(0.1) + millis(1))));
}

#[test]
fn where_lost_copies_are_not_kept_the_first_look_removes_them() {
    let clock = ManualClock::new();
    let tier = Tier::<u32>::new(namespace(), LocalOptions::new(2, 1_000_000, BOUND), Arc::new(clock));
    tier.link_up(LINK, Lease::Renewed);
    fill(&tier, 1);
    tier.link_down(LINK);
    assert_eq!(stale(&tier, LIFE), None);
    assert_eq!((tier.get(KEY), tier.stats().size), (None, 0));
}
