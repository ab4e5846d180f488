//! A table for a terminal: columns as wide as what is in them.

use std::fmt;

/// Rows under a header; columns are right-aligned but for those named as text.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<String>,
    text: Vec<bool>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
enum Row {
    Cells(Vec<String>),
    /// About the rows below; it takes no part in the widths.
    Heading(String),
}

impl Table {
    /// Makes an empty table. A heading that starts with `<` makes its column left-aligned, for text.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(|heading| heading.trim_start_matches('<').to_owned()).collect(),
            text: header.iter().map(|heading| heading.starts_with('<')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, one cell for each column.
    pub fn row(&mut self, cells: impl Into<Vec<String>>) {
        let cells = cells.into();
        debug_assert_eq!(cells.len(), self.header.len());
        self.rows.push(Row::Cells(cells));
    }

    /// Formats it for a Markdown file; a heading becomes a row of its own.
    #[must_use]
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace('<', "&lt;"));
        let mut text = line(&self.header);
        let rules: Vec<_> = self.text.iter().map(|&text| if text { "---" } else { "--:" }.to_owned()).collect();
        text += &format!("|{}|\n", rules.join("|"));
        for row in &self.rows {
            text += &match row {
                Row::Cells(cells) => line(cells),
                Row::Heading(heading) => {
                    let mut cells = vec![String::new(); self.header.len()];
                    cells[0] = format!("**{heading}**");
                    line(&cells)
                }
            };
        }
        text
    }

    /// Adds a line about the rows that follow.
    pub fn heading(&mut self, text: impl Into<String>) {
        self.rows.push(Row::Heading(text.into()));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = vec![0; self.header.len()];
        let cells = self.rows.iter().filter_map(|row| match row {
            Row::Cells(cells) => Some(cells),
            Row::Heading(_) => None,
        });
        for row in cells.chain([&self.header]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = length(cell).max(*width);
            }
        }
        self.line(f, &self.header, &widths)?;
        let rule = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        writeln!(f, "{}{}", " ".repeat(GAP), "─".repeat(rule))?;
        for (index, row) in self.rows.iter().enumerate() {
            match row {
                Row::Cells(cells) => self.line(f, cells, &widths)?,
                Row::Heading(text) => {
                    let above = if index == 0 { "" } else { "\n" };
                    writeln!(f, "{above}{}{text}", " ".repeat(GAP))?;
                }
            }
        }
        Ok(())
    }
}

/// Blanks before each column.
const GAP: usize = 2;

impl Table {
    fn line(&self, f: &mut fmt::Formatter<'_>, cells: &[String], widths: &[usize]) -> fmt::Result {
        let mut line = String::new();
        for ((cell, &width), &text) in cells.iter().zip(widths).zip(&self.text) {
            let padding = " ".repeat(width.saturating_sub(length(cell)));
            line += &" ".repeat(GAP);
            line += &if text { format!("{cell}{padding}") } else { format!("{padding}{cell}") };
        }
        writeln!(f, "{}", line.trim_end())
    }
}

fn length(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_also_beyond_ascii() {
        let mut table = Table::new(&["<what", "time"]);
        table.heading("a heading wider than the table");
        table.row(["a".to_owned(), "1 µs".to_owned()]);
        table.heading("another");
        table.row(["longer".to_owned(), "20 ms".to_owned()]);
        let expected = "  what     time
  ─────────────
  a heading wider than the table
  a        1 µs

  another
  longer  20 ms
";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn a_table_becomes_markdown() {
        let mut table = Table::new(&["<what", "time"]);
        table.heading("some");
        table.row(["a".to_owned(), "1 µs".to_owned()]);
        assert_eq!(table.markdown(), "| what | time |\n|---|--:|\n| **some** |  |\n| a | 1 µs |\n");
    }
}
