//! Where findings go: a terminal, a file for machines, a part of a Markdown file.

use std::{fs, path::Path};

use serde::Serialize;

use crate::{Result, cli::Args, sheet::Findings};

/// Prints findings, and writes the files that the command line asks for.
///
/// # Errors
///
/// When a file cannot be written.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "the report is for a person at a terminal")]
pub fn publish(args: &Args, figures: &impl Serialize, findings: &Findings) -> Result<()> {
    eprintln!();
    println!("{}", findings.text());
    write_json(args.json.as_deref(), figures)?;
    if let Some(path) = &args.markdown {
        findings.write_into(path)?;
        println!("the part `{}` of {} was written", findings.suite, path.display());
    }
    Ok(())
}

/// Writes figures for machines, if a file is named.
///
/// # Errors
///
/// When it cannot be written.
#[allow(clippy::print_stdout, reason = "the report is for a person at a terminal")]
pub fn write_json(path: Option<&Path>, figures: &impl Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(figures)? + "\n";
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("the figures are in {}", path.display());
    Ok(())
}
