//! Each rule, broken by a history made by hand; and the histories that look like it and are right.

use std::{sync::Arc, time::Duration};

use super::*;

const BOUND: Duration = Duration::from_millis(100);
/// The handle whose party writes the key, and another one.
const OWNER: usize = 0;
const OTHER: usize = 1;

/// One key, written by the party of the first of two handles.
struct OneKey(History);

impl OneKey {
    fn new() -> Self {
        Self(History::new(&[Some(OWNER)], &[BOUND, BOUND]))
    }

    /// A write that is acknowledged.
    fn write(&self, change: Change, from: u64, to: u64) -> u64 {
        let version = self.open(change, from);
        self.end(version, WriteOutcome::Acknowledged, to);
        version
    }

    fn end(&self, version: u64, outcome: WriteOutcome, at: u64) -> Option<Broken> {
        let before = self.0.violations().len();
        self.0.end_write(0, version, outcome, HistoryTime::from_millis(at));
        self.0.violations().get(before).map(|violation| violation.broken)
    }

    fn set(&self, from: u64, to: u64) -> u64 {
        self.write(Change::Value, from, to)
    }

    /// A write of which nobody knows how it ended.
    fn open(&self, change: Change, from: u64) -> u64 {
        self.0.begin_write(0, change, HistoryTime::from_millis(from))
    }

    /// A hit that takes no time.
    fn hit(&self, handle: usize, at: u64, version: Option<u64>) -> Option<Broken> {
        let reading = self.begin(handle, at);
        self.end_read(handle, reading, version)
    }

    fn begin(&self, handle: usize, at: u64) -> Reading {
        self.0.begin_read(handle, 0, HistoryTime::from_millis(at))
    }

    fn end_read(&self, handle: usize, reading: Reading, version: Option<u64>) -> Option<Broken> {
        let before = self.0.violations().len();
        self.0.end_read(handle, reading, version, true);
        self.0.violations().get(before).map(|violation| violation.broken)
    }

    fn held(&self, held: Option<u64>) -> Option<Broken> {
        let before = self.0.violations().len();
        self.0.end_of_writes(0, held, HistoryTime::from_millis(9999));
        self.0.violations().get(before).map(|violation| violation.broken)
    }

    fn lose(&self, from: u64, to: u64, everything: bool) {
        self.0.losing(HistoryTime::from_millis(from));
        self.0.lost(everything, HistoryTime::from_millis(to));
    }
}

#[test]
fn a_version_that_nobody_wrote_is_made_up() {
    let history = OneKey::new();
    assert_eq!(history.hit(OTHER, 0, None), None);
    assert_eq!(history.hit(OTHER, 0, Some(1)), Some(Broken::MadeUp));
    history.set(1, 2);
    assert_eq!(history.hit(OTHER, 3, Some(0)), Some(Broken::MadeUp));
    let deletion = history.write(Change::Absence, 4, 5);
    assert_eq!(history.hit(OTHER, 6, Some(deletion)), Some(Broken::MadeUp));
}

#[test]
fn a_read_that_misses_an_own_acknowledged_write_is_found() {
    let history = OneKey::new();
    let first = history.set(0, 1);
    let during = history.begin(OWNER, 2);
    let second = history.set(2, 3);
    assert_eq!(history.end_read(OWNER, during, Some(first)), None, "it began before the acknowledgement");
    assert_eq!(history.hit(OWNER, 4, Some(first)), Some(Broken::OwnWriteUnseen { acknowledged: second }));
    assert_eq!(history.hit(OTHER, 4, Some(first)), None, "another handle may be late");
    assert_eq!(history.hit(OWNER, 4, None), Some(Broken::OwnWriteUnseen { acknowledged: second }));
    assert_eq!(history.hit(OWNER, 4, Some(second)), None);
}

#[test]
fn a_read_after_an_own_deletion_does_not_see_the_value() {
    let history = OneKey::new();
    let value = history.set(0, 1);
    let deletion = history.write(Change::Absence, 2, 3);
    assert_eq!(history.hit(OWNER, 4, Some(value)), Some(Broken::OwnWriteUnseen { acknowledged: deletion }));
    assert_eq!(history.hit(OWNER, 4, None), None);
}

