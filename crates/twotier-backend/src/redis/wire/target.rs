//! Where the server is and who we are: the configuration, parsed once.

use std::{fmt, time::Duration};

use redis::RedisConnectionInfo;
use twotier_core::{ConfigError, Namespace, RedisConfig};

use super::{
    dial::Route,
    lines::Lines,
    url::{Address, ServerUrl},
};

/// A parsed [`RedisConfig`]. `Debug` prints neither host nor credentials.
pub(in crate::redis) struct Target {
    pub(super) route: Route,
    /// User, password and database.
    pub(super) settings: RedisConnectionInfo,
    pub(in crate::redis) connect_timeout: Duration,
    pub(in crate::redis) dead_after: Duration,
    pub(in crate::redis) max_backoff: Duration,
    pub(in crate::redis) key_prefix: Option<Namespace>,
    pub(in crate::redis) lines: Lines,
}

impl Target {
    /// A server that is reached over streams made by the caller.
    #[cfg(feature = "simulation")]
    pub(in crate::redis) fn over_streams(
        dialer: super::dial::Dialer,
        connect_timeout: Duration,
        dead_after: Duration,
        max_backoff: Duration,
    ) -> Self {
        let (route, settings) = (Route::Streams(dialer), RedisConnectionInfo::default());
        Self { route, settings, connect_timeout, dead_after, max_backoff, key_prefix: None, lines: Lines::default() }
    }

    pub(in crate::redis) fn parse(config: &RedisConfig) -> Result<Self, ConfigError> {
        let key_prefix = config.validate()?;
        let ServerUrl { address, user, password, database } = ServerUrl::parse(config.url.expose())?;
        if config.tls_ca_file.is_some() && !matches!(address, Address::Tls { .. }) {
            return Err(ConfigError::new("tls_ca_file", "has no use without a rediss:// URL"));
        }
        let route = match address {
            Address::Tcp { host, port } => Route::Tcp { host, port },
            Address::Tls { host, port } => over_tls(host, port, config)?,
            #[cfg(unix)]
            Address::Unix(path) => Route::Unix(path),
            #[cfg(not(unix))]
            Address::Unix(_) => {
                return Err(ConfigError::new("url", "names a unix socket, which this platform does not have"));
            }
        };
        let mut settings = RedisConnectionInfo::default().set_db(database);
        if let Some(user) = user {
            settings = settings.set_username(user);
        }
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        let RedisConfig { connect_timeout, dead_after, max_backoff, .. } = *config;
        Ok(Self { route, settings, connect_timeout, dead_after, max_backoff, key_prefix, lines: Lines::default() })
    }
}

#[cfg(feature = "tls")]
fn over_tls(host: String, port: u16, config: &RedisConfig) -> Result<Route, ConfigError> {
    let trust = match &config.tls_ca_file {
        Some(path) => super::tls::Trust::file(path)?,
        None => super::tls::Trust::system()?,
    };
    Ok(Route::Tls { host, port, trust })
}

#[cfg(not(feature = "tls"))]
fn over_tls(_host: String, _port: u16, _config: &RedisConfig) -> Result<Route, ConfigError> {
    Err(ConfigError::new("url", "asks for TLS, which needs the feature `tls`"))
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.route {
            Route::Tcp { .. } => "tcp",
            #[cfg(feature = "tls")]
            Route::Tls { .. } => "tls",
            #[cfg(unix)]
            Route::Unix(_) => "unix",
            #[cfg(feature = "simulation")]
            Route::Streams(_) => "streams",
        };
        f.debug_struct("Target").field("scheme", &scheme).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, ConfigError> {
        Target::parse(&RedisConfig::new(url))
    }

    #[test]
    fn debug_prints_neither_host_nor_credentials() {
        let target = parse("redis://sekret:sekret@sekret").unwrap();
        assert!(!format!("{target:?}").contains("sekret"));
    }

    #[test]
    fn a_file_of_certificates_is_refused_where_nothing_would_read_it() {
        for url in ["redis://h", "unix:///s.sock"] {
            let error = Target::parse(&RedisConfig::new(url).tls_ca_file("ca.pem")).unwrap_err();
            assert_eq!(error.field(), "tls_ca_file");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_without_the_feature_is_a_clear_error() {
        assert!(parse("rediss://h").unwrap_err().to_string().contains("feature `tls`"));
    }
}
