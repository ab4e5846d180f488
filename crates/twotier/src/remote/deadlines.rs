//! Deadlines: one timer for however many wait.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    future::poll_fn,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, sleep_until},
};

/// As good as never, for what lies beyond the end of the clock.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);
/// How many nanoseconds a tick has: deadlines within one pass together at its end, as tokio's timers do.
const TICK: u32 = 1_000_000;

/// The deadlines of one cache's calls, measured by a task of its runtime.
///
/// A timer of its own for each call would be a registration with the runtime, whose lock and whose counter of handles
/// every thread writes to. Nearly all calls end long before their deadlines, which are mostly equally far away: what
/// they pay here is a place at the end of a row, and leaving it.
pub(super) struct Deadlines(Arc<Shared>);

#[derive(Default)]
#[repr(align(128))]
struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the task when its next deadline lies before the one it waits for.
    earlier: Notify,
}

/// Locked for a few moves of memory: no waker is cloned, called or dropped under the lock.
#[derive(Default)]
struct Queue {
    /// Ticks are counted from here: the first deadline was set then.
    born: Option<Instant>,
    /// By tick: those that have one in common together. Each has somebody who waits.
    waiting: BTreeMap<u64, Row>,
    /// Tells rows apart that have one tick, one after the other.
    last: u64,
    /// The memory of the last row that nobody was left in, for the next.
    spare: Vec<Option<Waker>>,
    /// Until when the task waits; `None` where there is none. It stays after the end of the runtime: nothing measures
    /// the time any more then.
    armed: Option<u64>,
}

/// Those whose deadlines lie in one tick.
struct Row {
    id: u64,
    /// `None` for those who left.
    wakers: Vec<Option<Waker>>,
    waiting: usize,
}

/// A place in a row.
#[derive(Clone, Copy)]
struct DeadlineSlot {
    tick: u64,
    row: u64,
    index: usize,
}

/// A deadline that has passed.
pub(crate) struct Elapsed;

impl Deadlines {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// A deadline so long after a call began.
    pub(super) fn at<'d>(&'d self, runtime: &'d Handle, began: Instant, after: Duration) -> Deadline<'d> {
        let at = began.checked_add(after).unwrap_or(began + NEVER);
        Deadline { deadlines: self, runtime, at, slot: None }
    }
}

/// A deadline, which somebody waits for until this is dropped.
pub(crate) struct Deadline<'d> {
    deadlines: &'d Deadlines,
    runtime: &'d Handle,
    at: Instant,
    /// Once it is in the queue.
    slot: Option<DeadlineSlot>,
}

impl Deadline<'_> {
    /// Gives it to a future, whoever polls that.
    pub(super) async fn of<F: Future>(mut self, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if self.has_passed(context.waker()) => Poll::Ready(Err(Elapsed)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Returns whether the deadline has passed; else it wakes the waker when it does.
    pub(crate) fn has_passed(&mut self, waker: &Waker) -> bool {
        let shared = &self.deadlines.0;
        let Some(slot) = self.slot else {
            let waker = waker.clone();
            let mut queue = shared.queue.lock();
            let slot = queue.add(self.at, waker);
            let armed = queue.armed;
            let earlier = armed.is_none_or(|armed| slot.tick < armed);
            if earlier {
                queue.armed = Some(slot.tick);
            }
            drop(queue);
            self.slot = Some(slot);
            match armed {
                None => drop(self.runtime.spawn(measure(Arc::clone(shared)))),
                Some(_) if earlier => shared.earlier.notify_one(),
                Some(_) => {}
            }
            return false;
        };
        let is_held = |held: &mut Option<Waker>| held.as_ref().is_some_and(|held| held.will_wake(waker));
        let Some(held) = shared.queue.lock().at(slot).map(is_held) else { return true };
        if held {
            return false;
        }
        let mut waker = Some(waker.clone());
        let mut queue = shared.queue.lock();
        let earlier = queue.at(slot).map(|held| mem::swap(held, &mut waker));
        drop(queue);
        earlier.is_none()
    }
}

impl Drop for Deadline<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        let waker = self.deadlines.0.queue.lock().leave(slot);
        // Outside the lock.
        drop(waker);
    }
}

