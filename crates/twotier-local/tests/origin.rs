//! Loads of rows that change, step by step in any order, and given up at any of their steps: what fails is shrunk to
//! the few steps that it takes. See `common/origin.rs`.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    cell::RefCell,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Waker},
};

use proptest::{prelude::*, sample::Index};
use twotier_core::Eviction;

use crate::rows::{KEYS, Mode, Origin};

#[path = "common/origin.rs"]
mod rows;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// What `common/origin.rs` is made of: the crate as it is, and tasks that are polled by hand.
mod kit {
    use std::{sync::Arc, time::Duration};

    use twotier_core::{ChangeListener, Eviction, Lease, LinkId, ManualClock, Namespace};
    pub(crate) use twotier_local::{Digest, Joined, Load, Loaded, Read};
    use twotier_local::{LocalOptions, LocalTier};

    pub(crate) type Tier = LocalTier<u64, &'static str>;
    pub(crate) type FillTicket = twotier_local::FillTicket<u64, &'static str>;
    pub(crate) type Joiner = twotier_local::Joiner<u64, &'static str>;
    pub(crate) type LoadJoiner = twotier_local::LoadJoiner<u64, &'static str>;
    pub(crate) type LoadTicket = twotier_local::LoadTicket<u64, &'static str>;

    pub(crate) const LIFE: Option<Duration> = Some(Duration::from_secs(3600));
    const BOUND: Duration = Duration::from_secs(2);

    pub(crate) fn digest(version: u64) -> Digest {
        if version == 0 { Digest::ABSENT } else { Digest::of(&version.to_le_bytes()) }
    }

    pub(crate) fn new_tier(eviction: Eviction, max_entries: usize) -> Tier {
        made(LocalOptions::new(max_entries, 1_000_000, BOUND).eviction(eviction))
    }

    pub(crate) fn new_tier_that_keeps_nothing() -> Tier {
        made(LocalOptions::keep_nothing(BOUND))
    }

    fn made(options: LocalOptions) -> Tier {
        let tier = Tier::new(Namespace::new("n").unwrap(), options, Arc::new(ManualClock::new()));
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        tier
    }

    /// Is ready when it is polled again.
    pub(crate) async fn pause() {
        let mut paused = false;
        std::future::poll_fn(move |_| {
            if std::mem::replace(&mut paused, true) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        super::SPAWNED.with_borrow_mut(|spawned| spawned.push(Box::pin(task)));
    }
}

thread_local! {
    /// Tasks that the backend began since somebody looked.
    static SPAWNED: RefCell<Vec<Task>> = const { RefCell::new(Vec::new()) };
}

/// One step. Tasks are chosen by index, so that any sequence makes sense after shrinking.
#[derive(Clone, Debug)]
enum Step {
    Get(usize),
    GetOrLoad(usize, bool, bool),
    OwnWrite(usize, bool, bool),
    ForeignWrite(usize),
    GoAway(usize),
    LoseTheLink,
    Clear,
    Forget(usize),
    /// A task goes on to its next pause.
    Poll(Index),
    /// A caller goes away.
    Drop(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS.len();
    let (often, seldom) = (any::<bool>, || prop::bool::weighted(0.2));
    prop_oneof![
        4 => key().prop_map(Step::Get),
        8 => (key(), seldom(), seldom()).prop_map(|(key, impatient, lost)| Step::GetOrLoad(key, impatient, lost)),
        2 => (key(), often(), seldom()).prop_map(|(key, deletes, lost)| Step::OwnWrite(key, deletes, lost)),
        2 => key().prop_map(Step::ForeignWrite),
        1 => key().prop_map(Step::GoAway),
        1 => Just(Step::LoseTheLink),
        1 => Just(Step::Clear),
        1 => key().prop_map(Step::Forget),
        40 => any::<Index>().prop_map(Step::Poll),
        2 => any::<Index>().prop_map(Step::Drop),
    ]
}

struct Tasks {
    /// Those whose callers may go away.
    callers: Vec<Task>,
    /// What goes on to its end.
    others: Vec<Task>,
}

impl Tasks {
    fn start(&mut self, task: impl Future<Output = ()> + 'static) {
        self.callers.push(Box::pin(task));
    }

    fn poll(&mut self, index: &Index) {
        let running = self.callers.len() + self.others.len();
        if running == 0 {
            return;
        }
        let chosen = index.index(running);
        let (tasks, place) = match chosen.checked_sub(self.callers.len()) {
            Some(place) => (&mut self.others, place),
            None => (&mut self.callers, chosen),
        };
        if ready(&mut tasks[place]) {
            drop(tasks.remove(place));
        }
        self.others.extend(SPAWNED.take());
    }

    /// Polls everybody in turn until all have ended.
    fn finish(&mut self) {
        for _ in 0..1000 {
            for mut task in mem::take(&mut self.callers).into_iter().chain(mem::take(&mut self.others)) {
                if !ready(&mut task) {
                    self.others.push(task);
                }
            }
            self.others.extend(SPAWNED.take());
            if self.others.is_empty() {
                return;
            }
        }
        panic!("{} of them wait for ever", self.others.len());
    }
}

fn ready(task: &mut Task) -> bool {
    task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

fn run(origin: &Origin, steps: Vec<Step>) {
    let mut tasks = Tasks { callers: vec![], others: vec![] };
    SPAWNED.take();
    for step in steps {
        let origin = origin.clone();
        match step {
            Step::Get(key) => tasks.start(async move { origin.get(key).await }),
            Step::GetOrLoad(key, impatient, lost) => {
                tasks.start(async move { origin.get_or_load(key, impatient, lost).await });
            }
            // Writes and what the backend does by itself go on whatever becomes of their callers.
            Step::OwnWrite(key, deletes, lost) => {
                tasks.others.push(Box::pin(async move { origin.own_write(key, deletes, lost).await }));
            }
            Step::ForeignWrite(key) => tasks.others.push(Box::pin(async move { origin.foreign_write(key).await })),
            Step::LoseTheLink => tasks.others.push(Box::pin(async move { origin.lose_the_link().await })),
            Step::Clear => tasks.others.push(Box::pin(async move { origin.clear().await })),
            Step::GoAway(key) => tasks.start(async move { origin.read_and_go_away(key).await }),
            Step::Forget(key) => origin.forget(key),
            Step::Poll(index) => tasks.poll(&index),
            Step::Drop(index) => {
                if !tasks.callers.is_empty() {
                    let chosen = index.index(tasks.callers.len());
                    drop(tasks.callers.remove(chosen));
                }
            }
        }
    }
    tasks.finish();
    let origin = origin.clone();
    tasks.start(async move { origin.judge().await });
    tasks.finish();
}

proptest! {
    #[test]
    fn no_loaded_row_replaces_anything_newer_and_nobody_waits_for_ever(
        mode in prop::sample::select(&[Mode::Reported, Mode::Unreported, Mode::WithoutLocal][..]),
        eviction in prop::sample::select(&[Eviction::Lru, Eviction::S3Fifo, Eviction::WTinyLfu][..]),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        run(&Origin::new(eviction, mode), steps);
    }
}
