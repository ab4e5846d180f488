//! The URL of a server: each form that is known among clients of Redis is honoured or refused, and none is read as
//! something else than it says. No error holds a part of the URL.

use std::{borrow::Cow, net::Ipv6Addr, path::PathBuf};

use percent_encoding::percent_decode_str;
use twotier_core::ConfigError;

const DEFAULT_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
const NOBODY: &str = "has neither user nor password before the `@`";

/// What a URL says.
pub(super) struct ServerUrl {
    pub(super) address: Address,
    pub(super) user: Option<String>,
    /// There is no user without one; it may be empty.
    pub(super) password: Option<String>,
    pub(super) database: i64,
}

pub(super) enum Address {
    Tcp {
        host: String,
        port: u16,
    },
    Tls {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
    /// Wherever these sentinels say that the primary of the service is.
    Named {
        tls: bool,
        sentinels: Vec<(String, u16)>,
        service: String,
        user: Option<String>,
        password: Option<String>,
    },
    /// The nodes of a cluster, or some of them.
    Cluster {
        tls: bool,
        nodes: Vec<(String, u16)>,
    },
}

impl ServerUrl {
    pub(super) fn parse(url: &str) -> Result<Self, ConfigError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return refuse("is not a URL; expected redis://host[:port][/db], rediss:// or unix:///path");
        };
        if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return refuse("holds a space or a control character; percent-encode it, a space as %20");
        }
        let scheme = scheme.to_ascii_lowercase();
        if rest.contains('#') {
            return refuse(
                "has a fragment, which means nothing here: a database is the path (`/5`), certificates are always checked, \
                 and a `#` in a password is %23",
            );
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        match scheme.as_str() {
            "redis" | "valkey" => tcp(rest, query, |host, port| Address::Tcp { host, port }),
            "rediss" | "valkeys" => tcp(rest, query, |host, port| Address::Tls { host, port }),
            "unix" | "redis+unix" | "valkey+unix" => unix(rest, query),
            "redis+sentinel" | "valkey+sentinel" => named(rest, query, false),
            "rediss+sentinel" | "valkeys+sentinel" => named(rest, query, true),
            other if other.contains("sentinel") => {
                refuse("has a scheme that is nearly one: sentinels are redis+sentinel://host:port,host:port/service")
            }
            "redis-cluster" | "redis+cluster" | "valkey-cluster" | "valkey+cluster" => cluster(rest, query, false),
            "rediss-cluster" | "rediss+cluster" | "valkeys-cluster" | "valkeys+cluster" => cluster(rest, query, true),
            other if other.contains("cluster") => {
                refuse("has a scheme that is nearly one: a cluster is redis-cluster://host:port,host:port")
            }
            _ => refuse("has a scheme that is none of redis://, rediss:// and unix://"),
        }
    }
}

fn refuse<T>(reason: impl Into<Cow<'static, str>>) -> Result<T, ConfigError> {
    Err(ConfigError::new("url", reason))
}

/// Reads `[user:password@]host[:port][/db]`.
fn tcp(rest: &str, query: &str, address: fn(String, u16) -> Address) -> Result<ServerUrl, ConfigError> {
    if let Some(parameter) = query.split('&').next().filter(|parameter| !parameter.is_empty()) {
        let name = name(parameter);
        return refuse(format!(
            "has the parameter `{name}`, but takes none: a database is the path (`/5`), and a `?` in a password is %3F"
        ));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let database = if path.is_empty() { 0 } else { database(path)? };
    let (user, password, server) = credentials(authority)?;
    let (host, port) = host_and_port(server, DEFAULT_PORT)?;
    Ok(ServerUrl { address: address(host.to_owned(), port), user, password, database })
}

/// Reads `[user:password@]host[:port][,host[:port]…]/service[/db]`, and `sentinel_user=…&sentinel_pass=…`.
fn named(rest: &str, query: &str, tls: bool) -> Result<ServerUrl, ConfigError> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (service, number) = path.split_once('/').unwrap_or((path, ""));
    if service.is_empty() {
        return refuse("does not say which service the sentinels watch: redis+sentinel://host:port,host:port/service");
    }
    let (service, database) = (decoded(service)?, if number.is_empty() { 0 } else { database(number)? });
    let (user, password, servers) = credentials(authority)?;
    let sentinels = hosts(servers, SENTINEL_PORT, "names a sentinel twice, whose word would count twice")?;
    let [sentinel_user, sentinel_pass] = parameters(query, ["sentinel_user", "sentinel_pass"])?;
    match (sentinel_user.as_deref(), sentinel_pass.as_deref()) {
        (Some(""), _) => return refuse("has an empty sentinel_user; leave it out for the default user"),
        (Some(_), None) => return refuse("has a sentinel_user and no `sentinel_pass`"),
        (None, Some("")) => return refuse("has an empty `sentinel_pass` and no sentinel_user"),
        _ => {}
    }
    let address = Address::Named { tls, sentinels, service, user: sentinel_user, password: sentinel_pass };
    Ok(ServerUrl { address, user, password, database })
}

