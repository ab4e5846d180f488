//! Configuration: plain serde structs, validated once into an error that names the field.

mod cache;
mod duration;
mod env;
mod eviction;
mod layer;
mod redis;
mod undecodable;

use std::{borrow::Cow, time::Duration};

pub use cache::{CacheConfig, CacheLayer};
pub use eviction::Eviction;
pub use redis::{RedisConfig, RedisLayer, RedisUrl};
pub use undecodable::OnUndecodable;

/// The longest time to live, 100 years: anything longer is a mistake in the unit, and Redis refuses much longer ones.
pub const MAX_TIME_TO_LIVE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A configuration was refused, before anything was changed.
///
/// The message names the field, or the environment variable that sets it. It never holds a credential or a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} `{}` {reason}",
    if .variable.is_some() { "environment variable" } else { "configuration field" },
    .variable.as_deref().unwrap_or(.field),
)]
pub struct ConfigError {
    field: Cow<'static, str>,
    variable: Option<Box<str>>,
    reason: Cow<'static, str>,
}

impl ConfigError {
    /// Makes an error from the field's name and what is wrong with it, so that the two read as one sentence:
    /// "`max_entries` must be at least 1".
    pub fn new(field: impl Into<Cow<'static, str>>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), variable: None, reason: reason.into() }
    }

    /// Returns the name of the field.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Returns the name of the environment variable that sets the field, when the field was read from one.
    #[must_use]
    pub fn variable(&self) -> Option<&str> {
        self.variable.as_deref()
    }

    fn of_field(mut self, field: &'static str) -> Self {
        self.field = field.into();
        self
    }

    fn in_variable(mut self, name: &str) -> Self {
        self.variable = Some(name.escape_debug().collect());
        self
    }
}

/// Checks a time to live that goes to the backend.
///
/// # Errors
///
/// A [`ConfigError`] for `field` when it is shorter than a millisecond (zero does not mean "for ever") or longer than
/// [`MAX_TIME_TO_LIVE`].
pub fn check_time_to_live(field: &'static str, ttl: Duration) -> Result<(), ConfigError> {
    if ttl < Duration::from_millis(1) {
        return Err(ConfigError::new(
            field,
            "must be at least 1 ms: the backend counts in milliseconds, and zero does not mean for ever",
        ));
    }
    if ttl > MAX_TIME_TO_LIVE {
        return Err(ConfigError::new(field, "must be at most 100 years"));
    }
    Ok(())
}
