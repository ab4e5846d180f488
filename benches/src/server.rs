//! The server that is measured against: one that was named, or a private one, or none.

use std::{
    env, fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    path::Path,
    sync::Mutex,
    time::Duration,
};

use twotier_testkit::{Proxy, RedisServer};

use crate::{Result, commands::Commands};

/// Names the server to use.
const URL: &str = "TWOTIER_REDIS_URL";
/// Names a server binary that is in no folder of `PATH`.
const BINARY: &str = "TWOTIER_TEST_SERVER";
/// What is looked for in `PATH`.
const BINARIES: [&str; 2] = ["redis-server", "valkey-server"];

/// A Redis or Valkey server that answers.
pub struct Server {
    url: String,
    product: &'static str,
    version: String,
    /// A connection of its own, for `INFO`.
    witness: Mutex<redis::Connection>,
    /// Ours; it ends with this.
    private: Option<RedisServer>,
}

impl Server {
    /// Looks for a server: the one named by `TWOTIER_REDIS_URL`, else a binary that is started privately.
    ///
    /// # Errors
    ///
    /// When the one that was named does not answer: the benchmark was meant for it and for no other.
    pub fn find() -> Result<Option<Self>> {
        if let Some(url) = env::var_os(URL).filter(|url| !url.is_empty()) {
            let url = url.into_string().map_err(|_not_utf8| format!("{URL} is not UTF-8"))?;
            let server = Self::connect(url, None);
            return Ok(Some(server.map_err(|error| format!("the server named by {URL} cannot be used: {error}"))?));
        }
        if !binary_exists() {
            return Ok(None);
        }
        let private = RedisServer::start();
        Ok(Some(Self::connect(private.url(), Some(private))?))
    }

    /// Explains why [`find`](Self::find) found none, and what can be done.
    #[must_use]
    pub fn none() -> String {
        format!("{URL} is not set, and no redis-server or valkey-server is in PATH; `cargo xtask test` installs one")
    }

    fn connect(url: String, private: Option<RedisServer>) -> Result<Self> {
        let client = redis::Client::open(url.as_str())?;
        let mut witness = client.get_connection_with_timeout(Duration::from_secs(5))?;
        witness.set_read_timeout(Some(Duration::from_secs(5)))?;
        let info: String = redis::cmd("INFO").arg("server").query(&mut witness)?;
        let field = |name: &str| info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
        let (product, version) = match (field("valkey_version"), field("redis_version")) {
            (Some(version), _) => ("Valkey", version.to_owned()),
            (None, version) => ("Redis", version.unwrap_or("of unknown version").to_owned()),
        };
        Ok(Self { url, product, version, witness: Mutex::new(witness), private })
    }

    /// Returns its URL, credentials included.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns what it is.
    #[must_use]
    pub fn product(&self) -> &str {
        self.product
    }

    /// Returns where it is, without credentials.
    #[must_use]
    pub fn place(&self) -> &str {
        match Address::of(&self.url) {
            None => "unix socket",
            Some(address) if address.is_loopback() => "loopback",
            Some(address) => address.host_and_port,
        }
    }

    /// Returns whether nobody else uses it, so that its counts are all ours.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// Returns the commands it has counted, from whatever client.
    ///
    /// # Errors
    ///
    /// When it does not answer, or refuses.
    pub fn commands(&self) -> Result<Commands> {
        let mut witness = self.witness.lock().map_err(|_poisoned| "an earlier count panicked")?;
        let info: String = redis::cmd("INFO").arg("commandstats").query(&mut *witness)?;
        let counts = info.lines().filter_map(|line| {
            let (name, values) = line.trim().strip_prefix("cmdstat_")?.split_once(':')?;
            let calls = values.split(',').find_map(|value| value.strip_prefix("calls="))?;
            Some((name.to_owned(), calls.parse().ok()?))
        });
        Ok(Commands::of(counts))
    }

    /// Returns the process that it is, on its own machine.
    ///
    /// # Errors
    ///
    /// When it does not answer, or refuses.
    pub fn process_id(&self) -> Result<String> {
        let mut witness = self.witness.lock().map_err(|_poisoned| "an earlier count panicked")?;
        let info: String = redis::cmd("INFO").arg("server").query(&mut *witness)?;
        let process = info.lines().find_map(|line| line.trim().strip_prefix("process_id:"));
        Ok(process.ok_or("the server does not say which process it is")?.to_owned())
    }

