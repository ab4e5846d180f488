//! The rules of this repository that no compiler checks.

mod citations;
mod layers;
mod manifests;
mod packages;
mod sources;
mod words;

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    command,
    failure::{Failure, Outcome},
};

/// Checks every rule and fails if one is broken.
pub(crate) fn run() -> Outcome {
    let root = command::root();
    let mut broken = layers::check()?;
    broken.extend(manifests::check(root)?);
    broken.extend(packages::check(root)?);
    broken.extend(sources::check(root)?);
    broken.extend(words::check(root)?);
    broken.extend(citations::check(root)?);
    if broken.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = broken.iter().map(|rule| format!("\n  - {rule}")).collect();
    Err(Failure::Failed(format!("the repository breaks its rules:{}", list.concat())))
}

/// Returns every Rust source.
fn sources(root: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in ["crates", "benches", "xtask"] {
        found.extend(files(&root.join(folder), ".rs")?);
    }
    Ok(found)
}

/// Returns every document.
fn documents(root: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(|error| unreadable(root, &error))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
    for folder in ["docs", "crates", "benches", "xtask"] {
        found.extend(files(&root.join(folder), ".md")?);
    }
    Ok(found)
}

/// Returns a path as it is printed.
fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

/// Returns every file under a folder whose name ends like this, sorted.
fn files(folder: &Path, ending: &str) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let listing = fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))?;
        for entry in listing {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_keeps_the_rules_of_its_text() {
        let root = command::root();
        for check in [manifests::check, sources::check, words::check, citations::check] {
            assert_eq!(check(root).unwrap(), Vec::<String>::new());
        }
    }
}