#[test]
fn a_handle_that_goes_back_in_time_is_found() {
    let history = OneKey::new();
    let (first, second) = (history.set(0, 1), history.set(2, 3));
    let during = history.begin(OTHER, 4);
    assert_eq!(history.hit(OTHER, 4, Some(second)), None);
    assert_eq!(history.end_read(OTHER, during, Some(first)), None, "it began before the newer one was seen");
    assert_eq!(history.hit(OTHER, 5, Some(first)), Some(Broken::WentBack { seen: second }));
    assert_eq!(history.hit(OTHER, 5, None), Some(Broken::WentBack { seen: second }));
}

#[test]
fn a_handle_that_saw_a_deletion_does_not_see_the_value_again() {
    let history = OneKey::new();
    let value = history.set(0, 1);
    let deletion = history.write(Change::Absence, 2, 3);
    assert_eq!(history.hit(OTHER, 4, Some(value)), None);
    assert_eq!(history.hit(OTHER, 5, None), None);
    assert_eq!(history.hit(OTHER, 6, Some(value)), Some(Broken::WentBack { seen: deletion }));
}

#[test]
fn a_hit_older_than_the_bound_is_found_and_the_worst_one_is_kept() {
    let history = OneKey::new();
    let first = history.set(0, 10);
    history.set(20, 30);
    history.set(40, 50);
    assert_eq!(history.hit(OTHER, 90, Some(first)), None);
    assert_eq!(history.0.worst(OTHER).hit, Duration::from_millis(60), "since the next version, not the last");
    let staleness = Duration::from_millis(101);
    assert_eq!(history.hit(OTHER, 131, Some(first)), Some(Broken::TooStale { staleness, bound: BOUND, hit: true }));
    assert_eq!(history.0.worst(OTHER).hit, staleness);
}

#[test]
fn an_absence_is_stale_like_a_value() {
    let history = OneKey::new();
    history.set(10, 20);
    assert_eq!(history.hit(OTHER, 120, None), None, "the key was absent before its first version");
    let staleness = Duration::from_millis(101);
    assert_eq!(history.hit(OTHER, 121, None), Some(Broken::TooStale { staleness, bound: BOUND, hit: true }));
    history.write(Change::Absence, 130, 140);
    assert_eq!(history.hit(OTHER, 500, None), None);
    history.set(500, 510);
    assert_eq!(history.hit(OTHER, 610, None), None);
    assert_eq!(history.hit(OTHER, 611, None), Some(Broken::TooStale { staleness, bound: BOUND, hit: true }));
}

#[test]
fn an_open_write_may_have_taken_effect_or_not_until_a_later_one_is_acknowledged() {
    let history = OneKey::new();
    let first = history.set(0, 1);
    let open = history.open(Change::Value, 2);
    assert_eq!(history.hit(OWNER, 300, Some(first)), None, "it is not acknowledged, so nothing is stale");
    assert_eq!(history.hit(OWNER, 300, Some(open)), None);
    assert_eq!(history.hit(OWNER, 301, Some(first)), Some(Broken::WentBack { seen: open }));
    assert_eq!(history.held(Some(first)), None);
    assert_eq!(history.held(Some(open)), None);
    let last = history.set(302, 303);
    assert_eq!(history.hit(OWNER, 304, Some(open)), Some(Broken::Undone { acknowledged: last }));
    assert_eq!(history.held(Some(open)), Some(Broken::Undone { acknowledged: last }));
}

#[test]
fn a_write_that_was_not_sent_is_never_seen() {
    let history = OneKey::new();
    let (first, unsent) = (history.set(0, 1), history.open(Change::Value, 2));
    assert_eq!(history.end(unsent, WriteOutcome::NotSent, 3), None);
    assert_eq!(history.hit(OTHER, 4, Some(first)), None);
    assert_eq!(history.hit(OTHER, 4, Some(unsent)), Some(Broken::NotSentSeen));
    assert_eq!(history.hit(OWNER, 4, Some(unsent)), Some(Broken::NotSentSeen));
    assert_eq!(history.held(Some(unsent)), Some(Broken::NotSentSeen));
    assert_eq!(history.held(Some(first)), None);
}