/// Reads `[user:password@]host[:port][,host[:port]…]`.
fn cluster(rest: &str, query: &str, tls: bool) -> Result<ServerUrl, ConfigError> {
    let [] = parameters(query, [])?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !matches!(path, "" | "0") {
        return refuse("names a database, but a cluster has none");
    }
    let (user, password, servers) = credentials(authority)?;
    let nodes = hosts(servers, DEFAULT_PORT, "names a node of the cluster twice")?;
    Ok(ServerUrl { address: Address::Cluster { tls, nodes }, user, password, database: 0 })
}

/// Reads `host[:port][,host[:port]…]`, each host once.
fn hosts(servers: &str, port: u16, twice: &'static str) -> Result<Vec<(String, u16)>, ConfigError> {
    let mut hosts = Vec::new();
    for server in servers.split(',') {
        let (host, port) = host_and_port(server, port)?;
        let host = (host.to_ascii_lowercase(), port);
        if hosts.contains(&host) {
            return refuse(twice);
        }
        hosts.push(host);
    }
    Ok(hosts)
}

/// Splits `[user:password@]server`.
fn credentials(authority: &str) -> Result<(Option<String>, Option<String>, &str), ConfigError> {
    let Some((credentials, server)) = authority.rsplit_once('@') else { return Ok((None, None, authority)) };
    match credentials.split_once(':') {
        None if credentials.is_empty() => refuse(NOBODY),
        // Some clients take it for a user, others for a password.
        None => refuse(
            "has a user or a password before the `@`, and does not say which: write `user:password@`, \
             `:password@` for the default user, or `user:@` for a user without a password",
        ),
        Some(("", "")) => refuse(NOBODY),
        Some(("", password)) => Ok((None, Some(decoded(password)?), server)),
        Some((user, password)) => Ok((Some(decoded(user)?), Some(decoded(password)?), server)),
    }
}

fn host_and_port(server: &str, default_port: u16) -> Result<(&str, u16), ConfigError> {
    if server.contains(',') {
        return refuse(
            "names several servers, but redis:// is for one; sentinels are redis+sentinel://, a cluster is redis-cluster://",
        );
    }
    let (host, port) = if let Some(bracketed) = server.strip_prefix('[') {
        match bracketed.split_once(']') {
            Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => (host, port),
            _ => return refuse("has brackets around something that is no IPv6 address"),
        }
    } else {
        let end = server.find(':').unwrap_or(server.len());
        let (host, port) = server.split_at(end);
        if port.rfind(':') > Some(0) {
            return refuse("has more than one `:` after the host: an IPv6 address is written in brackets, as in [::1]");
        }
        if host.is_empty() {
            return refuse("has no host");
        }
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')) {
            return refuse("has a host that is no name in ASCII and no address; write other names in their xn-- form");
        }
        (host, port)
    };
    if port.is_empty() {
        return Ok((host, default_port));
    }
    match port.strip_prefix(':').and_then(number::<u16>) {
        Some(port) if port > 0 => Ok((host, port)),
        _ => refuse("has a port that is not a number from 1 to 65535; a `/` in a password is %2F"),
    }
}

