// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid trigger`: changes the generation.

use std::time::Duration;

use serde::Serialize;
use sysgenid::Source;

use crate::args::TriggerArgs;
use crate::failure::Failure;
use crate::output::Output;

/// How long the userspace driver may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Line {
    generation: u64,
}

pub(crate) fn run(source: &Source, args: &TriggerArgs) -> Result<(), Failure> {
    let generation = source.trigger_at_least(args.min, ANSWER_TIME)?;
    let line = Line {
        generation: generation.get(),
    };
    Output::new(args.format.json).print(&line, format_args!("generation {generation}"))
}