/// Wakes everybody whose deadline has passed, for as long as anybody waits.
async fn measure(shared: Arc<Shared>) {
    loop {
        let (passed, next) = shared.queue.lock().passed(Instant::now());
        for waker in passed.into_iter().flatten() {
            // That of an executor which panics must not end the deadlines of everybody else.
            let _panicked = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        let Some(next) = next else { return };
        tokio::select! {
            () = sleep_until(next) => {}
            () = shared.earlier.notified() => {}
        }
    }
}

impl Queue {
    fn add(&mut self, at: Instant, waker: Waker) -> DeadlineSlot {
        let since = at.saturating_duration_since(*self.born.get_or_insert_with(Instant::now));
        // Rounded up: no deadline passes early.
        let tick = since.as_secs() * 1000 + u64::from(since.subsec_nanos().div_ceil(TICK));
        let row = self.waiting.entry(tick).or_insert_with(|| {
            self.last += 1;
            Row { id: self.last, wakers: mem::take(&mut self.spare), waiting: 0 }
        });
        row.wakers.push(Some(waker));
        row.waiting += 1;
        DeadlineSlot { tick, row: row.id, index: row.wakers.len() - 1 }
    }

    /// Returns where a waker is, unless its row has passed.
    fn at(&mut self, slot: DeadlineSlot) -> Option<&mut Option<Waker>> {
        self.waiting.get_mut(&slot.tick).filter(|row| row.id == slot.row)?.wakers.get_mut(slot.index)
    }

    fn leave(&mut self, slot: DeadlineSlot) -> Option<Waker> {
        let Entry::Occupied(mut entry) = self.waiting.entry(slot.tick) else { return None };
        let row = entry.get_mut();
        if row.id != slot.row {
            return None;
        }
        let waker = row.wakers.get_mut(slot.index)?.take()?;
        row.waiting -= 1;
        if row.waiting == 0 {
            // Everybody has left it: no waker is dropped here.
            self.spare = entry.remove().wakers;
            self.spare.clear();
        }
        Some(waker)
    }

    /// Takes those of the next tick if it has passed, and returns the next deadline, from which on the task is armed.
    fn passed(&mut self, now: Instant) -> (Vec<Option<Waker>>, Option<Instant>) {
        let born = self.born.unwrap_or(now);
        let end = |tick: u64| born + Duration::from_millis(tick);
        let passed = match self.waiting.first_entry() {
            Some(first) if end(*first.key()) <= now => first.remove().wakers,
            _ => Vec::new(),
        };
        self.armed = self.waiting.keys().next().copied();
        (passed, self.armed.map(end))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        task::Context,
    };

    use tokio::time::advance;

    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    async fn elapses(deadlines: &Deadlines, after: Duration) -> Duration {
        let began = Instant::now();
        let ended = deadlines.at(&Handle::current(), began, after).of(pending::<()>()).await;
        assert!(ended.is_err());
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn each_ends_at_its_own_deadline_whatever_the_order_in_which_they_came() {
        let deadlines = Deadlines::new();
        let long = elapses(&deadlines, millis(3_000));
        let short = elapses(&deadlines, millis(500));
        let later = elapses(&deadlines, millis(3_500));
        let (long, short, later) = tokio::join!(long, short, later);
        let late = |ended: Duration, after| ended >= millis(after) && ended <= millis(after + 2);
        assert!(late(long, 3_000) && late(short, 500) && late(later, 3_500), "{long:?} {short:?} {later:?}");
        assert!(deadlines.0.queue.lock().waiting.is_empty());
        assert!(late(elapses(&deadlines, millis(10)).await, 10), "the timer does not start again");
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_end_at_one_time_each_is_woken() {
        let deadlines = Deadlines::new();
        let together = (0..200).map(|_| elapses(&deadlines, millis(100)));
        let ended = futures_util::future::join_all(together).await;
        assert!(ended.iter().all(|after| *after <= millis(102)), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_at_the_deadline_wins_and_whoever_is_dropped_leaves_nothing() {
        let deadlines = Deadlines::new();
        let runtime = Handle::current();
        assert!(deadlines.at(&runtime, Instant::now(), Duration::ZERO).of(ready(())).await.is_ok());
        {
            let mut waits = pin!(deadlines.at(&runtime, Instant::now(), millis(100)).of(pending::<()>()));
            assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(deadlines.0.queue.lock().waiting.len(), 1);
        }
        assert!(deadlines.0.queue.lock().waiting.is_empty());
    }

    #[test]
    fn who_leaves_late_takes_nobodys_place_in_a_new_row_of_the_same_tick() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let late = queue.add(now, Waker::noop().clone());
        let (passed, next) = queue.passed(now + millis(1));
        assert_eq!((passed.len(), next), (1, None));
        let waits = queue.add(now, Waker::noop().clone());
        assert_eq!((late.tick, late.index), (waits.tick, waits.index));
        assert!(queue.at(late).is_none() && queue.leave(late).is_none());
        assert!(queue.at(waits).is_some_and(|waker| waker.is_some()));
        assert!(queue.leave(waits).is_some() && queue.waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_moves_to_another_task_is_woken_there() {
        let deadlines = Arc::new(Deadlines::new());
        let runtime = Handle::current();
        let mut waits =
            Box::pin(
                async move { deadlines.at(&runtime, Instant::now(), millis(100)).of(pending::<()>()).await.is_err() },
            );
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let moved = tokio::spawn(waits);
        advance(millis(200)).await;
        assert!(moved.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn the_timer_ends_once_nobody_waits() {
        let deadlines = Deadlines::new();
        elapses(&deadlines, millis(10)).await;
        tokio::time::sleep(millis(10)).await;
        assert_eq!((deadlines.0.queue.lock().armed, Arc::strong_count(&deadlines.0)), (None, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waker_that_panics_ends_nobody_elses_deadline() {
        struct Bad;
        impl std::task::Wake for Bad {
            fn wake(self: Arc<Self>) {
                std::panic::resume_unwind(Box::new(()));
            }
        }
        let deadlines = Deadlines::new();
        let runtime = Handle::current();
        let mut waits = pin!(deadlines.at(&runtime, Instant::now(), millis(10)).of(pending::<()>()));
        let bad = Waker::from(Arc::new(Bad));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
        elapses(&deadlines, millis(10)).await;
        elapses(&deadlines, millis(10)).await;
    }

    #[test]
    fn a_deadline_beyond_the_end_of_the_clock_is_never() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let deadlines = Deadlines::new();
        let mut waits = pin!(deadlines.at(runtime.handle(), Instant::now(), Duration::MAX).of(pending::<()>()));
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}