/// Reads `/path` and `db=…&user=…&pass=…`.
fn unix(rest: &str, query: &str) -> Result<ServerUrl, ConfigError> {
    let path = match rest.split_once('/') {
        Some(("", "")) | None => return refuse("has no path to a socket: unix:///absolute/path, with three slashes"),
        Some(("", _)) => PathBuf::from(decoded(rest)?),
        Some((authority, _)) if authority.contains('@') => {
            return refuse("has a user before the path: write unix:///absolute/path?user=…&pass=…");
        }
        Some(_) => return refuse("must be unix:///absolute/path, with three slashes"),
    };
    let [db, user, pass] = parameters(query, ["db", "user", "pass"])?;
    match (user.as_deref(), pass.as_deref()) {
        (Some(""), _) => return refuse("has an empty user; leave it out for the default user"),
        (Some(_), None) => return refuse("has a user and no `pass`; for a user without a password write `pass=`"),
        (None, Some("")) => return refuse("has an empty `pass` and no user"),
        _ => {}
    }
    let database = db.map_or(Ok(0), |db| database(&db))?;
    Ok(ServerUrl { address: Address::Unix(path), user, password: pass, database })
}

/// Reads the values of the parameters that there may be, in the order of their names.
fn parameters<const N: usize>(query: &str, names: [&str; N]) -> Result<[Option<String>; N], ConfigError> {
    let mut values = [const { None }; N];
    for parameter in query.split('&').filter(|_| !query.is_empty()) {
        let (name, value) = (name(parameter), parameter.split_once('=').map_or("", |(_, value)| value));
        let Some(index) = names.iter().position(|known| *known == name) else {
            let taken = if names.is_empty() { "none".to_owned() } else { format!("only {}", names.join(", ")) };
            return refuse(format!("has the parameter `{name}`, but takes {taken}"));
        };
        if values[index].replace(decoded(value)?).is_some() {
            return refuse(format!("has the parameter `{name}` twice"));
        }
    }
    Ok(values)
}

/// The name of a parameter, so that a misplaced password is not printed.
fn name(parameter: &str) -> &str {
    let name = parameter.split('=').next().unwrap_or_default();
    let known = [
        "db",
        "user",
        "pass",
        "username",
        "password",
        "protocol",
        "timeout",
        "ssl",
        "tls",
        "insecure",
        "sentinel_user",
        "sentinel_pass",
    ];
    if known.contains(&name) { name } else { "…" }
}

fn database(text: &str) -> Result<i64, ConfigError> {
    // Servers count databases in 32 bits, of which one is the sign.
    match number::<u32>(text) {
        Some(database) if i32::try_from(database).is_ok() => Ok(database.into()),
        _ => refuse("has a database that is not a number from 0 to 2147483647; a `/` in a password is %2F"),
    }
}

