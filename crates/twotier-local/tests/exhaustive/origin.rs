//! Loads: an old row is read late, and neither tier is left with it once something newer is known.
//!
//! The origin has one row. Whoever changes it writes the row first and the key afterwards, as applications do.

use std::sync::Arc;

use loom::future::block_on;
use twotier_core::{ChangeListener, Lease, LinkId};

use crate::{
    digest::Digest,
    load::{Load, LoadTicket, Loaded},
    setting::{LIFE, Tier, both, digest, explore_under_lru, go_on, linked, push},
    sync::{AtomicU64, Mutex, Ordering},
    ticket::WriteTicket,
    tier::Read,
};

/// The row, and what the backend holds of it.
#[derive(Clone, Debug)]
struct Origin(Arc<Places>);

#[derive(Debug)]
struct Places {
    row: Mutex<u64>,
    /// 0 is nothing.
    held: Mutex<u64>,
    /// Own writes reach the backend in the order in which they are registered.
    queue: Mutex<()>,
}

impl Default for Origin {
    fn default() -> Self {
        Self(Arc::new(Places { row: Mutex::new(1), held: Mutex::new(0), queue: Mutex::new(()) }))
    }
}

impl Origin {
    fn row(&self) -> u64 {
        *self.0.row.lock()
    }

    fn write_row(&self, version: u64) {
        *self.0.row.lock() = version;
    }

    fn held(&self) -> u64 {
        *self.0.held.lock()
    }

    fn write(&self, version: u64) {
        *self.0.held.lock() = version;
    }

    /// Writes unless the key is there, and returns whether it was written.
    fn add(&self, version: u64) -> bool {
        let mut held = self.0.held.lock();
        let absent = *held == 0;
        if absent {
            *held = version;
        }
        absent
    }
}

fn seen(version: u64) -> Digest {
    if version == 0 { Digest::ABSENT } else { digest(version) }
}

/// Leads a load that has found nothing in the backend.
fn load(tier: &Tier) -> LoadTicket<u64, &'static str> {
    let Load::Lead(load) = tier.load("k") else { panic!("somebody else loads") };
    assert!(load.saw(Digest::ABSENT));
    load
}

/// Stores what was loaded, as far as the load may, and ends it.
fn store_and_finish(load: LoadTicket<u64, &'static str>, origin: &Origin, version: u64) {
    let stored = {
        let _next = origin.0.queue.lock();
        load.begin_store(digest(version)).map(|write| (origin.add(version), write))
    };
    match stored {
        Some((true, write)) => _ = write.install(version, 1, LIFE),
        Some((false, write)) => drop(write),
        None => {}
    }
    load.finish(Ok(version));
}

/// Reads as the cache does, to the end: 0 if the key is not there.
fn get(tier: &Tier, origin: &Origin) -> u64 {
    go_on(tier, tier.read("k"), |ticket| {
        let version = origin.held();
        let _kept = ticket.fill(version, seen(version), 1, LIFE.filter(|_| version > 0));
        version
    })
}

/// Reads, and loads if the key is not there, as the cache does.
fn get_or_load(tier: &Tier, origin: &Origin) -> u64 {
    loop {
        match tier.load("k") {
            Load::Join(joiner) => match block_on(joiner.wait()) {
                Loaded::Value(version) => return version,
                Loaded::Failed(error) => panic!("{error}"),
                Loaded::ElectAgain => {}
            },
            Load::Lead(load) => {
                let version = get(tier, origin);
                if version > 0 {
                    load.finish(Ok(version));
                    return version;
                }
                let version = origin.row();
                store_and_finish(load, origin, version);
                return version;
            }
        }
    }
}

/// Has a load that read row 1 store it while `news` comes in, after which nobody is given row 1 nor finds it.
fn a_load_against(news: impl Fn(&Tier, &Origin) + Copy + Send + Sync + 'static) {
    explore_under_lru(None, move || {
        let (tier, origin) = (linked(), Origin::default());
        let load = load(&tier);
        let known = Arc::new(AtomicU64::new(0));
        let (storing, ended) = (origin.clone(), Arc::clone(&known));
        both(
            move || {
                let after = ended.load(Ordering::Acquire) == 1;
                let may = load.is_live();
                assert!(!(after && may), "live after the news");
                let held_before = storing.held();
                store_and_finish(load, &storing, 1);
                assert!(!after || storing.held() == held_before, "stored after the news");
            },
            || {
                news(&tier, &origin);
                known.store(1, Ordering::Release);
                match tier.load("k") {
                    Load::Join(joiner) => panic!("joined a load from before the news: {joiner:?}"),
                    Load::Lead(next) => drop(next),
                }
                assert_ne!(tier.get("k"), Some(1), "older than the news");
            },
        );
        assert_ne!(tier.get("k"), Some(1), "older than the news, and there for good");
    });
}

