//! `touch`: the life of a value, apart from the value.

use std::time::Duration;

use twotier_core::Operation;

use crate::{Result, sliding::start_touch, spans::spanned, tiers::Tiers};

impl<V: Send + Sync + 'static> Tiers<V> {
    /// Has a value live so long from now on, and returns whether it was there. One round trip.
    pub(crate) async fn touch(&self, key: &str, ttl: Duration) -> Result<bool> {
        let operation = Operation::Touch;
        self.remote.check_key(operation, key)?;
        self.remote.open(operation)?;
        let ttl = self.remote.checked_ttl(operation, ttl)?;
        self.settle(operation, key).await?;
        let touched = start_touch(&self.local, &self.remote, operation, key.into(), ttl);
        spanned!("twotier.write", self.remote, operation, 1, outcome, self.remote.written(touched))
    }
}
