//! What must not compile, and what the compiler says about it: the messages by which users are helped.
//!
//! Each file in `crates/twotier/tests/diagnostics` is a program that does not compile. Its first lines are those of the
//! diagnostic that matter: the first of them begins it, the others follow in this order.

use std::{
    collections::{BTreeMap, HashMap},
    env, fs,
    path::Path,
};

use crate::{
    command::{self, root},
    failure::{Failure, Outcome},
};

const PROGRAMS: &str = "crates/twotier/tests/diagnostics";

pub(crate) fn run() -> Outcome {
    let programs = programs()?;
    let folder = root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into())).join("diagnostics");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("Cargo.toml"), manifest(programs.keys()))?;
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
    let mut cargo = command::cargo("check");
    cargo.current_dir(&folder).args(["--offline", "--quiet", "--bins", "--keep-going"]);
    cargo.env("CARGO_TARGET_DIR", folder.parent().unwrap_or(&folder)).env("CARGO_TERM_COLOR", "never");
    let output = cargo.output()?;
    let output = String::from_utf8_lossy(&output.stderr);
    let reported = first_errors(&output);
    let wrong: Vec<String> = programs
        .iter()
        .filter_map(|(name, expected)| {
            let reported = reported.get(name.as_str()).map_or("no error", |rendered| rendered);
            (!matches(reported, expected))
                .then(|| format!("{name}: expected\n{}\nfound\n{reported}", expected.join("\n")))
        })
        .collect();
    if wrong.is_empty() {
        eprintln!("{} programs do not compile, and the compiler says what to do", programs.len());
        Ok(())
    } else {
        Err(Failure::Failed(wrong.join("\n\n")))
    }
}

/// Returns each program with the lines that are expected of its diagnostic.
fn programs() -> Outcome<BTreeMap<String, Vec<String>>> {
    let mut programs = BTreeMap::new();
    for entry in fs::read_dir(root().join(PROGRAMS))? {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { continue };
        let source = fs::read_to_string(&path)?;
        let expected: Vec<String> =
            source.lines().map_while(|line| line.strip_prefix("//! ")).map(str::to_owned).collect();
        if expected.is_empty() {
            return Err(Failure::Failed(format!("{name} does not say which diagnostic it expects")));
        }
        programs.insert(name.to_owned(), expected);
    }
    Ok(programs)
}

fn manifest<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let path = |relative: &str| root().join(relative).display().to_string().replace('\\', "/");
    let mut manifest = format!(
        "[package]\nname = \"diagnostics\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\ntwotier = {{ path = \"{}\" }}\n",
        path("crates/twotier")
    );
    for name in names {
        let source = path(&format!("{PROGRAMS}/{name}.rs"));
        manifest.push_str(&format!("\n[[bin]]\nname = \"{name}\"\npath = \"{source}\"\n"));
    }
    manifest
}

/// Returns the first error of each program as the compiler shows it: up to the next one, and named by its file.
fn first_errors(shown: &str) -> HashMap<String, String> {
    let mut errors: Vec<String> = Vec::new();
    for line in shown.lines() {
        if line.starts_with("error") || line.starts_with("warning") {
            errors.push(String::new());
        }
        if let Some(error) = errors.last_mut() {
            error.push_str(line);
            error.push('\n');
        }
    }
    let mut first = HashMap::new();
    for error in errors.into_iter().filter(|error| error.starts_with("error[")) {
        let place = error.lines().find_map(|line| line.trim_start().strip_prefix("--> "));
        let file = place.and_then(|place| place.split(':').next()).and_then(|file| Path::new(file).file_stem());
        if let Some(name) = file.and_then(|name| name.to_str()) {
            first.entry(name.to_owned()).or_insert(error);
        }
    }
    first
}

/// Returns whether a diagnostic begins with the first of these lines and holds the others in their order.
fn matches(diagnostic: &str, expected: &[String]) -> bool {
    let mut lines = diagnostic.lines().map(str::trim);
    lines.clone().next() == expected.first().map(String::as_str)
        && expected.iter().all(|wanted| lines.any(|line| line == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(lines: &[&str]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_diagnostic_begins_with_the_first_line_and_holds_the_others_in_order() {
        let diagnostic = "error[E1]: no\n  --> here\n   = note: do this\n   = note: or that\n";
        for right in [&["error[E1]: no"][..], &["error[E1]: no", "= note: do this", "= note: or that"]] {
            assert!(matches(diagnostic, &expected(right)), "{right:?}");
        }
        for wrong in [
            &["error[E1]: yes"][..],
            &["= note: do this"],
            &["error[E1]: no", "= note: or that", "= note: do this"],
            &["error[E1]: no", "= note: neither"],
        ] {
            assert!(!matches(diagnostic, &expected(wrong)), "{wrong:?}");
        }
    }

    #[test]
    fn the_first_error_of_each_program_is_found() {
        let one = "error[E1]: one\n --> x/a.rs:1:2\n  | code\n";
        let shown =
            format!("warning: w\n --> x/a.rs:1:2\n{one}error[E2]: two\n --> x/a.rs:2:2\nerror: could not compile\n");
        assert_eq!(first_errors(&shown), HashMap::from([("a".to_owned(), one.to_owned())]));
    }

    #[test]
    fn every_program_says_what_it_expects() {
        let programs = programs().unwrap();
        assert!(programs.values().all(|expected| expected[0].starts_with("error[")), "{programs:?}");
    }
}
