//! Attaching a cache to its backend: at once, or in the background for as long as it takes.

use std::{
    pin::pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{task::AbortHandle, time::sleep};
use twotier_backend::{Backend, BackendResult, Watch};
use twotier_core::{BackendErrorKind, Coherence, Lease, LinkId};

use crate::remote::Home;

/// The first pause before a backend is asked again that could not be attached to. It doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The mode of coherence in force, once the backend has said which.
pub(crate) type Mode = Arc<OnceLock<Coherence>>;
/// Puts the mode in force.
pub(crate) type PutInForce = Box<dyn Fn(Coherence) + Send + Sync>;

/// Attaches, and puts the mode in force.
pub(crate) async fn attach(backend: &dyn Backend, watch: Watch, mode: &PutInForce) -> BackendResult<Coherence> {
    let listener = Arc::clone(&watch.listener);
    let coherence = backend.attach(watch).await?.coherence;
    // Before anything is kept: the mode decides how long.
    mode(coherence);
    if coherence == Coherence::None {
        // Nobody will ever report a change or prove life: the time to live alone bounds the copies, whatever links the
        // backend may have.
        listener.link_up(LinkId::ONLY, Lease::Unlimited);
    }
    Ok(coherence)
}

/// The task that attaches in the background. It ends with this, at the latest.
pub(crate) struct Attaching(AbortHandle);

impl Drop for Attaching {
    fn drop(&mut self) {
        self.end();
    }
}

impl Attaching {
    /// Asks the backend no more.
    pub(crate) fn end(&self) {
        self.0.abort();
    }

    /// Begins to attach; `None` when it is done already, as with a backend inside the process.
    pub(crate) fn begin(runtime: &Home, backend: Arc<dyn Backend>, watch: Watch, mode: PutInForce) -> Option<Self> {
        let mut attached = Box::pin(at_last(backend, watch, mode));
        match pin!(attached.as_mut()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => None,
            Poll::Pending => Some(Self(runtime.spawn(attached))),
        }
    }
}

/// Attaches for as long as it takes, unless the backend is closed.
async fn at_last(backend: Arc<dyn Backend>, watch: Watch, mode: PutInForce) {
    let mut pause = FIRST_PAUSE;
    let mut logged = false;
    loop {
        match attach(&*backend, watch.clone(), &mode).await {
            Ok(coherence) => {
                tracing::info!(namespace = %watch.namespace, %coherence, "cache linked");
                return;
            }
            Err(cause) if cause.kind() == BackendErrorKind::Closed => return,
            // Once: from then on it is the link that says that it is still down.
            Err(cause) if !std::mem::replace(&mut logged, true) => {
                tracing::warn!(namespace = %watch.namespace, %cause, "the backend could not be attached to");
            }
            Err(cause) => tracing::debug!(namespace = %watch.namespace, %cause, "not attached"),
        }
        sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}
