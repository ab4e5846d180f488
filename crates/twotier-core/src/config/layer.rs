//! Layers: what one source says of a configuration, laid over what came before it, field by field.

use std::fmt;

use serde::{Deserialize, Deserializer};

use super::ConfigError;

/// Defines the layer of a configuration, and how it is read from text and from the environment.
///
/// Each field is listed with the function that reads it, which says that the field was named: for `null` and "off" are
/// values, and not the absence of one.
macro_rules! layered {
    (
        $(#[$attribute:meta])*
        $layer:ident over $config:ident, beside $beside:expr;
        $($(#[$field_attribute:meta])* $field:ident: $kind:ty, $read:literal;)*
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[non_exhaustive]
        pub struct $layer {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](", stringify!($config), "::", stringify!($field), ").")]
                $(#[$field_attribute])*
                #[serde(deserialize_with = $read)]
                pub $field: Option<$kind>,
            )*
        }

        impl $config {
            /// Lays a layer over this configuration: the fields that it names are set, the others stay as they are.
            #[must_use]
            pub fn with(mut self, layer: $layer) -> Self {
                $(if let Some(value) = layer.$field {
                    self.$field = value;
                })*
                self
            }

            /// Lays JSON over this configuration, and validates the outcome. Fields that it does not name stay.
            ///
            /// # Errors
            ///
            /// A [`ConfigError`] that names the unknown, malformed or out-of-range field.
            pub fn with_json(self, text: &str) -> Result<Self, ConfigError> {
                let layer = serde_json::from_str(text);
                self.with(layer.map_err(|error| $crate::config::layer::unreadable("json", &error))?).checked()
            }

            /// Lays TOML over this configuration, and validates the outcome. Fields that it does not name stay.
            ///
            /// # Errors
            ///
            /// A [`ConfigError`] that names the unknown, malformed or out-of-range field.
            #[cfg(feature = "toml")]
            pub fn with_toml(self, text: &str) -> Result<Self, ConfigError> {
                let layer = toml::from_str(text);
                self.with(layer.map_err(|error| $crate::config::layer::unreadable("toml", &error))?).checked()
            }

            /// Lays environment variables over this configuration, and validates the outcome: `<prefix>_` and the
            /// field's name, in capitals. Fields without a variable stay.
            ///
            /// A variable that begins like that and names no field is an error, so give each configuration a prefix
            /// that no other begins with. Those that Kubernetes makes of a service called like the prefix are passed
            /// over. A value is taken as it is; an empty one is an error: to leave a field as it is, unset its
            /// variable.
            ///
            /// # Errors
            ///
            /// A [`ConfigError`] that names the variable that is unknown, malformed or out of range, or one for
            /// `prefix` when that cannot be the beginning of a variable's name.
            pub fn with_env(self, prefix: &str) -> Result<Self, ConfigError> {
                self.with_vars(prefix, std::env::vars_os())
            }

            /// Does what [`with_env`](Self::with_env) does with variables given by the caller.
            ///
            /// # Errors
            ///
            /// As [`with_env`](Self::with_env).
            pub fn with_vars(
                self,
                prefix: &str,
                vars: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
            ) -> Result<Self, ConfigError> {
                let (layer, variables) = $crate::config::env::read(prefix, $beside, vars)?;
                self.with(layer).checked().map_err(|error| variables.name(error))
            }

            fn checked(self) -> Result<Self, ConfigError> {
                self.validate()?;
                Ok(self)
            }
        }
    };
}

pub(super) use layered;

/// Reads a field that was named.
pub(super) fn named<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads a field that was named, and whose absence means "chosen for you".
pub(super) fn chosen<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    T::deserialize(deserializer).map(|value| Some(Some(value)))
}

/// Turns a parser's message into an error that names the field, when the message does.
pub(super) fn unreadable(format: &'static str, error: &dyn fmt::Display) -> ConfigError {
    let message = error.to_string();
    let named = message.split('`').nth(1).filter(|_| message.contains("unknown field"));
    match named {
        Some(field) => {
            let rest = message.lines().last().unwrap_or_default().trim();
            ConfigError::new(field.to_owned(), format!("does not exist: {rest}"))
        }
        None => ConfigError::new(format, format!("cannot be read: {}", without_values(&message))),
    }
}

/// Keeps of a parser's message where something is wrong and what was expected there. What stood there instead may be a
/// secret in the wrong place: parsers quote it, and show the line that it is in.
fn without_values(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (first, said) = (lines.first().copied().unwrap_or_default(), lines.last().copied().unwrap_or_default());
    // One line says everything; of several the first says where, and the last what.
    let place = match first.split_once(" at ") {
        Some((_, place)) if lines.len() > 1 => format!(" at {place}"),
        _ => String::new(),
    };
    match said.rsplit_once(", expected ") {
        Some((_quoted, expected)) => format!("expected {expected}{place}"),
        None if said.contains(['"', '\'', '`']) => format!("it is malformed{place}"),
        None => format!("{said}{place}"),
    }
}
