//! What a command prints: a table for people, JSON or YAML for scripts.

use std::io::{self, Write as _};

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, ContentArrangement, Table};
use serde::Serialize;

use super::fail::Failure;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Where and how a command prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    format: Format,
}

impl Out {
    /// Prints to standard output.
    pub(crate) const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Prints a value: as `table` shows it, or as it is.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub(crate) fn show<T: Serialize>(
        &self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => text(table(value).trim_end()),
            Format::Json => {
                let json = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
                text(&json)
            }
            Format::Yaml => {
                // By way of a value: a payload's raw JSON is a notion of serde_json alone.
                let value = serde_json::to_value(value).map_err(io::Error::other)?;
                let yaml = serde_norway::to_string(&value).map_err(io::Error::other)?;
                text(yaml.trim_end())
            }
        }
    }

    /// Whether people read it.
    pub(crate) fn is_table(&self) -> bool {
        self.format == Format::Table
    }
}

/// Writes a line; nothing when it is empty.
///
/// # Errors
/// Standard output is closed or full.
pub(crate) fn text(line: &str) -> Result<(), Failure> {
    if line.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Writes bytes as they are.
///
/// # Errors
/// Standard output is closed or full.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Says something about the command's progress, to standard error. It is for people: when it
/// cannot be written, the command goes on.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Rows under a header, without lines, as scripts and eyes like them.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = plain();
    table.set_header(header);
    for row in rows {
        table.add_row(row.map(Cell::new));
    }
    lines(&table)
}

/// Names and values, one a line; values that are absent are left out.
pub(crate) fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let mut table = plain();
    for (name, value) in facts {
        if let Some(value) = value {
            table.add_row([Cell::new(name), Cell::new(value)]);
        }
    }
    lines(&table)
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn lines(table: &Table) -> String {
    // Cells are padded on both sides; people copy lines from the left.
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    let indent = lines.iter().all(|line| line.is_empty() || line.starts_with(' '));
    lines
        .iter()
        .map(|line| if indent { line.get(1..).unwrap_or_default() } else { line.as_str() })
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_columns_without_lines() {
        let rows = [["a".to_owned(), "running".to_owned()], ["long-id".into(), "ready".into()]];
        let expected = "ID       STATUS\na        running\nlong-id  ready";
        assert_eq!(table(["ID", "STATUS"], rows), expected);
    }

    #[test]
    fn absent_facts_are_left_out() {
        let shown =
            facts([("id", Some("a".to_owned())), ("at", None), ("queue", Some("q".into()))]);
        assert_eq!(shown, "id     a\nqueue  q");
    }
}
