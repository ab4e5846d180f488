//! What can be configured about a private server.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::Mutex,
};

use super::{RedisServer, process::Process};

/// Between choosing a free port and the server's taking it, another process may take it.
const TRIES: usize = 10;

/// Configures a [`RedisServer`].
#[derive(Clone, Debug, Default)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    arguments: Vec<String>,
    password: Option<String>,
    unix_only: bool,
}

impl Builder {
    /// Adds a directive of `redis.conf` with its value, whose words are passed one by one.
    ///
    /// ```no_run
    /// # use twotier_testkit::RedisServer;
    /// let server = RedisServer::builder()
    ///     .arg("maxmemory", "8mb")
    ///     .arg("client-output-buffer-limit", "normal 1mb 0 0")
    ///     .start();
    /// ```
    pub fn arg(mut self, name: &str, value: &str) -> Self {
        self.arguments.push(format!("--{name}"));
        if value.is_empty() {
            self.arguments.push(String::new());
        }
        self.arguments.extend(value.split_whitespace().map(str::to_owned));
        self
    }

    /// Asks the default user for a password.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.arguments.extend(["--requirepass".to_owned(), password.to_owned()]);
        self
    }

    /// Adds a user in the words of [`ACL SETUSER`](https://redis.io/docs/latest/commands/acl-setuser/), name first:
    /// `app on >secret ~users:* +get`.
    pub fn acl_user(self, line: &str) -> Self {
        self.arg("user", line)
    }

    /// Listens on the unix socket only.
    pub fn unix_only(mut self) -> Self {
        self.unix_only = true;
        self
    }

    /// Starts the server and waits until it answers, or fails the test.
    #[must_use]
    pub fn start(self) -> RedisServer {
        let mut last = String::new();
        for _ in 0..TRIES {
            let port = if self.unix_only { None } else { Some(free_port()) };
            let process = Process::new(port, &self.arguments);
            match process.start().and_then(|()| process.wait_until_ready()) {
                Ok(()) => {
                    return RedisServer { process, port, password: self.password, witness: Mutex::default() };
                }
                Err(error) => last = error,
            }
        }
        panic!("{last}");
    }
}

/// Chooses a free port below the range from which systems take the ports of outgoing connections (32768 on Linux, 49152
/// elsewhere). In that range a client that connects to a server that is down can meet itself.
pub(super) fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(15_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
