// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid trigger`: changes the generation, and waits for the watchers if asked to.

use std::io::{Write, stderr};
use std::time::Duration;

use serde::Serialize;
use sysgenid::Source;

use crate::args::TriggerArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::reseed::{reseed, text};
use crate::virtual_machine::is_virtual_machine;
use crate::wait::Asked;

/// How long the userspace driver may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

const ALONE: &str = "sysgenid: warning: a trigger alone does not renew the entropy of this virtual \
                     machine's kernel; if the kernel was not told of the restore, clones draw the same \
                     secrets: use `sysgenid trigger --reseed`";

#[derive(Serialize)]
struct Line {
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reseeded: Option<Vec<String>>,
}

pub(crate) fn run(source: &Source, args: &TriggerArgs) -> Result<(), Failure> {
    let asks = args.reseed || args.entropy.entropy.is_some();
    // Before the change: who is woken by it draws what is new.
    let reseeded = match asks {
        true => Some(reseed(&args.entropy)?),
        false => None,
    };
    if reseeded.is_none() && is_virtual_machine() {
        // Nothing is left to be told to if this fails.
        let _ = writeln!(stderr(), "{ALONE}");
    }
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
        reseeded: reseeded.as_ref().map(|it| it.origins().to_vec()),
    };
    let mut shown = format!("generation {generation}");
    if let Some(reseeded) = &reseeded {
        shown = format!("{shown}; {}", text(reseeded));
    }
    out.print(&line, shown)
}