/// Reads digits, and nothing else: no sign, no space.
fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Decodes `%40` and the like; a `+` is a plus. The decoded text is never printed.
fn decoded(text: &str) -> Result<String, ConfigError> {
    let is_encoded = |rest: &str| rest.get(..2).is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if !text.split('%').skip(1).all(is_encoded) {
        return refuse("has a `%` that begins no percent-encoding; a plain one is %25");
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_not_utf8) => refuse("has a percent-encoded part that is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a URL says, in words.
    fn read(url: &str) -> String {
        let ServerUrl { address, user, password, database } =
            ServerUrl::parse(url).unwrap_or_else(|e| panic!("{url}: {e}"));
        let address = match address {
            Address::Tcp { host, port } => format!("tcp {host} {port}"),
            Address::Tls { host, port } => format!("tls {host} {port}"),
            Address::Unix(path) => format!("unix {}", path.display()),
            Address::Named { tls, sentinels, service, user, password } => {
                let hosts: Vec<_> = sentinels.into_iter().map(|(host, port)| format!("{host}:{port}")).collect();
                let credentials =
                    password.map(|password| format!(" {}|{password}", user.unwrap_or_else(|| "-".to_owned())));
                format!("named {tls} {}{} {service}", hosts.join(","), credentials.unwrap_or_default())
            }
            Address::Cluster { tls, nodes } => {
                let hosts: Vec<_> = nodes.into_iter().map(|(host, port)| format!("{host}:{port}")).collect();
                format!("cluster {tls} {}", hosts.join(","))
            }
        };
        let credentials = password.map(|password| format!(" {}|{password}", user.unwrap_or_else(|| "-".to_owned())));
        format!("{address} {database}{}", credentials.unwrap_or_default())
    }

    #[test]
    fn a_url_that_is_honoured_means_what_it_says() {
        for (url, expected) in [
            ("redis://h", "tcp h 6379 0"),
            ("redis://h/", "tcp h 6379 0"),
            ("redis://h?", "tcp h 6379 0"),
            ("redis://my_host.local-1:7000/15", "tcp my_host.local-1 7000 15"),
            ("redis://10.0.0.7:65535/2147483647", "tcp 10.0.0.7 65535 2147483647"),
            ("valkey://h", "tcp h 6379 0"),
            ("rediss://h:1", "tls h 1 0"),
            ("valkeys://h", "tls h 6379 0"),
            ("REDIS://H", "tcp H 6379 0"),
            ("redis://[::1]", "tcp ::1 6379 0"),
            ("redis://[2001:db8::7]:7000/1", "tcp 2001:db8::7 7000 1"),
            ("redis://:p@h", "tcp h 6379 0 -|p"),
            ("redis://u:p@h", "tcp h 6379 0 u|p"),
            ("redis://u:@h", "tcp h 6379 0 u|"),
            ("redis://u:a+b@h", "tcp h 6379 0 u|a+b"),
            ("redis://u:a:b@c@h", "tcp h 6379 0 u|a:b@c"),
            ("redis://us%3Aer:p%40ss%2Fw%25rd%20%2B@h:6380/3", "tcp h 6380 3 us:er|p@ss/w%rd +"),
            ("redis://:p%C3%A4ss@h", "tcp h 6379 0 -|päss"),
            ("unix:///run/redis.sock", "unix /run/redis.sock 0"),
            ("redis+unix:///run/my%20redis.sock?", "unix /run/my redis.sock 0"),
            ("valkey+unix:///s?db=2&user=app&pass=p%40s%26s", "unix /s 2 app|p@s&s"),
            ("unix:///s?pass=a+b", "unix /s 0 -|a+b"),
            ("unix:///s?user=app&pass=", "unix /s 0 app|"),
            ("redis+sentinel://h/s", "named false h:26379 s 0"),
            ("rediss+sentinel://u:p%40@A:1,b,[::1]:3/my%2Fs/7", "named true a:1,b:26379,::1:3 my/s 7 u|p@"),
            ("valkey+sentinel://h/s?sentinel_pass=p%26", "named false h:26379 -|p& s 0"),
            ("redis+sentinel://h/s/?sentinel_user=w&sentinel_pass=", "named false h:26379 w| s 0"),
            ("redis-cluster://h", "cluster false h:6379 0"),
            ("redis+cluster://h/", "cluster false h:6379 0"),
            ("valkey-cluster://h:1/0", "cluster false h:1 0"),
            ("rediss-cluster://u:p@A:1,b,[::1]:3", "cluster true a:1,b:6379,::1:3 0 u|p"),
        ] {
            assert_eq!(read(url), expected, "{url}");
        }
    }

    #[test]
    fn a_url_that_is_refused_is_an_error_that_names_the_cure_and_holds_no_part_of_it() {
        for (url, cure) in [
            ("", "expected redis://"),
            ("sekret", "expected redis://"),
            ("sekret-host:6379", "expected redis://"),
            ("redis:sekret", "expected redis://"),
            ("redis:/sekret", "expected redis://"),
            ("http://sekret", "scheme"),
            ("://sekret", "scheme"),
            (" redis://sekret", "%20"),
            ("redis://sekret\n", "%20"),
            ("redis://u:sek ret@h", "%20"),
            ("redis+sentinel://sekret", "which service"),
            ("redis+sentinel://sekret//0", "which service"),
            ("redis+sentinel://sekret/s/x", "database"),
            ("redis+sentinel://sekret,h,sekret:26379/s", "twice"),
            ("redis+sentinel://sekret,/s", "no host"),
            ("redis+sentinel://sekret@h/s", "user:password@"),
            ("redis+sentinel://h/s?sentinel_user=sekret", "`sentinel_pass`"),
            ("redis+sentinel://h/s?sentinel_pass=", "no sentinel_user"),
            ("redis+sentinel://h/s?sekret=1", "`…`"),
            ("redis+sentinel://h/s?pass=sekret", "`pass`"),
            ("redis-sentinel://sekret", "redis+sentinel://"),
            ("redis-clusters://sekret", "redis-cluster://"),
            ("redis-cluster://sekret/1", "has none"),
            ("redis-cluster://sekret/0/1", "has none"),
            ("redis-cluster://sekret,SEKRET:6379", "twice"),
            ("redis-cluster://sekret,", "no host"),
            ("redis-cluster://sekret@h", "user:password@"),
            ("redis-cluster://h?sekret=1", "`…`"),
            ("redis-cluster://h?db=1", "takes none"),
            ("redis://sekret,sekret", "several"),
            ("redis://sekret:1,sekret:2/0", "several"),
            ("redis://", "no host"),
            ("redis:///1", "no host"),
            ("redis://:6379", "no host"),
            ("redis://user:sekret@", "no host"),
            ("redis://sekret@h", "user:password@"),
            ("redis://@sekret", "user nor password"),
            ("redis://:@sekret", "user nor password"),
            ("redis://sekret-ü", "xn--"),
            ("redis://sekret%20", "xn--"),
            ("redis://::1", "brackets"),
            ("redis://sekret:1:2", "brackets"),
            ("redis://[sekret]", "IPv6"),
            ("redis://[::1", "IPv6"),
            ("redis://[fe80::1%25sekret]", "IPv6"),
            ("redis://[::1]sekret", "port"),
            ("redis://sekret:", "port"),
            ("redis://sekret:0", "port"),
            ("redis://sekret:65536", "port"),
            ("redis://sekret:+1", "port"),
            ("redis://sekret:x", "port"),
            ("redis://:sek/ret@h", "%2F"),
            ("redis://sekret/notanumber", "database"),
            ("redis://sekret/-1", "database"),
            ("redis://sekret/+1", "database"),
            ("redis://sekret//1", "database"),
            ("redis://sekret/1/", "database"),
            ("redis://sekret/2147483648", "database"),
            ("redis://sekret/99999999999999999999", "database"),
            ("redis://sekret/0?db=5", "`/5`"),
            ("redis://sekret?protocol=resp3", "`protocol`"),
            ("redis://:sek?ret@h", "%3F"),
            ("redis://h?sekret=1", "`…`"),
            ("redis://sekret/0#db=5", "`/5`"),
            ("rediss://sekret/#insecure", "certificates are always checked"),
            ("redis://:sek#ret@h", "%23"),
            ("redis://:%FF%FEsekret@h", "UTF-8"),
            ("redis://:sekret%@h", "%25"),
            ("redis://:sekret%4@h", "%25"),
            ("redis://:sekret%zz@h", "%25"),
            ("unix://", "three slashes"),
            ("unix:///", "three slashes"),
            ("unix://sekret", "three slashes"),
            ("unix://sekret/relative.sock", "three slashes"),
            ("unix://sekret@/s.sock", "?user="),
            ("unix:///sekret.sock?db=x", "database"),
            ("unix:///sekret.sock?db=", "database"),
            ("unix:///s.sock?sekret%20=x", "`…`"),
            ("unix:///s.sock?password=sekret", "`password`"),
            ("unix:///s.sock?pass=a&pass=sekret", "twice"),
            ("unix:///s.sock?pass=a&", "`…`"),
            ("unix:///s.sock?user=sekret", "`pass=`"),
            ("unix:///s.sock?pass=", "no user"),
            ("unix:///s.sock?user=&pass=sekret", "empty user"),
            ("unix:///sekret.sock#x", "fragment"),
        ] {
            let Err(error) = ServerUrl::parse(url) else { panic!("{url} is {}", read(url)) };
            assert_eq!(error.field(), "url", "{url}");
            assert!(error.to_string().contains(cure), "{url}: {error}");
            assert!(!error.to_string().to_lowercase().contains("sekret"), "{url}: {error}");
        }
    }
}
