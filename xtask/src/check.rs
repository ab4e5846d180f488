//! `cargo xtask check`: what the compiler, its lints and the rules of this repository say.

use crate::{
    command, diagnostics,
    failure::{Failure, Outcome},
    package::PUBLISHED,
    tidy,
};

pub(crate) const USAGE: &str = "  check   formatting, lints, documentation and the layering rules; changes nothing
";

type Check = fn() -> Outcome;

/// Runs every check, also after one has failed, and fails if one did.
pub(crate) fn run() -> Outcome {
    let checks: [(&str, Check); 7] = [
        ("format", format),
        ("tidy", tidy::run),
        ("lints", lints),
        ("lints without features", lints_without_features),
        ("diagnostics", diagnostics::run),
        ("documentation", documentation),
        ("documentation without features", documentation_without_features),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        command::heading(name);
        if let Err(failure) = check() {
            failure.print();
            failed.push(name);
        }
    }
    eprintln!();
    if failed.is_empty() {
        eprintln!("every check passed");
        Ok(())
    } else {
        Err(Failure::Failed(format!("failed: {}", failed.join(", "))))
    }
}

fn format() -> Outcome {
    command::run(command::cargo("fmt").args(["--all", "--check"]))
}

fn lints() -> Outcome {
    let arguments = ["--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    command::run(command::cargo("clippy").args(arguments))
}

/// Whoever depends on a crate may turn its features off. One crate at a time: two crates in one command would give each
/// other their features.
fn lints_without_features() -> Outcome {
    for krate in PUBLISHED {
        let arguments = ["--package", krate, "--no-default-features", "--", "-D", "warnings"];
        command::run(command::cargo("clippy").args(arguments))?;
    }
    Ok(())
}

fn documentation() -> Outcome {
    doc(&["--workspace", "--all-features"])
}

/// Links to what is not there without a feature are broken, and a crate's own examples of them too.
fn documentation_without_features() -> Outcome {
    PUBLISHED.iter().try_for_each(|krate| doc(&["--package", krate, "--no-default-features"]))
}

fn doc(arguments: &[&str]) -> Outcome {
    command::run(command::cargo("doc").arg("--no-deps").args(arguments).env("RUSTDOCFLAGS", "-Dwarnings"))
}
