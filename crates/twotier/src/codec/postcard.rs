//! Postcard by serde.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, CodecError, Place, fingerprint, guard::Guard};

/// [Postcard](https://postcard.jamesmunns.com) by serde: the smallest and fastest, but not self-describing. A type
/// whose fields change needs a namespace of its own.
///
/// A sequence whose announced length is not there takes no room. A `HashMap` does, a few megabytes at each level of
/// nesting until the bytes end: serde bounds what it reserves, and nothing here can lower that. Where somebody who
/// means harm may write to the backend, prefer `BTreeMap`, or another codec.
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
    fn encode(&self, value: &V) -> Result<Bytes, CodecError> {
        let guard = Guard::default();
        match ::postcard::to_stdvec(&guard.around(value)) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => Err(CodecError::encoding("postcard", reason(&guard, &error))),
        }
    }

    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError> {
        let guard = Guard::default();
        let mut postcard = ::postcard::Deserializer::from_bytes(bytes);
        match guard.read(&mut postcard).and_then(|value| Ok((value, postcard.finalize()?))) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(CodecError::decoding("postcard", format!("{} bytes are left over", rest.len()))),
            Err(error) => Err(CodecError::decoding("postcard", reason(&guard, &error))),
        }
    }

    fn verify_at(&self, _place: Place<'_>, value: &V, bytes: &Bytes) -> Result<(), CodecError> {
        fingerprint::compare(self, "postcard", false, value, bytes)
    }

    fn id(&self) -> u16 {
        5
    }
}

/// The words of postcard's errors are its own: it keeps none of a type's.
fn reason(guard: &Guard, error: &::postcard::Error) -> Cow<'static, str> {
    guard.refused().map_or_else(|| error.to_string().into(), Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_and_left_over_bytes_are_an_error() {
        let value = vec![("a".to_owned(), 1_u32)];
        let bytes = Postcard.encode(&value).unwrap();
        assert_eq!(Codec::<Vec<(String, u32)>>::decode(&Postcard, &bytes).unwrap(), value);
        let longer: Bytes = [&bytes[..], b"x"].concat().into();
        assert!(Codec::<Vec<(String, u32)>>::decode(&Postcard, &longer).is_err());
        assert!(Codec::<u32>::decode(&Postcard, &Bytes::new()).is_err());
    }
}