#[test]
fn a_load_that_crosses_a_reported_change_is_neither_joined_nor_stored_after_it() {
    a_load_against(|tier, origin| {
        origin.write_row(2);
        origin.write(2);
        push(tier);
    });
}

#[test]
fn a_load_that_crosses_a_flush_is_neither_joined_nor_stored_after_it() {
    a_load_against(|tier, _| tier.flushed(LinkId::ONLY));
}

#[test]
fn a_load_that_crosses_a_lost_link_is_neither_joined_nor_stored_after_it() {
    a_load_against(|tier, origin| {
        tier.link_down(LinkId::ONLY);
        origin.write_row(2);
        origin.write(2);
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
    });
}

#[test]
fn a_load_that_crosses_a_lost_link_is_not_stored_while_it_is_down() {
    a_load_against(|tier, _| tier.link_down(LinkId::ONLY));
}

#[test]
fn a_load_that_crosses_a_link_that_comes_up_is_neither_joined_nor_stored_after_it() {
    explore_under_lru(None, || {
        let (tier, origin) = (linked(), Origin::default());
        tier.link_down(LinkId::ONLY);
        let load = load(&tier);
        let linking = tier.clone();
        both(
            move || {
                linking.link_up(LinkId::ONLY, Lease::Unlimited);
                assert!(matches!(linking.load("k"), Load::Lead(_)), "joined a load from before the link");
            },
            || {
                assert!(load.begin_store(digest(1)).is_none(), "what it saw it saw without a link");
                load.finish(Ok(1));
            },
        );
        assert_eq!(origin.held(), 0);
    });
}

#[test]
fn a_load_that_crosses_an_own_write_is_neither_joined_nor_stored_after_it() {
    a_load_against(|tier, origin| {
        origin.write_row(2);
        let write = own_write(tier, origin, 2);
        let _kept = write.install(2, 1, LIFE);
        assert_eq!(origin.held(), 2, "an own write was overwritten by a load");
    });
}

#[test]
fn a_load_that_crosses_an_own_delete_is_neither_joined_nor_stored_after_it() {
    a_load_against(|tier, origin| {
        origin.write_row(2);
        let write = own_write(tier, origin, 0);
        assert_eq!(origin.held(), 0, "an own delete was undone by a load");
        let _absent = write.install(0, 1, None);
    });
}

#[test]
fn a_load_that_crosses_a_failing_own_write_is_neither_joined_nor_stored_after_it() {
    a_load_against(|tier, _| drop(tier.begin_write("k", digest(2))));
}

#[test]
fn a_load_that_crosses_a_forgotten_key_is_neither_joined_nor_stored_after_it() {
    a_load_against(|tier, _| _ = tier.invalidate("k"));
}

#[test]
fn a_load_that_crosses_a_clear_of_the_tier_is_neither_joined_nor_stored_after_it() {
    a_load_against(|tier, _| _ = tier.clear());
}

#[test]
fn a_load_that_crosses_a_clear_of_the_backend_is_neither_joined_nor_stored_after_it() {
    a_load_against(|tier, origin| {
        let (clearing, _cleared) = tier.begin_clear();
        {
            let _next = origin.0.queue.lock();
            origin.write(0);
        }
        drop(clearing);
        assert_eq!(origin.held(), 0, "brought back after it was cleared");
    });
}

/// Somebody else writes a key just before our own clearing removes it, of which the server reports nothing: neither the
/// write, after which came ours, nor ours.
#[test]
fn no_row_from_before_a_clear_is_stored_after_it() {
    explore_under_lru(Some(4), || {
        let (tier, origin) = (linked(), Origin::default());
        let (clearing, places) = (tier.clone(), origin.clone());
        both(
            move || {
                let (guard, _cleared) = clearing.begin_clear();
                places.write_row(2);
                places.write(2);
                {
                    let _next = places.0.queue.lock();
                    places.write(0);
                }
                drop(guard);
            },
            || get_or_load(&tier, &origin),
        );
        assert_ne!(origin.held(), 1, "older than what was cleared");
        assert_ne!(tier.get("k"), Some(1), "older than what was cleared");
    });
}

