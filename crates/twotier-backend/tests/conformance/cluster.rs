//! The cluster in memory: a client of three primaries.

use std::time::Duration;

use twotier_backend::{Backend, MemoryCluster, async_trait, conformance::Fixture};
use twotier_core::{Coherence, ManualClock};

struct Clustered {
    clock: ManualClock,
    cluster: MemoryCluster,
}

impl Clustered {
    fn new() -> Self {
        let clock = ManualClock::new();
        Self { cluster: MemoryCluster::with_clock(3, clock.clone()), clock }
    }
}

#[async_trait]
impl Fixture for Clustered {
    async fn backend(&self) -> Box<dyn Backend> {
        Box::new(self.cluster.client())
    }

    async fn pass_time(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn coherence(&self) -> Coherence {
        Coherence::Broadcast
    }
}

twotier_backend::conformance_tests!(Clustered::new());
