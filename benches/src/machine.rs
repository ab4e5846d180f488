//! What the figures were measured on.

use std::{env::consts, fs, process::Command, thread};

use serde::Serialize;

/// The machine, the build and the source.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// How many threads may run at once.
    pub cores: usize,
    /// The operating system and its kernel.
    pub os: String,
    /// The compiler.
    pub rustc: String,
    /// The profile of the build.
    pub profile: &'static str,
    /// The commit, with `+` after it if the tree has changes; empty outside of a repository.
    pub commit: String,
}

impl Machine {
    /// Looks at this machine. What cannot be found out is said to be unknown.
    #[must_use]
    pub fn here() -> Self {
        Self {
            cpu: cpu().unwrap_or_else(|| format!("unknown {}", consts::ARCH)),
            cores: thread::available_parallelism().map_or(1, usize::from),
            os: os(),
            rustc: env!("TWOTIER_RUSTC").to_owned(),
            profile: if cfg!(debug_assertions) { "debug: figures mean nothing" } else { "optimised" },
            commit: commit().unwrap_or_default(),
        }
    }
}

fn cpu() -> Option<String> {
    let of_linux = || field(&fs::read_to_string("/proc/cpuinfo").ok()?, "model name", ':');
    of_linux().or_else(|| output("sysctl", &["-n", "machdep.cpu.brand_string"]))
}

fn os() -> String {
    let kernel = output("uname", &["-sr"]).unwrap_or_else(|| consts::OS.to_owned());
    let name = fs::read_to_string("/etc/os-release").ok().and_then(|text| field(&text, "PRETTY_NAME", '='));
    match name {
        Some(name) => format!("{} ({kernel})", name.trim_matches('"')),
        None => kernel,
    }
}

fn commit() -> Option<String> {
    let commit = output("git", &["rev-parse", "--short", "HEAD"])?;
    let changed = output("git", &["status", "--porcelain", "--untracked-files=no"]).is_some();
    Some(if changed { commit + "+" } else { commit })
}

/// Returns the value of the first line `name <separator> value`.
fn field(text: &str, name: &str, separator: char) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(separator)?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// Returns what a programme prints, if it does.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_whatever_the_blanks() {
        assert_eq!(field("a: 1\nmodel name\t: Some CPU\n", "model name", ':'), Some("Some CPU".to_owned()));
        assert_eq!(field("a=1", "b", '='), None);
    }

    #[test]
    fn nothing_about_this_machine_is_left_empty() {
        let machine = Machine::here();
        assert!(machine.cores > 0);
        assert!(!machine.cpu.is_empty() && !machine.os.is_empty() && machine.rustc.starts_with("rustc"));
    }
}