/// Where changes are not reported, an answer that somebody was given is the only news there is.
#[test]
fn a_load_that_crosses_a_newer_answer_is_neither_joined_nor_stored_after_it() {
    a_load_against(|tier, origin| {
        origin.write_row(2);
        origin.write(2);
        // Read before the store could put row 1 into the tier, or after it and in vain.
        let Read::Lead(ticket, _) = tier.read("k") else { return push(tier) };
        let _kept = ticket.fill(2, digest(2), 1, LIFE);
    });
}

#[test]
fn a_load_is_bound_to_what_its_leader_saw_by_a_read_of_its_own() {
    explore_under_lru(None, || {
        let tier = linked();
        let load = load(&tier);
        assert!(load.saw(Digest::ABSENT) && load.is_live());
        assert!(!load.saw(digest(2)) && !load.is_live(), "something else is there by now");
        assert!(load.begin_store(digest(1)).is_none());
    });
}

fn own_write(tier: &Tier, origin: &Origin, version: u64) -> WriteTicket<u64, &'static str> {
    let _next = origin.0.queue.lock();
    let write = tier.begin_write("k", seen(version));
    origin.write(version);
    write
}

/// A load that began while an own write was under way: it may be stored neither during the write nor after it.
#[test]
fn a_load_that_begins_during_an_own_write_is_neither_joined_nor_stored_after_it() {
    for succeeds in [true, false] {
        explore_under_lru(None, move || {
            let (tier, origin) = (linked(), Origin::default());
            let write = tier.begin_write("k", digest(2));
            let load = load(&tier);
            let writing = tier.clone();
            both(
                move || {
                    if succeeds {
                        let _kept = write.install(2, 1, LIFE);
                    } else {
                        drop(write);
                    }
                    assert!(matches!(writing.load("k"), Load::Lead(_)), "joined a load from before the end");
                },
                || {
                    let stored = load.begin_store(digest(1));
                    assert!(stored.is_none(), "the write may be executed before, and is newer");
                    assert!(!load.is_live());
                    store_and_finish(load, &origin, 1);
                },
            );
            assert_eq!(origin.held(), 0);
            assert_ne!(tier.get("k"), Some(1));
        });
    }
}

#[test]
fn an_own_write_that_begins_kills_the_load_that_began_before_it() {
    explore_under_lru(None, || {
        let tier = linked();
        let load = load(&tier);
        let writing = tier.clone();
        both(
            move || {
                let write = writing.begin_write("k", digest(2));
                assert!(matches!(writing.load("k"), Load::Lead(_)), "joined a load from before the write");
                drop(write);
            },
            || drop(load.begin_store(digest(1))),
        );
        assert!(!load.is_live());
    });
}

#[test]
fn an_own_write_that_ends_kills_the_load_that_began_during_it() {
    for succeeds in [true, false] {
        explore_under_lru(None, move || {
            let tier = linked();
            let write = tier.begin_write("k", digest(2));
            let load = load(&tier);
            if succeeds {
                assert!(!write.install(2, 1, None));
            } else {
                drop(write);
            }
            assert!(!load.is_live(), "its row may be from before the write");
        });
    }
}

#[test]
fn a_store_and_an_own_write_at_the_same_time_leave_what_was_written() {
    explore_under_lru(None, || {
        let (tier, origin) = (linked(), Origin::default());
        let load = load(&tier);
        let (loading, storing) = (tier.clone(), origin.clone());
        both(
            move || {
                store_and_finish(load, &storing, 1);
                drop(loading);
            },
            || {
                origin.write_row(2);
                let _kept = own_write(&tier, &origin, 2).install(2, 1, LIFE);
            },
        );
        assert_eq!(origin.held(), 2, "an own write was overwritten by a load");
        assert!(tier.get("k").is_none_or(|version| version == 2));
    });
}

#[test]
fn a_newer_row_in_the_backend_is_not_overwritten_though_nobody_reported_it() {
    explore_under_lru(None, || {
        let (tier, origin) = (linked(), Origin::default());
        let (loading, source) = (tier.clone(), origin.clone());
        both(
            move || get_or_load(&loading, &source),
            || {
                origin.write_row(2);
                origin.write(2);
            },
        );
        assert_eq!(origin.held(), 2, "a loaded value replaced something newer");
    });
}

