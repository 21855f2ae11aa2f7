// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The test module that announces restores in hard interrupt context, by its parameters.

use std::fs;
use std::path::{Path, PathBuf};

/// Microseconds from one to the next. At 2,000, hardly a wait came to its end in between.
const PERIOD: &str = "10000";

/// Announces for as long as it lives.
pub(super) struct Announcer<'a> {
    parameters: &'a Path,
    before: u32,
}

impl<'a> Announcer<'a> {
    pub(super) fn start(parameters: &'a PathBuf) -> Self {
        let announcer = Self {
            parameters,
            before: announced(parameters),
        };
        announcer.set_period(PERIOD);
        announcer
    }

    /// Stops, and returns how many there were.
    pub(super) fn stop(self) -> u32 {
        self.set_period("0");
        announced(self.parameters).wrapping_sub(self.before)
    }

    fn set_period(&self, period: &str) {
        let path = self.parameters.join("period_us");
        fs::write(&path, period).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

fn announced(parameters: &Path) -> u32 {
    let path = parameters.join("announced");
    let text = fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim_end().parse().expect("a number of announcements")
}
