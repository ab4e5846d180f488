//! Configuration from environment variables: `TWOTIER_` and the field's name in capitals.

use std::{collections::BTreeMap, ffi::OsString};

use serde::de::{self, DeserializeOwned, IntoDeserializer, value::MapDeserializer};

use super::ConfigError;

/// What every variable starts with.
const PREFIX: &str = "TWOTIER_";
/// What the variables of [`RedisConfig`](super::RedisConfig) start with; those of the cache do not.
const REDIS: &str = "REDIS_";
/// What the variables of twotier's own tests and tools start with; configuration passes them over.
const TOOLS: &str = "TEST_";

/// Which of the two structs is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Cache,
    Redis,
}

/// Reads the variables of one part into its struct. A variable that names no field of it is an error.
pub(super) fn read<T: DeserializeOwned>(
    part: Part,
    vars: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<T, ConfigError> {
    let mut fields = BTreeMap::new();
    for (name, value) in vars {
        let Some(name) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let field = match (part, name.strip_prefix(REDIS)) {
            (Part::Redis, Some(field)) => field,
            (Part::Cache, None) if !name.starts_with(TOOLS) => name,
            _ => continue,
        };
        if is_service_variable(field) {
            continue;
        }
        let field = field.to_ascii_lowercase();
        let Some(text) = value.to_str() else {
            return Err(ConfigError::new(field, "is not valid UTF-8 in the environment"));
        };
        fields.insert(field.clone(), Text { field, text: text.to_owned() });
    }
    T::deserialize(MapDeserializer::new(fields.into_iter())).map_err(|EnvError(error)| error)
}

/// Whether Kubernetes puts this variable into every container of a namespace that has a service called `twotier` or
/// `twotier-…`, as it does for
/// [Docker links](https://kubernetes.io/docs/tutorials/services/connect-applications-service/). No field of ours is
/// called like one.
fn is_service_variable(name: &str) -> bool {
    let is_port = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = name.split('_').collect();
    match parts[..] {
        [.., "SERVICE", "HOST"] | [.., "PORT"] => true,
        [.., "PORT", port, "TCP" | "UDP" | "SCTP"] => is_port(port),
        [.., "PORT", port, "TCP" | "UDP" | "SCTP", "PROTO" | "ADDR"] => is_port(port),
        // A port with a name: `SERVICE_PORT_HTTP`, `SERVICE_PORT_METRICS_V2`.
        _ => parts.windows(2).any(|pair| pair == ["SERVICE", "PORT"]),
    }
}

/// The text of one variable, which becomes whatever type its field asks for.
struct Text {
    field: String,
    text: String,
}

impl Text {
    fn refuse(&self, expected: &str) -> EnvError {
        EnvError(ConfigError::new(self.field.clone(), format!("must be {expected}")))
    }
}

#[derive(Debug)]
struct EnvError(ConfigError);

impl std::fmt::Display for EnvError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for EnvError {}

impl de::Error for EnvError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(ConfigError::new("environment", format!("is refused: {message}")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let expected = expected.join(", ");
        Self(ConfigError::new(field.to_owned(), format!("does not exist; the fields are {expected}")))
    }
}

impl<'de> IntoDeserializer<'de, EnvError> for Text {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> de::Deserializer<'de> for Text {
    type Error = EnvError;

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, EnvError> {
        // A message of the visitor may quote the text, which may be a secret: name the field and what it wants instead.
        let expected = format!("{}", Expected(&visitor));
        let refused = self.refuse(&expected);
        visitor.visit_string(self.text).map_err(|_quoting: EnvError| refused)
    }

    fn deserialize_bool<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, EnvError> {
        match self.text.as_str() {
            "true" | "1" | "on" | "yes" => visitor.visit_bool(true),
            "false" | "0" | "off" | "no" => visitor.visit_bool(false),
            _ => Err(self.refuse("true or false")),
        }
    }

    fn deserialize_u64<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, EnvError> {
        match self.text.parse() {
            Ok(number) => visitor.visit_u64(number),
            Err(_not_a_number) => Err(self.refuse("a whole number, 0 or more")),
        }
    }

    fn deserialize_f64<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, EnvError> {
        match self.text.parse() {
            Ok(number) => visitor.visit_f64(number),
            Err(_not_a_number) => Err(self.refuse("a number")),
        }
    }

    fn deserialize_option<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, EnvError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: de::Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, EnvError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: de::Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, EnvError> {
        let refused = self.refuse(&format!("one of {}", variants.join(", ")));
        let name: de::value::StringDeserializer<EnvError> = self.text.into_deserializer();
        visitor.visit_enum(name).map_err(|_quoting: EnvError| refused)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }

    fn deserialize_u8<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, EnvError> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u16<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, EnvError> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u32<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, EnvError> {
        self.deserialize_u64(visitor)
    }
}

/// Prints what a visitor expects.
struct Expected<'v, V>(&'v V);

impl<'de, V: de::Visitor<'de>> std::fmt::Display for Expected<'_, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.expecting(f)
    }
}
