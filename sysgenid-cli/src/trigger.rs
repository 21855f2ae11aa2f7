// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid trigger`: changes the generation.

use serde::Serialize;
use sysgenid::{Orchestrator, Source};

use crate::args::TriggerArgs;
use crate::failure::Failure;
use crate::output::Output;

#[derive(Serialize)]
struct Line {
    generation: u64,
}

pub(crate) fn run(source: Source, args: &TriggerArgs) -> Result<(), Failure> {
    let orchestrator = Orchestrator::on(source)?;
    let generation = orchestrator.trigger_at_least(args.min)?;
    let line = Line {
        generation: generation.get(),
    };
    Output::new(args.format.json).print(&line, format_args!("generation {generation}"))
}
