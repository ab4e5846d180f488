//! What is cached for each stashed value: its JSON, and once it was retrieved the value too.

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::{
    Codec,
    codec::{CodecError, Place, json},
};

/// A value as JSON, and as the first type it was asked for, so that a hit of that type decodes nothing.
pub(crate) struct Stashed {
    json: Bytes,
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Stashed {
    fn new(json: Bytes) -> Self {
        Self { json, decoded: OnceLock::new() }
    }

    pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, CodecError> {
        json::write(value).map(Self::new)
    }

    /// Returns the value: decoded once for the first type, and each time for any other.
    pub(super) fn decode<T>(&self) -> Result<Arc<T>, CodecError>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        if let Some(decoded) = self.decoded.get()
            && let Ok(value) = Arc::clone(decoded).downcast()
        {
            return Ok(value);
        }
        let value = Arc::new(json::read::<T>(&self.json)?);
        // Not within `get_or_init`: whoever decodes must not make others wait, nor itself.
        let _first = self.decoded.set(Arc::<T>::clone(&value));
        Ok(value)
    }
}

impl fmt::Debug for Stashed {
    /// Prints how long it is, not what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stashed").field("bytes", &self.json.len()).finish_non_exhaustive()
    }
}

/// JSON that is decoded when it is retrieved, because only then the type is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StashedJson;

impl Codec<Stashed> for StashedJson {
    fn encode(&self, value: &Stashed) -> Result<Bytes, CodecError> {
        Ok(value.json.clone())
    }

    fn decode(&self, bytes: &Bytes) -> Result<Stashed, CodecError> {
        Ok(Stashed::new(bytes.clone()))
    }

    /// Of which type it will be read is not known: any JSON will do.
    fn verify_at(&self, _place: Place<'_>, _value: &Stashed, bytes: &Bytes) -> Result<(), CodecError> {
        json::read::<IgnoredAny>(bytes).map(drop)
    }

    /// The JSON and, as large by estimate, the value beside it.
    fn weight(&self, bytes: &Bytes) -> usize {
        bytes.len().saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_type_is_decoded_once_and_any_other_each_time() {
        let stashed = Stashed::encode(&[1, 2]).unwrap();
        let first: Arc<Vec<u8>> = stashed.decode().unwrap();
        assert!(Arc::ptr_eq(&first, &stashed.decode().unwrap()));
        let other: Arc<(u64, u64)> = stashed.decode().unwrap();
        assert_eq!((*other, first.as_slice()), ((1, 2), [1, 2].as_slice()));
        assert!(!Arc::ptr_eq(&other, &stashed.decode().unwrap()));
        assert!(stashed.decode::<String>().is_err());
        assert!(Arc::ptr_eq(&first, &stashed.decode().unwrap()));
    }
}
