// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid wait`: waits until every tracked watcher has acknowledged.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use sysgenid::{
    Deadline, Orchestrator, Printable, Source, Straggler, StragglerSummary, WatcherCounts,
};

use crate::args::WaitArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::time::Timeout;

/// How long the source may take in all to say who is missing, once the deadline has passed.
const LAST_WORD: Duration = Duration::from_millis(100);

/// How long the userspace driver may take to answer, if the wait is not over earlier.
const ANSWER_TIME: Duration = Duration::from_secs(5);

type Answer = sysgenid::Result<Vec<Straggler>>;

#[derive(Serialize)]
struct Line {
    generation: u64,
    settled: bool,
    /// How many tracked watchers there are; `None` if the source does not tell.
    watchers: Option<u32>,
    /// How many watchers have not acknowledged; `None` if the source does not tell.
    outdated: Option<u32>,
    /// `None` if the source does not name them, or not to this user.
    stragglers: Option<Vec<StragglerLine>>,
}

/// A straggler in JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StragglerLine {
    pid: Option<u32>,
    uid: Option<u32>,
    command: String,
    acknowledged: u64,
}

impl From<&Straggler> for StragglerLine {
    fn from(straggler: &Straggler) -> Self {
        Self {
            pid: straggler.pid,
            uid: straggler.uid,
            command: straggler.command.clone(),
            acknowledged: straggler.acknowledged.get(),
        }
    }
}

pub(crate) fn run(source: &Source, args: &WaitArgs) -> Result<(), Failure> {
    let mut out = Output::new(args.format.json);
    let asked = Asked {
        source,
        min_watchers: args.min_watchers,
        time: args.timeout,
        trigger: None,
    };
    asked.settle(&mut out)
}

/// A wait for the watchers of a source.
pub(crate) struct Asked<'a> {
    pub(crate) source: &'a Source,
    pub(crate) min_watchers: u32,
    pub(crate) time: Timeout,
    /// The generation is changed first, to this number at least.
    pub(crate) trigger: Option<u32>,
}

impl Asked<'_> {
    pub(crate) fn settle(&self, out: &mut Output) -> Result<(), Failure> {
        let source = self.source;
        let path = Printable::new(source.path()).to_string();
        let deadline = self.time.deadline();
        let answer_time = deadline
            .remaining()
            .map_or(ANSWER_TIME, |left| left.min(ANSWER_TIME));
        let orchestrator = Orchestrator::options()
            .require_watchers(self.min_watchers)
            .answer_within(answer_time)
            .open_on(source.clone())?;
        if let Some(min) = self.trigger {
            orchestrator.trigger_at_least(min)?;
        }
        // There is nothing to rebuild here: it acknowledges, so that the wait is for the others.
        let settled = orchestrator.settle(deadline, |_| Ok::<_, Infallible>(()));
        match settled {
            Ok(settled) => {
                let generation = settled.generation;
                let line = Line {
                    generation: generation.get(),
                    settled: true,
                    watchers: settled.watchers,
                    outdated: Some(0),
                    stragglers: Some(Vec::new()),
                };
                let text = format!("generation {generation}: {}", by_whom(settled.watchers));
                out.print(&line, text)
            }
            Err(error) if error.is_missing() => {
                let line = Line {
                    generation: orchestrator.watcher().generation().get(),
                    settled: false,
                    watchers: count(source, LAST_WORD.into()).map(|counts| counts.tracked),
                    outdated: Some(0),
                    stragglers: Some(Vec::new()),
                };
                out.object(&line)?;
                Err(Failure::Missing(format!(
                    "{error}, within {}; with --min-watchers 0, `wait` succeeds without them",
                    self.time
                )))
            }
            Err(error) if error.is_unsupported() && self.min_watchers > 0 => {
                Err(Failure::Uncounted(format!(
                    "{error}; with --min-watchers 0, `wait` succeeds without knowing how many there are"
                )))
            }
            Err(error) if error.is_timeout() => {
                let generation = orchestrator.watcher().generation();
                // Both at once, because there is little time.
                let last_word = Deadline::after(LAST_WORD);
                let named = ask_for_stragglers(orchestrator)?;
                let watchers = count(source, last_word);
                let outdated = watchers.map(|watchers| watchers.outdated);
                let left = last_word.remaining().unwrap_or_default();
                let stragglers = named.recv_timeout(left).ok();
                let who = match &stragglers {
                None => {
                    "the source does not say whose: it hangs, or is busy; look at its process, or \
                     wait again"
                        .into()
                }
                Some(Ok(stragglers)) => who(stragglers, outdated.unwrap_or_default()),
                Some(Err(error)) if error.is_permission() => {
                    "only the owner of the userspace driver is told whose; wait again, or ask as \
                     that user"
                        .into()
                }
                Some(Err(error)) if error.is_unsupported() => {
                    "this source does not tell whose; wait again".into()
                }
                Some(Err(error)) => error.to_string(),
            };
                let line = Line {
                    generation: generation.get(),
                    settled: false,
                    watchers: watchers.map(|watchers| watchers.tracked),
                    outdated,
                    stragglers: stragglers
                        .and_then(Result::ok)
                        .map(|all| all.iter().map(Into::into).collect()),
                };
                let is_silent = line.outdated.is_none() && line.stragglers.is_none();
                out.object(&line)?;
                let message = format!(
                    "{path}: after {}, tracked watchers have not acknowledged generation {generation}: \
                 {who}",
                    self.time,
                );
                // A source that does not answer does not prove that watchers are late.
                Err(match is_silent {
                    true => Failure::TimedOut(message),
                    false => Failure::Late(message),
                })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Who has acknowledged.
fn by_whom(watchers: Option<u32>) -> String {
    match watchers {
        Some(0) => "no tracked watcher has to acknowledge it".into(),
        Some(1) => "acknowledged by the one tracked watcher".into(),
        Some(count) => format!("acknowledged by all {count} tracked watchers"),
        None => "acknowledged by every tracked watcher; the source does not tell how many".into(),
    }
}

fn count(source: &Source, deadline: Deadline) -> Option<WatcherCounts> {
    source.status(deadline).ok()?.watchers
}

/// Asks for the stragglers on another thread, which is left behind if it is late: the process ends
/// next. `Orchestrator::stragglers` takes no deadline yet, but as much time as the orchestrator was
/// opened with.
fn ask_for_stragglers(orchestrator: Orchestrator) -> Result<Receiver<Answer>, Failure> {
    let (sender, receiver) = channel();
    let ask = move || {
        // The answer was late if this fails.
        let _ = sender.send(orchestrator.stragglers());
    };
    match thread::Builder::new().name("stragglers".into()).spawn(ask) {
        Ok(_detached) => Ok(receiver),
        Err(error) => Err(Failure::call("starting a thread", error)),
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
    let mut text = StragglerSummary::of(named).to_string();
    if all > named.len() {
        let _ = write!(text, " ({all} watchers in all)");
    }
    text + "; wait again, or look after these processes"
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
