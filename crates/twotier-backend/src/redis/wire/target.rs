//! Where the server is and who we are: the URL, parsed once.

use std::{borrow::Cow, fmt, time::Duration};

use percent_encoding::percent_decode_str;
use redis::RedisConnectionInfo;
use twotier_core::{ConfigError, RedisConfig};
use url::Url;

use super::dial::Route;

/// A parsed [`RedisConfig`]. `Debug` prints neither host nor credentials.
pub(in crate::redis) struct Target {
    pub(super) route: Route,
    /// User, password and database.
    pub(super) settings: RedisConnectionInfo,
    pub(in crate::redis) connect_timeout: Duration,
    pub(in crate::redis) dead_after: Duration,
    pub(in crate::redis) max_backoff: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Tcp,
    Tls,
    Unix,
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
        Self { route, settings, connect_timeout, dead_after, max_backoff }
    }

    pub(in crate::redis) fn parse(config: &RedisConfig) -> Result<Self, ConfigError> {
        let url = Url::parse(config.url.expose())
            .map_err(|error| refused(format!("is not a URL ({error}); expected redis://, rediss:// or unix://")))?;
        let scheme = match url.scheme() {
            "redis" | "valkey" => Scheme::Tcp,
            "rediss" | "valkeys" => Scheme::Tls,
            "unix" | "redis+unix" => Scheme::Unix,
            _ => return Err(refused("has a scheme that is none of redis://, rediss:// and unix://")),
        };
        if config.tls_ca_file.is_some() && scheme != Scheme::Tls {
            return Err(ConfigError::new("tls_ca_file", "has no use without a rediss:// URL"));
        }
        let (route, settings) = match scheme {
            Scheme::Unix => unix(&url)?,
            Scheme::Tcp => {
                let (host, port, settings) = tcp(&url)?;
                (Route::Tcp { host, port }, settings)
            }
            Scheme::Tls => {
                let (host, port, settings) = tcp(&url)?;
                (over_tls(host, port, config)?, settings)
            }
        };
        let RedisConfig { connect_timeout, dead_after, max_backoff, .. } = *config;
        Ok(Self { route, settings, connect_timeout, dead_after, max_backoff })
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

fn refused(reason: impl Into<Cow<'static, str>>) -> ConfigError {
    ConfigError::new("url", reason)
}

/// Decodes `%40` and the like. The decoded text is never printed.
fn decoded(text: &str) -> Result<String, ConfigError> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_not_utf8) => Err(refused("has a percent-encoded part that is not UTF-8")),
    }
}

fn database(text: &str) -> Result<i64, ConfigError> {
    match text.parse() {
        Ok(number) if number >= 0 => Ok(number),
        _ => Err(refused("has a database that is not a number from 0 on")),
    }
}

fn tcp(url: &Url) -> Result<(String, u16, RedisConnectionInfo), ConfigError> {
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| refused("has no host"))?;
    // `Url` keeps the brackets of an IPv6 address, the resolver does not want them.
    let host = decoded(host.trim_start_matches('[').trim_end_matches(']'))?;
    let port = url.port().unwrap_or(6379);
    if let Some((name, _)) = url.query_pairs().next() {
        return Err(refused(format!("has the parameter `{}`, but takes none", sanitized(&name))));
    }
    let mut settings = RedisConnectionInfo::default();
    match url.path().trim_matches('/') {
        "" => {}
        path => settings = settings.set_db(database(path)?),
    }
    if !url.username().is_empty() {
        settings = settings.set_username(decoded(url.username())?);
    }
    if let Some(password) = url.password() {
        settings = settings.set_password(decoded(password)?);
    }
    Ok((host, port, settings))
}

#[cfg(not(unix))]
fn unix(_url: &Url) -> Result<(Route, RedisConnectionInfo), ConfigError> {
    Err(refused("names a unix socket, which this platform does not have"))
}

#[cfg(unix)]
fn unix(url: &Url) -> Result<(Route, RedisConnectionInfo), ConfigError> {
    if url.host_str().is_some_and(|host| !host.is_empty()) {
        return Err(refused("must be unix:///absolute/path, with three slashes"));
    }
    let path = decoded(url.path())?;
    if path.is_empty() || path == "/" {
        return Err(refused("has no path to a socket"));
    }
    let mut settings = RedisConnectionInfo::default();
    for (name, value) in url.query_pairs() {
        settings = match name.as_ref() {
            "db" => settings.set_db(database(&value)?),
            "user" => settings.set_username(value),
            "pass" => settings.set_password(value),
            other => {
                let name = sanitized(other);
                return Err(refused(format!("has the parameter `{name}`, but takes only db, user and pass")));
            }
        };
    }
    Ok((Route::Unix(path.into()), settings))
}

/// Keeps only what can be part of a parameter's name, so that a misplaced password is not printed.
fn sanitized(name: &str) -> String {
    let plain = name.len() <= 16 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '-');
    if plain { name.to_owned() } else { "…".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, ConfigError> {
        Target::parse(&RedisConfig::new(url))
    }

    #[test]
    fn credentials_and_database_are_percent_decoded() {
        let target = parse("redis://us%3Aer:p%40ss%2Fw%25rd@localhost:6380/3").unwrap();
        assert_eq!(target.settings.username(), Some("us:er"));
        assert_eq!(target.settings.password(), Some("p@ss/w%rd"));
        assert_eq!(target.settings.db(), 3);
        assert!(matches!(&target.route, Route::Tcp { host, port: 6380 } if host == "localhost"));
    }

    #[cfg(unix)]
    #[test]
    fn a_unix_socket_takes_its_path_and_its_parameters() {
        let target = parse("unix:///run/my%20redis.sock?db=2&user=app&pass=p%40ss").unwrap();
        assert!(matches!(&target.route, Route::Unix(path) if path == std::path::Path::new("/run/my redis.sock")));
        assert_eq!(target.settings.db(), 2);
        assert_eq!(target.settings.username(), Some("app"));
        assert_eq!(target.settings.password(), Some("p@ss"));
    }

    #[test]
    fn an_ipv6_address_loses_its_brackets() {
        let target = parse("redis://[::1]:7000").unwrap();
        assert!(matches!(&target.route, Route::Tcp { host, port: 7000 } if host == "::1"));
    }

    #[test]
    fn a_wrong_url_is_an_error_that_holds_no_part_of_it() {
        for url in [
            "",
            "sekret",
            "sekret-host:6379",
            "http://sekret",
            "redis://",
            "redis://user:sekret@",
            "redis://sekret-host/notanumber",
            "redis://sekret-host/-1",
            "redis://sekret-host:99999",
            "redis://:%FF%FEsekret@h",
            "redis://h?SEKRETsekret=1",
            "unix://sekret/relative.sock",
            "unix:///",
            "unix:///sekret.sock?db=x",
            "unix:///s.sock?sekret%20=x",
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.field(), "url", "{url}");
            assert!(!error.to_string().to_lowercase().contains("sekret"), "{url}: {error}");
        }
    }

    #[test]
    fn debug_prints_neither_host_nor_credentials() {
        let target = parse("redis://sekret:sekret@sekret").unwrap();
        assert!(!format!("{target:?}").contains("sekret"));
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_without_the_feature_is_a_clear_error() {
        assert!(parse("rediss://h").unwrap_err().to_string().contains("feature `tls`"));
    }
}
