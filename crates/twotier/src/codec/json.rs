//! JSON by serde.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::error::Category;

use super::{Codec, CodecError};

/// Plain JSON by serde, the default: what `redis-cli GET` shows is what any other client would have written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn encode(&self, value: &V) -> Result<Bytes, CodecError> {
        match serde_json::to_vec(value) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => Err(CodecError::encoding("json", explain(&error))),
        }
    }

    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError> {
        serde_json::from_slice(bytes).map_err(|error| CodecError::decoding("json", explain(&error)))
    }

    fn id(&self) -> u16 {
        1
    }
}

/// Says what is wrong and where, without the words of serde's message, which may quote the value.
fn explain(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Io => "it could not be written",
        Category::Syntax => "the syntax is wrong",
        Category::Data => "the type does not fit",
        Category::Eof => "it ends too early",
    };
    match (error.line(), error.column()) {
        (0, _) => what.to_owned(),
        (line, column) => format!("{what} at line {line} column {column}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_where_and_quotes_nothing() {
        let error = Codec::<u32>::decode(&Json, &Bytes::from_static(b"\"sekret\"")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("line 1") && !text.contains("sekret"), "{text}");
        assert!(Codec::<u32>::decode(&Json, &Bytes::new()).unwrap_err().to_string().contains("too early"));
    }

    #[test]
    fn a_stored_null_is_a_value() {
        let bytes = Codec::<Option<u32>>::encode(&Json, &None).unwrap();
        assert_eq!(&bytes[..], b"null");
        assert_eq!(Codec::<Option<u32>>::decode(&Json, &bytes).unwrap(), None);
    }
}
