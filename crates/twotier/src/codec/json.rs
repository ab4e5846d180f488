//! JSON by serde.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::error::Category;

use super::{Codec, CodecError, Place, fingerprint, guard::Guard};

/// Plain JSON by serde, the default: what `redis-cli GET` shows is what any other client would have written.
///
/// Numbers survive bit by bit. What JSON has no word for is an error as it is written: a float that is infinite or not
/// a number, and a map whose keys are neither strings nor numbers, booleans, characters or bare variants.
///
/// JSON does not tell `Some(None)` from `None`, nor `Some(())`: the inner one of an `Option` within an `Option` is
/// lost, and only [`verify_writes`](crate::CacheBuilder::verify_writes) finds that.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn encode(&self, value: &V) -> Result<Bytes, CodecError> {
        write(value)
    }

    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError> {
        read(bytes)
    }

    fn verify_at(&self, _place: Place<'_>, value: &V, bytes: &Bytes) -> Result<(), CodecError> {
        fingerprint::compare(self, "json", true, value, bytes)
    }

    fn id(&self) -> u16 {
        1
    }
}

/// Encodes what need not be readable as the same type.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, CodecError> {
    let guard = Guard::of_finite_floats();
    match serde_json::to_vec(&guard.around(value)) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(CodecError::encoding("json", reason(&guard, || unwritable(&error)))),
    }
}

/// Decodes what need not have been written as the same type.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let guard = Guard::default();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = guard.read(&mut json).and_then(|value| json.end().map(|()| value));
    value.map_err(|error| CodecError::decoding("json", reason(&guard, || unreadable(&error))))
}

fn reason(guard: &Guard, otherwise: impl FnOnce() -> String) -> Cow<'static, str> {
    guard.refused().map_or_else(|| otherwise().into(), Cow::Borrowed)
}

/// Says what JSON has no word for. What a type's own code says may quote the value.
fn unwritable(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Syntax => error.to_string(),
        Category::Io | Category::Data | Category::Eof => "its type refuses to be written".to_owned(),
    }
}

/// Says what is wrong and where, without the words of serde's message, which may quote the value.
fn unreadable(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        // The parser's own words, of which none are the value's.
        Category::Syntax => return error.to_string(),
        Category::Io => "it could not be read",
        Category::Data => "the type does not fit",
        Category::Eof => "it ends too early",
    };
    format!("{what} at line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_where_and_quotes_nothing() {
        let error = Codec::<u32>::decode(&Json, &Bytes::from_static(b"\"sekret\"")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("line 1") && !text.contains("sekret"), "{text}");
        let error = Codec::<u32>::decode(&Json, &Bytes::from_static(b"[sekret")).unwrap_err();
        assert!(!error.to_string().contains("sekret"), "{error}");
        assert!(Codec::<u32>::decode(&Json, &Bytes::new()).unwrap_err().to_string().contains("too early"));
    }

    #[test]
    fn a_stored_null_is_a_value() {
        let bytes = Codec::<Option<u32>>::encode(&Json, &None).unwrap();
        assert_eq!(&bytes[..], b"null");
        assert_eq!(Codec::<Option<u32>>::decode(&Json, &bytes).unwrap(), None);
    }
}
