//! What all clones of a cache share: the two tiers.

use std::{future::poll_fn, sync::Arc, task::Poll};

use crate::attach::Attaching;
use crate::audit::Auditor;
use crate::events::EventSender;
use crate::remote::{Local, Remote};

pub(crate) struct Tiers<V> {
    /// Never absent: without local copies it keeps nothing, and its tickets hold the same promises.
    pub(crate) local: Local<V>,
    pub(crate) remote: Arc<Remote<V>>,
    pub(crate) events: EventSender,
    /// While the first link is made in the background.
    pub(crate) attaching: Option<Attaching>,
    /// Where local hits are audited.
    pub(crate) auditor: Option<Auditor>,
}

/// Lets others run after so many steps of a loop that may be long, and has nothing to wait for by itself.
#[inline]
pub(crate) async fn yield_every(step: usize) {
    if step > 0 && step.is_multiple_of(crate::remote::BATCH) {
        yield_now().await;
    }
}

/// Lets others run, and goes on whoever polls.
///
/// tokio's own leaves the wake-up to the worker thread that it runs on, which may be waiting for this very future.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
