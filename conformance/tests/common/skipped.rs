// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A test that cannot run says so where it is counted. Other crates' tests include this file.

use std::fmt::Display;
use std::io::{Write, stdout};

/// Reports that this test, or a part of it, did not run.
///
/// It goes past the capture of a test's output: `cargo xtask test` counts these lines and
/// names them at its end, and `cargo xtask ci` fails.
pub(crate) fn skipped(reason: impl Display) {
    let thread = std::thread::current();
    report(thread.name().unwrap_or("a test"), reason);
}

/// The same for a case of a test.
pub(crate) fn report(name: &str, reason: impl Display) {
    let _ = writeln!(stdout(), "\n# skipped: {name}: {reason}");
}
