//! Many threads at once, under every eviction policy: counts are exact, nobody waits for ever, nothing stale is kept.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic is how a test fails, and figures go to stderr")]

mod common;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use twotier_core::{ChangeListener, Lease, LinkId, ManualClock};
use twotier_local::{Digest, Joined, Load, LocalOptions, Read};

use crate::common::{LIFE, POLICIES, Tier, lead, namespace, push, sharded_by};

const THREADS: u64 = 8;
const ROUNDS: u64 = 2000;

/// Runs `task` on every thread at once, with the thread's number.
fn together(task: impl Fn(u64) + Sync) {
    let start = Barrier::new(usize::try_from(THREADS).unwrap());
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (task, start) = (&task, &start);
            scope.spawn(move || {
                start.wait();
                task(number);
            });
        }
    });
}

#[test]
fn known_hits_and_misses_from_many_threads_give_exactly_those_numbers() {
    for eviction in POLICIES {
        let tier = sharded_by(eviction, 1000, 8);
        for key in 0..50u64 {
            assert!(lead(tier.read(&key.to_string())).fill(key, Digest::ABSENT, 1, LIFE));
        }
        together(|thread| {
            for round in 0..ROUNDS {
                let present = (thread + round) % 50;
                assert_eq!(tier.get(&present.to_string()), Some(present));
                assert_eq!(tier.get(&format!("absent-{round}")), None);
                assert_eq!(tier.get_with_age(&present.to_string()), Some((present, Duration::ZERO)));
                if round % 100 == 0 {
                    let stats = tier.stats();
                    assert!(stats.hits >= stats.misses && stats.total_requests() <= 3 * ROUNDS * THREADS);
                }
            }
        });
        let stats = tier.stats();
        assert_eq!((stats.hits, stats.misses), (2 * ROUNDS * THREADS, ROUNDS * THREADS));
        assert_eq!((stats.insertions, stats.size, stats.evictions()), (50, 50, 0));
    }
}

/// Every way a read can end, and every way it can be overtaken, while others wait for it. The test ends, or it hangs.
#[test]
fn nobody_waits_for_ever_whatever_becomes_of_the_leader() {
    for eviction in POLICIES {
        let tier = sharded_by(eviction, 4, 4);
        let (led, joined) = (AtomicU64::new(0), AtomicU64::new(0));
        together(|thread| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for round in 0..ROUNDS {
                let key = (round % 6).to_string();
                match tier.read(&key) {
                    Read::Hit(_) | Read::Bypass(..) => {}
                    Read::Join(joiner) => {
                        joined.fetch_add(1, Ordering::Relaxed);
                        runtime.block_on(joiner.wait());
                    }
                    Read::Lead(ticket, joiner) => {
                        led.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                        match (thread + round) % 7 {
                            5 => {
                                ticket.arrived(move |ticket| {
                                    _ = ticket.fill(round, Digest::of(&round.to_le_bytes()), 1, LIFE);
                                });
                                runtime.block_on(joiner.wait());
                            }
                            // The leader goes away, and leaves the answer to those who joined, if any did.
                            6 => ticket.arrived(move |ticket| {
                                _ = ticket.fill(round, Digest::of(&round.to_le_bytes()), 1, LIFE);
                            }),
                            0 | 1 => _ = ticket.fill(round, Digest::of(&round.to_le_bytes()), 1, LIFE),
                            2 => drop(ticket),
                            3 => ticket.fail(()),
                            _ => {
                                let panicked = catch_unwind(AssertUnwindSafe(move || {
                                    let _ticket = ticket;
                                    // A panic without the hook, which would print thousands of them.
                                    resume_unwind(Box::new("the leader dies"));
                                }));
                                assert!(panicked.is_err());
                            }
                        }
                    }
                }
                match (thread * ROUNDS + round) % 17 {
                    0 => push(&tier, &key),
                    1 => tier.flushed(LinkId::ONLY),
                    2 => _ = tier.clear(),
                    3 => _ = tier.invalidate(&key),
                    4 => drop(tier.begin_write(&key, Digest::ABSENT)),
                    5 => _ = tier.begin_write(&key, Digest::ABSENT).install(round, 1, LIFE),
                    6 => tier.link_down(LinkId::ONLY),
                    7 | 8 => tier.link_up(LinkId::ONLY, Lease::Unlimited),
                    _ => {}
                }
            }
        });
        assert!(led.into_inner() > 0 && joined.into_inner() > 0, "the race did not take place");
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        tier.clear();
        for key in 0..6 {
            assert!(matches!(tier.read(&key.to_string()), Read::Lead(..)), "a flight was left behind");
        }
    }
}

