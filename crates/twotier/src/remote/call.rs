//! Deadlines: of one call, and of a call that goes on as long as anything moves.

use std::pin::pin;

use tokio::time::Instant;

use super::{Deadline, Remote};

impl<V: Send + Sync + 'static> Remote<V> {
    /// The deadline of a read that began then.
    pub(crate) fn deadline(&self, began: Instant) -> Deadline<'_> {
        self.runtime.deadline(began, self.settings.op_timeout)
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
