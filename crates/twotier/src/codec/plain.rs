//! Values that are their own encoding.

use bytes::Bytes;

use super::{Codec, CodecError};

/// A `String` as its own UTF-8 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text;

impl Codec<String> for Text {
    fn encode(&self, value: &String) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(value.as_bytes()))
    }

    fn decode(&self, bytes: &Bytes) -> Result<String, CodecError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => {
                let reason = format!("the bytes are not UTF-8 from offset {} on", error.valid_up_to());
                Err(CodecError::decoding("text", reason))
            }
        }
    }

    fn id(&self) -> u16 {
        2
    }
}

/// Bytes as they are: for `Bytes` without a copy, for `Vec<u8>` with one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec<Bytes> for Raw {
    fn encode(&self, value: &Bytes) -> Result<Bytes, CodecError> {
        Ok(value.clone())
    }

    fn decode(&self, bytes: &Bytes) -> Result<Bytes, CodecError> {
        Ok(bytes.clone())
    }

    fn id(&self) -> u16 {
        3
    }
}

impl Codec<Vec<u8>> for Raw {
    fn encode(&self, value: &Vec<u8>) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(value))
    }

    fn decode(&self, bytes: &Bytes) -> Result<Vec<u8>, CodecError> {
        Ok(bytes.to_vec())
    }

    fn id(&self) -> u16 {
        3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf8_is_an_error_with_its_offset() {
        let error = Text.decode(&Bytes::from_static(b"ab\xFF")).unwrap_err();
        assert!(error.to_string().contains("offset 2"), "{error}");
    }

    #[test]
    fn empty_is_a_value() {
        assert_eq!(Text.decode(&Text.encode(&String::new()).unwrap()).unwrap(), "");
        assert_eq!(Codec::<Bytes>::decode(&Raw, &Bytes::new()).unwrap(), Bytes::new());
    }
}