#[test]
fn whoever_loads_after_a_change_was_reported_is_given_nothing_older() {
    explore_under_lru(Some(5), || {
        let (tier, origin) = (linked(), Origin::default());
        let (loading, source) = (tier.clone(), origin.clone());
        both(
            move || get_or_load(&loading, &source),
            || {
                origin.write_row(2);
                origin.write(2);
                push(&tier);
                assert_eq!(get_or_load(&tier, &origin), 2, "reported, and older");
            },
        );
        assert_eq!(origin.held(), 2, "a loaded value replaced something newer");
        assert!(tier.get("k").is_none_or(|version| version == 2), "stale for ever");
    });
}

#[test]
fn whoever_loads_after_an_own_write_is_given_nothing_older() {
    for deletes in [false, true] {
        explore_under_lru(Some(5), move || {
            let (tier, origin) = (linked(), Origin::default());
            let (loading, source) = (tier.clone(), origin.clone());
            both(
                move || get_or_load(&loading, &source),
                || {
                    origin.write_row(2);
                    let write = own_write(&tier, &origin, if deletes { 0 } else { 2 });
                    let _kept = write.install(2, 1, LIFE.filter(|_| !deletes));
                    assert_eq!(get_or_load(&tier, &origin), 2, "our own write, and older");
                },
            );
            assert!(origin.held() == 2 || deletes && origin.held() == 0, "an own write was undone by a load");
            assert!(tier.get("k").is_none_or(|version| version == 2), "stale for ever");
        });
    }
}

/// Monotonic reads where changes are not reported: a load under way is not joined by whoever has seen something newer.
#[test]
fn whoever_loads_after_something_newer_was_read_is_given_nothing_older() {
    explore_under_lru(Some(5), || {
        let (tier, origin) = (linked(), Origin::default());
        let (loading, source) = (tier.clone(), origin.clone());
        both(
            move || get_or_load(&loading, &source),
            || {
                origin.write_row(2);
                origin.write(2);
                if get(&tier, &origin) == 2 {
                    // Evicted, and the link is such that nothing else is known of the key.
                    assert_eq!(get_or_load(&tier, &origin), 2, "older than what was returned before");
                }
            },
        );
        assert_eq!(origin.held(), 2, "a loaded value replaced something newer");
    });
}

#[test]
fn of_two_who_load_at_once_both_are_given_the_value_and_it_is_kept() {
    explore_under_lru(Some(5), || {
        let (tier, origin) = (linked(), Origin::default());
        let (loading, source) = (tier.clone(), origin.clone());
        let loaded = both(move || get_or_load(&loading, &source), || get_or_load(&tier, &origin));
        assert_eq!(loaded, (1, 1));
        assert_eq!(origin.held(), 1);
        assert_eq!(tier.get("k"), Some(1), "the store of a load killed its own copy");
    });
}

#[test]
fn a_leader_that_goes_away_ends_the_wait_of_its_joiners() {
    explore_under_lru(None, || {
        let tier = linked();
        let load = load(&tier);
        let Load::Join(joiner) = tier.load("k") else { panic!("nobody loads") };
        let (outcome, ()) = both(move || block_on(async move { joiner.wait().await }), || drop(load));
        assert_eq!(outcome, Loaded::ElectAgain);
        assert!(matches!(tier.load("k"), Load::Lead(_)), "the load was left behind");
    });
}

#[test]
fn a_load_that_somebody_has_waited_for_long_enough_is_not_stored_after_the_next_began() {
    explore_under_lru(None, || {
        let (tier, origin) = (linked(), Origin::default());
        let old = load(&tier);
        let Load::Join(impatient) = tier.load("k") else { panic!("nobody loads") };
        let known = Arc::new(AtomicU64::new(0));
        let ended = Arc::clone(&known);
        both(
            move || {
                let after = ended.load(Ordering::Acquire) == 1;
                store_and_finish(old, &origin, 1);
                assert!(!after || origin.held() != 1, "stored though another one leads");
            },
            || {
                let Load::Lead(next) = tier.load_again("k", &impatient) else { panic!("joined it again") };
                known.store(1, Ordering::Release);
                drop(next);
            },
        );
    });
}