#[test]
fn a_write_that_was_seen_cannot_have_failed_unsent() {
    let history = OneKey::new();
    let (_, unsent) = (history.set(0, 1), history.open(Change::Value, 2));
    assert_eq!(history.hit(OTHER, 3, Some(unsent)), None, "it may still be acknowledged");
    assert_eq!(history.end(unsent, WriteOutcome::NotSent, 4), Some(Broken::NotSentSeen));
}

#[test]
fn a_deletion_that_was_not_sent_explains_no_absence() {
    let history = OneKey::new();
    let (value, unsent) = (history.set(0, 1), history.open(Change::Absence, 2));
    assert_eq!(history.end(unsent, WriteOutcome::NotSent, 3), None);
    assert_eq!(history.hit(OWNER, 4, None), Some(Broken::OwnWriteUnseen { acknowledged: value }));
    assert_eq!(
        history.hit(OTHER, 200, None),
        Some(Broken::TooStale { staleness: Duration::from_millis(199), bound: BOUND, hit: true })
    );
    assert_eq!(history.held(None), Some(Broken::Lost { acknowledged: value }));
    let unsent = history.open(Change::Absence, 300);
    assert_eq!(history.hit(OWNER, 301, None), None, "it may still be acknowledged");
    assert_eq!(history.end(unsent, WriteOutcome::NotSent, 302), Some(Broken::NotSentSeen));
}

/// Race 21: the write that waited for a connection past its deadline is sent after a newer one was acknowledged.
#[test]
fn a_late_write_is_found_whatever_its_caller_received() {
    for outcome in [WriteOutcome::NotSent, WriteOutcome::Unknown] {
        let history = OneKey::new();
        let late = history.open(Change::Value, 0);
        history.end(late, outcome, 50);
        let last = history.set(60, 61);
        assert_eq!(history.hit(OTHER, 62, Some(last)), None);
        let expected = match outcome {
            WriteOutcome::NotSent => Broken::NotSentSeen,
            _ => Broken::Undone { acknowledged: last },
        };
        assert_eq!(history.hit(OWNER, 70, Some(late)), Some(expected));
        assert_eq!(history.held(Some(late)), Some(expected));
        assert!(history.hit(OTHER, 70, Some(late)).is_some(), "it saw the newer one");
    }
}

/// Race 24: a write of a link that was given up arrives after a newer one over the next link was acknowledged.
#[test]
fn a_zombie_write_undoes_what_was_acknowledged_for_everyone() {
    let history = OneKey::new();
    history.set(0, 1);
    let zombie = history.open(Change::Value, 2);
    history.end(zombie, WriteOutcome::Unknown, 500);
    let last = history.set(600, 601);
    assert_eq!(history.hit(OTHER, 650, Some(zombie)), None, "a copy may be as old as the bound");
    assert_eq!(history.hit(OTHER, 702, Some(zombie)), Some(Broken::Undone { acknowledged: last }));
    assert_eq!(history.hit(OWNER, 602, Some(zombie)), Some(Broken::Undone { acknowledged: last }));
    assert_eq!(history.held(Some(zombie)), Some(Broken::Undone { acknowledged: last }));
    assert_eq!(history.hit(OTHER, 99_999, Some(zombie)), Some(Broken::Undone { acknowledged: last }), "for good");
}

#[test]
fn a_zombie_deletion_undoes_what_was_acknowledged() {
    let history = OneKey::new();
    history.set(0, 1);
    let zombie = history.open(Change::Absence, 2);
    history.end(zombie, WriteOutcome::Unknown, 500);
    let last = history.set(600, 601);
    assert_eq!(history.hit(OWNER, 602, None), Some(Broken::Undone { acknowledged: last }));
    assert!(matches!(history.hit(OTHER, 702, None), Some(Broken::TooStale { .. })));
    assert_eq!(history.held(None), Some(Broken::Undone { acknowledged: last }));
}

