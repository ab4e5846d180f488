//! The configuration of the connection to Redis or Valkey.

use std::{ffi::OsString, fmt, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{ConfigError, duration, env, layer, layer::layered};
use crate::Namespace;

/// The URL of a server, which may hold a password: `Debug` prints no part of it, and there is no `Display`.
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
        f.write_str("RedisUrl(…)")
    }
}

/// Everything there is to configure about the connection to Redis or Valkey.
///
/// The URL's forms:
///
/// - `redis://[[user]:password@]host[:port][/db]`, TCP, also written `valkey://`;
/// - `rediss://…`, the same over TLS with certificates checked (feature `tls`), also written `valkeys://`;
/// - `unix:///path/to/socket[?db=1&user=…&pass=…]`, a unix socket, also written `redis+unix://` or `valkey+unix://`;
/// - `redis+sentinel://[[user]:password@]host[:port],host[:port]/service[/db][?sentinel_user=…&sentinel_pass=…]`, the
///   primary that most of these sentinels name, also written `valkey+sentinel://`; `rediss+sentinel://` speaks TLS to
///   both. List every sentinel: the majority is one of those listed. The credentials before the `@` are for the server;
/// - `redis-cluster://[[user]:password@]host[:port][,host[:port]…]`, a cluster, of which these are some nodes, also
///   written `redis+cluster://` or `valkey-cluster://`; `rediss-cluster://` speaks TLS. The others are found through
///   them; the addresses that the nodes announce must be reachable. A cluster has no databases.
///
/// User, password and path are percent-decoded; a `+` is a plus. A user without a password is written `user:@`, or
/// `user=…&pass=`. An IPv6 address stands in brackets. Whatever else other clients take is an error that names the
/// cure, and no part of the URL: parameters and fragments (`?db=5`, `#insecure`), several hosts with `redis://`, and a
/// name alone before the `@`, which some take for a user and others for a password.
///
/// Who we are is said once: in the URL, by [`password_file`](Self::password_file), or by a provider in code
/// (`RedisBackend::with_credentials`). [`tls_cert_file`](Self::tls_cert_file) and [`tls_key_file`](Self::tls_key_file)
/// are the certificate that a server may ask for besides. Each backend has its own: nothing is set for the process.
///
/// ```
/// use std::time::Duration;
/// # use twotier_core as twotier;
/// use twotier::RedisConfig;
///
/// let config = RedisConfig::new("redis://127.0.0.1").dead_after(Duration::from_secs(3)).with_env("MYAPP_REDIS")?;
/// # Ok::<(), twotier::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RedisLayer")]
#[non_exhaustive]
pub struct RedisConfig {
    /// Where the server is, and who we are.
    pub url: RedisUrl,
    /// An attempt to connect is given up when the server is silent for this long, name service, TLS and authentication
    /// included; after ten times as long in any case. It is about silence: an attempt takes three round trips beside
    /// those of TCP and TLS, each of which may take nearly as long. Default 1 s.
    pub connect_timeout: Duration,
    /// A connection without any sign of life for this long, while a command waits, is given up and made anew. Whatever
    /// arrives is one, and so is a peer that goes on taking a large value.
    /// Keep it below the node timeout of a cluster and the `down-after-milliseconds` of a Sentinel. Default 5 s.
    pub dead_after: Duration,
    /// The longest pause between two attempts to reconnect. Pauses are drawn at random ("full jitter") between zero and
    /// the time for which there has been no link, at least 10 ms. Default 1 s.
    pub max_backoff: Duration,
    /// The user whose password is in [`password_file`](Self::password_file). Default none, which is the server's own
    /// user `default`.
    pub user: Option<String>,
    /// A file that holds the password and nothing else, as a mounted secret does; the end of its line is no part of
    /// it. It is read again at each connection, so that a password is rotated without a restart. It stands instead of
    /// credentials in the URL. Default none.
    pub password_file: Option<PathBuf>,
    /// The user whose password is in [`sentinel_password_file`](Self::sentinel_password_file). Default none.
    pub sentinel_user: Option<String>,
    /// As [`password_file`](Self::password_file), for the sentinels of a `redis+sentinel://` URL, which may have users
    /// of their own: what lets us in at the server is not shown to them. Default none.
    pub sentinel_password_file: Option<PathBuf>,
    /// A file of certificates (PEM) to trust with `rediss://` instead of the system's own. The files of certificates
    /// and keys are read at the start, and again at each connection. Default none.
    pub tls_ca_file: Option<PathBuf>,
    /// A file with our own certificate (PEM), and those between it and its authority, for a server that asks for one.
    /// Default none.
    pub tls_cert_file: Option<PathBuf>,
    /// A file with the private key (PEM, not encrypted) to [`tls_cert_file`](Self::tls_cert_file). Default none.
    pub tls_key_file: Option<PathBuf>,
    /// What stands before every namespace in the server, for services that share one: `<key_prefix>:<namespace>:<key>`.
    /// It is made like a [`Namespace`], and is part of the namespace in errors and statistics. Default none.
    pub key_prefix: Option<String>,
    /// The service, as operators find its connections in `CLIENT LIST`: `name=twotier:<client_name>`, or `name=twotier`
    /// without one. Default none.
    pub client_name: Option<String>,
    /// How long a node of a cluster may be silent before the others elect another in its place: the
    /// `cluster-node-timeout` of the servers, or more. After an election that came to nothing copies are not served for
    /// twice as long. Must be more than [`dead_after`](Self::dead_after) with a `redis-cluster://` URL. Default 15 s,
    /// which is that of the servers.
    pub cluster_node_timeout: Duration,
}

