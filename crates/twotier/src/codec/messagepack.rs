//! MessagePack by serde.

use bytes::Bytes;
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

use super::{Codec, CodecError, Place, fingerprint, guard::Guard};

/// [MessagePack](https://msgpack.org) by serde, structs as maps with their field names, so that fields may be added.
///
/// As JSON does, it loses the inner one of an `Option` within an `Option`: `Some(None)` is read as `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessagePack;

impl<V: Serialize + DeserializeOwned> Codec<V> for MessagePack {
    fn encode(&self, value: &V) -> Result<Bytes, CodecError> {
        let guard = Guard::default();
        match rmp_serde::to_vec_named(&guard.around(value)) {
            Ok(bytes) => Ok(bytes.into()),
            Err(_may_quote_the_value) => {
                Err(CodecError::encoding("messagepack", guard.refused().unwrap_or("the value has no encoding")))
            }
        }
    }

    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError> {
        let guard = Guard::default();
        let refused = |otherwise| CodecError::decoding("messagepack", guard.refused().unwrap_or(otherwise));
        // Once over the bytes with nothing kept: a length that is announced and not there is an error before room is
        // made for it.
        let mut whole = rmp_serde::Deserializer::from_read_ref(bytes);
        if guard.read::<IgnoredAny, _>(&mut whole).is_err() {
            return Err(refused("the bytes are no MessagePack"));
        }
        let mut rest: &[u8] = bytes;
        match guard.read(&mut rmp_serde::Deserializer::new(&mut rest)) {
            Ok(value) if rest.is_empty() => Ok(value),
            Ok(_) => Err(CodecError::decoding("messagepack", format!("{} bytes are left over", rest.len()))),
            Err(_may_quote_the_value) => Err(refused("the bytes do not fit the type")),
        }
    }

    fn verify_at(&self, _place: Place<'_>, value: &V, bytes: &Bytes) -> Result<(), CodecError> {
        fingerprint::compare(self, "messagepack", false, value, bytes)
    }

    fn id(&self) -> u16 {
        4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_and_left_over_bytes_are_an_error() {
        let value = vec![("a".to_owned(), 1_u32)];
        let bytes = MessagePack.encode(&value).unwrap();
        assert_eq!(Codec::<Vec<(String, u32)>>::decode(&MessagePack, &bytes).unwrap(), value);
        let longer: Bytes = [&bytes[..], b"x"].concat().into();
        assert!(Codec::<Vec<(String, u32)>>::decode(&MessagePack, &longer).is_err());
        assert!(Codec::<u32>::decode(&MessagePack, &Bytes::new()).is_err());
    }
}
