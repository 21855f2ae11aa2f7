// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a bench found, for the program that writes the report: a JSON object a line.

use std::fs::{File, OpenOptions};
use std::io::Write;

use serde_json::{Value, json};

use crate::Measured;

/// Names the file to which results are appended. Without it they are only printed.
pub const RESULTS: &str = "SYSGENID_BENCH_RESULTS";

/// What a measured value may be.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Anything: it is shown beside what is bounded.
    Unbounded,
}

impl Bound {
    /// In words, or none.
    pub(crate) fn limit(self, unit: &str) -> Option<String> {
        match self {
            Self::AtMost(limit) => Some(format!("at most {limit} {unit}")),
            Self::AtLeast(limit) => Some(format!("at least {limit} {unit}")),
            Self::Unbounded => None,
        }
    }

    pub(crate) fn holds(self, measured: f64) -> bool {
        match self {
            Self::AtMost(limit) => measured <= limit,
            Self::AtLeast(limit) => measured >= limit,
            Self::Unbounded => true,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Results(Option<File>);

impl Results {
    #[expect(
        clippy::expect_used,
        reason = "a report must not miss a bench in silence"
    )]
    pub(crate) fn open() -> Self {
        Self(std::env::var_os(RESULTS).map(|path| {
            let file = OpenOptions::new().append(true).create(true).open(path);
            file.expect("the file for the results")
        }))
    }

    pub(crate) fn bound(&mut self, name: &str, measured: Measured, bound: Bound, unit: &str) {
        self.write(&json!({
            "bound": name,
            "limit": bound.limit(unit),
            "unit": unit,
            "measured": measured.median,
            "interval": measured.interval,
            "kept": bound.holds(measured.median),
        }));
    }

    pub(crate) fn point(
        &mut self,
        (curve, series): (&str, &str),
        at: u32,
        measured: Measured,
        bound: Bound,
    ) {
        self.write(&json!({
            "curve": curve,
            "series": series,
            "at": at,
            "measured": measured.median,
            "interval": measured.interval,
            "limit": match bound {
                Bound::AtMost(limit) => Some(limit),
                Bound::AtLeast(_) | Bound::Unbounded => None,
            },
        }));
    }

    pub(crate) fn fact(&mut self, name: &str, value: &str) {
        self.write(&json!({ "fact": name, "value": value }));
    }

    #[expect(
        clippy::expect_used,
        reason = "a report must not miss a bench in silence"
    )]
    fn write(&mut self, line: &Value) {
        if let Some(file) = &mut self.0 {
            writeln!(file, "{line}").expect("the results to be written");
        }
    }
}
