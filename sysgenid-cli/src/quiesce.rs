// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid quiesce` and `sysgenid resume`: bring programs to rest before a snapshot, and resume them.

use std::time::Duration;

use serde::Serialize;
use sysgenid::{Orchestrator, Parked, Printable, Source, Straggler, StragglerSummary};

use crate::args::{QuiesceArgs, ResumeArgs};
use crate::failure::Failure;
use crate::output::Output;
use crate::time::Timeout;
use crate::wait::StragglerLine;

/// How long the userspace driver may take to answer, if the timeout is not shorter.
const ANSWER_TIME: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Line {
    generation: u64,
    phase: &'static str,
    settled: bool,
    /// How many tracked watchers follow the phase; `None` if that was not told.
    watchers: Option<u32>,
    /// How many tracked watchers do not.
    others: Option<u32>,
    /// `None` if they are not named.
    stragglers: Option<Vec<StragglerLine>>,
}

impl Line {
    fn settled(phase: &'static str, parked: Parked) -> Self {
        Self {
            generation: parked.generation.get(),
            phase,
            settled: true,
            watchers: Some(parked.watchers),
            others: Some(parked.others),
            stragglers: Some(Vec::new()),
        }
    }

    fn unsettled(
        phase: &'static str,
        orchestrator: &Orchestrator,
        stragglers: Option<&[Straggler]>,
    ) -> Self {
        Self {
            generation: orchestrator.watcher().generation().get(),
            phase,
            settled: false,
            watchers: None,
            others: None,
            stragglers: stragglers.map(|all| all.iter().map(Into::into).collect()),
        }
    }
}

pub(crate) fn quiesce(source: &Source, args: &QuiesceArgs) -> Result<(), Failure> {
    const PHASE: &str = "quiesce";
    let mut out = Output::new(args.format.json);
    let deadline = args.timeout.deadline();
    let orchestrator = Orchestrator::options()
        .require_watchers(args.min_watchers)
        .answer_within(answer_time(args.timeout))
        .open_on(source.clone())?;
    // If this fails, programs are resumed by the drop.
    let quiescing = orchestrator.quiesce()?;
    match quiescing.wait(deadline) {
        Ok(parked) => {
            let text = format!(
                "generation {}: {} at rest{}; `sysgenid resume` resumes {}",
                parked.generation,
                all(parked.watchers, "is", "are"),
                not_asked(parked.others),
                if parked.watchers == 1 { "it" } else { "them" },
            );
            // First: they are at rest, even if no program reads the output.
            quiescing.leave();
            out.print(&Line::settled(PHASE, parked), text)
        }
        Err(error) if error.is_timeout() => {
            let named = quiescing.stragglers();
            let named = named.as_deref().ok();
            out.object(&Line::unsettled(PHASE, &orchestrator, named))?;
            let message = format!(
                "{}: after {}, programs are not at rest: {}; all were resumed, do not take the snapshot",
                Printable::new(source.path()),
                args.timeout,
                StragglerSummary::of(named.unwrap_or_default()),
            );
            // A driver that names no watcher does not prove that programs are late.
            Err(match named {
                Some(named) if !named.is_empty() => Failure::Late(message),
                _ => Failure::TimedOut(message),
            })
        }
        Err(error) if error.is_missing() => {
            out.object(&Line::unsettled(PHASE, &orchestrator, Some(&[])))?;
            Err(Failure::Missing(format!(
                "{}: fewer programs run hooks than --min-watchers {} asks for, within {}; with \
                 --min-watchers 0, `quiesce` succeeds without them",
                Printable::new(source.path()),
                args.min_watchers,
                args.timeout
            )))
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn resume(source: &Source, args: &ResumeArgs) -> Result<(), Failure> {
    const PHASE: &str = "running";
    let mut out = Output::new(args.format.json);
    let deadline = args.timeout.deadline();
    let orchestrator = Orchestrator::options()
        .answer_within(answer_time(args.timeout))
        .open_on(source.clone())?;
    match orchestrator.resume(deadline) {
        Ok(parked) => {
            let text = format!(
                "generation {}: {} resumed{}",
                parked.generation,
                all(parked.watchers, "has", "have"),
                not_asked(parked.others),
            );
            out.print(&Line::settled(PHASE, parked), text)
        }
        Err(error) if error.is_timeout() => {
            out.object(&Line::unsettled(PHASE, &orchestrator, None))?;
            Err(Failure::Late(format!(
                "{error}, within {}: hooks after the snapshot fail or hang in some programs, which try \
                 again; look at their logs",
                args.timeout
            )))
        }
        Err(error) => Err(error.into()),
    }
}

fn answer_time(timeout: Timeout) -> Duration {
    let left = timeout.deadline().remaining();
    left.map_or(ANSWER_TIME, |left| left.min(ANSWER_TIME))
}

fn all(watchers: u32, one: &str, many: &str) -> String {
    match watchers {
        0 => format!("no program runs hooks, so none {one}"),
        1 => format!("the one program that runs hooks {one}"),
        count => format!("all {count} programs that run hooks {many}"),
    }
}

fn not_asked(others: u32) -> String {
    match others {
        0 => String::new(),
        1 => ", and one tracked watcher was not asked".into(),
        count => format!(", and {count} tracked watchers were not asked"),
    }
}
