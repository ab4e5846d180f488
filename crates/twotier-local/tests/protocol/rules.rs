// The races, included by `main.rs` once for each eviction policy: `EVICTION`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;
use twotier_core::{LinkId, ChangeListener, Clock, Lease, ManualClock, Mark, Timestamp};
use twotier_local::{Digest, Joined, LocalOptions, Read};

use crate::common::{LIFE, Text, Tier, join, lead, linked_by, namespace, push, outcome};

type Texts = Tier<&'static str>;

const SECOND: Duration = Duration::from_secs(1);
const BOUND: Duration = Duration::from_secs(2);

fn clocked() -> (ManualClock, Texts) {
    let clock = ManualClock::new();
    let options = LocalOptions::new(500, 1_000_000, BOUND).eviction(EVICTION);
    let tier = Texts::new(namespace(), options, Arc::new(clock.clone()));
    (clock, tier)
}

fn linked<T: Clone + Send + Sync + 'static>(max_entries: usize) -> Tier<T> {
    linked_by(EVICTION, max_entries)
}

fn of(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn put(tier: &Texts, key: &str, text: &'static str) {
    assert!(lead(tier.read(key)).fill_text(text));
}

// 1
#[test]
fn a_read_that_crosses_a_change_is_not_kept() {
    let tier = linked(500);
    let ticket = lead(tier.read("k"));
    push(&tier, "k");
    assert!(!ticket.fill_text("v0"));
    assert_eq!(tier.get("k"), None);
    assert_eq!(tier.counters().refused_fills, 1);
}

// 1, for those who wait
#[test]
fn those_who_joined_a_read_that_crosses_a_change_are_given_its_answer_and_nobody_else_is() {
    let tier = linked(500);
    let ticket = lead(tier.read("k"));
    let joiner = join(tier.read("k"));
    push(&tier, "k");
    let after = lead(tier.read("k"));
    assert!(!ticket.fill_text("v0"));
    assert_eq!(outcome(joiner), Joined::Value("v0"), "they had begun before the change was reported");
    assert_eq!(tier.get("k"), None);
    drop(after);
}

// 2, for a read that hangs
#[test]
fn a_read_under_way_for_longer_than_copies_may_be_stale_is_not_joined() {
    let (clock, tier) = clocked();
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    let hanging = lead(tier.read("k"));
    clock.advance(BOUND - SECOND);
    let joiner = join(tier.read("k"));
    clock.advance(SECOND);
    let after = lead(tier.read("k"));
    assert!(!hanging.fill_text("v"));
    assert_eq!(outcome(joiner), Joined::Value("v"));
    assert!(after.fill_text("v"));
}

// 2
#[test]
fn a_read_sent_before_an_own_write_is_not_joined_after_it() {
    let tier = linked(500);
    let before = lead(tier.read("k"));
    let write = tier.begin_write("k", of("v1"));
    assert!(!write.install("v1", 2, None), "written, and not to be kept, so that the next read is a miss");
    let after = lead(tier.read("k"));
    assert!(!before.fill_text("v0"));
    assert!(!after.fill_text("v1"), "which of two different answers is the newer one is not known here");
    put(&tier, "k", "v1");
    assert_eq!(tier.get("k"), Some("v1"));
}

// 2, by the epoch
#[test]
fn a_read_from_before_a_flush_is_not_joined_after_it() {
    let tier = linked(500);
    let before = lead(tier.read("k"));
    tier.flushed(LinkId::ONLY);
    let after = lead(tier.read("k"));
    assert!(!before.fill_text("v0"));
    assert!(!after.fill_text("v1"), "which of two different answers is the newer one is not known here");
    put(&tier, "k", "v1");
    assert_eq!(tier.get("k"), Some("v1"));
}

// 3
#[test]
fn a_read_during_an_own_write_is_not_kept_even_if_it_ends_after_it() {
    let tier = linked(500);
    let write = tier.begin_write("k", of("v1"));
    let read = lead(tier.read("k"));
    drop(write);
    assert!(!read.fill_text("v0"), "it may have been answered before the write was executed");
    assert_eq!(tier.get("k"), None);
}

// 3, the other way round
#[test]
fn no_read_is_kept_while_an_own_write_is_under_way() {
    let tier = linked(500);
    let write = tier.begin_write("k", of("v1"));
    assert!(!lead(tier.read("k")).fill_text("v0"));
    assert_eq!(tier.get("k"), None);
    drop(write);
}

// 3, when the write's task panics
#[test]
fn a_panic_during_an_own_write_ends_it() {
    let tier = linked(500);
    let mut read = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _write = tier.begin_write("k", of("v1"));
        read = Some(lead(tier.read("k")));
        resume_unwind(Box::new("the task dies"));
    }));
    assert!(panicked.is_err());
    assert!(!read.take().unwrap().fill_text("v0"));
    put(&tier, "k", "v1");
    assert_eq!(tier.get("k"), Some("v1"), "the write no longer stands in the way");
}

