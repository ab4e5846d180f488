//! A server of our own, for as long as it is held.

use std::{
    env, fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    failure::{Failure, Outcome},
    stopwatch::Stopwatch,
};

/// How long a server may take to answer its first PING.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between asking for a free port and the server's taking it, another process may take it.
const TRIES: usize = 5;

/// A server on a free loopback port that keeps nothing on disk; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct PrivateServer {
    process: Child,
    port: u16,
    folder: PathBuf,
}

impl PrivateServer {
    /// Starts a server and waits until it answers.
    pub(crate) fn start(binary: &Path) -> Outcome<Self> {
        let mut last = None;
        for _ in 0..TRIES {
            match Self::try_start(binary) {
                Ok(server) => return Ok(server),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.expect("there was at least one try"))
    }

    /// Returns where it listens.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn try_start(binary: &Path) -> Outcome<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let folder = env::temp_dir().join(format!("twotier-xtask-{}-{port}", process::id()));
        fs::create_dir_all(&folder)?;
        let process = Command::new(binary)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure::Failed(format!("cannot start {}: {error}", binary.display())))?;
        let mut server = Self { process, port, folder };

        let clock = Stopwatch::start();
        while !server.answers() {
            if let Some(status) = server.process.try_wait()? {
                return Err(Failure::Failed(format!("{} ended at once ({status})", binary.display())));
            }
            if clock.elapsed() > PATIENCE {
                return Err(Failure::Failed(format!("{} does not answer", binary.display())));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    fn answers(&self) -> bool {
        let ping = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"PING\r\n")?;
            let mut reply = [0; 7];
            stream.read_exact(&mut reply)?;
            Ok(&reply == b"+PONG\r\n")
        };
        ping().unwrap_or(false)
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        // Nothing can be done about a server that is already gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_at_once_is_no_server() {
        let Err(Failure::Failed(message)) = PrivateServer::start(Path::new("true")) else { panic!("it started") };
        assert!(message.contains("ended at once"), "{message}");
    }

    mod live {
        use super::*;
        use crate::server;

        #[test]
        fn a_private_server_answers_and_ends_with_its_handle() {
            let binary = server::find().unwrap().expect("a server is installed; `cargo xtask test` sees to it");
            let server = PrivateServer::start(&binary).unwrap();
            let (port, folder) = (server.port, server.folder.clone());
            assert_eq!(server.url(), format!("redis://127.0.0.1:{port}"));
            drop(server);
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
            assert!(!folder.exists());
        }
    }
}
