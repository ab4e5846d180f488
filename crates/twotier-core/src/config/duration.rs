//! Durations as people write them: `"250ms"`, `"5m"`, and `"off"` where there may be none.

use std::{fmt, time::Duration};

use serde::{Deserializer, Serializer, de};

/// The word for "none".
const OFF: &str = "off";

struct DurationText {
    may_be_off: bool,
}

impl de::Visitor<'_> for DurationText {
    type Value = Option<Duration>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, such as \"250ms\" or \"5m\"")?;
        if self.may_be_off { f.write_str(", or \"off\"") } else { Ok(()) }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        if self.may_be_off && text == OFF {
            return Ok(None);
        }
        match humantime::parse_duration(text) {
            Ok(duration) => Ok(Some(duration)),
            Err(_not_a_duration) => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let parsed = deserializer.deserialize_str(DurationText { may_be_off: false })?;
    parsed.ok_or_else(|| de::Error::custom("a duration is required"))
}

/// Reads a field that was named.
pub(super) fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    read(deserializer).map(Some)
}

/// Reads a field that was named, and whose absence means "chosen for you".
pub(super) fn chosen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Duration>>, D::Error> {
    read(deserializer).map(|duration| Some(Some(duration)))
}

/// Reads a field that was named, and may be off.
pub(super) fn named_or_off<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Duration>>, D::Error> {
    deserializer.deserialize_str(DurationText { may_be_off: true }).map(Some)
}

pub(super) fn write<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*value))
}

#[allow(clippy::ref_option, reason = "the signature serde asks for")]
pub(super) fn write_or_off<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(duration) => write(duration, serializer),
        None => serializer.serialize_str(OFF),
    }
}
