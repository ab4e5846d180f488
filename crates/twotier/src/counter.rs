//! `increment`: numbers that the backend adds to.

use std::sync::Arc;

use bytes::Bytes;
use twotier_backend::Counted;
use twotier_core::{Error, Operation};
use twotier_local::Digest;

use crate::{
    Result, SetOptions,
    meter::{Call, failure},
    remote::{Cost, Remote},
    spans::spanned,
    tiers::Tiers,
};

/// A number of as many digits as every type of numbers has, which no other encoding reads as the same bytes.
const PROBE: &[u8] = b"120";

impl<V: Send + Sync + 'static> Tiers<V> {
    /// Adds to a number, and returns what it is then. One round trip.
    pub(crate) async fn increment(&self, key: &str, by: i64, options: SetOptions) -> Result<i64> {
        let operation = Operation::Increment;
        self.remote.check_key(operation, key)?;
        self.remote.open(operation)?;
        if !*self.counts.get_or_init(|| self.remote.has_decimal_numbers(key)) {
            let hint = "the values of this cache are not whole numbers in decimal text: a `Cache<i64>` with the codec \
                        `Json` has them, as have other types of whole numbers, and `Text`";
            return Err(Error::Usage { operation, hint });
        }
        let ttl = self.remote.ttl_of(operation, options)?;
        let (local, remote, key) = (self.local.clone(), Arc::clone(&self.remote), key.to_owned());
        let added = self.remote.write(operation, Cost::ONE, false, move |permit| {
            let ticket = local.begin_write(&key, Digest::UNKNOWN);
            async move {
                let qualified = remote.namespace.qualify(&key);
                let call = remote.backend.increment(&qualified, by, ttl);
                let result = remote.meter.call(Call::Write, call, failure).await;
                drop(permit);
                let Counted { value: sum, ttl, .. } = match result {
                    Ok(counted) => counted,
                    Err(source) => {
                        drop(ticket);
                        return Err(remote.backend_failed(operation, source));
                    }
                };
                // A sum that the type has no room for is one all the same, and an error to whoever reads it.
                let bytes = Bytes::from(sum.to_string());
                if let Some((value, weight)) = remote.decoded_quietly(&key, &bytes) {
                    let life = ttl.cap(remote.settings.local_ttl());
                    let _kept = ticket.wrote(Digest::of(&bytes)).install(Some(Arc::new(value)), weight, life);
                }
                Ok(sum)
            }
        });
        spanned!("twotier.write", self.remote, operation, 1, outcome, self.remote.written(added))
    }
}

impl<V: Send + Sync + 'static> Remote<V> {
    /// Returns whether the codec has whole numbers as decimal text, as the backend adds to them.
    fn has_decimal_numbers(&self, key: &str) -> bool {
        let probe = Bytes::from_static(PROBE);
        let place = self.place(key);
        let decoded = self.codec.decode_at(place, &probe).ok().flatten();
        decoded.and_then(|value| self.codec.encode_at(place, &value).ok()).is_some_and(|encoded| encoded == probe)
    }
}
