//! Where the server is and who we are: the configuration, parsed once.

use std::{fmt, sync::Arc, time::Duration};

use twotier_core::{ConfigError, Namespace, RedisConfig};

use super::{
    credentials::{CredentialsProvider, RedisCredentials},
    dial::Route,
    identity::Identity,
    lines::Lines,
    url::{Address, ServerUrl},
};

/// What the names of all our connections begin with.
const CLIENT_NAME: &str = "twotier";

/// A parsed [`RedisConfig`]. `Debug` prints neither host nor credentials.
#[derive(Clone)]
pub(in crate::redis) struct Target {
    pub(super) route: Route,
    pub(super) identity: Identity,
    pub(super) database: i64,
    pub(in crate::redis) connect_timeout: Duration,
    pub(in crate::redis) dead_after: Duration,
    pub(in crate::redis) max_backoff: Duration,
    pub(in crate::redis) key_prefix: Option<Namespace>,
    /// What our connections are called at the server.
    pub(in crate::redis) client_name: String,
    pub(in crate::redis) lines: Arc<Lines>,
    pub(super) kind: Kind,
    /// Those who say where the server is, if anybody has to: `route` is then the way to one of them.
    pub(in crate::redis) sentinels: Vec<Self>,
    /// What the sentinels call the servers of which one is the primary.
    pub(in crate::redis) service: String,
    /// Those nodes of a cluster that the URL names, if it names a cluster.
    pub(in crate::redis) seeds: Vec<Self>,
    /// How long a node of a cluster is silent before the others elect another.
    pub(in crate::redis) node_timeout: Duration,
}

/// What there is at the end of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A server that stands for itself, or is one of which sentinels name the primary.
    Server,
    Sentinel,
    /// A node of a cluster.
    Node,
}

impl Target {
    /// The same, reached over streams made by the caller.
    #[cfg(feature = "simulation")]
    pub(in crate::redis) fn over_streams(self, dial: &super::dial::Dialer) -> Self {
        let over = |targets: Vec<Self>| targets.into_iter().map(|target| target.over_streams(dial)).collect();
        Self { route: self.route.over(dial), sentinels: over(self.sentinels), seeds: over(self.seeds), ..self }
    }

    /// The server at the end of this route, without sentinels.
    fn new(route: Route, identity: Identity, config: &RedisConfig) -> Self {
        let RedisConfig { connect_timeout, dead_after, max_backoff, cluster_node_timeout, .. } = *config;
        let client_name = match &config.client_name {
            Some(name) => format!("{CLIENT_NAME}:{name}"),
            None => CLIENT_NAME.to_owned(),
        };
        Self {
            route,
            identity,
            database: 0,
            connect_timeout,
            dead_after,
            max_backoff,
            key_prefix: None,
            client_name,
            lines: Arc::default(),
            kind: Kind::Server,
            sentinels: Vec::new(),
            service: String::new(),
            seeds: Vec::new(),
            node_timeout: cluster_node_timeout,
        }
    }

    /// Reads a configuration. Where there is a provider, nothing else says who we are.
    pub(in crate::redis) fn parse(
        config: &RedisConfig,
        provider: Option<Arc<dyn CredentialsProvider>>,
    ) -> Result<Self, ConfigError> {
        let key_prefix = config.validate()?;
        let ServerUrl { address, user, password, database } = ServerUrl::parse(config.url.expose())?;
        let is_tls = matches!(
            address,
            Address::Tls { .. } | Address::Named { tls: true, .. } | Address::Cluster { tls: true, .. }
        );
        if let Some(field) = tls_field(config).filter(|_| !is_tls) {
            return Err(ConfigError::new(field, "has no use without a rediss:// URL"));
        }
        if config.sentinel_password_file.is_some() && !matches!(address, Address::Named { .. }) {
            return Err(ConfigError::new("sentinel_password_file", "has no use without a redis+sentinel:// URL"));
        }
        let in_url = password.map(|password| RedisCredentials { user, ..RedisCredentials::password(password) });
        let identity = identity(config, in_url, provider)?;
        let (mut ways, mut service, mut watchers) = (Vec::new(), String::new(), Identity::Nobody);
        let mut nodes = Vec::new();
        let route = match address {
            Address::Tcp { host, port } => Route::Tcp { host, port },
            Address::Tls { host, port } => over_tls(host, port, config)?,
            Address::Named { tls, sentinels, service: name, user, password } => {
                let in_url = password.map(|password| RedisCredentials { user, ..RedisCredentials::password(password) });
                (service, watchers) = (name, sentinel_identity(config, in_url)?);
                let (host, port) = sentinels[0].clone();
                let first = if tls { over_tls(host, port, config)? } else { Route::Tcp { host, port } };
                ways = sentinels.iter().map(|(host, port)| first.at(host, *port)).collect();
                first
            }
            Address::Cluster { tls, nodes: hosts } => {
                if config.dead_after >= config.cluster_node_timeout {
                    let why = "must be less than `cluster_node_timeout`: a node that is silent for longer was replaced";
                    return Err(ConfigError::new("dead_after", why));
                }
                let (host, port) = hosts[0].clone();
                let first = if tls { over_tls(host, port, config)? } else { Route::Tcp { host, port } };
                nodes = hosts.iter().map(|(host, port)| first.at(host, *port)).collect();
                first
            }
            #[cfg(unix)]
            Address::Unix(path) => Route::Unix(path),
            #[cfg(not(unix))]
            Address::Unix(_) => {
                return Err(ConfigError::new("url", "names a unix socket, which this platform does not have"));
            }
        };
        let target = Self { database, key_prefix, service, ..Self::new(route, identity, config) };
        let sentinel = |route| {
            let (identity, lines) = (watchers.clone(), Arc::clone(&target.lines));
            Self { route, identity, database: 0, lines, kind: Kind::Sentinel, ..target.clone() }
        };
        let sentinels = ways.into_iter().map(sentinel).collect();
        let seeds = nodes.into_iter().map(|route| Self { route, kind: Kind::Node, ..target.clone() }).collect();
        Ok(Self { sentinels, seeds, ..target })
    }