// 3, bounded staleness: the entry goes when the write begins, not when it is acknowledged
#[test]
fn an_own_write_removes_the_old_copy_before_it_is_sent() {
    let tier = linked(500);
    put(&tier, "k", "v0");
    let _write = tier.begin_write("k", of("v1"));
    assert_eq!(tier.get("k"), None);
    assert_eq!(tier.stats().superseded, 1);
}

// 4
#[test]
fn a_refused_read_that_saw_something_newer_removes_the_older_copy() {
    let tier = linked(500);
    let refused = lead(tier.read("k"));
    push(&tier, "k");
    put(&tier, "k", "v1");
    // The first read was answered late, after yet another change whose push is still to come.
    assert!(!refused.fill_text("v2"));
    assert_eq!(tier.get("k"), None, "its caller has seen v2: nobody may see v1 after that");
}

// 4, the exception
#[test]
fn a_refused_read_that_saw_the_same_bytes_leaves_the_copy() {
    let tier = linked(500);
    let refused = lead(tier.read("k"));
    push(&tier, "k");
    put(&tier, "k", "v1");
    assert!(!refused.fill_text("v1"));
    assert_eq!(tier.get("k"), Some("v1"));
}

// 4, for a write about to install
#[test]
fn a_refused_read_that_saw_something_else_keeps_a_write_from_installing() {
    let tier = linked(500);
    let write = tier.begin_write("k", of("v1"));
    assert!(!lead(tier.read("k")).fill_text("v2"), "somebody wrote v2 after our v1");
    assert!(!write.install("v1", 2, LIFE));
    assert_eq!(tier.get("k"), None);
    assert_eq!(tier.counters().refused_writes, 1);
}

// 4, the exception
#[test]
fn a_refused_read_that_saw_the_bytes_being_written_lets_the_write_install() {
    let tier = linked(500);
    let write = tier.begin_write("k", of("v1"));
    assert!(!lead(tier.read("k")).fill_text("v1"));
    assert!(write.install("v1", 2, LIFE));
    assert_eq!(tier.get("k"), Some("v1"));
}

// 5
#[test]
fn of_overlapping_reads_only_the_registered_one_is_kept() {
    let tier = linked(500);
    let slow = lead(tier.read("k"));
    push(&tier, "k");
    let fast = lead(tier.read("k"));
    assert!(!slow.fill_text("v0"), "the slow one must not take the place of the registered one");
    assert!(matches!(tier.read("k"), Read::Join(_)), "which is still registered");
    assert!(fast.fill_text("v0"), "and brings the same");
    assert_eq!(tier.get("k"), Some("v0"));
}

// 6
#[test]
fn an_own_write_that_was_overtaken_by_a_foreign_one_is_not_kept() {
    let tier = linked(500);
    let write = tier.begin_write("k", of("ours"));
    push(&tier, "k");
    assert!(!write.install("ours", 4, LIFE));
    assert_eq!(tier.get("k"), None);
    assert_eq!(tier.counters().refused_writes, 1);
}