/// The same for loads, some of whose joiners lose patience.
#[test]
fn nobody_waits_for_ever_whatever_becomes_of_a_load() {
    for keeps_nothing in [false, true] {
        let mut options = LocalOptions::new(4, 1_000_000, Duration::from_secs(2));
        options.keeps_nothing = keeps_nothing;
        let tier = Tier::<u64>::new(namespace(), options, Arc::new(ManualClock::new()));
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        let (led, joined) = (AtomicU64::new(0), AtomicU64::new(0));
        together(|thread| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for round in 0..ROUNDS {
                let key = (round % 3).to_string();
                let mut load = tier.load(&key);
                if let Load::Join(joiner) = load {
                    joined.fetch_add(1, Ordering::Relaxed);
                    if !round.is_multiple_of(5) {
                        runtime.block_on(joiner.wait());
                        continue;
                    }
                    load = tier.load_again(&key, &joiner);
                }
                if let Load::Lead(load) = load {
                    led.fetch_add(1, Ordering::Relaxed);
                    thread::yield_now();
                    let write = load.begin_store(Digest::of(&round.to_le_bytes()));
                    match (thread + round) % 5 {
                        0 => drop(write),
                        1 => drop(load),
                        2 => load.finish(Err(())),
                        _ => {
                            write.map(|write| write.install(round, 1, LIFE));
                            load.finish(Ok(round));
                        }
                    }
                }
                match (thread * ROUNDS + round) % 17 {
                    0 => push(&tier, &key),
                    1 => tier.flushed(LinkId::ONLY),
                    2 => _ = tier.clear(),
                    3 => drop(tier.begin_clear()),
                    4 => drop(tier.begin_write(&key, Digest::ABSENT)),
                    5 => tier.link_down(LinkId::ONLY),
                    6 | 7 => tier.link_up(LinkId::ONLY, Lease::Unlimited),
                    _ => {}
                }
            }
        });
        assert!(led.into_inner() > 0 && joined.into_inner() > 0, "the race did not take place");
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        for key in 0..3 {
            let Load::Lead(load) = tier.load(&key.to_string()) else { panic!("a load was left behind") };
            assert!(load.begin_store(Digest::ABSENT).is_some(), "a write was left behind");
        }
    }
}

/// A backend in memory whose every write is pushed before it returns: whoever reads afterwards may not see less.
#[test]
fn no_copy_is_older_than_a_write_that_has_returned() {
    for eviction in POLICIES {
        let tier = sharded_by(eviction, 64, 8);
        let origin: Vec<AtomicU64> = (0..8).map(|_| AtomicU64::new(0)).collect();
        let reported: Vec<AtomicU64> = (0..8).map(|_| AtomicU64::new(0)).collect();
        let hits = AtomicU64::new(0);
        together(|thread| {
            for round in 0..ROUNDS * 5 {
                let place = usize::try_from((round ^ thread) % 8).unwrap();
                let key = place.to_string();
                if thread == 0 && round % 4 == 0 {
                    // Not a write of this tier: a push reports it. Only this thread writes.
                    let version = origin[place].fetch_add(1, Ordering::SeqCst) + 1;
                    push(&tier, &key);
                    reported[place].store(version, Ordering::SeqCst);
                    continue;
                }
                let floor = reported[place].load(Ordering::SeqCst);
                let seen = tier.get(&key).inspect(|_| _ = hits.fetch_add(1, Ordering::Relaxed));
                let seen = seen.or_else(|| match tier.read(&key) {
                    Read::Hit(version) => Some(version),
                    Read::Lead(ticket, _) => {
                        let version = origin[place].load(Ordering::SeqCst);
                        thread::yield_now();
                        let _ = ticket.fill(version, Digest::of(&version.to_le_bytes()), 1, LIFE);
                        Some(version)
                    }
                    Read::Join(_) | Read::Bypass(..) => None,
                });
                assert!(seen.is_none_or(|version| version >= floor), "saw {seen:?} after {floor} was acknowledged");
            }
        });
        assert!(hits.into_inner() > 0, "nothing was served locally");
    }
}

/// A value that was given to the joiners is the one the leader read.
#[test]
fn everybody_who_joined_gets_the_leaders_value() {
    for eviction in POLICIES {
        let tier = sharded_by(eviction, 64, 8);
        for round in 0..200u64 {
            let key = round.to_string();
            let ticket = lead(tier.read(&key));
            let joiners: Vec<_> = (0..THREADS).map(|_| common::join(tier.read(&key))).collect();
            thread::scope(|scope| {
                let waiting: Vec<_> = joiners
                    .into_iter()
                    .map(|joiner| {
                        scope.spawn(move || {
                            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(joiner.wait())
                        })
                    })
                    .collect();
                assert!(ticket.fill(round, Digest::ABSENT, 1, LIFE));
                for outcome in waiting {
                    assert_eq!(outcome.join().unwrap(), Joined::Value(round));
                }
            });
        }
    }
}

/// Room changes hands all the time, between shards and threads.
#[test]
fn no_thread_ever_makes_the_tier_hold_more_bytes_than_it_may() {
    for eviction in POLICIES {
        let mut options = LocalOptions::new(1000, 200_000, Duration::from_secs(2)).eviction(eviction);
        options.shards = Some(16);
        let tier = Tier::<u64>::new(namespace(), options, Arc::new(ManualClock::new()));
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        together(|thread| {
            for round in 0..ROUNDS {
                let key = (round * THREADS + thread) % 500;
                let bytes = if round % 20 == thread { 20_000 } else { 500 };
                let _ = tier.begin_write(&key.to_string(), Digest::ABSENT).install(round, bytes, LIFE);
            }
        });
        let stats = tier.stats();
        assert!(stats.bytes <= 200_000 && stats.evicted_for_bytes > 0, "{stats:?}");
        assert!(stats.bytes > 150_000, "bytes were lost: {stats:?}");
    }
}
