//! The tier equals a plain model of it: victims, order, bytes, tickets and every counter.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic is how a test fails, and figures go to stderr")]

mod common;

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use proptest::{prelude::*, sample::Index};
use twotier_core::{ChangeListener, Eviction, Lease, LinkId, ManualClock, Mark};
use twotier_local::{
    CoherenceCounters, Digest, FillTicket, Joined, Joiner, Load, LoadJoiner, LoadTicket, Loaded, LocalOptions, Read,
    WriteTicket, entry_overhead,
};
use twotier_testkit::model::{ModelJoined, ModelJoiner, ModelLoad, ModelLoadJoiner, ModelRead, ModelTier, ModelValue};

use crate::common::{POLICIES, Tier, namespace, routed};

const BOUND_MILLIS: u64 = 2000;

/// One step. Keys and open tickets are chosen by index, so that any sequence makes sense after shrinking.
#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Read(u8),
    /// Somebody who waited in vain looks again.
    ReadAgain(Index),
    Fill(Index, ReadResult),
    /// The raw answer is there; whoever waits makes the value.
    Arrive(Index, ReadResult),
    Fail(Index),
    DropFill(Index),
    BeginWrite(u8, u8),
    Install(Index, ReadResult),
    DropWrite(Index),
    Load(u8),
    /// Somebody who has waited for a load looks again.
    LoadAgain(Index),
    LoadSaw(Index, u8),
    BeginStore(Index, u8),
    FinishLoad(Index, Option<u32>),
    DropLoad(Index),
    /// A read that is answered at once: how most values come in.
    ReadThrough(u8, ReadResult),
    /// A write that is answered at once.
    WriteThrough(u8, ReadResult),
    Changed(u8),
    Invalidate(u8),
    Clear,
    Flush,
    /// Of two links the first or the second; of one, always that.
    Flushed(usize),
    LinkUp(usize, bool),
    LinkDown(usize),
    Mark(usize),
    /// A key goes from one link to the other.
    Move(u8),
    Proof(Index),
    Advance(u64),
}

#[derive(Clone, Debug)]
struct ReadResult {
    value: u32,
    digest: u8,
    bytes: usize,
    life: Option<u64>,
}

fn key() -> impl Strategy<Value = u8> {
    0..12u8
}

fn link() -> impl Strategy<Value = usize> {
    0..2usize
}