// 6, when nobody interferes
#[test]
fn an_own_write_is_a_hit_when_it_returns() {
    let tier = linked(500);
    put(&tier, "k", "v0");
    assert!(tier.begin_write("k", of("v1")).install("v1", 2, LIFE));
    assert_eq!(tier.get("k"), Some("v1"));
    assert_eq!(tier.stats().evictions(), 0);
}

// 7
#[test]
fn overlapping_own_writes_leave_the_key_empty() {
    for swap in [false, true] {
        let tier = linked(500);
        let (first, second) = (tier.begin_write("k", of("a")), tier.begin_write("k", of("b")));
        let (early, late) = if swap { (second, first) } else { (first, second) };
        assert!(!early.install("x", 1, LIFE));
        assert!(!lead(tier.read("k")).fill_text("a"), "one write is still under way");
        assert!(!late.install("y", 1, LIFE));
        assert_eq!(tier.get("k"), None);
    }
}

// 7, the third one too
#[test]
fn a_write_that_begins_before_all_others_have_ended_is_not_kept() {
    let tier = linked(500);
    let first = tier.begin_write("k", of("a"));
    let second = tier.begin_write("k", of("b"));
    drop(first);
    let third = tier.begin_write("k", of("c"));
    drop(second);
    assert!(!third.install("c", 1, LIFE));
    assert!(tier.begin_write("k", of("d")).install("d", 1, LIFE), "alone again");
}

// 8
#[test]
fn a_read_that_crosses_an_own_delete_does_not_bring_the_value_back() {
    let tier = linked::<Option<&'static str>>(500);
    let before = lead(tier.read("k"));
    let delete = tier.begin_write("k", Digest::ABSENT);
    let during = lead(tier.read("k"));
    assert!(delete.install(None, 0, LIFE));
    assert!(!before.fill(Some("v0"), of("v0"), 2, LIFE));
    assert_eq!(tier.get("k"), None, "a refused read is taken to be newer");
    assert!(!during.fill(Some("v0"), of("v0"), 2, LIFE));
    assert_eq!(tier.get("k"), None);
}

// 8, the absent key is known to be absent
#[test]
fn a_deleted_key_is_a_hit_that_says_so() {
    let tier = linked::<Option<&'static str>>(500);
    assert!(tier.begin_write("k", Digest::ABSENT).install(None, 0, LIFE));
    assert_eq!(tier.get("k"), Some(None));
}

// 12
#[test]
fn a_copy_dies_its_life_after_the_command_was_sent_not_after_the_reply() {
    let (clock, tier) = clocked();
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    let read = lead(tier.read("read"));
    let write = tier.begin_write("written", of("v"));
    clock.advance(SECOND);
    assert!(read.fill("v", of("v"), 1, Some(3 * SECOND)));
    assert!(write.install("v", 1, Some(3 * SECOND)));
    clock.advance(2 * SECOND - Duration::from_nanos(1));
    assert_eq!((tier.get("read"), tier.get("written")), (Some("v"), Some("v")));
    assert_eq!(tier.get_with_age("read").unwrap().1, 3 * SECOND - Duration::from_nanos(1));
    clock.advance(Duration::from_nanos(1));
    assert_eq!((tier.get("read"), tier.get("written")), (None, None));
    assert_eq!((tier.stats().expired, tier.stats().size), (2, 0));
}

// 12, a value whose life is over or unknown
#[test]
fn a_value_without_life_left_answers_its_readers_and_is_not_kept() {
    let (clock, tier) = clocked();
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    for (key, life) in [("unknown", None), ("over", Some(SECOND))] {
        let ticket = lead(tier.read(key));
        let joiner = join(tier.read(key));
        clock.advance(SECOND);
        assert!(!ticket.fill("v", of("v"), 1, life), "{key}");
        assert_eq!(outcome(joiner), Joined::Value("v"), "{key}");
        assert_eq!(tier.get(key), None, "{key}");
    }
    assert!(!tier.begin_write("k", of("v")).install("v", 1, None));
    assert_eq!((tier.counters().refused_fills, tier.counters().refused_writes), (0, 0), "nothing was wrong with them");
}

