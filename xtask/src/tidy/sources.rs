//! What no source file may hold.

use std::path::Path;

use super::{read, shown, sources};
use crate::failure::Outcome;

/// Marks of unfinished work, put together here so that this file does not hold them itself.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

/// The most characters of a line, as in `rustfmt.toml`.
const WIDTH: usize = 120;

/// What is wrong with the sources.
pub(super) fn check(root: &Path) -> Outcome<Vec<String>> {
    let mut broken = Vec::new();
    for path in sources(root)? {
        for (index, line) in read(&path)?.lines().enumerate() {
            if let Some(rule) = broken_by(line) {
                broken.push(format!("{}:{}: {rule}", shown(root, &path), index + 1));
            }
        }
    }
    Ok(broken)
}

/// Returns the rule that a line breaks.
fn broken_by(line: &str) -> Option<&'static str> {
    let code = line.trim_start();
    let words = || line.split(|c: char| !c.is_alphanumeric() && c != '_');
    if words().any(|word| UNFINISHED.contains(&word)) {
        return Some("unfinished work is finished, or described in an issue");
    }
    if code.starts_with("//") && line.chars().count() > WIDTH {
        return Some("a comment is wrapped at 120 characters, which rustfmt leaves to us");
    }
    let attribute = code.starts_with("#[") || code.starts_with("#![");
    if attribute && words().any(|word| word == "ignore") {
        return Some("no test is ignored: a test that cannot run is left out by its `live` module, and counted");
    }
    let fence = code.trim_start_matches(['/', '!', ' ']);
    if code.starts_with("//") && fence.starts_with("```") && fence[3..].split(',').any(|word| word.trim() == "ignore") {
        return Some("every example in the documentation compiles: no `ignore`");
    }
    let module = code.trim_start_matches("pub(crate) ").trim_start_matches("pub ").strip_prefix("mod ");
    if module.is_some_and(|name| {
        let name = name.trim_end_matches([' ', '{', ';', '}']);
        name.ends_with("live") && name != "live"
    }) {
        return Some("a module whose name ends in `live` would be left out by --no-redis without needing a server");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_code_breaks_no_rule() {
        for line in [
            "let ignore = true;",
            "/// What to ignore.",
            "#[derive(Debug)]",
            "mod live {",
            "mod lively;",
            "/// ```",
            "/// ```no_run",
            "// the to-do list",
        ] {
            assert_eq!(broken_by(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_forbidden_is_found() {
        let unfinished = format!("// {}: later", UNFINISHED[0]);
        let long = format!("/// {}", "é".repeat(WIDTH - 3));
        assert_eq!(broken_by(&long[..long.len() - 2]), None);
        for line in [
            long.as_str(),
            unfinished.as_str(),
            "    #[ignore]",
            "#[ignore = \"slow\"]",
            "#[cfg_attr(miri, ignore)]",
            "    /// ```ignore",
            "//! ```rust,ignore",
            "mod keepalive;",
            "pub(crate) mod alive {",
        ] {
            assert!(broken_by(line).is_some(), "{line}");
        }
    }
}
