//! The Redis or Valkey server that tests and examples run on: found, or installed.

mod install;
mod private;

use std::{
    env,
    path::{Path, PathBuf},
};

pub(crate) use private::PrivateServer;

use crate::failure::{Failure, Outcome};

/// Names a server binary that is in no folder of `PATH`.
const VARIABLE: &str = "TWOTIER_TEST_SERVER";
/// The binaries looked for, the first one first.
const BINARIES: [&str; 2] = ["redis-server", "valkey-server"];

/// What may be done when there is no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfMissing {
    Install,
    Fail,
}

/// Returns the server binary; without one, installs it if that is allowed.
pub(crate) fn ensure(if_missing: IfMissing) -> Outcome<PathBuf> {
    if let Some(binary) = find()? {
        return Ok(binary);
    }
    eprintln!("there is no redis-server and no valkey-server in PATH, and {VARIABLE} is not set");
    let reason = match if_missing {
        IfMissing::Fail => "--no-install forbids to install one".to_owned(),
        IfMissing::Install => match install::install() {
            Ok(()) => "it was not there after the installation either".to_owned(),
            Err(reason) => reason,
        },
    };
    find()?.ok_or_else(|| {
        Failure::Failed(format!(
            "no Redis or Valkey server to test with: {reason}\n\
             \n  Either install redis-server or valkey-server (version 6 or later) by hand,\
             \n  or name one:             {VARIABLE}=/path/to/redis-server cargo xtask test\
             \n  or test without one:     cargo xtask test --no-redis"
        ))
    })
}

/// Looks for the server binary: the one named by the environment, else one in `PATH`.
pub(crate) fn find() -> Outcome<Option<PathBuf>> {
    match env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        Some(named) => {
            let named = PathBuf::from(named);
            let found = if named.components().count() == 1 { in_path(&named) } else { Some(named.clone()) };
            match found.filter(|binary| is_program(binary)) {
                Some(binary) => Ok(Some(binary)),
                None => Err(Failure::Failed(format!("{VARIABLE} names `{}`, which is no program", named.display()))),
            }
        }
        None => Ok(BINARIES.iter().find_map(|name| in_path(Path::new(name)))),
    }
}

/// Looks for a program in the folders of `PATH`.
fn in_path(name: &Path) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|program| is_program(program))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_path_and_a_missing_one_is_not() {
        assert!(in_path(Path::new("cargo")).is_some());
        assert_eq!(in_path(Path::new("no-such-program")), None);
    }
}
