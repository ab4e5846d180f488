//! `cargo xtask package`: the packages as a registry would serve them, unpacked, built and tested one by one.
//!
//! The verification of `cargo package` is not used: it builds a sibling from a registry of its own and keeps what it
//! built for as long as the version stays, so a later run verifies against an old sibling.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    command::{self, root},
    failure::{Failure, Outcome},
    libtest,
    totals::Totals,
};

pub(crate) const USAGE: &str =
    "  package the packages as they would be published: each builds and passes its tests by itself, unpacked
";

/// The crates that others depend on.
pub(crate) const PUBLISHED: [&str; 4] = ["twotier-core", "twotier-local", "twotier-backend", "twotier"];

/// What a package holds for people.
const TEXTS: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md"];

/// Makes every package, unpacks it and tests it; returns what the tests come to.
///
/// What is not committed yet is packaged too, so that it can be tested before it is.
pub(crate) fn run() -> Outcome<Totals> {
    command::heading("packages");
    // Asks no registry where everything is there; what follows asks none at all.
    command::run(command::cargo("fetch").arg("--locked"))?;
    let target = root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
    let mut cargo = command::cargo("package");
    cargo.args(["--offline", "--allow-dirty", "--no-verify"]).env("CARGO_TARGET_DIR", &target);
    command::run(cargo.args(PUBLISHED.iter().flat_map(|name| ["--package", name])))?;

    let unpacked = unpack(&target)?;
    let cargo = |command: &str, arguments: &[&str]| {
        let mut cargo = command::cargo(command);
        cargo.current_dir(&unpacked).env("CARGO_TARGET_DIR", &target).args(["--offline", "--all-features"]);
        cargo.args(arguments);
        cargo
    };
    for name in PUBLISHED {
        command::heading(&format!("{name}, unpacked"));
        // One package at a time, and without what its tests depend on: two in one command would give each other the
        // features of what both depend on.
        command::run(&mut cargo("check", &["--lib", "--package", name]))?;
    }
    command::heading("what the packages test");
    let tested = libtest::run(&mut cargo("test", &["--workspace", "--no-fail-fast"]))?.totals;
    if tested == Totals::default() { Err(Failure::Failed("no package ships a test".to_owned())) } else { Ok(tested) }
}

/// Unpacks every package into a workspace that holds nothing else, and returns its folder.
///
/// The folder is the same every time, so that what was built there before is replaced. A path from a source file out of
/// its package leads nowhere: the folder is one deeper in the repository than `crates` is, if it is in there at all.
fn unpack(target: &Path) -> Outcome<PathBuf> {
    let folder = target.join("unpacked");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    for name in PUBLISHED {
        let package = folder.join(name);
        fs::create_dir_all(&package)?;
        // All files of a package are of one day in 2006, by which cargo would take new ones for those it has built.
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--touch", "--gzip", "--strip-components=1", "--file"]);
        tar.arg(target.join("package").join(format!("{name}-{}.crate", env!("CARGO_PKG_VERSION"))));
        command::run(tar.arg("--directory").arg(&package))?;
        if let Some(missing) = TEXTS.iter().find(|text| !package.join(text).is_file()) {
            return Err(Failure::Failed(format!("the package {name} does not hold {missing}")));
        }
    }
    fs::write(folder.join("Cargo.toml"), manifest())?;
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
    Ok(folder)
}

/// Returns the manifest of a workspace in which the packages find each other instead of what the registry holds.
fn manifest() -> String {
    let patches = PUBLISHED.map(|name| format!("{name} = {{ path = \"{name}\" }}\n"));
    // As in the repository, so that what others depend on is not built once more.
    let profile = "[profile.dev]\ndebug = \"line-tables-only\"";
    let patches = patches.concat();
    format!("[workspace]\nresolver = \"3\"\nmembers = {PUBLISHED:?}\n\n{profile}\n\n[patch.crates-io]\n{patches}")
}
