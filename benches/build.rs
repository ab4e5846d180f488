//! Remembers which compiler built the benchmarks, for the report's head.

use std::{env, process::Command};

fn main() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output();
    let version = version.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned());
    println!("cargo::rustc-env=TWOTIER_RUSTC={}", version.trim());
    println!("cargo::rerun-if-changed=build.rs");
}