// 12, a clock that lags
#[test]
fn a_copy_dies_earlier_by_the_lag_of_the_clock() {
    #[derive(Debug)]
    struct Coarse(ManualClock);
    impl Clock for Coarse {
        fn now(&self) -> Timestamp {
            self.0.now()
        }
        fn resolution(&self) -> Duration {
            Duration::from_millis(10)
        }
    }
    let clock = ManualClock::new();
    let coarse = Arc::new(Coarse(clock.clone()));
    let tier = Texts::new(namespace(), LocalOptions::new(500, 1_000_000, BOUND), coarse);
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    assert!(lead(tier.read("k")).fill("v", of("v"), 1, Some(SECOND)));
    clock.advance(Duration::from_millis(989));
    assert_eq!(tier.get("k"), Some("v"));
    clock.advance(Duration::from_millis(1));
    assert_eq!(tier.get("k"), None);
}

// 14
#[test]
fn nothing_from_before_a_lost_link_is_served_kept_or_joined_after_it() {
    let tier = linked(500);
    put(&tier, "entry", "v0");
    let read = lead(tier.read("read"));
    let write = tier.begin_write("write", of("v0"));
    tier.link_down(LinkId::ONLY);
    assert_eq!(tier.get("entry"), None);
    assert!(matches!(tier.read("entry"), Read::Bypass(..)), "nothing is kept or joined while the link is down");
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    assert_eq!((tier.get("entry"), tier.stats().outdated), (None, 1));
    assert!(matches!(tier.read("read"), Read::Lead(..)));
    assert!(!read.fill_text("v0"));
    assert!(!write.install("v0", 2, LIFE));
    assert_eq!((tier.get("read"), tier.get("write")), (None, None));
}

// 14, a read that began while the link was down
#[test]
fn what_began_while_the_link_was_down_is_not_kept() {
    let (_, tier) = clocked();
    let write = tier.begin_write("k", of("v"));
    assert!(matches!(tier.read("k"), Read::Bypass(..)));
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    assert!(!write.install("v", 1, LIFE));
}

// 16
#[test]
fn nothing_from_before_a_flush_is_served_or_kept_after_it() {
    let tier = linked(500);
    put(&tier, "entry", "v0");
    let read = lead(tier.read("read"));
    let write = tier.begin_write("write", of("v0"));
    tier.flushed(LinkId::ONLY);
    assert!(!read.fill_text("v0"));
    assert!(!write.install("v0", 2, LIFE));
    assert_eq!((tier.get("entry"), tier.get("read"), tier.get("write")), (None, None, None));
    assert_eq!((tier.counters().flushes, tier.counters().refused_fills, tier.counters().refused_writes), (1, 1, 1));
}

// 17
#[test]
fn a_leader_that_goes_away_leaves_the_read_to_those_who_wait() {
    let tier = linked(500);
    let ticket = lead(tier.read("k"));
    let (first, second) = (join(tier.read("k")), join(tier.read("k")));
    drop(ticket);
    assert_eq!((outcome(first), outcome(second)), (Joined::ElectAgain, Joined::ElectAgain));
    let elected = lead(tier.read("k"));
    let joiner = join(tier.read("k"));
    assert!(elected.fill_text("v"));
    assert_eq!(outcome(joiner), Joined::Value("v"));
}

// 17
#[test]
fn a_leader_that_goes_away_late_does_not_take_another_leaders_place() {
    let tier = linked(500);
    let killed = lead(tier.read("k"));
    push(&tier, "k");
    let alive = lead(tier.read("k"));
    drop(killed);
    assert!(matches!(tier.read("k"), Read::Join(_)));
    assert!(alive.fill_text("v"));
}

