//! The runtime that a cache was built in: its requests run to their end there, and its timers are there.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::{EnterGuard, Handle},
    sync::oneshot,
    task::{AbortHandle, try_id},
    time::{Instant, sleep},
};

use super::deadlines::{Deadline, Deadlines, Elapsed};

/// A runtime, and whether it has ended: callers elsewhere go on, and tokio's timers panic where they are polled then.
pub(crate) struct Home {
    handle: Handle,
    ended: Arc<AtomicBool>,
    deadlines: Deadlines,
    /// Ends the task that watches the runtime, when the cache goes.
    _cache: oneshot::Sender<()>,
}

impl Home {
    pub(crate) fn new(handle: Handle) -> Self {
        let (cache, gone) = oneshot::channel();
        let ended = Arc::<AtomicBool>::default();
        let end = End(Arc::clone(&ended));
        handle.spawn(async move {
            let _end = end;
            let _gone = gone.await;
        });
        Self { handle, ended, deadlines: Deadlines::new(), _cache: cache }
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

    /// Gives a future a deadline from now on, whoever polls it.
    ///
    /// The end of the runtime is not one, since nothing measures the time any more: requests end with the runtime, and
    /// loaders are not the cache's.
    pub(crate) fn timeout<F: Future>(
        &self,
        after: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> {
        self.deadline(Instant::now(), after).of(future)
    }

    /// A deadline so long after a call began, as that of [`timeout`](Self::timeout).
    pub(super) fn deadline(&self, began: Instant, after: Duration) -> Deadline<'_> {
        self.deadlines.at(&self.handle, began, after)
    }

    /// Pauses, but not past the end of the runtime.
    pub(crate) async fn sleep(&self, pause: Duration) {
        let _ended = self.handle.spawn(async move { sleep(pause).await }).await;
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
