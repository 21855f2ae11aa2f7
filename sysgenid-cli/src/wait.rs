// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid wait`: waits until every tracked watcher has acknowledged.

use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;
use sysgenid::{Orchestrator, Source, Straggler};

use crate::args::WaitArgs;
use crate::failure::Failure;
use crate::output::Output;

/// How long a source may take to count its watchers.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// How many stragglers an error message names.
const NAMED: usize = 10;

#[derive(Serialize)]
struct Line {
    generation: u64,
    settled: bool,
    /// How many watchers have not acknowledged; `None` if the source does not tell.
    outdated: Option<u32>,
    /// `None` if the source does not name them, or not to this user.
    stragglers: Option<Vec<StragglerLine>>,
}

/// A straggler in JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StragglerLine {
    pid: Option<u32>,
    command: String,
    acknowledged: u64,
}

impl From<&Straggler> for StragglerLine {
    fn from(straggler: &Straggler) -> Self {
        Self {
            pid: straggler.pid,
            command: straggler.command.clone(),
            acknowledged: straggler.acknowledged.get(),
        }
    }
}

pub(crate) fn run(source: Source, args: &WaitArgs) -> Result<(), Failure> {
    let mut out = Output::new(args.format.json);
    let path = source.path().display().to_string();
    let orchestrator = Orchestrator::on(source.clone())?;
    // There is nothing to rebuild here: it acknowledges, so that the wait is for the others.
    let settled = orchestrator.settle(args.timeout.deadline(), |_| Ok::<_, Infallible>(()));
    match settled {
        Ok(generation) => {
            let line = Line {
                generation: generation.get(),
                settled: true,
                outdated: Some(0),
                stragglers: Some(Vec::new()),
            };
            let text =
                format_args!("generation {generation}: acknowledged by every tracked watcher");
            out.print(&line, text)
        }
        Err(error) if error.is_timeout() => {
            let generation = orchestrator.watcher().generation();
            let stragglers = orchestrator.stragglers();
            let watchers = source.status(ANSWER_TIME).ok().and_then(|all| all.watchers);
            let outdated = watchers.map(|watchers| watchers.outdated);
            let who = match &stragglers {
                Ok(stragglers) => who(stragglers, outdated.unwrap_or_default()),
                Err(error) if error.is_permission() => {
                    "only the owner of the userspace driver is told whose; wait again, or ask as \
                     that user"
                        .into()
                }
                Err(error) if error.is_unsupported() => {
                    "this source does not tell whose; wait again".into()
                }
                Err(error) => error.to_string(),
            };
            let line = Line {
                generation: generation.get(),
                settled: false,
                outdated,
                stragglers: stragglers
                    .ok()
                    .map(|all| all.iter().map(Into::into).collect()),
            };
            out.object(&line)?;
            Err(Failure::TimedOut(format!(
                "{path}: after {}, tracked watchers have not acknowledged generation {generation}: \
                 {who}",
                args.timeout,
            )))
        }
        Err(error) => Err(error.into()),
    }
}

/// The stragglers, of whom there may be more than can be named, and what to do.
fn who(named: &[Straggler], outdated: u32) -> String {
    let all = usize::try_from(outdated).unwrap_or(usize::MAX);
    if named.is_empty() && all > 0 {
        return format!(
            "{all} of processes that cannot be seen from here; wait again, or ask as root, outside \
             of containers"
        );
    }
    let mut text = names(named);
    if all > named.len() {
        let _ = write!(text, " ({all} watchers in all)");
    }
    text + "; wait again, or look after these processes"
}

/// The stragglers in one line.
pub(crate) fn names(stragglers: &[Straggler]) -> String {
    let mut text = String::new();
    for straggler in stragglers.iter().take(NAMED) {
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}{straggler}");
    }
    match stragglers.len() {
        0 => "none any more".into(),
        all if all > NAMED => text + &format!(" and {} more", all - NAMED),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

    use super::*;

    #[test]
    fn nobody_who_holds_up_the_wait_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
        let _straggler = sysgenid::Watcher::open_at(folder.path()).unwrap();
        let orchestrator = Orchestrator::open_at(folder.path()).unwrap();
        orchestrator.trigger().unwrap();
        let named = orchestrator.stragglers().unwrap();
        let name = format!("(pid {})", std::process::id());

        assert!(who(&[], 0).starts_with("none any more; "));
        assert!(who(&[], 3).starts_with("3 of processes that cannot be seen from here; "));
        for (outdated, begin) in [(0, "; "), (1, "; "), (2, " (2 watchers in all); ")] {
            let text = who(&named, outdated);
            let (_, rest) = text.split_once(&name).unwrap();
            assert!(rest.starts_with(begin), "{outdated}: {rest}");
        }
    }
}
