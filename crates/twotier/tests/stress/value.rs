//! What is stored: a version, distinguished from a twin that was written at the same time, behind padding.

use bytes::Bytes;
use twotier::{Codec, CodecError};

/// One version of one key. As text `<padding>|<version><twin>`, so that `APPEND` makes a new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) version: u64,
    /// `a`, or `b` for the second of two values that were written at once.
    pub(crate) twin: char,
    padding: usize,
}

impl Value {
    /// Makes a value, now and then one of many bytes.
    pub(crate) fn new(version: u64, random: &mut fastrand::Rng) -> Self {
        let padding = if random.u8(..8) == 0 { random.usize(..3000) } else { random.usize(..20) };
        Self { version, twin: 'a', padding }
    }

    /// Makes the value of a row: always the same bytes.
    pub(crate) fn of_row(version: u64) -> Self {
        Self { version, twin: 'a', padding: usize::try_from(version % 20).expect("it is small") }
    }

    pub(crate) fn twin(self) -> Self {
        Self { twin: 'b', ..self }
    }

    pub(crate) fn text(self) -> String {
        format!("{:x<width$}|{}{}", "", self.version, self.twin, width = self.padding)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (padding, tail) = text.rsplit_once('|')?;
        let twin = tail.chars().next_back().filter(|twin| matches!(twin, 'a' | 'b'))?;
        Some(Self { version: tail[..tail.len() - 1].parse().ok()?, twin, padding: padding.len() })
    }
}

/// Writes and reads [`Value`]s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Versioned;

impl Codec<Value> for Versioned {
    fn encode(&self, value: &Value) -> Result<Bytes, CodecError> {
        Ok(value.text().into_bytes().into())
    }

    fn decode(&self, bytes: &Bytes) -> Result<Value, CodecError> {
        Value::parse(bytes).ok_or_else(|| CodecError::decoding("versioned", "there is no version at the end"))
    }
}
