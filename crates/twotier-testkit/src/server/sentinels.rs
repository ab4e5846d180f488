//! A primary with replicas, watched by sentinels.

use std::{io, time::Duration};

use super::{RedisServer, builder::free_port, process::Process, wait};
use crate::resp::{Client, Reply};

/// What the sentinels call the servers.
const SERVICE: &str = "shop";

/// Servers of which one is the primary, and sentinels that decide which one; all end when this is dropped.
///
/// The sentinels know each other and the replicas from the start: nobody waits until they have met.
#[derive(Debug)]
pub struct SentinelGroup {
    servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
}

/// One sentinel.
pub struct Sentinel {
    process: Process,
    port: u16,
}

impl SentinelGroup {
    /// Starts a primary, replicas that have its data, and three sentinels, who find a server dead after so long.
    #[must_use]
    pub fn start(replicas: usize, down_after: Duration) -> Self {
        let primary = RedisServer::builder().arg("repl-diskless-sync-delay", "0").start();
        let mut servers = vec![primary];
        for _ in 0..replicas {
            let of = format!("127.0.0.1 {}", servers[0].port());
            servers.push(RedisServer::builder().arg("replicaof", &of).arg("repl-diskless-sync-delay", "0").start());
        }
        for replica in &servers[1..] {
            wait("a replica follows", || replica.info("replication")["master_link_status"] == "up");
        }
        let ports: [u16; 3] = std::array::from_fn(|_| free_port());
        let id = |port: u16| format!("{port:040x}");
        let mut known = String::new();
        for replica in &servers[1..] {
            known.push_str(&format!("sentinel known-replica {SERVICE} 127.0.0.1 {}\n", replica.port()));
        }
        let sentinels = ports.map(|port| {
            let mut directives = format!(
                "sentinel myid {}\nsentinel monitor {SERVICE} 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds {SERVICE} {}\nsentinel failover-timeout {SERVICE} 5000\n{known}",
                id(port),
                servers[0].port(),
                down_after.as_millis(),
            );
            for other in ports.iter().filter(|other| **other != port) {
                let line = format!("sentinel known-sentinel {SERVICE} 127.0.0.1 {other} {}\n", id(*other));
                directives.push_str(&line);
            }
            let sentinel = Sentinel { process: Process::sentinel(port, &directives), port };
            sentinel.process.start().and_then(|()| sentinel.process.wait_until_ready()).unwrap();
            sentinel
        });
        let group = Self { servers, sentinels: sentinels.into() };
        wait("the sentinels are ready", || group.is_whole());
        group
    }

    /// Returns the URL that names every sentinel.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{SERVICE}", hosts.join(","))
    }

    /// Returns the servers, of whom the first one was the primary at the start.
    #[must_use]
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// Returns the sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[Sentinel] {
        &self.sentinels
    }

    /// Returns the place of the server that most sentinels take for the primary, `None` while there is none.
    #[must_use]
    pub fn primary(&self) -> Option<usize> {
        let named: Vec<u16> = self.sentinels.iter().filter_map(Sentinel::names).collect();
        let majority = |server: &&RedisServer| named.iter().filter(|port| **port == server.port()).count() >= 2;
        let primary = self.servers.iter().find(majority)?;
        self.servers.iter().position(|server| server.port() == primary.port())
    }

    /// Returns whether every sentinel sees the others and every server, all at work: a failover can begin.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.sentinels.iter().all(|sentinel| {
            let (replicas, others) = (sentinel.list("REPLICAS"), sentinel.list("SENTINELS"));
            let bad = ["disconnected", "s_down", "o_down"];
            let well = |list: &[String]| !list.iter().any(|item| bad.iter().any(|bad| item.contains(bad)));
            let up = replicas.iter().filter(|item| item.contains("master-link-status ok")).count();
            up == self.servers.len() - 1 && well(&replicas) && well(&others) && others.len() == 2
        })
    }

    /// Returns the number of the last change of the primary that any sentinel knows of. It grows with each.
    #[must_use]
    pub fn config_epoch(&self) -> u64 {
        let epochs = self.sentinels.iter().filter_map(|sentinel| {
            let Reply::Array(fields) = sentinel.command(&["SENTINEL", "MASTER", SERVICE]).ok()? else { return None };
            let pair = fields.chunks_exact(2).find(|pair| pair[0].as_bytes() == b"config-epoch")?;
            pair[1].as_str().parse().ok()
        });
        epochs.max().unwrap_or(0)
    }

    /// Has another server become the primary; returns once the sentinels have begun.
    pub fn failover(&self) {
        let starts = || self.sentinels[0].command(&["SENTINEL", "FAILOVER", SERVICE]).is_ok_and(|reply| reply.is_ok());
        wait("the failover begins", starts);
    }
}

impl Sentinel {
    /// Sends a command.
    ///
    /// # Errors
    ///
    /// When it cannot be reached or does not answer.
    pub fn command(&self, words: &[&str]) -> io::Result<Reply> {
        Client::unix(self.process.socket())?.try_command(words)
    }

    /// Kills it.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Stops it in its tracks.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.resume();
    }

    fn names(&self) -> Option<u16> {
        match self.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]).ok()? {
            Reply::Array(parts) => parts.get(1)?.as_str().parse().ok(),
            _ => None,
        }
    }

    /// Returns what it says of each replica or sentinel, as text.
    fn list(&self, what: &str) -> Vec<String> {
        match self.command(&["SENTINEL", what, SERVICE]) {
            Ok(Reply::Array(items)) => items.iter().map(flat).collect(),
            _ => Vec::new(),
        }
    }
}

impl std::fmt::Debug for Sentinel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sentinel").field("port", &self.port).finish_non_exhaustive()
    }
}

fn flat(reply: &Reply) -> String {
    match reply {
        Reply::Array(parts) => parts.iter().map(flat).collect::<Vec<_>>().join(" "),
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}