    /// Returns where a programme that knows neither credentials nor TLS can reach it.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(String, u16)> {
        let plain = |address: &Address<'_>| address.scheme == "redis" && address.credentials.is_empty();
        let address = Address::of(&self.url).filter(plain)?.resolve().ok()?;
        Some((address.ip().to_string(), address.port()))
    }

    /// Puts a proxy in front of it that adds to each round trip; returns the URL that leads through it.
    ///
    /// # Errors
    ///
    /// When it is not reached by plain TCP.
    pub fn behind_proxy(&self, round_trip: Duration) -> Result<(Proxy, String)> {
        let address = Address::of(&self.url).filter(|address| address.scheme == "redis");
        let address = address.ok_or("a delay can be put in front of `redis://` URLs only")?;
        let proxy = Proxy::start(address.resolve()?);
        proxy.set_round_trip(round_trip);
        let url = address.replaced_by(proxy.addr());
        Ok((proxy, url))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.is_private() {
            "private, started for this run".to_owned()
        } else {
            format!("named by {URL}; its counts include other clients' commands")
        };
        write!(f, "{} {}, {}, {whose}", self.product, self.version, self.place())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("product", &self.product).finish_non_exhaustive()
    }
}

/// The parts of a URL `scheme://[credentials@]host[:port][/…]`.
#[derive(Debug, PartialEq, Eq)]
struct Address<'u> {
    scheme: &'u str,
    credentials: &'u str,
    host_and_port: &'u str,
    rest: &'u str,
}

impl<'u> Address<'u> {
    /// Takes a URL apart; `None` for a unix socket.
    fn of(url: &'u str) -> Option<Self> {
        let (scheme, after) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "redis" | "rediss"))?;
        let (authority, rest) = after.split_at(after.find(['/', '?']).unwrap_or(after.len()));
        let (credentials, host_and_port) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        Some(Self { scheme, credentials, host_and_port, rest })
    }

    fn is_loopback(&self) -> bool {
        self.resolve().is_ok_and(|address| address.ip().is_loopback())
    }

    fn resolve(&self) -> io::Result<SocketAddr> {
        let has_port = self.host_and_port.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let port = if has_port { "" } else { ":6379" };
        let mut addresses = format!("{}{port}", self.host_and_port).to_socket_addrs()?;
        addresses.next().ok_or_else(|| io::Error::other("the host has no address"))
    }

    fn replaced_by(&self, address: SocketAddr) -> String {
        format!("{}://{}{address}{}", self.scheme, self.credentials, self.rest)
    }
}

/// Returns whether [`RedisServer::start`] has something to start.
fn binary_exists() -> bool {
    let in_path = |name: &&str| {
        let folders = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&folders).any(|folder| Path::new(&folder).join(name).is_file())
    };
    // Whether what was named is a programme is said by the test kit, which starts it.
    env::var_os(BINARY).is_some_and(|named| !named.is_empty()) || BINARIES.iter().any(in_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_takes_the_place_of_host_and_port_and_of_nothing_else() {
        let proxy: SocketAddr = "127.0.0.1:7000".parse().unwrap();
        for (url, through) in [
            ("redis://h", "redis://127.0.0.1:7000"),
            ("redis://h:1/2?x=y", "redis://127.0.0.1:7000/2?x=y"),
            ("redis://user:p%40ss@h:1", "redis://user:p%40ss@127.0.0.1:7000"),
            ("redis://:p@[::1]:1/0", "redis://:p@127.0.0.1:7000/0"),
        ] {
            assert_eq!(Address::of(url).unwrap().replaced_by(proxy), through);
        }
        assert_eq!(Address::of("unix:///tmp/redis.sock"), None);
    }

    #[test]
    fn the_port_may_be_left_out() {
        for url in ["redis://127.0.0.1", "redis://:p@127.0.0.1:6379/1", "redis://[::1]", "redis://[::1]:6379"] {
            let address = Address::of(url).unwrap();
            assert_eq!(address.resolve().unwrap().port(), 6379, "{url}");
            assert!(address.is_loopback());
        }
    }
}
