// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A watch that survives the end of its source.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use sysgenid::{Acknowledged, Changes, ChangesWaker, Generation, Probe, Source};

use super::lines::Line;
use super::timed_out;
use crate::args::WatchArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::speech::{To, Voice};

pub(super) fn run(named: Option<PathBuf>, args: &WatchArgs, voice: &Voice) -> Result<(), Failure> {
    let mut out = Output::new(args.format.json);
    let deadline = args.timeout.deadline();
    let mut changes = open(named, args.tracked);
    let (start, mut previous) = begin(&changes, args.tracked);
    out.object(&start)?;
    if !args.format.json {
        voice.say(To::Stderr, start.text());
    }
    let has_gone = on_reader_gone(changes.waker())?;

    let mut seen = 0_u64;
    while args.count != Some(seen) {
        let change = match changes.wait(deadline) {
            Ok(change) => change,
            Err(_) if has_gone.load(Ordering::Acquire) => return Err(Failure::Closed),
            Err(error) if error.is_timeout() => return Err(timed_out(args)),
            Err(error) => return Err(error.into()),
        };
        let (generation, cause) = (change.generation(), change.cause());
        // Before it is printed: a reader who does not read must not hold anybody up.
        if change.acknowledge()? == Acknowledged::Overtaken {
            continue;
        }
        let line = Line::changed(generation, previous, cause);
        out.print(&line, line.text())?;
        previous = Some(generation);
        seen += 1;
    }
    Ok(())
}

/// The changes of the source that was named, or of whichever there is.
pub(super) fn open(named: Option<PathBuf>, tracked: bool) -> Changes {
    let options = Changes::options().tracked(tracked);
    match named {
        Some(path) => options.at(path),
        None => options,
    }
    .open()
}

/// The first line, and the generation at that time, if there is a source.
pub(super) fn begin(changes: &Changes, tracked: bool) -> (Line<'_>, Option<Generation>) {
    let source = changes.sources().next();
    let probe = source.and_then(|source| Probe::open_on(source.clone()).ok());
    let generation = probe.map(|probe| probe.generation());
    let line = Line::watching(generation, source.map(Source::path), tracked);
    (line, generation)
}

/// Stops the changes when the reader of standard output has gone, and sets the flag that it returns.
fn on_reader_gone(waker: ChangesWaker) -> Result<Arc<AtomicBool>, Failure> {
    let has_gone = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&has_gone);
    let watch = move || {
        let stdout = io::stdout();
        // Errors and hang-ups are always reported.
        while let Err(Errno::INTR) = poll(&mut [PollFd::new(&stdout, PollFlags::empty())], None) {}
        tell.store(true, Ordering::Release);
        waker.stop();
    };
    match thread::Builder::new().name("stdout".into()).spawn(watch) {
        Ok(_detached) => Ok(has_gone),
        Err(error) => Err(Failure::call("starting a thread", error)),
    }
}
