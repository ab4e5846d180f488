//! `redis-benchmark`: what a client that does nothing with its replies gets from the server.

use std::{io::ErrorKind, process::Command};

use crate::{Result, server::Server};

/// Reads random keys over one connection with so many requests under way; returns reads a second.
///
/// `None` when the programme is not in `PATH`, or cannot reach the server the way it was named.
pub(super) fn run(server: &Server, namespace: &str, keys: usize, depth: usize, requests: usize) -> Result<Option<f64>> {
    let Some((host, port)) = server.host_and_port() else { return Ok(None) };
    let mut command = Command::new("redis-benchmark");
    command.args(["-h", &host, "-p", &port.to_string(), "-c", "1", "--csv"]);
    command.args(["-P", &depth.to_string(), "-n", &requests.to_string(), "-r", &keys.to_string()]);
    command.args(["GET", &format!("{namespace}:__rand_int__")]);
    let output = match command.output() {
        Ok(output) if output.status.success() => output,
        Ok(_refused) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(throughput(&text))
}

/// Reads the first figure of the last line, `"name","reads a second",…`.
fn throughput(csv: &str) -> Option<f64> {
    let line = csv.lines().rfind(|line| line.starts_with('"'))?;
    let after_name = line.strip_prefix('"')?.split_once("\",\"")?.1;
    after_name.split('"').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_is_found() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"GET n:__rand_int__\",\"81967.21\",\"0.009\"\n";
        assert_eq!(throughput(csv), Some(81967.21));
        assert_eq!(throughput(""), None);
    }
}
