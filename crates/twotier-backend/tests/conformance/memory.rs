//! The in-memory backend, alone and in wrappers.

use std::{sync::Arc, time::Duration};

use twotier_backend::{Backend, FaultyBackend, MemoryBackend, async_trait, conformance, conformance::Fixture};
use twotier_core::{Coherence, ManualClock};

/// One store on a clock that is moved by hand, and what its handles are wrapped in.
struct InMemory {
    clock: ManualClock,
    store: MemoryBackend,
    wrap: fn(MemoryBackend) -> Box<dyn Backend>,
}

impl InMemory {
    fn new(wrap: fn(MemoryBackend) -> Box<dyn Backend>) -> Self {
        let clock = ManualClock::new();
        Self { store: MemoryBackend::with_clock(clock.clone()), clock, wrap }
    }

    fn bare() -> Self {
        Self::new(|handle| Box::new(handle))
    }
}

#[async_trait]
impl Fixture for InMemory {
    async fn backend(&self) -> Box<dyn Backend> {
        (self.wrap)(self.store.clone())
    }

    async fn pass_time(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn coherence(&self) -> Coherence {
        Coherence::Broadcast
    }
}

twotier_backend::conformance_tests!(InMemory::bare());

#[tokio::test]
async fn one_store_serves_all_checks() {
    conformance::run(&InMemory::bare()).await;
}

#[tokio::test]
async fn a_faulty_backend_without_faults_changes_nothing() {
    conformance::run(&InMemory::new(|handle| Box::new(FaultyBackend::new(handle)))).await;
}

#[tokio::test]
async fn a_shared_backend_changes_nothing() {
    conformance::run(&InMemory::new(|handle| {
        let shared: Arc<dyn Backend> = Arc::new(handle);
        Box::new(shared)
    }))
    .await;
}
