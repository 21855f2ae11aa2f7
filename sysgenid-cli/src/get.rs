// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid get`: the number, for scripts.

use std::path::PathBuf;

use serde::Serialize;
use sysgenid::{Probe, Source};

use crate::failure::Failure;
use crate::output::Output;

#[derive(Serialize)]
struct Line {
    generation: u64,
}

/// Reads the mapped counter, without a question to the driver, so it cannot be kept waiting.
pub(crate) fn run(named: Option<PathBuf>, out: &mut Output) -> Result<(), Failure> {
    let source = match named {
        Some(path) => Source::at(path)?,
        None => Source::discover_for_probe()?,
    };
    let generation = Probe::open_on(source)?.generation();
    let line = Line {
        generation: generation.get(),
    };
    out.print(&line, generation)
}
