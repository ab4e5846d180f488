//! What every manifest holds.

use std::path::Path;

use super::{files, read, shown};
use crate::failure::Outcome;

/// What is wrong with the manifests and what repeats them.
pub(super) fn check(root: &Path) -> Outcome<Vec<String>> {
    let workspace = read(&root.join("Cargo.toml"))?;
    let mut broken = Vec::new();
    if value(&workspace, "[workspace.lints.rust]", "unsafe_code") != Some("\"forbid\"") {
        broken.push("Cargo.toml: `unsafe_code = \"forbid\"` is gone from [workspace.lints.rust]".to_owned());
    }
    let msrv = value(&workspace, "[workspace.package]", "rust-version").unwrap_or_default();
    let workflow = Path::new(".github/workflows/ci.yml");
    if !names_toolchain(&read(&root.join(workflow))?, msrv) {
        broken.push(format!("{}: does not build with the oldest Rust promised, {msrv}", workflow.display()));
    }
    for folder in ["crates", "benches", "xtask"] {
        for path in files(&root.join(folder), "Cargo.toml")? {
            if value(&read(&path)?, "[lints]", "workspace") != Some("true") {
                broken.push(format!("{}: does not take the lints of the workspace", shown(root, &path)));
            }
        }
    }
    Ok(broken)
}

/// Returns what a key is set to in a table of a manifest, as it is written there.
pub(super) fn value<'m>(manifest: &'m str, table: &str, key: &str) -> Option<&'m str> {
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != table).skip(1);
    lines.take_while(|line| !line.starts_with('[')).find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// Returns whether a workflow uses a toolchain; the version is as the manifest writes it, in quotes.
fn names_toolchain(workflow: &str, version: &str) -> bool {
    !version.is_empty() && workflow.lines().any(|line| line.trim() == format!("toolchain: {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_in_its_own_table_only() {
        let manifest = "[a]\nx = 1\n\n[b]\n# x = 3\nx = \"2\"\n[c]\ny = 1\n";
        assert_eq!(value(manifest, "[a]", "x"), Some("1"));
        assert_eq!(value(manifest, "[b]", "x"), Some("\"2\""));
        assert_eq!(value(manifest, "[c]", "x"), None);
        assert_eq!(value(manifest, "[d]", "x"), None);
    }

    #[test]
    fn the_workflow_must_name_the_oldest_rust() {
        let workflow = "      - uses: dtolnay/rust-toolchain@master\n        with:\n          toolchain: \"1.88\"\n";
        assert!(names_toolchain(workflow, "\"1.88\""));
        assert!(!names_toolchain(workflow, "\"1.89\""));
        assert!(!names_toolchain(workflow, ""));
    }
}
