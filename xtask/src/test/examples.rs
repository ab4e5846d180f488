//! Running the examples of every crate.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    thread,
    time::Duration,
};

use crate::{
    command,
    failure::{Failure, Outcome},
    server::PrivateServer,
    stopwatch::Stopwatch,
    totals::Totals,
};

/// An example that starts with this comment is given a server of its own, by `TWOTIER_REDIS_URL`.
const NEEDS_REDIS: &str = "// xtask: needs redis";
/// The comment is looked for in this many lines.
const FIRST_LINES: usize = 10;
/// An example that runs longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs every example; those that need a server are left out if there is no binary.
pub(super) fn run(binary: Option<&Path>) -> Outcome<Totals> {
    let mut totals = Totals::default();
    for example in discover(&command::root().join("crates"))? {
        totals += match (example.needs_redis, binary) {
            (false, _) => example.run(None)?,
            (true, Some(binary)) => example.run(Some(&PrivateServer::start(binary)?))?,
            (true, None) => {
                eprintln!("example {} ... left out (--no-redis)", example.name);
                Totals::SKIPPED
            }
        };
    }
    Ok(totals)
}

#[derive(Debug, PartialEq, Eq)]
struct Example {
    name: String,
    needs_redis: bool,
}

impl Example {
    fn run(&self, server: Option<&PrivateServer>) -> Outcome<Totals> {
        let mut cargo = command::cargo("run");
        // Not `--package`: with the features of the whole workspace it is the build that `cargo test` has just made.
        cargo.args(["--quiet", "--all-features", "--example", &self.name]);
        if let Some(server) = server {
            cargo.env("TWOTIER_REDIS_URL", server.url());
        }
        let verdict = match run_within(PATIENCE, &mut cargo)? {
            Some(status) if status.success() => {
                eprintln!("example {} ... ok", self.name);
                return Ok(Totals::PASSED);
            }
            Some(status) => status.to_string(),
            None => format!("still running after {} s", PATIENCE.as_secs()),
        };
        eprintln!("example {} ... FAILED ({verdict})", self.name);
        Ok(Totals::FAILED)
    }
}

/// Finds the examples of every crate under a folder, sorted by name.
fn discover(crates: &Path) -> Outcome<Vec<Example>> {
    let mut examples = Vec::new();
    for krate in entries(crates)? {
        let folder = krate.join("examples");
        if !folder.is_dir() {
            continue;
        }
        for entry in entries(&folder)? {
            let source = if entry.is_dir() { entry.join("main.rs") } else { entry.clone() };
            if !source.is_file() || source.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let name = entry.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let text = fs::read_to_string(&source)
                .map_err(|error| Failure::Failed(format!("{}: {error}", source.display())))?;
            examples.push(Example { name, needs_redis: needs_redis(&text) });
        }
    }
    examples.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(examples)
}

fn needs_redis(source: &str) -> bool {
    source.lines().take(FIRST_LINES).any(|line| line.trim() == NEEDS_REDIS)
}

fn entries(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let listing = fs::read_dir(folder).map_err(|error| Failure::Failed(format!("{}: {error}", folder.display())))?;
    listing.map(|entry| Ok(entry?.path())).collect()
}

/// Runs a command; `None` if it had to be ended.
fn run_within(limit: Duration, command: &mut Command) -> Outcome<Option<ExitStatus>> {
    command::show(command);
    let clock = Stopwatch::start();
    let mut child = command.spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if clock.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_need_of_a_server_is_declared_in_the_first_lines() {
        assert!(needs_redis("//! What it shows.\n// xtask: needs redis\nfn main() {}"));
        assert!(!needs_redis("fn main() {}"));
        assert!(!needs_redis(&format!("{}// xtask: needs redis", "\n".repeat(FIRST_LINES))));
    }

    #[test]
    fn every_example_of_the_facade_is_found() {
        let crates = command::root().join("crates");
        let files = entries(&crates.join("twotier/examples")).unwrap_or_default().len();
        assert!(discover(&crates).unwrap().len() >= files);
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let limit = Duration::from_millis(50);
        assert!(run_within(limit, Command::new("sleep").arg("60")).unwrap().is_none());
        assert!(run_within(PATIENCE, &mut Command::new("true")).unwrap().is_some_and(|status| status.success()));
    }
}