// 17
#[test]
fn an_error_reaches_everybody_who_joined_and_nobody_else() {
    let tier: Tier<&'static str> = linked(500);
    let ticket = lead(tier.read("k"));
    let joiner = join(tier.read("k"));
    ticket.fail(());
    assert_eq!(outcome(joiner), Joined::Failed(()));
    let killed = lead(tier.read("k"));
    let joiner = join(tier.read("k"));
    push(&tier, "k");
    let alive = lead(tier.read("k"));
    let waiting = join(tier.read("k"));
    killed.fail(());
    assert_eq!(outcome(joiner), Joined::ElectAgain, "a dead read's error is not theirs");
    drop(alive);
    assert_eq!(outcome(waiting), Joined::ElectAgain);
}

// 20, the local half
#[test]
fn hits_end_with_the_lease_and_come_back_with_the_next_proof() {
    let (clock, tier) = clocked();
    tier.link_up(LinkId::ONLY, Lease::Renewed);
    put(&tier, "k", "v");
    assert_eq!(tier.get("k"), None, "that the link came up proves nothing yet");
    let mark = tier.mark(LinkId::ONLY);
    clock.advance(SECOND);
    tier.proof_of_life(mark);
    assert_eq!(tier.get("k"), Some("v"));
    clock.advance(BOUND - SECOND);
    assert_eq!(tier.get("k"), None, "the bound runs from the mark, not from the reply");
    assert_eq!(tier.stats().size, 1, "the copy stays");
    tier.proof_of_life(tier.mark(LinkId::ONLY));
    assert_eq!(tier.get("k"), Some("v"));
}

#[test]
fn a_proof_from_another_epoch_extends_no_lease() {
    let (_, tier) = clocked();
    tier.link_up(LinkId::ONLY, Lease::Renewed);
    let mark = tier.mark(LinkId::ONLY);
    tier.flushed(LinkId::ONLY);
    put(&tier, "k", "v");
    tier.proof_of_life(mark);
    assert_eq!(tier.get("k"), None);
    tier.proof_of_life(Mark::new(LinkId::ONLY, tier.mark(LinkId::ONLY).epoch, mark.at));
    assert_eq!(tier.get("k"), Some("v"));
}

#[test]
fn nothing_read_or_written_before_a_clear_is_kept_after_it() {
    let tier = linked(500);
    put(&tier, "entry", "v");
    let read = lead(tier.read("read"));
    let joiner = join(tier.read("read"));
    let write = tier.begin_write("write", of("v"));
    assert_eq!(tier.clear(), 1);
    assert_eq!(outcome(joiner), Joined::ElectAgain);
    assert!(!read.fill_text("v"));
    assert!(!write.install("v", 1, LIFE));
    assert_eq!(tier.keys(), Vec::<String>::new());
    put(&tier, "entry", "v");
    assert_eq!((tier.stats().insertions, tier.stats().cleared), (2, 1), "counters go on");
}

#[test]
fn nothing_read_or_written_before_a_key_is_forgotten_is_kept_after_it() {
    let tier = linked(500);
    let read = lead(tier.read("read"));
    let write = tier.begin_write("write", of("v"));
    assert!(!tier.invalidate("read"));
    assert!(!tier.invalidate("write"));
    assert!(!read.fill_text("v"));
    assert!(!write.install("v", 1, LIFE));
    put(&tier, "k", "v");
    assert!(tier.invalidate("k"));
    assert_eq!((tier.get("k"), tier.stats().invalidated, tier.counters().invalidations), (None, 1, 0));
}

#[test]
fn a_change_is_of_the_namespace_or_ignored() {
    let tier = linked(500);
    put(&tier, "k", "v");
    for foreign in [&b"m:k"[..], b"k", b"n", b"nn:k", b"n:\xFF", b"", b"n:k2"] {
        tier.changed(foreign);
        assert_eq!(tier.get("k"), Some("v"));
    }
    assert_eq!(tier.counters().invalidations, 1, "`n:k2` is of the namespace");
    tier.changed(b"n:k");
    assert_eq!(tier.get("k"), None);
}

