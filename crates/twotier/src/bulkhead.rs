//! How many loaders run at a time while the backend does not answer.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use twotier_core::{BackendError, BackendErrorKind, Error, Operation};

use crate::{Result, remote::Remote};

/// Keeps the origin from the load that the backend bears while it is there.
///
/// A place belongs to a task of the cache's runtime, which lends it: a loader runs in the future of its caller, which
/// may never be polled again, and is not to keep its place for longer than a loader may run.
#[derive(Debug)]
pub(crate) struct Bulkhead {
    places: Arc<Semaphore>,
    count: usize,
}

/// A place, until this is dropped.
#[must_use = "the place is given back as this is dropped"]
pub(crate) struct Place {
    _given_back: oneshot::Sender<()>,
}

impl Bulkhead {
    pub(crate) fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), count: places }
    }

    /// Waits for a place, in the order of the calls, for as long as one waits for somebody else's load. `cause` is why
    /// the backend does not answer.
    pub(crate) async fn enter<V: Send + Sync + 'static>(
        &self,
        remote: &Remote<V>,
        operation: Operation,
        cause: &Error,
    ) -> Result<Place> {
        remote.meter.loads_in_outage();
        let (given, place) = oneshot::channel();
        let lend = lend(Arc::clone(&self.places), given, remote.settings.load_timeout);
        let _task = remote.runtime.spawn(lend);
        match remote.runtime.timeout(remote.settings.load_wait, place).await {
            Ok(Ok(place)) => Ok(place),
            // The runtime has ended, and nothing bounds anything any more.
            Ok(Err(_dropped)) => Ok(Place { _given_back: oneshot::channel().0 }),
            Err(_elapsed) => {
                remote.meter.refused_in_outage();
                let message = format!(
                    "the backend does not answer, and {} loaders ran for {} ms already",
                    self.count,
                    remote.settings.load_wait.as_millis()
                );
                let source =
                    BackendError::new(BackendErrorKind::Unavailable, message).not_sent().with_source(cause.clone());
                Err(remote.backend_failed(operation, source))
            }
        }
    }
}

/// Waits for a place for somebody who still wants it, and lends it for so long at most.
async fn lend(places: Arc<Semaphore>, mut given: oneshot::Sender<Place>, longest: Duration) {
    let permit: OwnedSemaphorePermit = tokio::select! {
        biased;
        () = given.closed() => return,
        permit = places.acquire_owned() => match permit {
            Ok(permit) => permit,
            Err(_closed) => return,
        },
    };
    let (_given_back, mut back) = oneshot::channel();
    if given.send(Place { _given_back }).is_ok() {
        let _back = timeout(longest, &mut back).await;
    }
    drop(permit);
}
