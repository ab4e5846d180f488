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

/// Reads a duration for a field whose absence means "chosen for you".
pub(super) fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    required::deserialize(deserializer).map(Some)
}

pub(super) mod required {
    use super::{Deserializer, Duration, DurationText, Serializer, de};

    pub(in crate::config) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let parsed = deserializer.deserialize_str(DurationText { may_be_off: false })?;
        parsed.ok_or_else(|| de::Error::custom("a duration is required"))
    }
}

pub(super) mod optional {
    use super::{Deserializer, Duration, DurationText, OFF, Serializer};

    #[allow(clippy::ref_option, reason = "the signature serde's `with` asks for")]
    pub(in crate::config) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => serializer.collect_str(&humantime::format_duration(*duration)),
            None => serializer.serialize_str(OFF),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        deserializer.deserialize_str(DurationText { may_be_off: true })
    }
}
