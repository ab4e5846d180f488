//! Reads that go by themselves, each in one of a few futures that are made once.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Weak},
    task::{Poll, Waker},
};

use parking_lot::Mutex;

use super::inline::Inline;

/// The most futures that are kept for later reads.
const IDLE: usize = 32;

/// Futures that take one job after the other: what a read over a connection needs is more than a kilobyte, which
/// allocators do not keep at hand, least of all from one thread to another.
///
/// They run where they are woken, see [`Inline`], and end with this.
pub(super) struct Lanes<J>(Arc<Mutex<State<J>>>);

struct State<J> {
    /// Jobs for lanes that have been woken.
    jobs: VecDeque<J>,
    /// Those that wait for a job.
    idle: Vec<Waker>,
}

impl<J: Send + 'static> Lanes<J> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { jobs: VecDeque::new(), idle: Vec::new() })))
    }

    /// Runs a job: begins it on the stack of the caller. `run` is what each job is done by.
    pub(super) fn start<F>(&self, job: J, run: impl Fn(J) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let idle = {
            let mut state = self.0.lock();
            state.jobs.push_back(job);
            state.idle.pop()
        };
        match idle {
            Some(lane) => lane.wake(),
            None => Inline::run(lane(Arc::downgrade(&self.0), run)),
        }
    }
}

async fn lane<J, F: Future<Output = ()>>(lanes: Weak<Mutex<State<J>>>, run: impl Fn(J) -> F) {
    while let Some(job) = next(&lanes).await {
        run(job).await;
    }
}

/// Waits for a job; `None` once there will be none for this lane.
async fn next<J>(lanes: &Weak<Mutex<State<J>>>) -> Option<J> {
    poll_fn(|context| {
        let Some(lanes) = lanes.upgrade() else { return Poll::Ready(None) };
        let mut state = lanes.lock();
        if let Some(job) = state.jobs.pop_front() {
            return Poll::Ready(Some(job));
        }
        // Woken by what a job left behind, it waits already.
        if !state.idle.iter().any(|idle| idle.will_wake(context.waker())) {
            if state.idle.len() >= IDLE {
                return Poll::Ready(None);
            }
            state.idle.push(context.waker().clone());
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    type Job = oneshot::Receiver<Arc<AtomicUsize>>;

    async fn count(job: Job) {
        if let Ok(counter) = job.await {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn jobs_run_side_by_side_and_lanes_are_used_again() {
        let (lanes, done) = (Lanes::<Job>::new(), Arc::new(AtomicUsize::new(0)));
        for round in 1..=3 {
            let senders: Vec<_> = (0..3)
                .map(|_| {
                    let (sender, job) = oneshot::channel();
                    lanes.start(job, count);
                    sender
                })
                .collect();
            for sender in senders.into_iter().rev() {
                sender.send(Arc::clone(&done)).unwrap();
            }
            assert_eq!((done.load(Ordering::SeqCst), lanes.0.lock().idle.len()), (3 * round, 3));
        }
    }

    #[test]
    fn a_lane_that_is_woken_for_nothing_waits_once() {
        let lanes = Lanes::<Job>::new();
        drop({
            let (sender, job) = oneshot::channel();
            lanes.start(job, count);
            sender
        });
        let idle = lanes.0.lock().idle[0].clone();
        idle.wake_by_ref();
        idle.wake();
        assert_eq!(lanes.0.lock().idle.len(), 1);
    }

    #[test]
    fn a_job_that_panics_ends_its_lane_and_no_other() {
        let (lanes, done) = (Lanes::<Job>::new(), Arc::new(AtomicUsize::new(0)));
        lanes.start(oneshot::channel().1, |_job| async { std::panic::resume_unwind(Box::new(())) });
        let (sender, job) = oneshot::channel();
        lanes.start(job, count);
        sender.send(Arc::clone(&done)).unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn lanes_that_wait_end_with_what_they_belong_to_and_those_at_work_after_their_job() {
        let (lanes, done) = (Lanes::<Job>::new(), Arc::new(AtomicUsize::new(0)));
        let (at_work, job) = oneshot::channel();
        lanes.start(job, count);
        lanes.start(oneshot::channel().1, count);
        let (left, waker) = (Arc::downgrade(&lanes.0), lanes.0.lock().idle[0].clone());
        drop(lanes);
        assert!(left.upgrade().is_none(), "a lane keeps what it belongs to");
        waker.wake();
        at_work.send(Arc::clone(&done)).unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }
}