fn answer() -> impl Strategy<Value = ReadResult> {
    let bytes = prop_oneof![8 => 0..200usize, 1 => 200..3000usize];
    let life = prop_oneof![1 => Just(None), 8 => (0..5000u64).prop_map(Some)];
    (any::<u32>(), 0..3u8, bytes, life).prop_map(|(value, digest, bytes, life)| ReadResult {
        value,
        digest,
        bytes,
        life,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let open = any::<Index>;
    prop_oneof![
        12 => key().prop_map(Step::Get),
        6 => key().prop_map(Step::Read),
        6 => (open(), answer()).prop_map(|(ticket, answer)| Step::Fill(ticket, answer)),
        4 => (open(), answer()).prop_map(|(ticket, answer)| Step::Arrive(ticket, answer)),
        4 => open().prop_map(Step::ReadAgain),
        1 => open().prop_map(Step::Fail),
        1 => open().prop_map(Step::DropFill),
        4 => (key(), 0..3u8).prop_map(|(key, digest)| Step::BeginWrite(key, digest)),
        4 => (open(), answer()).prop_map(|(ticket, answer)| Step::Install(ticket, answer)),
        1 => open().prop_map(Step::DropWrite),
        6 => (0..4u8).prop_map(Step::Load),
        2 => open().prop_map(Step::LoadAgain),
        3 => (open(), 0..3u8).prop_map(|(load, digest)| Step::LoadSaw(load, digest)),
        5 => (open(), 0..3u8).prop_map(|(load, digest)| Step::BeginStore(load, digest)),
        4 => (open(), any::<Option<u32>>()).prop_map(|(load, value)| Step::FinishLoad(load, value)),
        1 => open().prop_map(Step::DropLoad),
        12 => (key(), answer()).prop_map(|(key, answer)| Step::ReadThrough(key, answer)),
        4 => (key(), answer()).prop_map(|(key, answer)| Step::WriteThrough(key, answer)),
        3 => key().prop_map(Step::Changed),
        2 => key().prop_map(Step::Invalidate),
        1 => Just(Step::Clear),
        1 => Just(Step::Flush),
        1 => link().prop_map(Step::Flushed),
        3 => (link(), any::<bool>()).prop_map(|(link, unlimited)| Step::LinkUp(link, unlimited)),
        1 => link().prop_map(Step::LinkDown),
        3 => link().prop_map(Step::Mark),
        1 => key().prop_map(Step::Move),
        4 => open().prop_map(Step::Proof),
        4 => (0..1500u64).prop_map(Step::Advance),
    ]
}

/// The policies whose outcome does not depend on how keys are hashed. The other one is held against its model by the
/// unit tests of `src/policy`, which know the hash.
fn settled() -> impl Strategy<Value = Eviction> {
    prop::sample::select(POLICIES.into_iter().filter(|policy| *policy != Eviction::WTinyLfu).collect::<Vec<_>>())
}

type Waiting = Pin<Box<dyn Future<Output = (Joined<u32, ()>, Joiner<u32, ()>)>>>;

type WaitingForLoad = (LoadJoiner<u32, ()>, ModelLoadJoiner, u8);

/// The real tier and the model side by side. `assert`s compare them after every step.
struct Pair {
    clock: ManualClock,
    tier: Tier<u32>,
    /// One, or two.
    links: Vec<LinkId>,
    /// The keys that lie behind the second.
    moved: Arc<Mutex<HashSet<String>>>,
    model: ModelTier,
    fills: Vec<(FillTicket<u32, ()>, u64)>,
    writes: Vec<(WriteTicket<u32, ()>, u64, u8)>,
    marks: Vec<(Mark, (usize, u64, u64))>,
    waiting: Vec<(Waiting, ModelJoiner, u8)>,
    /// Those who waited in vain, with the key.
    in_vain: Vec<(Joiner<u32, ()>, ModelJoiner, u8)>,
    loads: Vec<(LoadTicket<u32, ()>, u64)>,
    waiting_for_loads: Vec<WaitingForLoad>,
}

impl Pair {
    fn new(eviction: Eviction, max_entries: usize, max_bytes: usize, keeps_nothing: bool, two_links: bool) -> Self {
        let clock = ManualClock::new();
        let bound = Duration::from_millis(BOUND_MILLIS);
        let options = if keeps_nothing {
            LocalOptions::keep_nothing(bound)
        } else {
            LocalOptions::new(max_entries, max_bytes, bound)
        };
        let options = options.eviction(eviction);
        let moved = Arc::<Mutex<HashSet<String>>>::default();
        let (tier, links) = if two_links {
            let there = Arc::clone(&moved);
            let route = move |key: &str| LinkId::new(1 + u16::from(there.lock().unwrap().contains(key)));
            (routed(options, &clock, route), vec![LinkId::new(1), LinkId::new(2)])
        } else {
            (Tier::new(namespace(), options, Arc::new(clock.clone())), vec![LinkId::ONLY])
        };
        let overhead = entry_overhead(eviction);
        let mut model = ModelTier::evicting_by(eviction, max_entries, max_bytes, overhead, BOUND_MILLIS);
        if keeps_nothing {
            model.keep_nothing();
        }
        Self {
            clock,
            tier,
            links,
            moved,
            model,
            fills: vec![],
            writes: vec![],
            marks: vec![],
            waiting: vec![],
            in_vain: vec![],
            loads: vec![],
            waiting_for_loads: vec![],
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Get(key) => assert_eq!(self.tier.get(&name(key)), self.model.get(&name(key))),
            Step::Read(key) => self.read(key),
            Step::ReadAgain(open) => {
                if let Some((joiner, modelled, key)) = take(&mut self.in_vain, &open) {
                    let real = self.tier.read_again(&name(key), &joiner);
                    let modelled = self.model.read_again(&name(key), modelled);
                    self.go_on(key, real, modelled);
                }
            }
            Step::Fill(open, answer) => {
                if let Some((ticket, number)) = take(&mut self.fills, &open) {
                    self.fill(ticket, number, &answer);
                }
            }
            Step::Arrive(open, answer) => {
                if let Some((ticket, number)) = take(&mut self.fills, &open) {
                    self.arrive(ticket, number, &answer);
                }
            }
            Step::Load(key) => {
                let (real, modelled) = (self.tier.load(&name(key)), self.model.load(&name(key)));
                self.take_part(key, real, modelled);
            }
            Step::LoadAgain(open) => {
                if let Some((joiner, modelled, key)) = take(&mut self.waiting_for_loads, &open) {
                    let real = self.tier.load_again(&name(key), &joiner);
                    let modelled = self.model.load_again(&name(key), modelled);
                    self.take_part(key, real, modelled);
                }
            }
            Step::LoadSaw(open, token) => {
                if let Some((load, number)) = choose(&self.loads, &open) {
                    assert_eq!(load.saw(digest(token)), self.model.load_saw(*number, token));
                }
            }
            Step::BeginStore(open, token) => {
                if let Some((load, number)) = choose(&self.loads, &open) {
                    match (load.begin_store(digest(token)), self.model.begin_store(*number, token)) {
                        (Some(ticket), Some(number)) => self.writes.push((ticket, number, token)),
                        (None, None) => {}
                        (real, modelled) => panic!("{real:?}, but {modelled:?}"),
                    }
                }
            }
            Step::FinishLoad(open, value) => {
                if let Some((load, number)) = take(&mut self.loads, &open) {
                    load.finish(value.ok_or(()));
                    self.model.finish_load(number, value);
                }
            }
            Step::DropLoad(open) => {
                if let Some((load, number)) = take(&mut self.loads, &open) {
                    drop(load);
                    self.model.abandon_load(number);
                }
            }
            Step::Fail(open) => {
                if let Some((ticket, number)) = take(&mut self.fills, &open) {
                    ticket.fail(());
                    self.model.abandon(number, true);
                }
            }
            Step::DropFill(open) => {
                if let Some((ticket, number)) = take(&mut self.fills, &open) {
                    drop(ticket);
                    self.model.abandon(number, false);
                }
            }
            Step::BeginWrite(key, digest) => self.begin_write(key, digest),
            Step::Install(open, answer) => {
                if let Some((ticket, number, digest)) = take(&mut self.writes, &open) {
                    let kept = ticket.install(answer.value, answer.bytes, answer.life());
                    let modelled = self.modelled(&ReadResult { digest, ..answer });
                    assert_eq!(kept, self.model.end_write(number, Some(modelled)));
                }
            }
            Step::DropWrite(open) => {
                if let Some((ticket, number, _)) = take(&mut self.writes, &open) {
                    drop(ticket);
                    self.model.end_write(number, None);
                }
            }
            Step::ReadThrough(key, answer) => {
                assert_eq!(self.tier.get(&name(key)), self.model.get(&name(key)));
                let led = self.fills.len();
                self.read(key);
                if self.fills.len() > led {
                    let (ticket, number) = self.fills.pop().unwrap();
                    self.fill(ticket, number, &answer);
                }
            }
            Step::WriteThrough(key, answer) => {
                self.begin_write(key, answer.digest);
                let (ticket, number, digest) = self.writes.pop().unwrap();
                let kept = ticket.install(answer.value, answer.bytes, answer.life());
                let modelled = self.modelled(&ReadResult { digest, ..answer });
                assert_eq!(kept, self.model.end_write(number, Some(modelled)));
            }
            Step::Changed(key) => {
                self.tier.changed(&namespace().qualify(&name(key)));
                self.model.changed(&name(key));
            }
            Step::Invalidate(key) => assert_eq!(self.tier.invalidate(&name(key)), self.model.invalidate(&name(key))),
            Step::Clear => assert_eq!(self.tier.clear(), self.model.clear()),
            Step::Flush => {
                self.tier.flush();
                self.model.flush();
            }
            Step::Flushed(link) => {
                let (link, id) = self.link(link);
                self.tier.flushed(id);
                self.model.flushed(link);
            }
            Step::LinkUp(link, unlimited) => {
                let (link, id) = self.link(link);
                self.tier.link_up(id, if unlimited { Lease::Unlimited } else { Lease::Renewed });
                self.model.link_up(link, unlimited);
            }
            Step::LinkDown(link) => {
                let (link, id) = self.link(link);
                self.tier.link_down(id);
                self.model.link_down(link);
            }
            Step::Mark(link) => {
                let (link, id) = self.link(link);
                self.marks.push((self.tier.mark(id), self.model.mark(link)));
            }
            Step::Move(key) if self.links.len() > 1 => {
                let key = name(key);
                let mut moved = self.moved.lock().unwrap();
                if !moved.remove(&key) {
                    moved.insert(key.clone());
                }
                drop(moved);
                self.links.iter().for_each(|link| self.tier.flushed(*link));
                self.model.moved(&key);
            }
            Step::Move(_) => {}
            Step::Proof(open) => {
                if let Some((real, modelled)) = take(&mut self.marks, &open) {
                    self.tier.proof_of_life(real);
                    self.model.proof_of_life(modelled);
                }
            }
            Step::Advance(millis) => {
                self.clock.advance(Duration::from_millis(millis));
                self.model.advance(millis);
            }
        }
        self.compare();
    }

    fn link(&self, link: usize) -> (usize, LinkId) {
        let link = link % self.links.len();
        (link, self.links[link])
    }

    fn read(&mut self, key: u8) {
        let real = self.tier.read(&name(key));
        let modelled = self.model.read(&name(key));
        self.go_on(key, real, modelled);
    }

    fn go_on(&mut self, key: u8, real: Read<u32, ()>, modelled: ModelRead) {
        match (real, modelled) {
            (Read::Hit(value), ModelRead::Hit(modelled)) => assert_eq!(value, modelled),
            (Read::Join(joiner), ModelRead::Join(modelled)) => {
                self.waiting.push((Box::pin(async move { (joiner.wait().await, joiner) }), modelled, key));
            }
            (Read::Lead(ticket, _), ModelRead::Lead(number)) => self.fills.push((ticket, number)),
            (Read::Bypass(..), ModelRead::Bypass) => {}
            (real, modelled) => panic!("{real:?}, but {modelled:?}"),
        }
    }

    fn fill(&mut self, ticket: FillTicket<u32, ()>, number: u64, answer: &ReadResult) {
        let kept = ticket.fill(answer.value, digest(answer.digest), answer.bytes, answer.life());
        let modelled = self.modelled(answer);
        assert_eq!(kept, self.model.fill(number, modelled));
    }

    /// What an answer is to the model. Of several links none vouches for absences for longer than the bound.
    fn modelled(&self, answer: &ReadResult) -> ModelValue {
        let longest = if digest(answer.digest).is_absence() && self.links.len() > 1 { BOUND_MILLIS } else { u64::MAX };
        let life = answer.life.map(|life| life.min(longest));
        ModelValue { value: answer.value, digest: answer.digest, bytes: answer.bytes, life }
    }

    /// Hands a raw answer over: the first who waits for it makes the value when [`compare`](Self::compare) polls them.
    fn arrive(&mut self, ticket: FillTicket<u32, ()>, number: u64, answer: &ReadResult) {
        let waited_for = self.waiting.iter().any(|(_, modelled, _)| modelled.ticket == number);
        let modelled = self.modelled(answer);
        let kept = waited_for.then(|| self.model.fill(number, modelled));
        if !waited_for {
            self.model.abandon(number, false);
        }
        let answer = answer.clone();
        ticket.arrived(move |ticket| {
            let filled = ticket.fill(answer.value, digest(answer.digest), answer.bytes, answer.life());
            assert_eq!(Some(filled), kept, "made a value for nobody, or kept what the model does not");
        });
    }

    fn take_part(&mut self, key: u8, real: Load<u32, ()>, modelled: ModelLoad) {
        match (real, modelled) {
            (Load::Lead(load), ModelLoad::Lead(number)) => self.loads.push((load, number)),
            (Load::Join(joiner), ModelLoad::Join(modelled)) => {
                self.waiting_for_loads.push((joiner, modelled, key));
            }
            (real, modelled) => panic!("{real:?}, but {modelled:?}"),
        }
    }

    fn begin_write(&mut self, key: u8, token: u8) {
        let ticket = self.tier.begin_write(&name(key), digest(token));
        self.writes.push((ticket, self.model.begin_write(&name(key), token), token));
    }

    fn compare(&mut self) {
        self.poll();
        for (load, number) in &self.loads {
            assert_eq!(load.is_live(), self.model.is_load_live(*number));
        }
        assert_eq!(self.tier.keys(), self.model.keys());
        let mut stats = self.tier.stats();
        assert_eq!(stats.miss_causes.total(), stats.misses, "each miss has one cause");
        // The model knows no causes; `miss_causes.rs` does.
        stats.miss_causes = Default::default();
        assert_eq!(stats, self.model.stats());
        let modelled = self.model.counters();
        let real = self.tier.counters();
        let CoherenceCounters { invalidations, refused_fills, refused_writes, refused_loads, .. } = real;
        assert_eq!(
            [invalidations, refused_fills, refused_writes, refused_loads],
            [modelled.invalidations, modelled.refused_fills, modelled.refused_writes, modelled.refused_loads]
        );
        assert_eq!([real.flushes, real.links], [modelled.flushes, modelled.links]);
    }

    /// Polls everybody who waits, and holds that they are given what the model gives them, and when.
    fn poll(&mut self) {
        let Self { model, in_vain, .. } = self;
        self.waiting.retain_mut(|(wait, modelled, key)| {
            match (wait.as_mut().poll(&mut Context::from_waker(Waker::noop())), model.outcome(*modelled)) {
                (Poll::Pending, None) => return true,
                (Poll::Ready((Joined::Value(value), _)), Some(ModelJoined::Value(modelled))) if value == modelled => {}
                (Poll::Ready((Joined::Failed(()), _)), Some(ModelJoined::Failed)) => {}
                (Poll::Ready((Joined::ElectAgain, joiner)), Some(ModelJoined::ElectAgain)) => {
                    in_vain.push((joiner, *modelled, *key));
                }
                (real, modelled) => panic!("{real:?}, but {modelled:?}"),
            }
            false
        });
        self.waiting_for_loads.retain(|(joiner, modelled, _)| {
            let mut wait = pin!(joiner.wait());
            match (wait.as_mut().poll(&mut Context::from_waker(Waker::noop())), model.loaded(*modelled)) {
                (Poll::Pending, None) => return true,
                (Poll::Ready(Loaded::Value(value)), Some(ModelJoined::Value(modelled))) if value == modelled => {}
                (Poll::Ready(Loaded::Failed(())), Some(ModelJoined::Failed)) => {}
                (Poll::Ready(Loaded::ElectAgain), Some(ModelJoined::ElectAgain)) => {}
                (real, modelled) => panic!("{real:?}, but {modelled:?}"),
            }
            false
        });
    }

    /// Ends whatever is open, after which nobody may be left waiting.
    fn finish(mut self) {
        for (ticket, number) in std::mem::take(&mut self.fills) {
            drop(ticket);
            self.model.abandon(number, false);
        }
        for (ticket, number, _) in std::mem::take(&mut self.writes) {
            drop(ticket);
            self.model.end_write(number, None);
        }
        for (load, number) in std::mem::take(&mut self.loads) {
            drop(load);
            self.model.abandon_load(number);
        }
        self.compare();
        assert!(self.waiting_for_loads.is_empty(), "somebody still waits for a load that has ended");
        assert!(self.waiting.is_empty(), "somebody still waits for a read that has ended");
        adds_up(&self.tier);
    }
}

impl ReadResult {
    fn life(&self) -> Option<Duration> {
        self.life.map(Duration::from_millis)
    }
}

/// Every entry that came in is still there or was counted on its way out.
fn adds_up(tier: &Tier<u32>) {
    let stats = tier.stats();
    let gone =
        stats.evictions() + stats.expired + stats.outdated + stats.invalidated + stats.superseded + stats.cleared;
    assert_eq!(stats.insertions, stats.size as u64 + gone, "{stats:?}");
}

fn name(key: u8) -> String {
    "k".repeat(usize::from(key % 3)) + &key.to_string()
}

fn digest(token: u8) -> Digest {
    if token == 0 { Digest::ABSENT } else { Digest::of(&[token]) }
}

fn take<I>(open: &mut Vec<I>, index: &Index) -> Option<I> {
    if open.is_empty() { None } else { Some(open.remove(index.index(open.len()))) }
}

fn choose<'i, I>(open: &'i [I], index: &Index) -> Option<&'i I> {
    if open.is_empty() { None } else { Some(&open[index.index(open.len())]) }
}

