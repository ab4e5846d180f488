//! Deadlines: one timer for however many wait.

use std::{
    collections::BTreeMap,
    future::poll_fn,
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
/// The most who are woken for one hold of the lock.
const WOKEN_AT_ONCE: usize = 64;

/// The deadlines of one cache's calls, measured by a task of its runtime.
///
/// A timer of its own for each call would be a registration with the runtime, whose lock and whose counter of handles
/// every thread writes to. Nearly all calls end long before their deadlines: what they pay here is two moves in a
/// sorted map.
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
    waiting: BTreeMap<Deadline, Waker>,
    /// Tells those apart who have one deadline.
    last: u64,
    /// Until when the task waits; `None` where there is none. It stays after the end of the runtime: nothing measures
    /// the time any more then.
    armed: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Deadline {
    at: Instant,
    number: u64,
}

/// A deadline that has passed.
pub(crate) struct Elapsed;

impl Deadlines {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Gives a future a deadline from now on, whoever polls it.
    pub(super) fn within<F: Future>(
        &self,
        runtime: &Handle,
        after: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> {
        let now = Instant::now();
        let at = now.checked_add(after).unwrap_or(now + NEVER);
        async move {
            let mut future = pin!(future);
            let mut place = Place { deadlines: self, runtime, at, deadline: None };
            poll_fn(|context| match future.as_mut().poll(context) {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending if place.has_passed(context.waker()) => Poll::Ready(Err(Elapsed)),
                Poll::Pending => Poll::Pending,
            })
            .await
        }
    }
}

/// Somebody who waits, until this is dropped.
struct Place<'d> {
    deadlines: &'d Deadlines,
    runtime: &'d Handle,
    at: Instant,
    /// Once it is in the queue.
    deadline: Option<Deadline>,
}

impl Place<'_> {
    /// Returns whether the deadline has passed; else it wakes the waker when it does.
    fn has_passed(&mut self, waker: &Waker) -> bool {
        let shared = &self.deadlines.0;
        let Some(deadline) = self.deadline else {
            let waker = waker.clone();
            let mut queue = shared.queue.lock();
            queue.last += 1;
            let deadline = Deadline { at: self.at, number: queue.last };
            self.deadline = Some(deadline);
            queue.waiting.insert(deadline, waker);
            let armed = queue.armed;
            if armed.is_none_or(|armed| self.at < armed) {
                queue.armed = Some(self.at);
            }
            drop(queue);
            match armed {
                None => drop(self.runtime.spawn(measure(Arc::clone(shared)))),
                Some(armed) if self.at < armed => shared.earlier.notify_one(),
                Some(_) => {}
            }
            return false;
        };
        let is_held = |held: &mut Waker| held.will_wake(waker);
        let Some(held) = shared.queue.lock().waiting.get_mut(&deadline).map(is_held) else { return true };
        if held {
            return false;
        }
        let mut waker = waker.clone();
        let mut queue = shared.queue.lock();
        let earlier = queue.waiting.get_mut(&deadline).map(|held| std::mem::swap(held, &mut waker));
        drop(queue);
        earlier.is_none()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(deadline) = self.deadline else { return };
        let waker = self.deadlines.0.queue.lock().waiting.remove(&deadline);
        // Outside the lock.
        drop(waker);
    }
}

/// Wakes everybody whose deadline has passed, for as long as anybody waits.
async fn measure(shared: Arc<Shared>) {
    loop {
        let (passed, next) = shared.queue.lock().passed(Instant::now());
        for waker in passed {
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
    /// Takes those whose deadline has passed, up to a number at once, and returns the next deadline, from which on the
    /// task is armed.
    fn passed(&mut self, now: Instant) -> (Vec<Waker>, Option<Instant>) {
        let mut passed = Vec::new();
        let mut next = None;
        while let Some(first) = self.waiting.first_entry() {
            let at = first.key().at;
            if at > now || passed.len() == WOKEN_AT_ONCE {
                next = Some(at);
                break;
            }
            passed.push(first.remove());
        }
        self.armed = next;
        (passed, next)
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
        let ended = deadlines.within(&Handle::current(), after, pending::<()>()).await;
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
    async fn more_end_at_one_time_than_are_woken_at_once() {
        let deadlines = Deadlines::new();
        let together = (0..3 * WOKEN_AT_ONCE).map(|_| elapses(&deadlines, millis(100)));
        let ended = futures_util::future::join_all(together).await;
        assert!(ended.iter().all(|after| *after <= millis(102)), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_at_the_deadline_wins_and_whoever_is_dropped_leaves_nothing() {
        let deadlines = Deadlines::new();
        let runtime = Handle::current();
        assert!(deadlines.within(&runtime, Duration::ZERO, ready(())).await.is_ok());
        {
            let mut waits = pin!(deadlines.within(&runtime, millis(100), pending::<()>()));
            assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(deadlines.0.queue.lock().waiting.len(), 1);
        }
        assert!(deadlines.0.queue.lock().waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_moves_to_another_task_is_woken_there() {
        let deadlines = Arc::new(Deadlines::new());
        let runtime = Handle::current();
        let mut waits =
            Box::pin(async move { deadlines.within(&runtime, millis(100), pending::<()>()).await.is_err() });
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
        let mut waits = pin!(deadlines.within(&runtime, millis(10), pending::<()>()));
        let bad = Waker::from(Arc::new(Bad));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
        elapses(&deadlines, millis(10)).await;
        elapses(&deadlines, millis(10)).await;
    }

    #[test]
    fn a_deadline_beyond_the_end_of_the_clock_is_never() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let deadlines = Deadlines::new();
        let mut waits = pin!(deadlines.within(runtime.handle(), Duration::MAX, pending::<()>()));
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}