#[test]
fn a_value_that_a_report_removes_is_dropped_at_once_and_a_panic_in_its_destructor_ends_there() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            assert!(self.0.fetch_add(1, Ordering::SeqCst) != 1, "a value with a defect");
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let tier = linked::<Arc<Counted>>(500);
    for (reports, key) in (1..).zip(["a", "b", "c"]) {
        let value = Arc::new(Counted(Arc::clone(&dropped)));
        assert!(lead(tier.read(key)).fill(value, Digest::ABSENT, 1, LIFE));
        push(&tier, key);
        assert_eq!(dropped.load(Ordering::SeqCst), reports);
    }
}

#[test]
fn values_may_use_the_tier_in_their_destructor() {
    struct Reentrant(Option<Tier<Arc<Self>>>);
    impl Drop for Reentrant {
        fn drop(&mut self) {
            if let Some(tier) = &self.0 {
                assert!(tier.get("other").is_none());
            }
        }
    }
    let tier: Tier<Arc<Reentrant>> = linked(1);
    let value = || Arc::new(Reentrant(Some(tier.clone())));
    let fill = |key: &str, bytes: usize| lead(tier.read(key)).fill(value(), Digest::ABSENT, bytes, LIFE);
    assert!(fill("a", 1));
    assert!(fill("b", 1), "evicts a");
    assert!(!fill("c", 2_000_000_000), "too heavy");
    drop(tier.begin_write("b", Digest::ABSENT));
    assert!(fill("d", 1));
    let refused = lead(tier.read("e"));
    tier.invalidate("e");
    assert!(!refused.fill(value(), Digest::ABSENT, 1, LIFE));
    let write = tier.begin_write("f", Digest::ABSENT);
    tier.invalidate("f");
    assert!(!write.install(value(), 1, LIFE));
    assert!(fill("g", 1));
    tier.flush();
    assert!(tier.get("g").is_none());
    assert!(fill("h", 1));
    assert_eq!(tier.clear(), 1);
}

#[tokio::test]
async fn a_waiting_task_is_woken_by_a_fill_from_another() {
    let tier = linked(500);
    let ticket = lead(tier.read("k"));
    let joiner = join(tier.read("k"));
    let (started, start) = oneshot::channel();
    let waiting = tokio::spawn(async move {
        started.send(()).unwrap();
        joiner.wait().await
    });
    start.await.unwrap();
    assert!(ticket.fill_text("v"));
    assert_eq!(waiting.await.unwrap(), Joined::Value("v"));
}

// 4, for the read that comes after: found by exploring the protocol exhaustively
#[test]
fn an_older_answer_is_not_kept_after_a_newer_one_that_was_refused() {
    let tier = linked(500);
    let first = lead(tier.read("k"));
    push(&tier, "k");
    let second = lead(tier.read("k"));
    let joiner = join(tier.read("k"));
    // The second read's command was executed first: registering and sending are two steps.
    assert!(!first.fill_text("new"), "the first was killed");
    assert!(!second.fill_text("old"), "something newer was already returned to somebody");
    assert_eq!(outcome(joiner), Joined::Value("old"), "this one began before something newer was returned to anybody");
    assert_eq!(tier.get("k"), None);
}

// 4, for those who join the read that comes after
#[test]
fn an_older_answer_is_not_handed_on_to_whoever_began_after_a_newer_one_was_returned() {
    for (brought, expected) in [("old", Joined::ElectAgain), ("new", Joined::Value("new"))] {
        let tier = linked(500);
        let first = lead(tier.read("k"));
        push(&tier, "k");
        let second = lead(tier.read("k"));
        assert!(!first.fill_text("new"));
        let joiner = join(tier.read("k"));
        second.fill_text(brought);
        assert_eq!(outcome(joiner), expected);
    }
}

