//! A private Redis or Valkey server.

mod builder;
mod cluster;
mod process;
mod sentinels;

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Mutex,
    thread,
    time::Duration,
};

use crate::resp::{Client, Reply};

use self::process::Process;
pub use builder::Builder;
pub use cluster::{ClusterClient, RedisCluster};
pub use sentinels::{Sentinel, SentinelGroup};

/// How often servers are looked at that have to agree on something. A test that waits longer has hung.
const TRIES: u32 = 6000;

/// A server of one test's own, on a free loopback port and a unix socket, that keeps nothing on disk.
///
/// It ends, with its folder, when this is dropped: keep it in a local variable, never in a `static`.
/// All methods take `&self`, so one server may be shared by the tasks of a test.
///
/// ```no_run
/// use twotier_testkit::RedisServer;
///
/// let server = RedisServer::start();
/// assert!(server.command(&["SET", "users:42", "Ada"]).is_ok());
/// assert_eq!(server.command(&["GET", "users:42"]).as_str(), "Ada");
/// server.reset_stats();
/// // … the code under test, with `server.url()` …
/// assert_eq!(server.calls(&["get", "mget"]), 0);
/// ```
pub struct RedisServer {
    process: Process,
    port: Option<u16>,
    password: Option<String>,
    witness: Mutex<Option<Client>>,
}

impl RedisServer {
    /// Starts a server with every default and waits until it answers.
    ///
    /// The binary is the one named by `TWOTIER_TEST_SERVER`, else `redis-server`, else `valkey-server` in `PATH`;
    /// without one the test fails with a message that says how to get one.
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Returns what can be configured.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns `redis://127.0.0.1:<port>`, with the password if there is one.
    #[must_use]
    #[track_caller]
    pub fn url(&self) -> String {
        self.url_at(self.addr())
    }

    /// Returns [`url`](Self::url) with another address, that of a [`Proxy`](crate::Proxy) for instance.
    #[must_use]
    pub fn url_at(&self, addr: SocketAddr) -> String {
        match &self.password {
            Some(password) => format!("redis://:{}@{addr}", percent_encoded(password)),
            None => format!("redis://{addr}"),
        }
    }

    /// Returns [`url`](Self::url) for a user made by [`Builder::acl_user`].
    #[must_use]
    #[track_caller]
    pub fn url_as(&self, user: &str, password: &str) -> String {
        format!("redis://{}:{}@{}", percent_encoded(user), percent_encoded(password), self.addr())
    }

    /// Returns `unix://<path>`, with the password if there is one.
    #[must_use]
    pub fn unix_url(&self) -> String {
        let path = self.socket().display();
        match &self.password {
            Some(password) => format!("unix://{path}?pass={}", percent_encoded(password)),
            None => format!("unix://{path}"),
        }
    }

    /// Returns the unix socket it listens on.
    #[must_use]
    pub fn socket(&self) -> &Path {
        self.process.socket()
    }

    /// Returns the address it listens on, or fails the test when it is [`unix_only`](Builder::unix_only).
    #[must_use]
    #[track_caller]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    /// Returns the port it listens on, or fails the test when it is [`unix_only`](Builder::unix_only).
    #[must_use]
    #[track_caller]
    pub fn port(&self) -> u16 {
        self.port.expect("this server listens on a unix socket only")
    }

    /// Returns the program that runs.
    #[must_use]
    pub fn binary(&self) -> &Path {
        self.process.binary()
    }

    /// Returns whether the server is Valkey.
    #[must_use]
    pub fn is_valkey(&self) -> bool {
        self.info("server").contains_key("valkey_version")
    }

    /// Returns the server's own version, `(7, 0, 15)` for instance.
    #[must_use]
    pub fn version(&self) -> (u32, u32, u32) {
        let info = self.info("server");
        let version = info.get("valkey_version").or_else(|| info.get("redis_version")).expect("it names its version");
        let mut parts = version.split('.').map(|part| part.parse().expect("versions are numbers"));
        let mut next = || parts.next().unwrap_or(0);
        (next(), next(), next())
    }

