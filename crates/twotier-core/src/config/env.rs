//! Configuration from environment variables: a prefix and the field's name in capitals.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use serde::de::{self, DeserializeOwned, IntoDeserializer, value::MapDeserializer};

use super::ConfigError;

/// What variables start with, unless the caller has another prefix.
pub(super) const PREFIX: &str = "TWOTIER";
/// What follows the prefix of a cache in the variables of its connection.
pub(super) const REDIS: &str = "REDIS_";
/// What the variables of twotier's own tests and tools start with; configuration passes them over.
const TOOLS: &str = "TWOTIER_TEST_";

/// Reads the variables under a prefix into a layer, but for those that go on with `beside`, which belong to another
/// configuration. A variable that names no field is an error.
pub(super) fn read<L: DeserializeOwned>(
    prefix: &str,
    beside: &str,
    vars: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(L, Variables), ConfigError> {
    let prefix = format!("{}_", checked(prefix)?);
    let (mut fields, mut variables) = (BTreeMap::new(), Variables(BTreeMap::new()));
    for (name, value) in vars {
        // What is not UTF-8 has a replacement character, and is no field.
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(&prefix) else { continue };
        let is_beside = !beside.is_empty() && rest.starts_with(beside);
        if is_beside || name.starts_with(TOOLS) || is_service_variable(rest, &value) {
            continue;
        }
        let field = rest.to_ascii_lowercase();
        let refuse = |reason: &'static str| Err(ConfigError::new(field.clone(), reason).in_variable(&name));
        if rest != rest.to_ascii_uppercase() {
            return refuse("names no field: names are in capitals");
        }
        let Some(text) = value.to_str() else { return refuse("is not valid UTF-8") };
        if text.is_empty() {
            return refuse("is empty; unset it to leave the field as it is");
        }
        if variables.0.insert(field.clone(), name.clone().into_owned()).is_some() {
            return refuse("is there twice");
        }
        fields.insert(field.clone(), Text { field: field.clone(), text: text.to_owned() });
    }
    match L::deserialize(MapDeserializer::new(fields.into_iter())) {
        Ok(layer) => Ok((layer, variables)),
        Err(EnvError(error)) => Err(variables.name(error)),
    }
}

/// Checks a prefix, with or without the `_` at its end.
fn checked(prefix: &str) -> Result<&str, ConfigError> {
    let name = prefix.strip_suffix('_').unwrap_or(prefix);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(ConfigError::new(
            "prefix",
            "must be ASCII letters, digits and `_`, at least one, such as `MYAPP_CACHE`",
        ));
    }
    Ok(name)
}

/// By which variable each field was set.
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Adds the name of the variable to an error about a field, if there was one.
    pub(super) fn name(&self, error: ConfigError) -> ConfigError {
        match self.0.get(error.field()) {
            Some(variable) => error.in_variable(variable),
            None => error,
        }
    }
}

/// Whether Kubernetes puts this variable into every container of a namespace that has a service called like the prefix,
/// or like it and more, as it does for
/// [Docker links](https://kubernetes.io/docs/tutorials/services/connect-applications-service/).
/// No field of ours is called like one; and a `PORT` that somebody set by hand is no URL.
fn is_service_variable(name: &str, value: &OsStr) -> bool {
    let is_port = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_url =
        || value.to_str().is_some_and(|value| ["tcp://", "udp://", "sctp://"].iter().any(|s| value.starts_with(s)));
    let parts: Vec<&str> = name.split('_').collect();
    match parts[..] {
        [.., "SERVICE", "HOST"] => true,
        [.., "PORT", port, "TCP" | "UDP" | "SCTP"] => is_port(port),
        [.., "PORT", port, "TCP" | "UDP" | "SCTP", "PROTO" | "PORT" | "ADDR"] => is_port(port),
        // A port may have a name: `SERVICE_PORT_HTTP`, `SERVICE_PORT_METRICS_V2`.
        _ if parts.windows(2).any(|pair| pair == ["SERVICE", "PORT"]) => true,
        [.., "PORT"] => is_url(),
        _ => false,
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
        Self(ConfigError::new(field.to_owned(), format!("names no field; the fields are {expected}")))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self(ConfigError::new(field, "is set by two variables"))
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
