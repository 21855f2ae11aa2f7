// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid trigger`: changes the generation, and waits for the watchers if asked to.

use std::time::Duration;

use serde::Serialize;
use sysgenid::Source;

use crate::args::TriggerArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::wait::Asked;

/// How long the userspace driver may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Line {
    generation: u64,
}

pub(crate) fn run(source: &Source, args: &TriggerArgs) -> Result<(), Failure> {
    let mut out = Output::new(args.format.json);
    if let Some(time) = args.wait {
        let asked = Asked {
            source,
            min_watchers: args.min_watchers,
            time,
            trigger: Some(args.min),
        };
        return asked.settle(&mut out);
    }
    let generation = source.trigger_at_least(args.min, ANSWER_TIME)?;
    let line = Line {
        generation: generation.get(),
    };
    out.print(&line, format_args!("generation {generation}"))
}
