// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the benches share: bounds, as ratios of one run.
//!
//! Machines are noisy, so a number of nanoseconds says little about the next run. What is bounded
//! is a ratio: the two sides take turns within one run, and the median of the rounds counts.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Rounds in which the two sides take turns.
const ROUNDS: usize = 101;

/// Bounds that were looked at, and how many were broken.
#[derive(Debug, Default)]
pub struct Bounds {
    broken: usize,
    skipped: bool,
}

impl Bounds {
    /// `cargo bench -- --test` and `cargo test --benches` only ask whether the benches run: nothing
    /// is bounded then.
    #[must_use]
    pub fn new() -> Self {
        let skipped = !std::env::args().any(|argument| argument == "--bench")
            || std::env::args().any(|argument| argument == "--test");
        Self { broken: 0, skipped }
    }

    /// Whether bounds are measured in this run.
    #[must_use]
    pub fn measured(&self) -> bool {
        !self.skipped
    }

    /// Measures how many times as long `ours` takes as `theirs` and prints it beside the bound.
    /// Each does the same number of iterations; `settle` is called before it and not timed.
    pub fn ratio(
        &mut self,
        name: &str,
        bound: f64,
        mut settle: impl FnMut(),
        mut ours: impl FnMut(),
        mut theirs: impl FnMut(),
    ) {
        if self.skipped {
            return;
        }
        let mut ratios: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                settle();
                let ours = timed(&mut ours);
                settle();
                let theirs = timed(&mut theirs);
                ours.as_secs_f64() / theirs.as_secs_f64()
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        let median = ratios.get(ROUNDS / 2).copied().unwrap_or(f64::NAN);
        self.report(name, median, bound, "times");
    }

    /// Prints a measured value beside its bound.
    pub fn report(&mut self, name: &str, measured: f64, bound: f64, unit: &str) {
        let kept = measured <= bound;
        let verdict = if kept { "kept" } else { "BROKEN" };
        println!("bound {verdict}: {name}: {measured:.3} {unit}, at most {bound} {unit}");
        self.broken += usize::from(!kept);
    }

    /// Fails the bench if a bound was broken.
    #[must_use]
    pub fn verdict(&self) -> ExitCode {
        if self.broken == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
