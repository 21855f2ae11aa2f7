// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is said again at the end of a run, where nobody has to look for it.

use std::fmt;

/// A test that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) name: String,
    /// What it said of it, on one line.
    pub(crate) reason: String,
    /// Lines below that, none of which is cut: how a run ended that could name no test.
    pub(crate) details: Vec<String>,
}

/// The most characters of a reason. The whole of it stands where the test was run.
const REASON: usize = 300;

impl Failure {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reason: String::new(),
            details: Vec::new(),
        }
    }

    pub(crate) fn of(name: impl Into<String>, reason: &str) -> Self {
        let mut failure = Self::new(name);
        failure.add_reason(reason);
        failure
    }

    /// Adds a line of what it says.
    pub(crate) fn add_reason(&mut self, line: &str) {
        if !self.reason.is_empty() {
            self.reason.push(' ');
        }
        self.reason.push_str(line.trim());
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let cut = self.reason.char_indices().nth(REASON);
        match cut.and_then(|(end, _)| self.reason.get(..end)) {
            Some(start) => write!(f, ": {start}…")?,
            None if self.reason.is_empty() => {}
            None => write!(f, ": {}", self.reason)?,
        }
        for line in &self.details {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_short() {
        let whole = "é".repeat(REASON);
        assert_eq!(Failure::of("a", &whole).to_string(), format!("a: {whole}"));
        let longer = format!("{whole}é");
        let shown = Failure::of("a", &longer).to_string();
        assert_eq!(shown, format!("a: {whole}…"));
        assert_eq!(Failure::new("a").to_string(), "a");
        let failure = Failure {
            details: vec![longer.clone()],
            ..Failure::new("a")
        };
        assert_eq!(failure.to_string(), format!("a\n    {longer}"));
    }
}
