//! The configuration of the connection to Redis or Valkey.

use std::{ffi::OsString, fmt, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{ConfigError, duration, env};

/// The URL of a server, which may hold a password: `Debug` prints only its scheme, and there is no `Display`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// Wraps a URL. It is parsed by the backend, not here.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// Returns the URL with everything in it. Keep it out of logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.split("://").next().filter(|scheme| scheme.len() < self.0.len() && scheme.len() <= 16);
        write!(f, "RedisUrl({}://…)", scheme.unwrap_or("?"))
    }
}

/// Everything there is to configure about the connection to Redis or Valkey.
///
/// The URL's forms:
///
/// - `redis://[[user]:password@]host[:port][/db]`, TCP;
/// - `rediss://…`, the same over TLS with certificates checked (feature `tls`);
/// - `unix:///path/to/socket[?db=1&user=…&pass=…]`, a unix socket.
///
/// User and password are percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// Where the server is, and who we are.
    pub url: RedisUrl,
    /// An attempt to connect is given up when the server is silent for this long, name service, TLS and authentication
    /// included; after ten times as long in any case. It is about silence: an attempt takes three round trips beside
    /// those of TCP and TLS, each of which may take nearly as long. Default 1 s.
    #[serde(default = "default_connect_timeout", with = "duration::required")]
    pub connect_timeout: Duration,
    /// A connection without any sign of life for this long, while a command waits, is given up and made anew. Whatever
    /// arrives is one, and so is a peer that goes on taking a large value.
    /// Keep it below the node timeout of a cluster and the `down-after-milliseconds` of a Sentinel. Default 5 s.
    #[serde(default = "default_dead_after", with = "duration::required")]
    pub dead_after: Duration,
    /// The longest pause between two attempts to reconnect. Pauses are drawn at random ("full jitter") between zero and
    /// the time for which there has been no link, at least 10 ms. Default 1 s.
    #[serde(default = "default_max_backoff", with = "duration::required")]
    pub max_backoff: Duration,
    /// A file of certificates (PEM) to trust with `rediss://` instead of the system's own. Default none.
    #[serde(default)]
    pub tls_ca_file: Option<PathBuf>,
}

fn default_connect_timeout() -> Duration {
    Duration::from_secs(1)
}

fn default_dead_after() -> Duration {
    Duration::from_secs(5)
}

fn default_max_backoff() -> Duration {
    Duration::from_secs(1)
}

impl RedisConfig {
    /// Makes a configuration with this URL and every default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: RedisUrl::new(url),
            connect_timeout: default_connect_timeout(),
            dead_after: default_dead_after(),
            max_backoff: default_max_backoff(),
            tls_ca_file: None,
        }
    }

    /// Reads and validates a configuration from the environment: `TWOTIER_REDIS_URL` and, if wanted,
    /// `TWOTIER_REDIS_CONNECT_TIMEOUT`, `TWOTIER_REDIS_DEAD_AFTER`, `TWOTIER_REDIS_MAX_BACKOFF` and
    /// `TWOTIER_REDIS_TLS_CA_FILE`.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the missing, unknown, malformed or out-of-range field.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(std::env::vars_os())
    }

    /// Does what [`from_env`](Self::from_env) does with variables given by the caller.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_vars(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let config: Self = env::read(env::Part::Redis, vars)?;
        config.validate()?;
        Ok(config)
    }

    /// Checks the durations. The URL is checked by the backend that parses it.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the first field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let hour = Duration::from_secs(3600);
        for (field, value) in [
            ("connect_timeout", self.connect_timeout),
            ("dead_after", self.dead_after),
            ("max_backoff", self.max_backoff),
        ] {
            if value < Duration::from_millis(1) || value > hour {
                return Err(ConfigError::new(field, "must be between 1 ms and 1 h"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }

    #[test]
    fn debug_prints_no_part_of_the_url_but_its_scheme() {
        for url in ["redis://user:sekret@sekret-host:6379/0", "sekret", "sekret://x", ":sekret@host"] {
            let printed = format!("{:?}", RedisConfig::new(url));
            assert!(url.starts_with("sekret:") || !printed.contains("sekret"), "{printed}");
        }
    }

    #[test]
    fn the_environment_gives_url_and_durations() {
        let config =
            RedisConfig::from_vars(vars(&[("TWOTIER_REDIS_URL", "redis://h"), ("TWOTIER_REDIS_DEAD_AFTER", "3s")]))
                .unwrap();
        assert_eq!(config.url.expose(), "redis://h");
        assert_eq!(config.dead_after, Duration::from_secs(3));
        assert_eq!(config.connect_timeout, Duration::from_secs(1));
    }

    #[test]
    fn a_missing_url_and_an_unknown_field_are_errors() {
        assert!(RedisConfig::from_vars(vars(&[])).unwrap_err().to_string().contains("url"));
        let unknown = vars(&[("TWOTIER_REDIS_URL", "redis://h"), ("TWOTIER_REDIS_TIMEOUT", "3s")]);
        assert_eq!(RedisConfig::from_vars(unknown).unwrap_err().field(), "timeout");
        let zero = vars(&[("TWOTIER_REDIS_URL", "redis://h"), ("TWOTIER_REDIS_DEAD_AFTER", "0s")]);
        assert_eq!(RedisConfig::from_vars(zero).unwrap_err().field(), "dead_after");
    }
}