    /// Returns the server at this address, where those who know say that it is.
    pub(in crate::redis) fn at(&self, host: &str, port: u16) -> Self {
        Self { route: self.route.at(host, port), sentinels: Vec::new(), seeds: Vec::new(), ..self.clone() }
    }

    /// Returns the host of the server, empty where it has none.
    pub(in crate::redis) fn host(&self) -> &str {
        self.route.host()
    }

    /// Returns whether the server is known by its certificate.
    pub(in crate::redis) fn is_tls(&self) -> bool {
        self.route.is_tls()
    }
}

/// Decides who we are to the sentinels, who may have users of their own.
fn sentinel_identity(config: &RedisConfig, in_url: Option<RedisCredentials>) -> Result<Identity, ConfigError> {
    let field = "sentinel_password_file";
    match (in_url, &config.sentinel_password_file) {
        (Some(_), Some(_)) => Err(ConfigError::new(field, "is set, but the URL holds `sentinel_pass` already")),
        (Some(credentials), None) => Ok(Identity::Url(credentials)),
        (None, Some(path)) => Ok(Identity::File { field, path: path.clone(), user: config.sentinel_user.clone() }),
        (None, None) => Ok(Identity::Nobody),
    }
}

/// Returns the first field about TLS that is set.
fn tls_field(config: &RedisConfig) -> Option<&'static str> {
    let RedisConfig { tls_ca_file, tls_cert_file, tls_key_file, .. } = config;
    let fields = [("tls_ca_file", tls_ca_file), ("tls_cert_file", tls_cert_file), ("tls_key_file", tls_key_file)];
    fields.into_iter().find(|(_, file)| file.is_some()).map(|(field, _)| field)
}

/// Decides who says who we are: it is said once.
fn identity(
    config: &RedisConfig,
    in_url: Option<RedisCredentials>,
    provider: Option<Arc<dyn CredentialsProvider>>,
) -> Result<Identity, ConfigError> {
    match (in_url, &config.password_file, provider) {
        (Some(_), _, Some(_)) => {
            Err(ConfigError::new("url", "holds credentials, which a provider gives already: leave them out of the URL"))
        }
        (_, Some(_), Some(_)) => {
            Err(ConfigError::new("password_file", "is set, but a provider gives the credentials already"))
        }
        (Some(_), Some(_), None) => {
            Err(ConfigError::new("password_file", "is set, but the URL holds credentials already"))
        }
        (Some(credentials), None, None) => Ok(Identity::Url(credentials)),
        (None, Some(path), None) => {
            Ok(Identity::File { field: "password_file", path: path.clone(), user: config.user.clone() })
        }
        (None, None, Some(provider)) => Ok(Identity::Provider(provider)),
        (None, None, None) => Ok(Identity::Nobody),
    }
}

#[cfg(feature = "tls")]
fn over_tls(host: String, port: u16, config: &RedisConfig) -> Result<Route, ConfigError> {
    Ok(Route::Tls { host, port, tls: super::tls::Tls::new(config)? })
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
            Route::Streams { .. } => "streams",
        };
        f.debug_struct("Target").field("scheme", &scheme).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, ConfigError> {
        Target::parse(&RedisConfig::new(url), None)
    }

    #[test]
    fn debug_prints_neither_host_nor_credentials() {
        let target = parse("redis://sekret:sekret@sekret").unwrap();
        assert!(!format!("{target:?}").contains("sekret"));
    }

    #[test]
    fn a_file_of_certificates_is_refused_where_nothing_would_read_it() {
        for url in ["redis://h", "unix:///s.sock"] {
            for (config, field) in [
                (RedisConfig::new(url).tls_ca_file("ca.pem"), "tls_ca_file"),
                (RedisConfig::new(url).tls_cert_file("own.pem").tls_key_file("own.key"), "tls_cert_file"),
            ] {
                assert_eq!(Target::parse(&config, None).unwrap_err().field(), field);
            }
        }
    }

    #[test]
    fn who_we_are_is_said_once_and_twice_is_an_error_that_names_the_field() {
        struct Nobody;

        #[async_trait::async_trait]
        impl CredentialsProvider for Nobody {
            async fn credentials(&self) -> Result<RedisCredentials, Box<dyn std::error::Error + Send + Sync>> {
                Err("sekret".into())
            }
        }

        let [plain, signed] = ["redis://h", "redis://:sekret@h"].map(RedisConfig::new);
        for (config, provider, field) in [
            (signed.clone(), true, "url"),
            (plain.clone().password_file("/sekret"), true, "password_file"),
            (plain.clone().user("sekret").password_file("/sekret"), true, "password_file"),
            (signed.password_file("/sekret"), false, "password_file"),
            (plain.user("sekret"), false, "user"),
        ] {
            let provider = provider.then(|| Arc::new(Nobody) as Arc<dyn CredentialsProvider>);
            let error = Target::parse(&config, provider).unwrap_err();
            assert_eq!(error.field(), field, "{error}");
            assert!(!error.to_string().contains("sekret"), "{error}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_without_the_feature_is_a_clear_error() {
        assert!(parse("rediss://h").unwrap_err().to_string().contains("feature `tls`"));
    }
}
