use twotier_core::BackendErrorKind;

use super::*;

const PATIENCE: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(2);

fn breaker(failures: u32) -> Breaker {
    let silence = Duration::from_secs(1);
    Breaker::new(BreakerOptions { failures, silence, longest_pause: LONGEST, patience: PATIENCE })
}

fn silence() -> BackendError {
    BackendError::new(BackendErrorKind::Timeout, "no answer")
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Opens a breaker, and returns when that was.
fn opened() -> (Breaker, Instant) {
    let (mut breaker, now) = (breaker(3), Instant::now());
    let changes = [0, 1, 2].map(|_| breaker.failed(now, now, &silence()));
    assert!(matches!(changes, [None, None, Some(Change::Opened(_))]));
    (breaker, now)
}

#[test]
fn it_opens_at_the_third_failure_in_a_row_and_an_answer_in_between_begins_anew() {
    let (mut breaker, now) = (breaker(3), Instant::now());
    for _ in 0..10 {
        for _ in 0..2 {
            assert!(breaker.failed(now, now, &silence()).is_none());
        }
        assert!(!breaker.is_quiet());
        assert!(breaker.answered(now).is_none());
        assert!(breaker.is_quiet());
    }
    assert_eq!(breaker.state(now), BreakerState::Closed);
}

#[test]
fn it_opens_earlier_after_a_second_of_silence_but_not_because_of_one_call() {
    let (mut breaker, began) = (breaker(100), Instant::now());
    assert!(breaker.failed(began, began + millis(5000), &silence()).is_none(), "one call may be slow by itself");
    assert!(breaker.answered(began + millis(5000)).is_none());
    let began = began + millis(6000);
    assert!(breaker.failed(began, began + millis(500), &silence()).is_none());
    assert!(breaker.failed(began + millis(500), began + millis(1000), &silence()).is_some());
}

#[test]
fn while_it_is_open_nothing_is_made_and_no_pause_is_longer_than_the_longest() {
    let (mut breaker, mut now) = opened();
    for _ in 0..20 {
        let Phase::Open(_, until) = breaker.phase else { panic!("it is open") };
        assert!(until <= now + LONGEST);
        if now < until {
            assert!(matches!(breaker.decide(now), Verdict::Refuse(error) if !error.may_have_executed()));
        }
        now = until;
        assert_eq!(breaker.state(now), BreakerState::HalfOpen);
        assert!(matches!(breaker.decide(now), Verdict::Try(_)));
        assert!(matches!(breaker.decide(now), Verdict::Refuse(_)), "one at a time");
        assert!(breaker.failed(now, now + PATIENCE, &silence()).is_none(), "it was open before");
        now += PATIENCE;
    }
    assert_eq!(breaker.opened(), 1);
}

#[test]
fn calls_from_before_it_opened_do_not_end_a_try() {
    let (mut breaker, began) = opened();
    let now = began + LONGEST;
    assert!(matches!(breaker.decide(now), Verdict::Try(_)));
    let _none = breaker.failed(began, now, &silence());
    assert!(matches!(breaker.phase, Phase::HalfOpen(..)));
}

#[test]
fn calls_from_before_it_closed_do_not_open_it_again() {
    let (mut breaker, began) = opened();
    assert!(matches!(breaker.answered(began + LONGEST), Some(Change::Closed(after)) if after == LONGEST));
    for _ in 0..10 {
        assert!(breaker.failed(began, began + LONGEST, &silence()).is_none());
    }
    assert!(breaker.is_quiet());
}

#[test]
fn a_try_that_never_ends_holds_nobody_up() {
    let (mut breaker, began) = opened();
    let now = began + LONGEST;
    let Verdict::Try(first) = breaker.decide(now) else { panic!("it is due") };
    assert!(matches!(breaker.decide(now + PATIENCE - millis(1)), Verdict::Refuse(_)));
    let Verdict::Try(second) = breaker.decide(now + PATIENCE) else { panic!("the first was given up") };
    assert_ne!(first, second);
    breaker.gave_up(first, now + PATIENCE);
    assert!(matches!(breaker.phase, Phase::HalfOpen(..)), "not the one that is under way");
    breaker.gave_up(second, now + PATIENCE);
    assert!(matches!(breaker.phase, Phase::Open(..)));
}

#[test]
fn a_sign_of_life_has_the_next_call_tried_at_once() {
    let (mut breaker, now) = opened();
    breaker.showed_life(now);
    assert!(matches!(breaker.decide(now), Verdict::Try(_)));
    assert!(matches!(breaker.answered(now), Some(Change::Closed(_))));
    assert!(matches!(breaker.decide(now), Verdict::Make));
}

#[test]
fn without_a_number_of_failures_there_is_no_breaker() {
    let (mut breaker, now) = (breaker(0), Instant::now());
    assert!((0..100).all(|after| breaker.failed(now, now + millis(after * 100), &silence()).is_none()));
}
