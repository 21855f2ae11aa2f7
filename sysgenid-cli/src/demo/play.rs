// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The demonstration, step by step.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process;
use std::thread;
use std::time::Duration;

use sysgenid::{Deadline, Orchestrator, Straggler, StragglerSummary};

use super::crew::{Crew, Said};
use super::member::Member;
use super::report::{Report, now};
use super::timeline::{Entry, Event, Timeline, micros};
use crate::failure::Failure;
use crate::output::Output;

/// How long each step may take.
const STEP: Duration = Duration::from_secs(5);
/// How long the clients are left at work before the change, so that what is measured is not their
/// start.
const AT_WORK: Duration = Duration::from_millis(300);
/// When the orchestrator looks who is missing: well before the slow client is done.
const FIRST_LOOK: Duration = Duration::from_millis(200);

/// The steps, as a failure names them.
#[derive(Clone, Copy)]
enum Step {
    StartDriver,
    StartClients,
    Trigger,
    NameStraggler,
    WaitForAll,
    Verify,
    End,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::StartDriver => "start the driver",
            Self::StartClients => "start the clients",
            Self::Trigger => "change the generation",
            Self::NameStraggler => "name who holds up the resume",
            Self::WaitForAll => "wait until all have acknowledged",
            Self::Verify => "see every client notice and rebuild",
            Self::End => "end the processes",
        }
    }

    fn failed(self, why: impl std::fmt::Display) -> Failure {
        Failure::Other(format!("demo: step \"{}\" failed: {why}", self.name()))
    }
}

pub(super) fn play(folder: &Path, out: &mut Output) -> Result<(), Failure> {
    let mut play = Play {
        folder,
        crew: Crew::new(),
        timeline: Timeline::default(),
        start: 0,
        secrets: HashMap::new(),
    };
    let played = play.act(out);
    let complaints = play.crew.dismiss();
    // Also of a demonstration that failed: it shows how far it came.
    let printed = play.timeline.print(out);
    played?;
    printed?;
    if !complaints.is_empty() {
        return Err(Step::End.failed(complaints.join("; ")));
    }
    play.sum_up(out)
}

struct Play<'a> {
    folder: &'a Path,
    crew: Crew,
    timeline: Timeline,
    /// When the change was asked for.
    start: u64,
    /// The fingerprints that the clients began with.
    secrets: HashMap<Member, String>,
}

