//! The switches of a faulty backend.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep};
use twotier_core::BackendError;

/// Switches the faults of a [`FaultyBackend`](crate::FaultyBackend). Clones switch the same ones.
///
/// Faults add up: a call may be slow *and* fail. Of several errors the first of [`fail_next`](Self::fail_next),
/// [`fail_all`](Self::fail_all) and [`fail_randomly`](Self::fail_randomly) is returned.
/// Whether a call fails is settled when it starts.
#[derive(Clone, Default)]
pub struct Faults {
    shared: Arc<FaultState>,
}

/// On which side of the operation a fault strikes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FaultPoint {
    /// On the way there: a call that fails has had no effect, one that hangs has had none yet.
    #[default]
    Before,
    /// On the way back: the operation takes effect at once, and its caller gets the answer late, a failure, or nothing.
    After,
}

#[derive(Default)]
struct FaultState {
    plan: Mutex<Plan>,
    hanging: watch::Sender<bool>,
    calls: AtomicU64,
    failures: AtomicU64,
}

#[derive(Default)]
struct Plan {
    point: FaultPoint,
    latency: Duration,
    next: Option<(u64, BackendError)>,
    all: Option<BackendError>,
    random: Option<Random>,
}

struct Random {
    rate: f64,
    rng: Rng,
    error: BackendError,
}

impl Faults {
    /// Makes every call take this much longer; zero takes it back. It is slept on tokio's clock.
    pub fn latency(&self, latency: Duration) {
        self.shared.plan.lock().latency = latency;
    }

    /// Makes the next `calls` calls fail, those of earlier plans forgotten.
    pub fn fail_next(&self, calls: u64, error: BackendError) {
        self.shared.plan.lock().next = Some((calls, error));
    }

    /// Makes every call fail until it is called with `None`.
    pub fn fail_all(&self, error: Option<BackendError>) {
        self.shared.plan.lock().all = error;
    }

    /// Makes calls fail with this probability, the same ones for the same seed; a rate of 0 takes it back.
    pub fn fail_randomly(&self, rate: f64, seed: u64, error: BackendError) {
        self.shared.plan.lock().random = (rate > 0.0).then(|| Random { rate, rng: Rng::with_seed(seed), error });
    }

    /// Makes calls never return; `false` lets all go on that hang.
    ///
    /// This breaks the contract that every call ends, as a backend that cannot be trusted does.
    pub fn hang(&self, hang: bool) {
        self.shared.hanging.send_replace(hang);
    }

    /// Sets on which side of the operations faults strike from now on.
    pub fn strike(&self, point: FaultPoint) {
        self.shared.plan.lock().point = point;
    }

    /// Takes every fault back. Counts stay.
    pub fn heal(&self) {
        *self.shared.plan.lock() = Plan::default();
        self.hang(false);
    }

    /// Returns how many calls there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Returns how many calls were made to fail.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::SeqCst)
    }

    /// Runs an operation under the faults in force.
    pub(super) async fn call<T>(
        &self,
        operation: impl Future<Output = T>,
        failed: impl FnOnce(BackendError) -> T,
    ) -> T {
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        let (point, latency, error) = self.shared.plan.lock().decide();
        match point {
            FaultPoint::Before => {
                self.obstruct(latency).await;
                match error {
                    None => operation.await,
                    Some(error) => failed(self.counted(error)),
                }
            }
            FaultPoint::After => {
                let answer = operation.await;
                self.obstruct(latency).await;
                match error {
                    None => answer,
                    Some(error) => failed(self.counted(error)),
                }
            }
        }
    }

    fn counted(&self, error: BackendError) -> BackendError {
        self.shared.failures.fetch_add(1, Ordering::SeqCst);
        error
    }

    async fn obstruct(&self, latency: Duration) {
        let mut hanging = self.shared.hanging.subscribe();
        // Fails only when the sender is gone, and `self` holds it.
        let _ = hanging.wait_for(|hanging| !hanging).await;
        if !latency.is_zero() {
            sleep(latency).await;
        }
    }
}

impl Plan {
    /// Settles one call.
    fn decide(&mut self) -> (FaultPoint, Duration, Option<BackendError>) {
        let next = match &mut self.next {
            Some((calls @ 1.., error)) => {
                *calls -= 1;
                Some(error.clone())
            }
            _ => None,
        };
        // Drawn for every call, so that the other faults do not move the sequence.
        let random = self.random.as_mut().and_then(|random| {
            let struck = random.rng.f64() < random.rate;
            struck.then(|| random.error.clone())
        });
        let error = next.or_else(|| self.all.clone()).or(random);
        (self.point, self.latency, error)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("calls", &self.calls())
            .field("failures", &self.failures())
            .field("hanging", &*self.shared.hanging.borrow())
            .finish_non_exhaustive()
    }
}