proptest! {
    #[test]
    fn one_shard_equals_the_reference_model(
        eviction in settled(),
        max_entries in prop_oneof![3 => 1..9usize, 1 => 10..13usize],
        max_bytes in prop_oneof![3 => 100..2500usize, 1 => Just(1_000_000)],
        keeps_nothing in prop::bool::weighted(0.1),
        up in prop_oneof![8 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)],
        two_links in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut pair = Pair::new(eviction, max_entries, max_bytes, keeps_nothing, two_links);
        if let Some(unlimited) = up {
            pair.run(Step::LinkUp(0, unlimited));
            pair.run(Step::LinkUp(1, unlimited));
        }
        for step in steps {
            pair.run(step);
        }
        pair.finish();
    }

    #[test]
    fn shards_keep_the_bounds_and_the_last_value_put(
        eviction in prop::sample::select(&POLICIES[..]),
        max_entries in 1..40usize,
        max_bytes in 1..6000usize,
        shards in 1..20usize,
        steps in prop::collection::vec((0..60u8, any::<bool>(), 0..300usize), 1..400),
    ) {
        let mut options = LocalOptions::new(max_entries, max_bytes, Duration::from_millis(BOUND_MILLIS)).eviction(eviction);
        options.shards = Some(shards);
        let tier = Tier::new(namespace(), options, Arc::new(ManualClock::new()));
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        let mut last = HashMap::new();
        let mut reads = 0;
        for (number, (key, write, bytes)) in (0u32..).zip(steps) {
            let name = name(key);
            if write {
                let _ = tier.begin_write(&name, digest(1)).install(number, bytes, Some(Duration::from_secs(1)));
                last.insert(name, number);
            } else {
                reads += 1;
                if let Some(value) = tier.get(&name) {
                    prop_assert_eq!(Some(&value), last.get(&name));
                }
            }
            let stats = tier.stats();
            prop_assert!(stats.size <= max_entries && stats.bytes <= max_bytes, "{:?}", stats);
            prop_assert_eq!(stats.total_requests(), reads);
            prop_assert_eq!(stats.size, tier.keys().len());
        }
        adds_up(&tier);
        let size = tier.stats().size;
        prop_assert_eq!(tier.clear(), size);
        prop_assert_eq!((tier.stats().size, tier.stats().bytes, tier.stats().cleared), (0, 0, size as u64));
    }
}

#[test]
fn a_load_is_not_joined_once_its_key_lies_behind_another_link_also_where_one_of_them_is_down() {
    use Step::{LinkDown, LinkUp, Load, Move};
    for steps in [
        &[LinkUp(0, true), LinkUp(1, true), LinkDown(0), Load(0), Move(0), Load(0)][..],
        &[Load(0), Move(0), Load(0)],
        // In between something newer may have been served.
        &[Load(0), LinkUp(0, false), Move(0), Load(0)],
    ] {
        let mut pair = Pair::new(Eviction::Lru, 1, 100, false, true);
        steps.iter().for_each(|step| pair.run(step.clone()));
        pair.finish();
    }
}