impl RedisConfig {
    /// Makes a configuration with this URL and every default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: RedisUrl::new(url),
            connect_timeout: Duration::from_secs(1),
            dead_after: Duration::from_secs(5),
            max_backoff: Duration::from_secs(1),
            user: None,
            password_file: None,
            sentinel_user: None,
            sentinel_password_file: None,
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            key_prefix: None,
            client_name: None,
            cluster_node_timeout: Duration::from_secs(15),
        }
    }

    /// Reads and validates a configuration from the environment: `TWOTIER_REDIS_URL` and, if wanted, a variable for
    /// each of the other fields, such as `TWOTIER_REDIS_CONNECT_TIMEOUT` or `TWOTIER_REDIS_PASSWORD_FILE`.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the missing, unknown, malformed or out-of-range variable.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(std::env::vars_os())
    }

    /// Does what [`from_env`](Self::from_env) does with variables given by the caller.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_vars(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        Self::under(&format!("{}_{}", env::PREFIX, env::REDIS), vars)
    }

    /// Reads and validates a configuration from the environment under a prefix of your own: `<prefix>_URL`, and the
    /// others.
    /// [`with_env`](Self::with_env) does the same over a configuration that has a URL already.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the missing, unknown, malformed or out-of-range variable.
    pub fn from_prefix(prefix: &str) -> Result<Self, ConfigError> {
        Self::under(prefix, std::env::vars_os())
    }

    fn under(prefix: &str, vars: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let missing = format!("{}_URL", prefix.strip_suffix('_').unwrap_or(prefix));
        let (layer, variables) = env::read::<RedisLayer>(prefix, "", vars)?;
        let config = Self::try_from(layer).map_err(|error| error.in_variable(&missing))?;
        config.checked().map_err(|error| variables.name(error))
    }

    /// Sets [`connect_timeout`](#structfield.connect_timeout).
    #[must_use]
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// Sets [`dead_after`](#structfield.dead_after).
    #[must_use]
    pub fn dead_after(mut self, dead_after: Duration) -> Self {
        self.dead_after = dead_after;
        self
    }

    /// Sets [`max_backoff`](#structfield.max_backoff).
    #[must_use]
    pub fn max_backoff(mut self, max_backoff: Duration) -> Self {
        self.max_backoff = max_backoff;
        self
    }

    /// Sets [`user`](#structfield.user).
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets [`password_file`](#structfield.password_file).
    #[must_use]
    pub fn password_file(mut self, password_file: impl Into<PathBuf>) -> Self {
        self.password_file = Some(password_file.into());
        self
    }

    /// Sets [`sentinel_user`](#structfield.sentinel_user).
    #[must_use]
    pub fn sentinel_user(mut self, sentinel_user: impl Into<String>) -> Self {
        self.sentinel_user = Some(sentinel_user.into());
        self
    }

    /// Sets [`sentinel_password_file`](#structfield.sentinel_password_file).
    #[must_use]
    pub fn sentinel_password_file(mut self, sentinel_password_file: impl Into<PathBuf>) -> Self {
        self.sentinel_password_file = Some(sentinel_password_file.into());
        self
    }

    /// Sets [`tls_ca_file`](#structfield.tls_ca_file).
    #[must_use]
    pub fn tls_ca_file(mut self, tls_ca_file: impl Into<PathBuf>) -> Self {
        self.tls_ca_file = Some(tls_ca_file.into());
        self
    }

    /// Sets [`tls_cert_file`](#structfield.tls_cert_file), which goes with a `tls_key_file`.
    #[must_use]
    pub fn tls_cert_file(mut self, tls_cert_file: impl Into<PathBuf>) -> Self {
        self.tls_cert_file = Some(tls_cert_file.into());
        self
    }

    /// Sets [`tls_key_file`](#structfield.tls_key_file), which goes with a `tls_cert_file`.
    #[must_use]
    pub fn tls_key_file(mut self, tls_key_file: impl Into<PathBuf>) -> Self {
        self.tls_key_file = Some(tls_key_file.into());
        self
    }

    /// Sets [`cluster_node_timeout`](#structfield.cluster_node_timeout).
    #[must_use]
    pub fn cluster_node_timeout(mut self, cluster_node_timeout: Duration) -> Self {
        self.cluster_node_timeout = cluster_node_timeout;
        self
    }

    /// Sets [`client_name`](#structfield.client_name).
    #[must_use]
    pub fn client_name(mut self, client_name: impl Into<String>) -> Self {
        self.client_name = Some(client_name.into());
        self
    }

    /// Sets [`key_prefix`](#structfield.key_prefix).
    #[must_use]
    pub fn key_prefix(mut self, key_prefix: impl Into<String>) -> Self {
        self.key_prefix = Some(key_prefix.into());
        self
    }

    /// Checks everything but the URL and the files, which the backend reads, and returns the key prefix.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the first field that is out of range, or that goes with another one.
    pub fn validate(&self) -> Result<Option<Namespace>, ConfigError> {
        let hour = Duration::from_secs(3600);
        for (field, value) in [
            ("connect_timeout", self.connect_timeout),
            ("dead_after", self.dead_after),
            ("cluster_node_timeout", self.cluster_node_timeout),
            ("max_backoff", self.max_backoff),
        ] {
            if value < Duration::from_millis(1) || value > hour {
                return Err(ConfigError::new(field, "must be between 1 ms and 1 h"));
            }
        }
        for (field, user, password_file, without) in [
            ("user", &self.user, &self.password_file, "has no use without `password_file`"),
            (
                "sentinel_user",
                &self.sentinel_user,
                &self.sentinel_password_file,
                "has no use without `sentinel_password_file`",
            ),
        ] {
            match (user, password_file) {
                (Some(_), None) => return Err(ConfigError::new(field, without)),
                (Some(user), Some(_)) if user.is_empty() => {
                    return Err(ConfigError::new(field, "is empty; leave it out for the server's own user `default`"));
                }
                _ => {}
            }
        }
        match (&self.tls_cert_file, &self.tls_key_file) {
            (Some(_), None) => return Err(ConfigError::new("tls_key_file", "is missing beside `tls_cert_file`")),
            (None, Some(_)) => return Err(ConfigError::new("tls_cert_file", "is missing beside `tls_key_file`")),
            _ => {}
        }
        if let Some(name) = &self.client_name
            && (name.is_empty() || name.len() > 128 || !name.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            // What the server takes in a name.
            return Err(ConfigError::new(
                "client_name",
                "must be of printable ASCII characters without spaces, up to 128",
            ));
        }
        self.key_prefix.as_deref().map(Namespace::new).transpose().map_err(|error| error.of_field("key_prefix"))
    }
}

