//! Deadlines: of one call, and of a call that goes on as long as anything moves.

use std::{future::poll_fn, pin::pin, time::Duration};

use tokio::{
    runtime::{EnterGuard, Handle},
    task::try_id,
    time::{Sleep, Timeout, sleep, timeout},
};
use twotier_core::Operation;

use super::Remote;
use crate::Result;

/// Runs a future within a runtime, whoever polls it.
pub(crate) async fn entered<F: Future>(runtime: &Handle, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _entered = runtime.enter();
        future.as_mut().poll(context)
    })
    .await
}

impl<V: Send + Sync + 'static> Remote<V> {
    /// Enters this cache's own runtime, so that a backend that is called on the caller's stack finds one; unless the caller
    /// is a task, which has one: to enter is two writes to a counter that every thread writes to.
    pub(super) fn enter_outside_tasks(&self) -> Option<EnterGuard<'_>> {
        try_id().is_none().then(|| self.runtime.enter())
    }

    /// Gives a future a deadline on this cache's own runtime: whoever polls need not be inside one.
    pub(crate) fn timeout<F: Future>(&self, after: Duration, future: F) -> Timeout<F> {
        let _entered = self.runtime.enter();
        timeout(after, future)
    }

    /// Pauses on this cache's own runtime.
    pub(crate) fn sleep(&self, pause: Duration) -> Sleep {
        let _entered = self.runtime.enter();
        sleep(pause)
    }

    /// Waits for the answer to a read, but not longer than the operation timeout.
    pub(crate) async fn within<T>(&self, operation: Operation, call: impl Future<Output = Result<T>>) -> Result<T> {
        match self.timeout(self.settings.op_timeout, call).await {
            Ok(result) => result,
            Err(_elapsed) => {
                self.meter.timed_out();
                Err(self.timed_out(operation, true))
            }
        }
    }

    /// Waits for as long as something moves within each operation timeout; `None` when nothing did.
    pub(crate) async fn while_progressing<T>(
        &self,
        progress: impl Fn() -> u64,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let mut future = pin!(future);
        let mut before = (progress(), self.backend.progress());
        loop {
            if let Ok(output) = self.timeout(self.settings.op_timeout, future.as_mut()).await {
                return Some(output);
            }
            let now = (progress(), self.backend.progress());
            if now == before {
                return None;
            }
            before = now;
        }
    }
}