    /// Sends a command on the witness's own connection and returns the answer.
    ///
    /// Commands of the witness are counted by [`calls`](Self::calls) like anyone else's.
    #[track_caller]
    pub fn command<W: AsRef<[u8]>>(&self, words: &[W]) -> Reply {
        match self.try_command(words) {
            Ok(reply) => reply,
            Err(error) => panic!("the server did not answer: {error}"),
        }
    }

    /// Sends a command on the witness's own connection, which is made anew if it was lost.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or does not answer within ten seconds.
    pub fn try_command<W: AsRef<[u8]>>(&self, words: &[W]) -> io::Result<Reply> {
        let mut witness = self.witness.lock().unwrap();
        let mut client = match witness.take() {
            Some(client) => client,
            None => self.try_client()?,
        };
        let reply = client.try_command(words)?;
        *witness = Some(client);
        Ok(reply)
    }

    /// Opens another connection, as the default user.
    #[must_use]
    #[track_caller]
    pub fn client(&self) -> Client {
        self.try_client().expect("the server takes connections")
    }

    /// Returns a section of `INFO`, field by field.
    #[must_use]
    #[track_caller]
    pub fn info(&self, section: &str) -> BTreeMap<String, String> {
        let reply = self.command(&["INFO", section]);
        let lines = reply.as_str().lines().filter_map(|line| line.split_once(':'));
        lines.map(|(field, value)| (field.to_owned(), value.to_owned())).collect()
    }

    /// Returns how often each command was called since the start or [`reset_stats`](Self::reset_stats), by its name in
    /// lower case; subcommands are named `client|tracking`. Commands in a transaction or a script are counted too.
    #[must_use]
    #[track_caller]
    pub fn commandstats(&self) -> BTreeMap<String, u64> {
        let fields = self.info("commandstats").into_iter().filter_map(|(field, value)| {
            let name = field.strip_prefix("cmdstat_")?;
            let calls = value.split(',').find_map(|part| part.strip_prefix("calls="))?;
            Some((name.to_owned(), calls.parse().expect("a count is a number")))
        });
        fields.collect()
    }

    /// Returns how often these commands were called, together.
    #[must_use]
    #[track_caller]
    pub fn calls(&self, commands: &[&str]) -> u64 {
        let stats = self.commandstats();
        commands.iter().filter_map(|command| stats.get(*command)).sum()
    }

    /// Sets every count to zero.
    #[track_caller]
    pub fn reset_stats(&self) {
        assert!(self.command(&["CONFIG", "RESETSTAT"]).is_ok());
    }

    /// Returns how often these commands were called while the future ran, and what it returned.
    pub async fn count_during<T>(&self, commands: &[&str], future: impl Future<Output = T>) -> (u64, T) {
        let before = self.calls(commands);
        let output = future.await;
        (self.calls(commands) - before, output)
    }

    /// Kills the server (`SIGKILL`). What it held is lost.
    pub fn kill(&self) {
        self.process.kill();
        *self.witness.lock().unwrap() = None;
    }

    /// Starts the server again, on the same port and socket and with the same arguments; kills it first if it runs.
    pub fn restart(&self) {
        self.kill();
        self.process.start().and_then(|()| self.process.wait_until_ready()).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Stops the server in its tracks (`SIGSTOP`): connections stay open and nothing is answered.
    /// It has stopped when this returns.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets a paused server go on (`SIGCONT`).
    pub fn resume(&self) {
        self.process.resume();
    }

    fn try_client(&self) -> io::Result<Client> {
        let mut client = Client::unix(self.socket())?;
        if let Some(password) = &self.password {
            let reply = client.try_command(&["AUTH", password])?;
            assert!(reply.is_ok(), "the password is refused: {reply:?}");
        }
        Ok(client)
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServer").field("port", &self.port).field("socket", &self.socket()).finish_non_exhaustive()
    }
}

/// Waits until several servers have agreed on something.
#[track_caller]
fn wait(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..TRIES {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("{what}: it did not happen");
}

/// Encodes everything that could mean something in a URL.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests;
