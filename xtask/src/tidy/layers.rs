//! Which crate may depend on which.
//!
//! Read off `cargo tree`, so a renamed or optional dependency, or one for another platform, is seen too.

use crate::{command, failure::Outcome};

/// Every member of the workspace, and which other members it may be built with.
const LAYERS: [(&str, &[&str]); 7] = [
    ("twotier-core", &[]),
    ("twotier-local", &["twotier-core"]),
    ("twotier-backend", &["twotier-core"]),
    ("twotier", &["twotier-core", "twotier-local", "twotier-backend"]),
    ("twotier-testkit", &["twotier-core"]),
    ("twotier-benches", &["twotier-core", "twotier-local", "twotier-backend", "twotier", "twotier-testkit"]),
    ("xtask", &[]),
];

/// The crates that may speak to Redis by the client library; tests of the others may too.
const REDIS_USERS: [&str; 3] = ["twotier-backend", "twotier-testkit", "twotier-benches"];

/// What is wrong with the dependencies of the workspace.
pub(super) fn check() -> Outcome<Vec<String>> {
    let tree = |edges: &str| {
        let mut cargo = command::cargo("tree");
        cargo.args(["--workspace", "--all-features", "--target", "all", "--no-dedupe", "--depth", "1"]);
        cargo.args(["--prefix", "depth", "--edges", edges]);
        command::output(&mut cargo)
    };
    let mut broken = built_with(&edges(&tree("normal,build")?));
    broken.extend(tested_with(&edges(&tree("dev")?)));
    Ok(broken)
}

/// A crate and one that it depends on.
type Edge = (String, String);

/// Reads `cargo tree --prefix depth --depth 1`: a line for each member, `0name version …`, and for what it depends on,
/// `1name version …`.
fn edges(tree: &str) -> Vec<Edge> {
    let mut edges = Vec::new();
    let mut member = "";
    for line in tree.lines() {
        if let Some(rest) = line.strip_prefix('0') {
            member = first_word(rest);
        } else if let Some(rest) = line.strip_prefix('1') {
            edges.push((member.to_owned(), first_word(rest).to_owned()));
        }
    }
    edges
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

fn built_with(edges: &[Edge]) -> Vec<String> {
    let mut broken = Vec::new();
    for (user, used) in edges {
        let Some((_, allowed)) = LAYERS.iter().find(|(member, _)| member == user) else {
            broken.push(format!("{user} has no place among the layers (xtask/src/tidy/layers.rs)"));
            continue;
        };
        let is_member = LAYERS.iter().any(|(member, _)| member == used);
        if is_member && !allowed.contains(&used.as_str()) {
            broken.push(format!("{user} must not depend on {used}"));
        }
        if used == "redis" && !REDIS_USERS.contains(&user.as_str()) {
            broken.push(format!("{user} must not depend on redis: only twotier-backend speaks to the server"));
        }
    }
    broken.dedup();
    broken
}

fn tested_with(edges: &[Edge]) -> Vec<String> {
    let unrelated = [("twotier-local", "twotier-backend"), ("twotier-backend", "twotier-local")];
    let together = |(user, used): &(&str, &str)| edges.iter().any(|edge| edge.0 == *user && edge.1 == *used);
    unrelated
        .iter()
        .filter(|pair| together(pair))
        .map(|(user, used)| format!("{user} must not depend on {used}, in its tests neither"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(user: &str, used: &str) -> Edge {
        (user.to_owned(), used.to_owned())
    }

    #[test]
    fn the_tree_is_read() {
        let tree = "0twotier-local v0.1.0 (/somewhere/twotier-local)\n\
                    1hashlink v0.12.0\n\
                    1twotier-core v0.1.0 (/somewhere/twotier-core)\n\
                    \n\
                    0twotier-core v0.1.0 (/somewhere/twotier-core)\n\
                    1serde v1.0.228\n";
        let expected =
            [edge("twotier-local", "hashlink"), edge("twotier-local", "twotier-core"), edge("twotier-core", "serde")];
        assert_eq!(edges(tree), expected);
    }

    #[test]
    fn the_layers_as_designed_break_no_rule() {
        let edges: Vec<Edge> =
            LAYERS.iter().flat_map(|(user, used)| used.iter().map(|used| edge(user, used))).collect();
        assert_eq!(built_with(&edges), Vec::<String>::new());
        assert_eq!(
            built_with(&[edge("twotier-backend", "redis"), edge("twotier-core", "serde")]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_dependency_against_the_layers_is_named() {
        for (user, used) in [
            ("twotier-core", "twotier-local"),
            ("twotier-local", "twotier-backend"),
            ("twotier-backend", "twotier-local"),
            ("twotier", "twotier-testkit"),
            ("twotier", "redis"),
            ("twotier-local", "redis"),
            ("xtask", "twotier"),
            ("twotier-new", "serde"),
        ] {
            let broken = built_with(&[edge(user, used)]);
            assert_eq!(broken.len(), 1, "{user} -> {used}: {broken:?}");
            assert!(broken[0].contains(user));
        }
        assert_eq!(tested_with(&[edge("twotier-backend", "twotier-local")]).len(), 1);
        assert_eq!(tested_with(&[edge("twotier", "redis")]), Vec::<String>::new());
    }
}
