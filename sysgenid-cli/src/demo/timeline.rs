// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What happened, in the order in which it happened.

use std::fmt;

use serde::Serialize;

use super::member::Member;
use crate::failure::Failure;
use crate::output::Output;
use crate::wait::StragglerLine;

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    pub(super) event: Event,
    pub(super) who: Member,
    pub(super) pid: u32,
    /// Since the change was asked for.
    pub(super) after_ns: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    /// The change is asked for, in this generation.
    Trigger {
        generation: u64,
    },
    /// The answer.
    Changed {
        generation: u64,
    },
    Noticed {
        generation: u64,
    },
    Rebuilt {
        generation: u64,
        before: String,
        after: String,
        acknowledged: bool,
    },
    HeldUp {
        generation: u64,
        /// As the driver names them.
        stragglers: Vec<StragglerLine>,
        #[serde(skip)]
        names: String,
    },
    Resumed {
        generation: u64,
    },
}

#[derive(Debug, Default)]
pub(super) struct Timeline {
    entries: Vec<Entry>,
}

impl Timeline {
    pub(super) fn add(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn print(&mut self, out: &mut Output) -> Result<(), Failure> {
        self.entries.sort_by_key(|entry| entry.after_ns);
        if !self.entries.is_empty() {
            out.text(format_args!("\n{:>12}  {:<12}  what", "after", "who"))?;
        }
        for entry in &self.entries {
            let time = micros(entry.after_ns);
            out.print(
                entry,
                format_args!("{time:>12}  {:<12}  {}", entry.who, Told(entry)),
            )?;
        }
        Ok(())
    }
}

/// Microseconds, as they were measured, with their thousands apart.
pub(super) fn micros(nanoseconds: u64) -> String {
    let digits = (nanoseconds / 1000).to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text + " µs"
}

struct Told<'a>(&'a Entry);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.event {
            Event::Trigger { generation } => {
                write!(
                    f,
                    "asks for a change, as a restore would make; the generation is {generation}"
                )
            }
            Event::Changed { generation } => {
                write!(
                    f,
                    "it is {generation} now: acknowledges for itself, waits for the others"
                )
            }
            Event::Noticed { generation } if self.0.who == Member::Guarded => {
                write!(
                    f,
                    "about to use its secret, notices generation {generation}"
                )
            }
            Event::Noticed { generation } => {
                write!(f, "woken, notices generation {generation}")
            }
            Event::Rebuilt {
                before,
                after,
                acknowledged,
                ..
            } => {
                let then = if *acknowledged {
                    "acknowledges"
                } else {
                    "uses it"
                };
                write!(f, "secret rebuilt, {before} -> {after}; {then}")
            }
            Event::HeldUp { names, .. } => {
                write!(f, "may not resume yet, not acknowledged by: {names}")
            }
            Event::Resumed { generation } => {
                write!(f, "all have acknowledged generation {generation}: resumes")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::micros;

    #[test]
    fn thousands_are_kept_apart() {
        let cases = [(999, "0 µs"), (12_345, "12 µs"), (999_999, "999 µs")];
        for (nanoseconds, text) in cases {
            assert_eq!(micros(nanoseconds), text);
        }
        assert_eq!(micros(1_000_000), "1,000 µs");
        assert_eq!(micros(1_234_567_890_000), "1,234,567,890 µs");
    }
}