#[test]
fn staleness_is_counted_from_the_next_acknowledged_version() {
    let history = OneKey::new();
    let first = history.set(0, 1);
    history.open(Change::Value, 2);
    history.set(50, 60);
    assert_eq!(history.hit(OTHER, 100, Some(first)), None);
    assert_eq!(history.0.worst(OTHER).hit, Duration::from_millis(40));
}

#[test]
fn an_acknowledged_write_that_the_server_does_not_hold_is_lost() {
    let history = OneKey::new();
    let (first, second) = (history.set(0, 1), history.set(2, 3));
    assert_eq!(history.held(Some(second)), None);
    assert_eq!(history.held(Some(first)), Some(Broken::Lost { acknowledged: second }));
    assert_eq!(history.held(None), Some(Broken::Lost { acknowledged: second }));
    let deletion = history.write(Change::Absence, 4, 5);
    assert_eq!(history.held(None), None);
    assert_eq!(history.held(Some(second)), Some(Broken::Lost { acknowledged: deletion }));
}

#[test]
fn a_handle_that_differs_from_the_server_at_rest_is_found() {
    let history = OneKey::new();
    let (first, second) = (history.set(0, 1), history.set(2, 3));
    history.0.at_rest(OTHER, 0, Some(second), Some(second), HistoryTime::from_millis(500));
    assert!(!history.0.is_broken());
    for (read, held) in [(Some(first), Some(second)), (None, Some(second)), (Some(second), None)] {
        let before = history.0.violations().len();
        history.0.at_rest(OTHER, 0, read, held, HistoryTime::from_millis(500));
        assert_eq!(history.0.violations()[before].broken, Broken::AtRest { held });
    }
}

#[test]
fn a_loss_explains_an_absence_of_what_was_written_before_its_end_and_no_other() {
    let history = OneKey::new();
    history.set(0, 1);
    history.lose(10, 20, true);
    assert_eq!(history.hit(OWNER, 30, None), None);
    assert_eq!(history.held(None), None);
    history.0.losing(HistoryTime::from_millis(40));
    history.set(41, 42);
    assert_eq!(history.hit(OWNER, 43, None), None, "while data is being lost");
    history.0.lost(false, HistoryTime::from_millis(50));
    assert_eq!(history.hit(OWNER, 60, None), None, "it was written before the end of the loss");
    let third = history.set(61, 62);
    assert_eq!(history.hit(OWNER, 63, None), Some(Broken::OwnWriteUnseen { acknowledged: third }));
    assert_eq!(history.held(None), Some(Broken::Lost { acknowledged: third }));
}

#[test]
fn a_loss_brings_no_older_value_back() {
    let history = OneKey::new();
    let (first, second) = (history.set(0, 1), history.set(2, 3));
    assert_eq!(history.hit(OTHER, 4, Some(second)), None);
    history.lose(10, 20, true);
    assert_eq!(history.hit(OTHER, 30, Some(first)), Some(Broken::WentBack { seen: second }));
    assert_eq!(history.held(Some(first)), Some(Broken::Lost { acknowledged: second }));
}

#[test]
fn a_value_from_before_a_loss_of_everything_is_as_stale_as_that_is_long_ago() {
    let history = OneKey::new();
    let first = history.set(0, 1);
    history.lose(10, 20, false);
    assert_eq!(history.hit(OTHER, 500, Some(first)), None, "it may have been spared");
    history.lose(510, 520, true);
    assert_eq!(history.hit(OTHER, 620, Some(first)), None);
    let staleness = Duration::from_millis(101);
    history.lose(621, 621, true);
    assert_eq!(history.hit(OTHER, 621, Some(first)), Some(Broken::TooStale { staleness, bound: BOUND, hit: true }));
    let second = history.set(630, 631);
    assert_eq!(history.hit(OTHER, 990, Some(second)), None, "it was written after the loss");
}

