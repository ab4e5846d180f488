//! Installing a server with the system's package manager.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use super::in_path;
use crate::command;

/// A package manager, and how it installs a server.
struct Manager {
    program: &'static str,
    needs_root: bool,
    /// Arguments that bring the list of packages up to date; a failure here is not the end.
    update: Option<&'static [&'static str]>,
    /// Arguments that install; the first that succeeds ends it. Newer distributions have Valkey in Redis' place.
    installs: &'static [&'static [&'static str]],
}

const MANAGERS: [Manager; 4] = [
    Manager {
        program: "apt-get",
        needs_root: true,
        update: Some(&["update"]),
        installs: &[
            &["install", "--yes", "--no-install-recommends", "redis-server"],
            &["install", "--yes", "--no-install-recommends", "valkey-server"],
        ],
    },
    Manager {
        program: "dnf",
        needs_root: true,
        update: None,
        installs: &[&["install", "--assumeyes", "valkey"], &["install", "--assumeyes", "redis"]],
    },
    Manager {
        program: "apk",
        needs_root: true,
        update: None,
        installs: &[&["add", "--no-cache", "redis"], &["add", "--no-cache", "valkey"]],
    },
    Manager { program: "brew", needs_root: false, update: None, installs: &[&["install", "redis"]] },
];

/// Installs a server, or says why it cannot be installed.
pub(super) fn install() -> Result<(), String> {
    let manager = MANAGERS
        .iter()
        .find(|manager| in_path(Path::new(manager.program)).is_some())
        .ok_or("there is no apt-get, dnf, apk or brew to install one with")?;
    let prefix: &[&str] = if manager.needs_root && !is_root() { sudo()? } else { &[] };

    eprintln!("installing one with {} (--no-install forbids it)", manager.program);
    let run = |arguments: &[&str]| {
        let words: Vec<&str> = prefix.iter().copied().chain(["env", "DEBIAN_FRONTEND=noninteractive"]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(manager.program).args(arguments).stdin(Stdio::null());
        command::run(&mut command).is_ok()
    };
    if let Some(update) = manager.update {
        run(update);
    }
    if manager.installs.iter().any(|arguments| run(arguments)) {
        Ok(())
    } else {
        Err(format!("{} could not install one", manager.program))
    }
}

/// Returns how to become root without being asked for a password.
fn sudo() -> Result<&'static [&'static str], String> {
    let without_password = quiet(Command::new("sudo").args(["-n", "true"]));
    if without_password {
        Ok(&["sudo", "-n"])
    } else {
        Err("installing one needs root, and sudo asks for a password or is not there".to_owned())
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn quiet(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|it| it.success())
}
