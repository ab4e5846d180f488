//! What the published packages hold, and what of them is read elsewhere.

use std::{fs, path::Path};

use super::{files, manifests::value, read};
use crate::{failure::Outcome, package::PUBLISHED};

/// What stands before the path of a file in an absolute link to it.
const REPOSITORY: &str = "https://github.com/twotier/twotier/blob/main/";

/// The crates whose items `twotier` re-exports: their examples are read there.
const READ_AS_TWOTIER: [&str; 3] = ["twotier-core", "twotier-backend", "twotier"];

/// The crates that nobody who depends on `twotier` alone can name.
const INTERNAL: [&str; 3] = ["twotier_core", "twotier_local", "twotier_backend"];

/// What is wrong with the packages.
pub(super) fn check(root: &Path) -> Outcome<Vec<String>> {
    let mut broken = Vec::new();
    for name in PUBLISHED {
        let folder = format!("crates/{name}");
        let manifest = read(&root.join(&folder).join("Cargo.toml"))?;
        broken.extend(unset(&manifest, name).iter().map(|key| format!("{folder}/Cargo.toml: {key} is not set")));
        for text in ["LICENSE-APACHE", "LICENSE-MIT"] {
            broken.extend(differs(root, text, &format!("{folder}/{text}")));
        }
        let readme = format!("{folder}/README.md");
        broken.extend(dead_links(root, &read(&root.join(&readme))?).iter().map(|rule| format!("{readme}: {rule}")));
    }
    broken.extend(differs(root, "README.md", "crates/twotier/README.md"));
    for name in READ_AS_TWOTIER {
        for path in files(&root.join("crates").join(name).join("src"), ".rs")? {
            let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let lines = internal_paths(&read(&path)?);
            broken.extend(lines.iter().map(|line| format!("{shown}:{line}: examples use the paths of `twotier`")));
        }
    }
    Ok(broken)
}

/// Returns what a manifest does not say, or not as the others do.
fn unset(manifest: &str, name: &str) -> Vec<&'static str> {
    let documentation = format!("\"https://docs.rs/{name}\"");
    let expected = [
        ("[package]", "include.workspace", "true"),
        ("[package]", "readme", "\"README.md\""),
        ("[package]", "documentation", &documentation),
        ("[package.metadata.docs.rs]", "all-features", "true"),
    ];
    let wrong = expected.into_iter().filter(|(table, key, wanted)| value(manifest, table, key) != Some(wanted));
    wrong.map(|(_, key, _)| key).collect()
}

/// Copies, since a checkout without symbolic links would put the names of the files into the packages.
fn differs(root: &Path, original: &str, copy: &str) -> Option<String> {
    let is_same = fs::read(root.join(copy)).ok() == fs::read(root.join(original)).ok();
    (!is_same).then(|| format!("{copy} is no copy of {original}: cp {original} {copy}"))
}

/// Returns the links that lead nowhere for those who read a README outside of the repository, or lead to a file of the
/// repository that is gone.
fn dead_links(root: &Path, markdown: &str) -> Vec<String> {
    let targets = markdown.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let dead = targets.filter_map(|target| match target.strip_prefix(REPOSITORY) {
        Some(file) if root.join(file).exists() => None,
        Some(file) => Some(format!("there is no {file} to link to")),
        None if target.starts_with("https://") => None,
        None => Some(format!("the link to {target} is relative; start it with {REPOSITORY}")),
    });
    dead.collect()
}

/// Returns the numbers of the lines of examples that show a path of an internal crate.
fn internal_paths(source: &str) -> Vec<usize> {
    let mut inside = false;
    let mut found = Vec::new();
    for (index, line) in source.lines().enumerate() {
        let line = line.trim_start();
        let Some(text) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(str::trim) else {
            inside = false;
            continue;
        };
        if text.starts_with("```") {
            inside = !inside;
        } else if inside && text != "#" && !text.starts_with("# ") {
            let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.any(|word| INTERNAL.contains(&word)) {
                found.push(index + 1);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;

    #[test]
    fn a_manifest_that_leaves_out_what_a_package_needs_is_found() {
        let whole = "[package]\ninclude.workspace = true\nreadme = \"README.md\"\n\
                     documentation = \"https://docs.rs/twotier\"\n[package.metadata.docs.rs]\nall-features = true\n";
        assert_eq!(unset(whole, "twotier"), Vec::<&str>::new());
        assert_eq!(unset(whole, "twotier-core"), ["documentation"]);
        assert_eq!(unset(&whole.replace("include", "exclude"), "twotier"), ["include.workspace"]);
    }

    #[test]
    fn a_copy_that_differs_or_is_missing_is_found() {
        let root = command::root();
        assert_eq!(differs(root, "LICENSE-MIT", "crates/twotier/LICENSE-MIT"), None);
        for copy in ["crates/twotier/LICENSE-APACHE", "crates/twotier/LICENSE"] {
            assert!(differs(root, "LICENSE-MIT", copy).is_some_and(|rule| rule.contains(copy)));
        }
    }

    #[test]
    fn a_link_that_is_relative_or_leads_to_no_file_is_found() {
        let root = command::root();
        let dead = |target: &str| dead_links(root, &format!("See [this]({target}), or not."));
        for alive in ["https://docs.rs/twotier", &format!("{REPOSITORY}docs/consistency.md")] {
            assert_eq!(dead(alive), Vec::<String>::new());
        }
        for target in ["LICENSE-MIT", "docs/consistency.md", "#more", &format!("{REPOSITORY}docs/gone.md")] {
            assert_eq!(dead(target).len(), 1, "{target}");
        }
    }

    #[test]
    fn an_example_that_shows_an_internal_crate_is_found() {
        let source = "//! twotier_core::Clock in prose\n//! ```\n//! # use twotier_core as twotier;\n\
                      //! use twotier_backend::Backend;\n//! ```\nuse twotier_core::Clock;\n    /// ```no_run\n    \
                      /// #[derive(twotier_core::Derive)]\n    /// let my_twotier_core = 1;\n    /// ```\n";
        assert_eq!(internal_paths(source), [4, 8]);
    }
}
