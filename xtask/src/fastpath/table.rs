// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table of the fast paths, which is kept with the sources.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::error::{Context, Result};

pub(super) struct Table {
    /// Begins with `#`, line by line.
    head: String,
    pub(super) rows: Vec<Row>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) instructions: u64,
    /// How many there may ever be.
    pub(super) bound: Option<u64>,
    /// The functions that the path may call, but does not.
    pub(super) cold: Vec<String>,
    /// Those that are a part of it.
    pub(super) warm: Vec<String>,
}

impl Table {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = super::read(path)?;
        Self::parse(&text).context(|| format!("{} is no such table", path.display()))
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.text()).context(|| format!("cannot write {}", path.display()))
    }

    /// The table with other counts, and a row for each path that has none.
    pub(super) fn with(mut self, instructions: &BTreeMap<String, u64>) -> Self {
        self.rows.retain(|row| instructions.contains_key(&row.name));
        for (name, &instructions) in instructions {
            match self.rows.iter_mut().find(|row| row.name == *name) {
                Some(row) => row.instructions = instructions,
                None => self.rows.push(Row {
                    name: name.clone(),
                    instructions,
                    bound: None,
                    cold: Vec::new(),
                    warm: Vec::new(),
                }),
            }
        }
        self
    }

    /// A line a path; below it and indented, one for each function that it may call.
    fn parse(text: &str) -> Option<Self> {
        let mut head = String::new();
        let mut rows: Vec<Row> = Vec::new();
        for line in text.lines() {
            if line.starts_with('#') {
                let _ = writeln!(head, "{line}");
            } else if line.starts_with(' ') {
                let row = rows.last_mut()?;
                match line.trim_start().split_once(' ')? {
                    ("cold", name) => row.cold.push(name.to_owned()),
                    ("warm", name) => row.warm.push(name.to_owned()),
                    _ => return None,
                }
            } else if !line.is_empty() {
                let mut words = line.split_whitespace();
                rows.push(Row {
                    name: words.next()?.to_owned(),
                    instructions: words.next()?.parse().ok()?,
                    bound: words.next().map(str::parse).transpose().ok()?,
                    cold: Vec::new(),
                    warm: Vec::new(),
                });
            }
        }
        Some(Self { head, rows })
    }

    fn text(&self) -> String {
        let mut text = self.head.clone();
        for row in &self.rows {
            let bound = row
                .bound
                .map_or_else(String::new, |bound| bound.to_string());
            let line = format!("{:24}{:>8}{bound:>12}", row.name, row.instructions);
            let _ = writeln!(text, "{}", line.trim_end());
            for cold in &row.cold {
                let _ = writeln!(text, "    cold {cold}");
            }
            for warm in &row.warm {
                let _ = writeln!(text, "    warm {warm}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# head\nload 2 3\ndraw 40\n    cold <A as B>::refill\n    warm f\n";

    #[test]
    fn what_is_written_is_read_again() {
        let table = Table::parse(TEXT).unwrap();
        assert_eq!(table.rows[0].bound, Some(3));
        assert_eq!(table.rows[1].cold, ["<A as B>::refill"]);
        assert_eq!(table.rows[1].warm, ["f"]);
        let again = Table::parse(&table.text()).unwrap();
        assert_eq!(again.rows, table.rows);
        assert_eq!(again.head, "# head\n");
    }

    #[test]
    fn renewing_keeps_what_was_written_by_hand() {
        let counts = [("draw", 41), ("new", 1)].map(|(name, count)| (name.to_owned(), count));
        let table = Table::parse(TEXT).unwrap().with(&counts.into());
        assert_eq!(table.rows.len(), 2);
        assert_eq!(table.rows[0].instructions, 41);
        assert_eq!(table.rows[0].cold.len(), 1);
        assert_eq!(table.rows[1].name, "new");
    }

    #[test]
    fn nonsense_is_no_table() {
        assert!(Table::parse("    cold f\n").is_none());
        assert!(Table::parse("load 2\n    f\n").is_none());
        assert!(Table::parse("load two\n").is_none());
        assert!(Table::parse("load 2 many\n").is_none());
    }
}
