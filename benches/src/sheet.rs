//! What a suite found out, for a person: sheets with a table each, on a terminal or as a part of a Markdown file.

use std::{fmt::Write as _, fs, path::Path};

use crate::{Result, machine::Machine, table::Table};

/// A table with what must be known to read it.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// The question it answers.
    pub title: String,
    /// What to know about the figures, one sentence each.
    pub notes: Vec<String>,
    /// The figures.
    pub table: Table,
}

/// All that one suite found out.
#[derive(Clone, Debug)]
pub struct Findings {
    /// The suite's name.
    pub suite: &'static str,
    /// What was asked.
    pub title: &'static str,
    /// The command that repeats it.
    pub command: String,
    /// What it ran on.
    pub machine: Machine,
    /// The answers.
    pub sheets: Vec<Sheet>,
}

impl Findings {
    /// Formats them for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let Machine { cpu, cores, os, rustc, profile, commit } = &self.machine;
        let mut text = format!("twotier: {}\n\n", self.title);
        let _ =
            writeln!(text, "  machine   {cpu}, {cores} cores, {os}\n  build     {rustc}, {profile}, commit {commit}");
        for Sheet { title, notes, table } in &self.sheets {
            let _ = writeln!(text, "\n## {title}\n");
            for note in notes {
                let _ = writeln!(text, "  {note}");
            }
            let _ = write!(text, "\n{table}");
        }
        text
    }

    /// Formats them as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let Machine { cpu, cores, os, rustc, profile, commit } = &self.machine;
        let mut text = format!("## {}\n\n", capitalised(self.title));
        let _ = writeln!(text, "Command: `{}`.", self.command);
        let _ = writeln!(text, "Machine: {cpu}, {cores} cores, {os}; {rustc}, {profile}; commit {commit}.");
        for Sheet { title, notes, table } in &self.sheets {
            let _ = writeln!(text, "\n### {}\n", capitalised(title));
            for note in notes {
                let _ = writeln!(text, "{note}");
            }
            let _ = write!(text, "\n{}", table.markdown());
        }
        text
    }

    /// Replaces the part of a Markdown file that belongs to the suite, or appends it; the rest is left as it is.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn write_into(&self, path: &Path) -> Result<()> {
        let of = |error| format!("{}: {error}", path.display());
        let before = if path.exists() { fs::read_to_string(path).map_err(of)? } else { String::new() };
        Ok(fs::write(path, with_part(&before, self.suite, &self.markdown())).map_err(of)?)
    }
}

/// Returns a text with the part between the markers of `name` replaced.
fn with_part(text: &str, name: &str, part: &str) -> String {
    let (begin, end) = (format!("<!-- begin: {name} -->"), format!("<!-- end: {name} -->"));
    let part = format!("{begin}\n{part}{end}");
    match (text.find(&begin), text.find(&end)) {
        (Some(from), Some(to)) if from < to => format!("{}{part}{}", &text[..from], &text[to + end.len()..]),
        _ if text.is_empty() => part + "\n",
        _ => format!("{}\n\n{part}\n", text.trim_end()),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_appended_once_and_then_replaced_and_nothing_else_is_touched() {
        let once = with_part("# Title\n", "a", "1\n");
        assert_eq!(once, "# Title\n\n<!-- begin: a -->\n1\n<!-- end: a -->\n");
        let two = with_part(&once, "b", "2\n") + "after\n";
        let replaced = with_part(&two, "a", "3\n");
        assert_eq!(replaced, two.replace('1', "3"));
    }
}
