//! What all clones of a cache share: the two tiers.

use std::sync::Arc;

use crate::attach::Attaching;
use crate::remote::{Local, Remote};

pub(crate) struct Tiers<V> {
    /// Never absent: without local copies it keeps nothing, and its tickets hold the same promises.
    pub(crate) local: Local<V>,
    pub(crate) remote: Arc<Remote<V>>,
    /// While the first link is made in the background.
    pub(crate) attaching: Option<Attaching>,
}

/// Lets others run after so many steps of a loop that may be long, and has nothing to wait for by itself.
#[inline]
pub(crate) async fn yield_every(step: usize) {
    if step > 0 && step.is_multiple_of(crate::remote::BATCH) {
        tokio::task::yield_now().await;
    }
}
