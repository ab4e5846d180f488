//! A second process is scraped over HTTP.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::figures::Figures;

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Returns the example, which cargo builds beside the tests unless it is asked for one test alone.
fn example() -> PathBuf {
    let built = std::env::current_exe().unwrap();
    let target = built.parent().and_then(|deps| deps.parent()).unwrap();
    let example = target.join("examples").join(format!("metrics{}", std::env::consts::EXE_SUFFIX));
    if !example.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--package", "twotier", "--all-features", "--example", "metrics", "--target-dir"]);
        build.arg(target.parent().unwrap());
        if target.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the example is built");
    }
    example
}

fn scrape(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn another_process_is_scraped_over_http_and_shows_what_it_did() {
    let child = Command::new(example()).arg("127.0.0.1:0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = Ended(child.unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("http://").and_then(|url| url.strip_suffix("/metrics")).unwrap();

    let (head, body) = scrape(address, "/metrics");
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Type: text/plain; version=0.0.4"),
        "{head}"
    );
    let shown = Figures::parse(&body);
    let figure = |name: &str, labels: &[(&str, &str)]| {
        let mut labels: Vec<_> = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        labels.push(("namespace".to_owned(), "users".to_owned()));
        labels.sort_unstable();
        shown.0.get(&(name.to_owned(), labels)).copied()
    };
    assert_eq!(figure("redis_client_csc_requests_total", &[("result", "hit")]), Some(150.0));
    assert_eq!(figure("redis_client_csc_requests_total", &[("result", "miss")]), Some(150.0));
    assert_eq!(figure("twotier_misses_total", &[("cause", "cold")]), Some(150.0));
    assert_eq!(figure("redis_client_csc_evictions_total", &[("reason", "full")]), Some(50.0));
    assert_eq!(figure("redis_client_csc_items", &[]), Some(100.0));
    assert_eq!(figure("twotier_load_duration_seconds_count", &[]), Some(150.0));
    let written = [("db_system_name", "memory"), ("db_operation_name", "write")];
    assert_eq!(figure("db_client_operation_duration_seconds_count", &written), Some(150.0));

    assert!(scrape(address, "/").0.starts_with("HTTP/1.1 404 "));
    drop(child.0.stdin.take());
    assert!(child.0.wait().unwrap().success(), "it ends with its input");
}