#[test]
fn a_row_is_loaded_again_after_a_loss_and_no_older_one_is() {
    let history = OneKey(History::new(&[Some(OWNER)], &[BOUND, BOUND]).with_origin(0));
    let (first, second) = (history.set(0, 1), history.set(2, 3));
    history.lose(10, 20, true);
    assert_eq!(history.hit(OWNER, 30, None), None);
    assert_eq!(history.held(None), None);
    assert_eq!(history.hit(OWNER, 500, Some(second)), None, "it was loaded again");
    assert_eq!(history.hit(OWNER, 500, Some(first)), Some(Broken::OwnWriteUnseen { acknowledged: second }));
    assert!(matches!(history.hit(OTHER, 500, Some(first)), Some(Broken::TooStale { .. })));
    assert_eq!(history.held(Some(first)), Some(Broken::Lost { acknowledged: second }));
}

#[test]
fn a_loaded_row_may_be_ahead_of_its_key_until_its_write_is_acknowledged() {
    let history = OneKey(History::new(&[Some(OWNER)], &[BOUND, BOUND]).with_origin(0));
    let (first, second) = (history.set(0, 1), history.open(Change::Value, 2));
    let load = |at, version| {
        let before = history.0.violations().len();
        history.0.end_load(OWNER, history.begin(OWNER, at), version);
        history.0.violations().get(before).map(|violation| violation.broken)
    };
    assert_eq!(load(3, second), None);
    assert_eq!(history.hit(OWNER, 4, Some(first)), None, "the key may hold less");
    history.end(second, WriteOutcome::Acknowledged, 5);
    assert_eq!(load(6, second), None);
    assert_eq!(load(7, first), Some(Broken::OwnWriteUnseen { acknowledged: second }));
}

#[test]
fn many_versions_are_forgotten_and_the_rules_still_hold() {
    let history = OneKey::new();
    let first = history.set(0, 1);
    let mut last = first;
    for at in 1..10_000 {
        last = history.set(at, at);
    }
    assert_eq!(history.hit(OTHER, 10_000, Some(last)), None);
    assert!(matches!(history.hit(OWNER, 10_000, Some(first)), Some(Broken::OwnWriteUnseen { .. })));
    let history = OneKey(History::new(&[None], &[BOUND]));
    for at in 0..10_000 {
        history.set(at, at);
    }
    assert!(matches!(history.hit(OWNER, 10_000, Some(1)), Some(Broken::TooStale { .. })));
}

#[test]
fn the_story_of_a_violation_names_the_rule_the_versions_and_the_operations_of_that_key() {
    let history = Arc::new(History::new(&[Some(0), Some(0)], &[BOUND]));
    let mut recorder = Recorder::new(&history, "a task".to_owned(), 0);
    for key in [0, 1] {
        for _ in 0..2 {
            let writing = recorder.begin_write(key, Change::Value);
            recorder.end_write("set", writing, WriteOutcome::Acknowledged);
        }
    }
    let reading = recorder.begin_read(1);
    recorder.end_read("get", reading, Some(1), true);
    assert_eq!(recorder.count(), 5);
    drop(recorder);
    let story = history.story();
    for part in ["OwnWriteUnseen { acknowledged: 2 }: key 1", "v2 Value: begun", "set", "get", "by a task"] {
        assert!(story.contains(part), "{part}: {story}");
    }
    assert!(!story.contains("key 0"), "{story}");
}

#[test]
fn writers_and_readers_at_once_are_checked_without_a_false_alarm() {
    let history = Arc::new(History::new(&[Some(0)], &[Duration::from_secs(3600)]));
    let held = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for name in ["one", "two"] {
            let mut recorder = Recorder::new(&history, name.to_owned(), 0);
            let held = Arc::clone(&held);
            scope.spawn(move || {
                for _ in 0..50_000 {
                    let reading = recorder.begin_read(0);
                    let version = held.load(SeqCst);
                    recorder.end_read("get", reading, (version > 0).then_some(version), true);
                }
            });
        }
        let mut recorder = Recorder::new(&history, "writer".to_owned(), 0);
        for _ in 0..20_000 {
            let writing = recorder.begin_write(0, Change::Value);
            held.store(writing.version, SeqCst);
            recorder.end_write("set", writing, WriteOutcome::Acknowledged);
        }
    });
    assert!(!history.is_broken(), "{}", history.story());
}