// 4, for those who look again
#[test]
fn whoever_waited_in_vain_is_served_by_the_next_read_whatever_binds_it() {
    let tier = linked(500);
    let first = lead(tier.read("k"));
    push(&tier, "k");
    let second = lead(tier.read("k"));
    assert!(!first.fill_text("a"));
    let joiner = join(tier.read("k"));
    push(&tier, "k");
    let third = lead(tier.read("k"));
    assert!(!second.fill_text("b"), "which binds the third");
    assert_eq!(outcome(&joiner), Joined::ElectAgain);
    let again = join(tier.read_again("k", &joiner));
    let later = join(tier.read("k"));
    assert!(!third.fill_text("c"));
    assert_eq!(outcome(again), Joined::Value("c"), "it began before the third read was sent");
    assert_eq!(outcome(later), Joined::ElectAgain, "this one began after b was returned to somebody, which may be newer");
}

#[test]
fn whoever_waits_for_a_read_that_hangs_looks_again_when_the_key_is_forgotten() {
    let tier = linked(500);
    let hanging = lead(tier.read("k"));
    let waiting = join(tier.read("k"));
    tier.invalidate("k");
    assert_eq!(outcome(waiting), Joined::ElectAgain);
    assert!(!hanging.fill_text("v"));
}

#[test]
fn an_answer_that_equals_a_refused_one_is_kept_so_that_a_hot_key_is_cached_at_all() {
    let tier = linked(500);
    let first = lead(tier.read("k"));
    push(&tier, "k");
    let second = lead(tier.read("k"));
    assert!(!first.fill_text("new"));
    assert!(second.fill_text("new"));
    assert_eq!(tier.get("k"), Some("new"));
}

#[test]
fn a_read_bound_to_two_different_answers_is_dead_at_once() {
    let tier = linked(500);
    let (first, second) = {
        let first = lead(tier.read("k"));
        push(&tier, "k");
        let second = lead(tier.read("k"));
        push(&tier, "k");
        (first, second)
    };
    let third = lead(tier.read("k"));
    let joiner = join(tier.read("k"));
    assert!(!first.fill_text("a"));
    assert!(!second.fill_text("b"));
    let after = lead(tier.read("k"));
    assert!(!third.fill_text("b"));
    assert_eq!(outcome(joiner), Joined::Value("b"));
    drop(after);
}

// 19
#[test]
fn a_read_that_began_while_the_link_was_down_is_not_followed_by_something_older() {
    let tier = linked(500);
    tier.link_down(LinkId::ONLY);
    let Read::Bypass(bypass, _) = tier.read("k") else { panic!("the link is down") };
    let Read::Bypass(other, _) = tier.read("l") else { panic!("the link is down") };
    tier.link_up(LinkId::ONLY, Lease::Unlimited);
    put(&tier, "k", "old");
    let write = tier.begin_write("l", of("old"));
    assert!(!bypass.fill_text("new"), "what is read without a link is never kept");
    assert!(!other.fill_text("new"));
    assert_eq!(tier.get("k"), None);
    assert!(!write.install("old", 3, LIFE));
    assert_eq!(tier.counters().refused_fills, 0, "it was never meant to be kept");
}

// 18, for our own removals, which nobody reports
#[test]
fn nothing_is_kept_while_the_backend_is_being_cleared() {
    let tier = linked(500);
    put(&tier, "k", "v");
    let before = lead(tier.read("l"));
    let (clearing, _cleared) = tier.begin_clear();
    assert_eq!(tier.get("k"), None);
    assert!(!before.fill_text("v"));
    let during = lead(tier.read("k"));
    let across = lead(tier.read("l"));
    let write = tier.begin_write("m", of("v"));
    assert!(!during.fill_text("v"), "its key may be removed next");
    assert!(!write.install("v", 1, LIFE));
    drop(clearing);
    assert!(!across.fill_text("v"), "it may have seen a key that is gone now");
    put(&tier, "k", "after");
    assert_eq!(tier.get("k"), Some("after"));
}
