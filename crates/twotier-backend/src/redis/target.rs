//! Where the server is and who we are: the URL, parsed once.

use std::{borrow::Cow, fmt, time::Duration};

use percent_encoding::percent_decode_str;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, io::tcp::TcpSettings};
use twotier_core::{ConfigError, RedisConfig};
use url::Url;

use super::dial::Dial;

/// A parsed [`RedisConfig`]. `Debug` prints neither host nor credentials.
pub(super) struct Target {
    pub(super) dial: Dial,
    pub(super) connect_timeout: Duration,
    pub(super) dead_after: Duration,
    pub(super) max_backoff: Duration,
    scheme: Scheme,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Tcp,
    Tls,
    Unix,
    #[cfg(feature = "simulation")]
    Streams,
}

impl Target {
    /// A server that is reached over streams made by the caller.
    #[cfg(feature = "simulation")]
    pub(super) fn over_streams(
        dialer: super::dial::streams::Dialer,
        connect_timeout: Duration,
        dead_after: Duration,
        max_backoff: Duration,
    ) -> Self {
        Self { dial: Dial::Streams(dialer), connect_timeout, dead_after, max_backoff, scheme: Scheme::Streams }
    }

    pub(super) fn parse(config: &RedisConfig) -> Result<Self, ConfigError> {
        let url = Url::parse(config.url.expose())
            .map_err(|error| refused(format!("is not a URL ({error}); expected redis://, rediss:// or unix://")))?;
        let scheme = match url.scheme() {
            "redis" | "valkey" => Scheme::Tcp,
            "rediss" | "valkeys" => Scheme::Tls,
            "unix" | "redis+unix" => Scheme::Unix,
            _ => return Err(refused("has a scheme that is none of redis://, rediss:// and unix://")),
        };
        let (address, settings) = match scheme {
            Scheme::Unix => unix(&url)?,
            _ => tcp(&url, scheme)?,
        };
        let info = address
            .into_connection_info()
            .map_err(|_cause| refused("cannot be used"))?
            .set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3))
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = match &config.tls_ca_file {
            Some(_) if scheme != Scheme::Tls => {
                return Err(ConfigError::new("tls_ca_file", "has no use without a rediss:// URL"));
            }
            Some(path) => tls::client_trusting(info, path)?,
            None => Client::open(info).map_err(|_cause| refused("cannot be used"))?,
        };
        if scheme == Scheme::Tls {
            tls::available()?;
        }
        Ok(Self {
            dial: Dial::Client(Box::new(client)),
            connect_timeout: config.connect_timeout,
            dead_after: config.dead_after,
            max_backoff: config.max_backoff,
            scheme,
        })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("scheme", &self.scheme).finish_non_exhaustive()
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

fn tcp(url: &Url, scheme: Scheme) -> Result<(ConnectionAddr, RedisConnectionInfo), ConfigError> {
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
    let address = match scheme {
        Scheme::Tls => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        _ => ConnectionAddr::Tcp(host, port),
    };
    Ok((address, settings))
}

fn unix(url: &Url) -> Result<(ConnectionAddr, RedisConnectionInfo), ConfigError> {
    if !cfg!(unix) {
        return Err(refused("names a unix socket, which this platform does not have"));
    }
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
    Ok((ConnectionAddr::Unix(path.into()), settings))
}

/// Keeps only what can be part of a parameter's name, so that a misplaced password is not printed.
fn sanitized(name: &str) -> String {
    let plain = name.len() <= 16 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '-');
    if plain { name.to_owned() } else { "…".to_owned() }
}

#[cfg(feature = "tls")]
mod tls {
    use std::path::Path;

    use redis::{Client, ConnectionInfo, TlsCertificates};
    use twotier_core::ConfigError;

    /// Makes sure that `rustls` has a cryptography provider, which it otherwise panics about at the first connection
    /// when the program has more than one. A provider the program installed itself is kept.
    #[allow(clippy::unnecessary_wraps, reason = "the twin without the feature fails")]
    pub(super) fn available() -> Result<(), ConfigError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Losing this race means that somebody else installed one, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        Ok(())
    }

    pub(super) fn client_trusting(info: ConnectionInfo, path: &Path) -> Result<Client, ConfigError> {
        available()?;
        let refused = |reason: String| ConfigError::new("tls_ca_file", reason);
        let root = std::fs::read(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
        let certificates = TlsCertificates { client_tls: None, root_cert: Some(root) };
        Client::build_with_tls(info, certificates)
            .map_err(|error| refused(format!("holds no usable certificates: {error}")))
    }
}

#[cfg(not(feature = "tls"))]
mod tls {
    use std::path::Path;

    use redis::{Client, ConnectionInfo};
    use twotier_core::ConfigError;

    pub(super) fn available() -> Result<(), ConfigError> {
        Err(ConfigError::new("url", "asks for TLS, which needs the feature `tls`"))
    }

    pub(super) fn client_trusting(_info: ConnectionInfo, _path: &Path) -> Result<Client, ConfigError> {
        Err(ConfigError::new("tls_ca_file", "needs the feature `tls`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, ConfigError> {
        Target::parse(&RedisConfig::new(url))
    }

    fn info(target: &Target) -> &redis::ConnectionInfo {
        match &target.dial {
            Dial::Client(client) => client.get_connection_info(),
            #[cfg(feature = "simulation")]
            Dial::Streams(_) => unreachable!("a parsed URL has a client"),
        }
    }

    #[test]
    fn credentials_and_database_are_percent_decoded() {
        let target = parse("redis://us%3Aer:p%40ss%2Fw%25rd@localhost:6380/3").unwrap();
        let info = info(&target);
        assert_eq!(info.redis_settings().username(), Some("us:er"));
        assert_eq!(info.redis_settings().password(), Some("p@ss/w%rd"));
        assert_eq!(info.redis_settings().db(), 3);
        assert_eq!(info.redis_settings().protocol(), ProtocolVersion::RESP3);
        assert!(info.tcp_settings().nodelay());
        assert_eq!(*info.addr(), ConnectionAddr::Tcp("localhost".to_owned(), 6380));
    }

    #[test]
    fn a_unix_socket_takes_its_path_and_its_parameters() {
        let target = parse("unix:///run/my%20redis.sock?db=2&user=app&pass=p%40ss").unwrap();
        let info = info(&target);
        assert_eq!(*info.addr(), ConnectionAddr::Unix("/run/my redis.sock".into()));
        assert_eq!(info.redis_settings().db(), 2);
        assert_eq!(info.redis_settings().username(), Some("app"));
        assert_eq!(info.redis_settings().password(), Some("p@ss"));
    }

    #[test]
    fn an_ipv6_address_loses_its_brackets() {
        let target = parse("redis://[::1]:7000").unwrap();
        assert_eq!(*info(&target).addr(), ConnectionAddr::Tcp("::1".to_owned(), 7000));
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