impl Play<'_> {
    fn act(&mut self, out: &mut Output) -> Result<(), Failure> {
        self.start_driver()?;
        self.start_clients()?;
        self.introduce(out)?;
        let orchestrator = self.blame(Step::Trigger, Orchestrator::open_at(self.folder))?;
        thread::sleep(AT_WORK);
        let generation = self.trigger(&orchestrator)?;
        self.name_straggler(&orchestrator, generation)?;
        self.wait_for_all(&orchestrator, generation)?;
        self.collect()?;
        self.verify(generation)
    }

    fn start_driver(&mut self) -> Result<(), Failure> {
        let step = Step::StartDriver;
        let arguments = [
            "serve".as_ref(),
            "--until-eof".as_ref(),
            // What is shown is one change.
            "--follow=none".as_ref(),
            "--dir".as_ref(),
            self.folder.as_os_str(),
        ];
        self.crew
            .start(Member::Driver, &arguments)
            .map_err(|why| step.failed(why))?;
        // It serves before it says anything.
        match self.crew.next(STEP.into()) {
            Some((_, Said::Line(_))) => Ok(()),
            Some((member, Said::End)) => Err(step.failed(self.crew.obituary(member))),
            None => Err(step.failed(format_args!("it said nothing within {STEP:?}"))),
        }
    }

    fn start_clients(&mut self) -> Result<(), Failure> {
        let step = Step::StartClients;
        for member in Member::WORKERS {
            let arguments: [&OsStr; 4] = [
                "demo-worker".as_ref(),
                member.name().as_ref(),
                "--source".as_ref(),
                self.folder.as_os_str(),
            ];
            self.crew
                .start(member, &arguments)
                .map_err(|why| step.failed(why))?;
        }
        let deadline = Deadline::after(STEP);
        while self.secrets.len() < Member::WORKERS.len() {
            match self.hear(step, deadline)? {
                Some((member, Report::Ready { fingerprint, .. })) => {
                    self.secrets.insert(member, fingerprint);
                }
                Some((member, report)) => {
                    let why = format!("{member} saw a change before there was one: {report:?}");
                    return Err(step.failed(why));
                }
                None => {
                    return Err(step.failed(format_args!(
                        "only {} of {} were ready within {STEP:?}",
                        self.secrets.len(),
                        Member::WORKERS.len(),
                    )));
                }
            }
        }
        Ok(())
    }

    fn introduce(&self, out: &mut Output) -> Result<(), Failure> {
        out.text(format_args!("\n{:<12}  {:>8}  task", "process", "pid"))?;
        for member in [Member::Orchestrator, Member::Driver]
            .into_iter()
            .chain(Member::WORKERS)
        {
            let (pid, task) = (self.pid(member), member.task());
            out.text(format_args!("{member:<12}  {pid:>8}  {task}"))?;
        }
        Ok(())
    }

    fn trigger(&mut self, orchestrator: &Orchestrator) -> Result<u64, Failure> {
        let before = orchestrator.watcher().generation().get();
        self.start = now();
        let triggered = orchestrator.trigger();
        let done = now();
        let generation = self.blame(Step::Trigger, triggered)?;
        let acknowledged = orchestrator.acknowledge();
        self.blame(Step::Trigger, acknowledged)?;
        self.note(
            self.start,
            Member::Orchestrator,
            Event::Trigger { generation: before },
        );
        let generation = generation.get();
        self.note(done, Member::Orchestrator, Event::Changed { generation });
        Ok(generation)
    }

    /// A first wait that is too short for the slow client, to see it named.
    fn name_straggler(
        &mut self,
        orchestrator: &Orchestrator,
        generation: u64,
    ) -> Result<(), Failure> {
        let step = Step::NameStraggler;
        match orchestrator.wait_for_watchers(FIRST_LOOK) {
            Err(error) if error.is_timeout() => {}
            Ok(_) => {
                let why = self.cause("nobody held it up, and the slow client should have");
                return Err(step.failed(why));
            }
            Err(error) => return self.blame(step, Err(error)),
        }
        let at = now();
        let stragglers = orchestrator.stragglers();
        let stragglers = self.blame(step, stragglers)?;
        let slow = self.crew.pid(Member::Slow);
        let named = |straggler: &Straggler| straggler.pid == slow;
        if !stragglers.iter().any(named) {
            let why = format!(
                "the driver named {}, not the slow client",
                StragglerSummary::of(&stragglers)
            );
            return Err(step.failed(self.cause(&why)));
        }
        let event = Event::HeldUp {
            generation,
            names: StragglerSummary::of(&stragglers).to_string(),
            stragglers: stragglers.iter().map(Into::into).collect(),
        };
        self.note(at, Member::Orchestrator, event);
        Ok(())
    }

    fn wait_for_all(
        &mut self,
        orchestrator: &Orchestrator,
        generation: u64,
    ) -> Result<(), Failure> {
        let step = Step::WaitForAll;
        match orchestrator.wait_for_watchers(STEP) {
            Ok(_) => {
                self.note(now(), Member::Orchestrator, Event::Resumed { generation });
                Ok(())
            }
            Err(error) if error.is_timeout() => {
                let who = match orchestrator.stragglers() {
                    Ok(stragglers) => StragglerSummary::of(&stragglers).to_string(),
                    Err(error) => error.to_string(),
                };
                // What the clients did say shows how far they came.
                self.overhear();
                Err(step.failed(format_args!("after {STEP:?}, still waiting for {who}")))
            }
            Err(error) => self.blame(step, Err(error)),
        }
    }

    /// Listens until every client has said that it has another secret.
    fn collect(&mut self) -> Result<(), Failure> {
        let step = Step::Verify;
        let deadline = Deadline::after(STEP);
        while self.rebuilt().count() < Member::WORKERS.len() {
            match self.hear(step, deadline)? {
                Some((member, report)) => self.record(member, report),
                None => {
                    let done: Vec<_> = self.rebuilt().map(|(who, _)| who.name()).collect();
                    return Err(step.failed(format_args!(
                        "within {STEP:?} only these rebuilt their secret: {}",
                        done.join(", "),
                    )));
                }
            }
        }
        Ok(())
    }

    /// What is shown has to be true.
    fn verify(&mut self, current: u64) -> Result<(), Failure> {
        let step = Step::Verify;
        let resumed = self.when(Member::Orchestrator, |event| {
            matches!(event, Event::Resumed { .. })
        });
        for member in Member::WORKERS {
            let noticed = self.timeline.entries().iter().any(|entry| {
                entry.who == member
                    && matches!(entry.event, Event::Noticed { generation } if generation == current)
            });
            if !noticed {
                return Err(step.failed(format_args!("{member} did not notice {current}")));
            }
        }
        for (member, entry) in self.rebuilt() {
            let Event::Rebuilt {
                generation,
                before,
                after,
                acknowledged,
            } = &entry.event
            else {
                continue;
            };
            if *generation != current || Some(before) != self.secrets.get(&member) {
                return Err(step.failed(format_args!(
                    "{member} rebuilt {before} for generation {generation}: another one"
                )));
            }
            if before == after {
                return Err(step.failed(format_args!("{member} has the same secret: {after}")));
            }
            if *acknowledged != (member != Member::Guarded) {
                return Err(step.failed(format_args!("{member}: acknowledged is {acknowledged}")));
            }
            if *acknowledged && resumed.is_none_or(|resumed| entry.after_ns > resumed) {
                return Err(step.failed(format_args!("resumed before {member} acknowledged")));
            }
        }
        match self.crew.ended() {
            ended if ended.is_empty() => Ok(()),
            ended => Err(step.failed(ended.join("; "))),
        }
    }

    fn sum_up(&self, out: &mut Output) -> Result<(), Failure> {
        let mut noticed = Vec::new();
        let mut rebuilt = Vec::new();
        let (mut held_up, mut resumed) = (String::new(), 0);
        for entry in self.timeline.entries() {
            match &entry.event {
                Event::Noticed { .. } => {
                    let how = if entry.who == Member::Guarded {
                        " (at its next use)"
                    } else {
                        ""
                    };
                    noticed.push(format!(
                        "{} after {}{how}",
                        entry.who,
                        micros(entry.after_ns)
                    ));
                }
                Event::Rebuilt { .. } => rebuilt.push(entry.who.name()),
                Event::HeldUp { names, .. } => held_up.clone_from(names),
                Event::Resumed { .. } => resumed = entry.after_ns,
                Event::Trigger { .. } | Event::Changed { .. } => {}
            }
        }
        out.text(format_args!(
            "\nnoticed by  {}\n\
             rebuilt by  {}; no secret is the one it was\n\
             held up by  {held_up}\n\
             resumed     after {}.{} ms, when all had acknowledged",
            noticed.join(", "),
            rebuilt.join(", "),
            resumed / 1_000_000,
            resumed / 100_000 % 10,
        ))
    }

    fn note(&mut self, at: u64, who: Member, event: Event) {
        let pid = self.pid(who);
        let after_ns = at.saturating_sub(self.start);
        self.timeline.add(Entry {
            event,
            who,
            pid,
            after_ns,
        });
    }

    fn record(&mut self, member: Member, report: Report) {
        match report {
            Report::Ready { .. } => {}
            Report::Noticed { at, generation } => {
                self.note(at, member, Event::Noticed { generation });
            }
            Report::Rebuilt {
                at,
                generation,
                before,
                after,
                acknowledged,
            } => {
                let event = Event::Rebuilt {
                    generation,
                    before,
                    after,
                    acknowledged,
                };
                self.note(at, member, event);
            }
        }
    }

    fn pid(&self, member: Member) -> u32 {
        self.crew.pid(member).unwrap_or_else(process::id)
    }

    fn rebuilt(&self) -> impl Iterator<Item = (Member, &Entry)> {
        let rebuilt = |entry: &&Entry| matches!(entry.event, Event::Rebuilt { .. });
        self.timeline
            .entries()
            .iter()
            .filter(rebuilt)
            .map(|entry| (entry.who, entry))
    }

    fn when(&self, who: Member, which: impl Fn(&Event) -> bool) -> Option<u64> {
        let mut entries = self.timeline.entries().iter();
        entries
            .find(|entry| entry.who == who && which(&entry.event))
            .map(|entry| entry.after_ns)
    }

    /// The next report of a client; `None` at the deadline.
    fn hear(
        &mut self,
        step: Step,
        deadline: Deadline,
    ) -> Result<Option<(Member, Report)>, Failure> {
        while let Some((member, said)) = self.crew.next(deadline) {
            match said {
                // The driver's words are for people.
                Said::Line(_) if member == Member::Driver => {}
                Said::Line(line) => {
                    let report = Report::parse(&line);
                    let report = report.map_err(|error| {
                        step.failed(format_args!("{member} said \"{line}\": {error}"))
                    })?;
                    return Ok(Some((member, report)));
                }
                Said::End => return Err(step.failed(self.crew.obituary(member))),
            }
        }
        Ok(None)
    }

    /// Records what has been said so far.
    fn overhear(&mut self) {
        let now = Deadline::after(Duration::ZERO);
        while let Ok(Some((member, report))) = self.hear(Step::Verify, now) {
            self.record(member, report);
        }
    }

    /// A failure of the SDK within a step.
    fn blame<T>(&mut self, step: Step, result: sysgenid::Result<T>) -> Result<T, Failure> {
        result.map_err(|error| step.failed(self.cause(&error.to_string())))
    }

    /// `what`, and who has ended: that is most often the cause.
    fn cause(&mut self, what: &str) -> String {
        let mut causes = self.crew.ended_just_now();
        self.overhear();
        causes.push(what.into());
        causes.join("; ")
    }
}
