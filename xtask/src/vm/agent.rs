// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program in a guest that a test talks with.
//!
//! It and the host exchange lines of a word and its `key=value` pairs.

use std::time::{Duration, Instant};

use super::qemu::{Line, Machine, SUCCESS};
use crate::error::{Context, Error, Result};

/// How long an agent may take for a line. The guest's CPU is emulated, and may have to boot first.
const PATIENCE: Duration = Duration::from_secs(90);

/// The agent in one machine.
pub(crate) struct Agent {
    pub(crate) machine: Machine,
}

impl Agent {
    /// The next line, which must begin with `word`.
    pub(crate) fn expect(&mut self, word: &str) -> Result<Message> {
        let fault = match self.machine.line_until(Instant::now() + PATIENCE)? {
            Line::Said(line) if line.split(' ').next() == Some(word) => return Ok(Message(line)),
            Line::Said(line) => format!("its agent should say {word:?}, not {line:?}"),
            Line::Ended => format!("it ended before its agent said {word:?}"),
            Line::Silence => format!("its agent did not say {word:?} within {PATIENCE:?}"),
        };
        Err(self.machine.error(&fault))
    }

    /// What the agent says of itself within a time, if anything.
    pub(crate) fn listen(&mut self, time: Duration) -> Result<Option<String>> {
        match self.machine.line_until(Instant::now() + time)? {
            Line::Silence => Ok(None),
            Line::Said(line) => Ok(Some(line)),
            Line::Ended => Err(self.machine.error("it ended by itself")),
        }
    }

    /// Asks the agent to end.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.machine.send("finish")?;
        self.end()
    }

    /// Waits for the agent to end, without an error of its own.
    pub(crate) fn end(self) -> Result<()> {
        let name = self.machine.name().to_owned();
        let status = self.machine.wait()?;
        if status.code() == Some(SUCCESS) {
            return Ok(());
        }
        Err(Error::new(format!(
            "the {name} machine did not end well: QEMU ended with {status}"
        )))
    }
}

/// A line from an agent.
pub(crate) struct Message(String);

impl Message {
    pub(crate) fn value(&self, key: &str) -> Result<String> {
        let mut pairs = self.0.split(' ').filter_map(|pair| pair.split_once('='));
        pairs
            .find_map(|(k, value)| (k == key).then(|| value.to_owned()))
            .context(|| format!("the agent says {:?}, without {key}", self.0))
    }
}

impl From<String> for Message {
    fn from(line: String) -> Self {
        Self(line)
    }
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
