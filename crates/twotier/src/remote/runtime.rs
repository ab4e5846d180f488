//! The runtime that a cache was built in: its requests run to their end there, and its timers are there.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    runtime::{EnterGuard, Handle},
    sync::oneshot,
    task::{AbortHandle, try_id, unconstrained},
    time::sleep,
};

/// A runtime, and whether it has ended: callers elsewhere go on, and tokio's timers panic where they are polled then.
pub(crate) struct Home {
    handle: Handle,
    ended: Arc<AtomicBool>,
    /// Ends the task that watches the runtime, when the cache goes.
    _cache: oneshot::Sender<()>,
}

/// A deadline that has passed.
pub(crate) struct Elapsed;

impl Home {
    pub(crate) fn new(handle: Handle) -> Self {
        let (cache, gone) = oneshot::channel();
        let ended = Arc::<AtomicBool>::default();
        let end = End(Arc::clone(&ended));
        handle.spawn(async move {
            let _end = end;
            let _gone = gone.await;
        });
        Self { handle, ended, _cache: cache }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Runs a task to its end, unless the runtime ends before.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.handle.spawn(task).abort_handle()
    }

    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Enters the runtime, so that a backend that is called on the caller's stack finds one; unless the caller is a
    /// task, which has one: to enter is two writes to a counter that every thread writes to.
    pub(super) fn enter_outside_tasks(&self) -> Option<EnterGuard<'_>> {
        try_id().is_none().then(|| self.enter())
    }

    /// Runs a future within the runtime, whoever polls it.
    pub(crate) async fn entered<F: Future>(&self, future: F) -> F::Output {
        entered(&self.handle, future).await
    }

    /// Gives a future a deadline, whoever polls it.
    ///
    /// The end of the runtime is not one, since nothing measures the time any more: requests end with the runtime, and
    /// loaders are not the cache's.
    pub(crate) fn timeout<F: Future>(
        &self,
        after: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> {
        let timer = self.timer(after);
        async move {
            let (mut future, mut timer) = (pin!(future), pin!(timer));
            let mut measured = true;
            poll_fn(|context| {
                if let Poll::Ready(output) = future.as_mut().poll(context) {
                    return Poll::Ready(Ok(output));
                }
                if measured && let Poll::Ready(elapsed) = timer.as_mut().poll(context) {
                    measured = elapsed;
                    return if elapsed { Poll::Ready(Err(Elapsed)) } else { Poll::Pending };
                }
                Poll::Pending
            })
            .await
        }
    }

    /// Pauses, but not past the end of the runtime.
    pub(crate) async fn sleep(&self, pause: Duration) {
        let _elapsed = self.timer(pause).await;
    }

    /// Returns whether the time has passed, or the runtime has ended before.
    fn timer(&self, after: Duration) -> impl Future<Output = bool> {
        let ended = &*self.ended;
        let sleep = {
            let _entered = self.enter();
            // A deadline is looked at too where the future before it used up what its task may do between two pauses.
            unconstrained(sleep(after))
        };
        async move {
            let mut sleep = pin!(sleep);
            poll_fn(|context| {
                if ended.load(Ordering::Acquire) {
                    return Poll::Ready(false);
                }
                // The runtime may end between the two, which tokio says by a panic only.
                match catch_unwind(AssertUnwindSafe(|| sleep.as_mut().poll(context))) {
                    Ok(polled) => polled.map(|()| true),
                    Err(_ended) => Poll::Ready(false),
                }
            })
            .await
        }
    }
}

/// Runs a future within a runtime, whoever polls it.
pub(crate) async fn entered<F: Future>(runtime: &Handle, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _entered = runtime.enter();
        future.as_mut().poll(context)
    })
    .await
}

/// Dropped with the task that holds it: when the runtime ends, before its timers do.
struct End(Arc<AtomicBool>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
