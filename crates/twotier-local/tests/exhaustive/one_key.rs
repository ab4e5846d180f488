//! A read or a write against news of the key: what is kept afterwards is never older than what was reported before.

use crate::{
    digest::Digest,
    setting::{Backend, LIFE, both, digest, explore, fill, lead, linked, push, put, read, write},
    sync::{AtomicU64, Ordering},
    tier::Read,
};
use std::sync::Arc;
use twotier_core::{ChangeListener, Lease, LinkId};

/// Has a read that saw version 1 end while `news` comes in, and holds that nobody sees version 1 after the news.
fn a_fill_against(news: impl Fn(&crate::setting::Tier) + Copy + Send + Sync + 'static) {
    explore(move || {
        let tier = linked();
        let ticket = lead(&tier);
        let filling = tier.clone();
        let (kept, seen) = both(
            move || {
                let kept = fill(ticket, 1);
                (kept, filling.get("k"))
            },
            || {
                news(&tier);
                tier.get("k")
            },
        );
        assert_eq!(seen, None, "older than the news");
        assert_eq!(tier.get("k"), None, "older than the news, and there for good");
        assert!(kept.0 || kept.1.is_none(), "served, and was not kept");
        let refused = tier.counters().refused_fills;
        assert_eq!(refused, u64::from(!kept.0));
    });
}

#[test]
fn a_read_that_crosses_a_change_is_not_there_afterwards() {
    a_fill_against(push);
}

#[test]
fn a_read_that_crosses_a_flush_is_not_there_afterwards() {
    a_fill_against(|tier| tier.flushed(LinkId::ONLY));
}

#[test]
fn a_read_that_crosses_a_clear_is_not_there_afterwards() {
    a_fill_against(|tier| _ = tier.clear());
}

#[test]
fn a_read_that_crosses_a_lost_link_is_not_there_afterwards() {
    a_fill_against(|tier| {
        tier.link_down(LinkId::ONLY);
        assert_eq!(tier.get("k"), None);
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
    });
}

#[test]
fn a_read_that_crosses_a_forgotten_key_is_not_there_afterwards() {
    a_fill_against(|tier| _ = tier.invalidate("k"));
}

#[test]
fn a_read_that_crosses_an_own_write_does_not_bring_the_old_value_back() {
    for succeeds in [true, false] {
        explore(move || {
            let tier = linked();
            let ticket = lead(&tier);
            let (_, seen) = both(
                move || fill(ticket, 1),
                || {
                    let write = tier.begin_write("k", digest(2));
                    assert_eq!(tier.get("k"), None, "the copy goes when the write begins");
                    if succeeds {
                        let _kept = write.install(2, 1, LIFE);
                    } else {
                        drop(write);
                    }
                    tier.get("k")
                },
            );
            assert_ne!(seen, Some(1));
            assert_ne!(tier.get("k"), Some(1));
        });
    }
}

#[test]
fn a_read_during_an_own_write_is_never_older_than_it() {
    explore(|| {
        let (tier, backend) = (linked(), Backend::default());
        let (reading, origin) = (tier.clone(), backend.clone());
        both(
            move || read(&reading, &origin),
            || {
                let _kept = write(&tier, &backend, 1);
                assert_eq!(read(&tier, &backend), 1, "our own write, and older");
            },
        );
        assert!(tier.get("k").is_none_or(|version| version == 1));
    });
}

#[test]
fn an_own_write_that_crosses_a_change_is_not_there_afterwards() {
    explore(|| {
        let tier = linked();
        let ticket = tier.begin_write("k", digest(1));
        both(
            move || ticket.install(1, 1, LIFE),
            || {
                push(&tier);
                assert_eq!(tier.get("k"), None);
            },
        );
        assert_eq!(tier.get("k"), None);
    });
}

#[test]
fn an_own_write_that_crosses_a_flush_is_not_there_afterwards() {
    explore(|| {
        let tier = linked();
        let ticket = tier.begin_write("k", digest(1));
        both(
            move || ticket.install(1, 1, LIFE),
            || {
                tier.flushed(LinkId::ONLY);
                assert_eq!(tier.get("k"), None);
            },
        );
        assert_eq!(tier.get("k"), None);
    });
}

