//! Deadlines: of one call, and of a call that goes on as long as anything moves.

use std::pin::pin;

use tokio::time::Instant;
use twotier_core::{LinkId, Operation};

use super::{Links, Remote};
use crate::{Result, meter::Call};

impl<V: Send + Sync + 'static> Remote<V> {
    /// Waits for the answer to a read that began then, but not longer than the operation timeout.
    pub(crate) async fn within<T>(
        &self,
        operation: Operation,
        began: Instant,
        link: impl FnOnce() -> LinkId,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match self.runtime.timeout_since(began, self.settings.op_timeout, call).await {
            Ok(result) => result,
            Err(_elapsed) => {
                self.meter.timed_out(Call::Read);
                self.breakers.timed_out(&Links::One(link()));
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
            if let Ok(output) = self.runtime.timeout(self.settings.op_timeout, future.as_mut()).await {
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
