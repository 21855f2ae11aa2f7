// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid watch`: prints each change.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;
use sysgenid::{Deadline, Printable, Source, Watcher};

use crate::args::WatchArgs;
use crate::failure::Failure;
use crate::output::{Output, path_in_json};
use crate::speech::{Speech, To};

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line<'a> {
    Watching {
        generation: u64,
        source: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        source_bytes: Option<&'a [u8]>,
        tracked: bool,
    },
    Changed {
        generation: u64,
        previous: u64,
    },
}

pub(crate) fn run(source: &Source, args: &WatchArgs) -> Result<(), Failure> {
    let speech = Speech::new();
    let watched = watch(source, args, &speech);
    speech.finish();
    watched
}

fn watch(source: &Source, args: &WatchArgs, speech: &Speech) -> Result<(), Failure> {
    let mut out = Output::new(args.format.json);
    let deadline = args.timeout.deadline();
    let path = Printable::new(source.path()).to_string();
    let (source_text, source_bytes) = path_in_json(source.path());
    let watcher = Watcher::options()
        .tracked(args.tracked)
        .open_on(source.clone())?;

    let mut previous = watcher.generation();
    let start = Line::Watching {
        generation: previous.get(),
        source: source_text,
        source_bytes,
        tracked: args.tracked,
    };
    out.print(
        &start,
        format_args!("generation {previous}: watching {path}"),
    )?;

    if args.tracked {
        speech.voice().say(
            To::Stderr,
            format!(
                "sysgenid: {path}: acknowledges each change when it prints it, before anything has \
                 handled it; an orchestrator that waits for this watcher learns only that the \
                 change was seen"
            ),
        );
    }

    let mut changes = 0_u64;
    while args.count != Some(changes) {
        let Some(generation) = watcher.try_changed()? else {
            await_event(&watcher, deadline, &path, args)?;
            continue;
        };
        // Before it is printed: a reader who does not read must not hold anybody up.
        match watcher.acknowledge(generation) {
            Ok(()) => {}
            Err(error) if error.is_stale() => continue,
            Err(error) => return Err(error.into()),
        }
        let line = Line::Changed {
            generation: generation.get(),
            previous: previous.get(),
        };
        out.print(
            &line,
            format_args!("generation {generation}: changed, acknowledged"),
        )?;
        previous = generation;
        changes += 1;
    }
    Ok(())
}

/// Waits until the watcher is outdated or lost, or the reader of standard output has gone.
fn await_event(
    watcher: &Watcher,
    deadline: Deadline,
    path: &str,
    args: &WatchArgs,
) -> Result<(), Failure> {
    let stdout = io::stdout();
    // Errors and hang-ups are always reported.
    let mut fds = [
        PollFd::new(watcher, PollFlags::IN),
        PollFd::new(&stdout, PollFlags::empty()),
    ];
    // More seconds than the kernel's type holds are as good as for ever.
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
        return Err(Failure::TimedOut(format!(
            "{path}: the generation did not change often enough within {}; give it a longer \
             --timeout, or none",
            args.timeout
        )));
    }
    Ok(())
}