#[test]
fn of_two_own_writes_only_the_later_one_at_the_backend_may_be_kept() {
    explore(|| {
        let (tier, backend) = (linked(), Backend::default());
        let (writing, origin) = (tier.clone(), backend.clone());
        both(move || write(&writing, &origin, 1), || write(&tier, &backend, 2));
        let last = backend.read();
        assert!(tier.get("k").is_none_or(|version| version == last), "overwritten at the backend, and kept");
        put_again(&tier);
    });
}

/// Holds that no write was left behind, which would keep every read out.
fn put_again(tier: &crate::setting::Tier) {
    push(tier);
    put(tier, 9);
    assert_eq!(tier.get("k"), Some(9));
}

/// Race 4: two reads that may be answered in either order, the first of them dead.
#[test]
fn nobody_sees_less_than_a_refused_read_has_returned() {
    explore(|| {
        let (tier, backend) = (linked(), Backend::default());
        let dead = lead(&tier);
        push(&tier);
        let seen = Arc::new(AtomicU64::new(0));
        let (reading, origin, returned) = (tier.clone(), backend.clone(), Arc::clone(&seen));
        both(
            move || {
                // Written by somebody else; the news of it is still on its way.
                origin.write(1);
                let version = origin.read();
                let _refused = fill(dead, version);
                returned.store(version, Ordering::Release);
                drop(reading);
            },
            || {
                let _first = read(&tier, &backend);
                let floor = seen.load(Ordering::Acquire);
                assert!(tier.get("k").is_none_or(|version| version >= floor), "went back in time");
            },
        );
        assert!(tier.get("k").is_none_or(|version| version == 1), "went back in time");
    });
}

/// Race 4 for a write: our own was overwritten by somebody else before it was acknowledged.
#[test]
fn a_write_is_not_kept_after_a_read_that_saw_what_came_after_it() {
    explore(|| {
        let tier = linked();
        let ticket = tier.begin_write("k", digest(1));
        let overtaken = lead(&tier);
        both(
            move || ticket.install(1, 1, LIFE),
            || {
                assert!(!fill(overtaken, 2));
                assert_eq!(tier.get("k"), None, "its caller has seen version 2");
            },
        );
        assert_eq!(tier.get("k"), None);
    });
}

#[test]
fn nothing_is_kept_that_was_read_while_the_backend_was_being_cleared() {
    explore(|| {
        let (tier, backend) = (linked(), Backend::default());
        backend.write(1);
        let (reading, origin) = (tier.clone(), backend.clone());
        both(
            move || read(&reading, &origin),
            || {
                let (clearing, _cleared) = tier.begin_clear();
                // Nobody reports this.
                backend.write(2);
                // The backend has answered, and goes on with other keys: the staleness bound runs from here.
                assert!(tier.get("k").is_none_or(|version| version == 2), "removed, and there");
                drop(clearing);
                assert!(tier.get("k").is_none_or(|version| version == 2), "cleared, and there");
            },
        );
        assert!(tier.get("k").is_none_or(|version| version == 2), "cleared, and there for good");
    });
}

#[test]
fn a_full_tier_lets_exactly_one_go_for_each_that_comes_in() {
    explore(|| {
        let tier = crate::setting::unlinked(1, Arc::new(crate::setting::Time::default()));
        tier.link_up(LinkId::ONLY, Lease::Unlimited);
        let fill = |tier: &crate::setting::Tier, key: &str, version| {
            let Read::Lead(ticket, _) = tier.read(key) else { panic!("nobody else reads {key}") };
            assert!(ticket.fill(version, Digest::ABSENT, 1, LIFE));
            let stats = tier.stats();
            assert!(stats.size == 1 && stats.bytes <= tier.weight_of("k", 1), "over its bounds");
            assert_eq!(stats.insertions, stats.evicted_for_entries + 1, "one came in and none went");
        };
        let filling = tier.clone();
        both(move || fill(&filling, "a", 1), || fill(&tier, "b", 2));
        let (a, b) = (tier.get("a"), tier.get("b"));
        assert!(matches!((a, b), (Some(1), None) | (None, Some(2))));
        let stats = tier.stats();
        assert_eq!((stats.hits, stats.misses, stats.insertions), (1, 1, 2));
    });
}