layered! {
    /// What one source says of a [`RedisConfig`]: the fields that it names. [`RedisConfig::with`] lays it over what
    /// others said.
    #[derive(Eq)]
    RedisLayer over RedisConfig, beside "";
    url: RedisUrl, "layer::named";
    connect_timeout: Duration, "duration::named";
    dead_after: Duration, "duration::named";
    cluster_node_timeout: Duration, "duration::named";
    max_backoff: Duration, "duration::named";
    user: Option<String>, "layer::chosen";
    password_file: Option<PathBuf>, "layer::chosen";
    sentinel_user: Option<String>, "layer::chosen";
    sentinel_password_file: Option<PathBuf>, "layer::chosen";
    tls_ca_file: Option<PathBuf>, "layer::chosen";
    tls_cert_file: Option<PathBuf>, "layer::chosen";
    tls_key_file: Option<PathBuf>, "layer::chosen";
    key_prefix: Option<String>, "layer::chosen";
    client_name: Option<String>, "layer::chosen";
}

impl TryFrom<RedisLayer> for RedisConfig {
    type Error = ConfigError;

    /// Lays the layer over the defaults. Nothing is validated, but there must be a URL.
    fn try_from(layer: RedisLayer) -> Result<Self, ConfigError> {
        match &layer.url {
            Some(url) => Ok(Self::new(url.expose()).with(layer)),
            None => Err(ConfigError::new("url", "is missing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }

    #[test]
    fn debug_prints_no_part_of_the_url() {
        for url in ["redis://user:sekret@sekret-host:6379/0", "sekret", "sekret://x", ":sekret@host"] {
            let config = RedisConfig::new(url);
            let layer = RedisLayer { url: Some(config.url.clone()), ..RedisLayer::default() };
            assert!(!format!("{config:?} {layer:?}").contains("sekret"));
        }
    }

    #[test]
    fn an_error_about_a_url_prints_no_part_of_it() {
        let base = || RedisConfig::new("redis://sekret");
        for error in [
            base().with_json(r#"{"url": ["sekret"]}"#).unwrap_err(),
            base().with_json(r#"{"url": "redis://sekret"#).unwrap_err(),
            base().with_json(r#"{"url": {"password": "sekret"}}"#).unwrap_err(),
            base().with_vars("R", vars(&[("R_URL", "redis://sekret"), ("R_URLS", "sekret")])).unwrap_err(),
            base().max_backoff(Duration::ZERO).with_vars("R", vars(&[])).unwrap_err(),
        ] {
            assert!(!format!("{error} {error:?}").contains("sekret"), "{error:?}");
        }
    }

    #[test]
    fn a_layer_changes_the_url_or_leaves_it() {
        let config =
            RedisConfig::new("redis://code").with_vars("MYAPP_REDIS", vars(&[("MYAPP_REDIS_DEAD_AFTER", "3s")]));
        let config = config.unwrap();
        assert_eq!((config.url.expose(), config.dead_after), ("redis://code", Duration::from_secs(3)));
        let config = config.with_json(r#"{"url": "redis://file", "tls_ca_file": "ca.pem"}"#).unwrap();
        assert_eq!((config.url.expose(), config.dead_after), ("redis://file", Duration::from_secs(3)));
        assert_eq!(config.tls_ca_file, Some("ca.pem".into()));
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
        let missing = RedisConfig::from_vars(vars(&[])).unwrap_err();
        assert_eq!(missing.to_string(), "environment variable `TWOTIER_REDIS_URL` is missing");
        assert!(serde_json::from_str::<RedisConfig>("{}").unwrap_err().to_string().contains("`url` is missing"));
        let unknown = vars(&[("TWOTIER_REDIS_URL", "redis://h"), ("TWOTIER_REDIS_TIMEOUT", "3s")]);
        assert_eq!(RedisConfig::from_vars(unknown).unwrap_err().field(), "timeout");
        let zero = vars(&[("TWOTIER_REDIS_URL", "redis://h"), ("TWOTIER_REDIS_DEAD_AFTER", "0s")]);
        assert_eq!(RedisConfig::from_vars(zero).unwrap_err().field(), "dead_after");
        for (config, field) in [
            (RedisConfig::new("redis://h").user("app"), "user"),
            (RedisConfig::new("redis://h").user("").password_file("p"), "user"),
            (RedisConfig::new("redis://h").sentinel_user("app"), "sentinel_user"),
            (RedisConfig::new("rediss://h").tls_cert_file("c.pem"), "tls_key_file"),
            (RedisConfig::new("rediss://h").tls_key_file("k.pem"), "tls_cert_file"),
        ] {
            assert_eq!(config.validate().unwrap_err().field(), field);
        }
        for prefix in ["", "shop:", "a::b"] {
            assert_eq!(RedisConfig::new("redis://h").key_prefix(prefix).validate().unwrap_err().field(), "key_prefix");
        }
    }
}
