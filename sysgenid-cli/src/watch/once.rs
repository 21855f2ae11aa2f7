// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A watch that ends with its source.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sysgenid::{Deadline, Printable, Source, Watcher};

use super::lines::Line;
use super::timed_out;
use crate::args::WatchArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::speech::{To, Voice};

pub(super) fn run(source: &Source, args: &WatchArgs, voice: &Voice) -> Result<(), Failure> {
    let mut out = Output::new(args.format.json);
    let deadline = args.timeout.deadline();
    let watcher = Watcher::options()
        .tracked(args.tracked)
        .open_on(source.clone())?;

    let mut previous = watcher.generation();
    let start = Line::watching(Some(previous), Some(source.path()), args.tracked);
    out.object(&start)?;
    let mut told = Vec::new();
    if !args.format.json {
        told.push(start.text());
    }
    if args.tracked {
        let path = Printable::new(source.path());
        told.push(format!(
            "sysgenid: {path}: acknowledges each change when it prints it, before anything has \
             handled it; an orchestrator that waits for this watcher learns only that the change \
             was seen; --exec has a command handle it first"
        ));
    }
    if !told.is_empty() {
        voice.say(To::Stderr, told.join("\n"));
    }

    let mut changes = 0_u64;
    while args.count != Some(changes) {
        let Some(generation) = watcher.try_changed()? else {
            await_event(&watcher, deadline, args)?;
            continue;
        };
        // Before it is printed: a reader who does not read must not hold anybody up.
        match watcher.acknowledge(generation) {
            Ok(()) => {}
            Err(error) if error.is_stale() => continue,
            Err(error) => return Err(error.into()),
        }
        let line = Line::changed(generation, Some(previous), None);
        out.print(&line, line.text())?;
        previous = generation;
        changes += 1;
    }
    Ok(())
}

/// Waits until the watcher is outdated or lost, or the reader of standard output has gone.
fn await_event(watcher: &Watcher, deadline: Deadline, args: &WatchArgs) -> Result<(), Failure> {
    let stdout = io::stdout();
    // Errors and hang-ups are always reported.
    let mut fds = [
        PollFd::new(watcher, PollFlags::IN),
        PollFd::new(&stdout, PollFlags::empty()),
    ];
    // A time that the kernel's type cannot hold never passes.
    let timeout = deadline
        .remaining()
        .and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(Failure::call("poll", errno)),
    }
    let [watched, stdout] = fds;
    if stdout.revents().intersects(PollFlags::ERR | PollFlags::HUP) {
        return Err(Failure::Closed);
    }
    if watched.revents().is_empty() && deadline.has_passed() {
        return Err(timed_out(args));
    }
    Ok(())
}