#[test]
fn the_end_of_an_overtaken_load_leaves_the_next_one_alive() {
    explore_under_lru(None, || {
        let (tier, origin) = (linked(), Origin::default());
        let overtaken = load(&tier);
        push(&tier);
        let next = load(&tier);
        both(
            move || overtaken.finish(Ok(1)),
            || {
                assert!(next.is_live(), "taken down by the end of another");
                assert!(matches!(tier.load("k"), Load::Join(_)));
                store_and_finish(next, &origin, 1);
            },
        );
        assert_eq!(origin.held(), 1);
    });
}

/// An overtaken load that read the row late returns it to those who waited: nobody is given anything older afterwards.
#[test]
fn nobody_is_given_less_than_an_overtaken_load_has_returned() {
    explore_under_lru(None, || {
        let (tier, origin) = (linked(), Origin::default());
        let overtaken = load(&tier);
        push(&tier);
        let next = load(&tier);
        let returned = Arc::new(AtomicU64::new(0));
        let (source, newest) = (origin.clone(), Arc::clone(&returned));
        both(
            move || {
                // Written by somebody else; the news of it is still on its way.
                source.write(2);
                overtaken.finish(Ok(2));
                newest.store(2, Ordering::Release);
            },
            || {
                let floor = returned.load(Ordering::Acquire);
                let Load::Join(joiner) = tier.load("k") else { panic!("nobody loads") };
                store_and_finish(next, &origin, 1);
                let outcome = block_on(joiner.wait());
                assert!(outcome == Loaded::ElectAgain || floor == 0, "received {outcome:?} after version {floor}");
                let floor = returned.load(Ordering::Acquire);
                assert!(tier.get("k").is_none_or(|version| version >= floor), "went back in time");
            },
        );
        assert_ne!(tier.get("k"), Some(1), "went back in time");
        assert_eq!(origin.held(), 2, "a loaded value replaced something newer");
    });
}

#[test]
fn a_load_is_not_killed_by_its_own_value_but_by_the_want_of_it() {
    explore_under_lru(None, || {
        let tier = linked();
        let load = load(&tier);
        let write = load.begin_store(digest(1)).unwrap();
        assert!(load.saw(Digest::ABSENT), "it is not stored yet");
        assert!(write.install(1, 1, LIFE));
        assert!(!load.saw(Digest::ABSENT), "it was stored, and somebody removed it");
    });
}

#[test]
fn a_reader_that_sees_what_a_load_stores_does_not_kill_it() {
    explore_under_lru(None, || {
        let tier = linked();
        let load = load(&tier);
        let write = load.begin_store(digest(1)).unwrap();
        let reading = tier.clone();
        both(
            move || {
                if let Read::Lead(ticket, _) = reading.read("k") {
                    ticket.fill(1, digest(1), 1, LIFE);
                }
            },
            || assert!(write.install(1, 1, LIFE)),
        );
        assert!(load.is_live());
    });
}

/// Two reads at once, of which the leader goes by the one that was executed first and answered last.
#[test]
fn whoever_joins_after_something_newer_was_read_is_not_given_what_the_leader_read() {
    explore_under_lru(None, || {
        let (tier, origin) = (linked(), Origin::default());
        let Read::Lead(late, _) = tier.read("k") else { panic!("somebody else reads") };
        push(&tier);
        let Load::Lead(load) = tier.load("k") else { panic!("somebody else loads") };
        let Read::Lead(leaders, _) = tier.read("k") else { panic!("somebody else reads") };
        origin.write(2);
        let returned = Arc::new(AtomicU64::new(0));
        let (joining, seen) = (tier.clone(), Arc::clone(&returned));
        let ((floor, joiner), ()) = both(
            move || (seen.load(Ordering::Acquire), joining.load("k")),
            || {
                assert!(!late.fill(3, digest(3), 1, LIFE));
                returned.store(3, Ordering::Release);
            },
        );
        let Load::Join(joiner) = joiner else { panic!("the load was dead before its leader had read") };
        both(
            move || {
                let version = origin.held();
                let _refused = leaders.fill(version, digest(version), 1, LIFE);
                load.finish(Ok(version));
            },
            || {
                let outcome = block_on(joiner.wait());
                assert!(outcome == Loaded::ElectAgain || floor == 0, "received {outcome:?} after version {floor}");
            },
        );
    });
}
