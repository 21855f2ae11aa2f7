// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid demo`: the main job, end to end, in a temporary folder.
//!
//! Every step is verified and has a deadline. The times are those that the processes measured on
//! the monotonic clock, which they share.

mod crew;
mod member;
mod play;
mod report;
mod timeline;
mod worker;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use tempfile::TempDir;

pub(crate) use self::member::Member;
pub(crate) use self::worker::worker;
use crate::failure::Failure;
use crate::output::Output;

const INTRODUCTION: &str = "\
A machine that is restored from a snapshot gets back keys and random numbers that must never be
used twice. The system generation is a counter that changes then. Here it changes on request, and
you see who notices when, whose secret is rebuilt (as a fingerprint), and who holds up the resume.";

pub(crate) fn run(out: &mut Output) -> Result<(), Failure> {
    // What was not told was not shown.
    demonstrate(out).map_err(|failure| match failure {
        Failure::Closed => Failure::Unheard,
        failure => failure,
    })
}

fn demonstrate(out: &mut Output) -> Result<(), Failure> {
    out.text(INTRODUCTION)?;
    let folder = tempfile::Builder::new()
        .prefix("sysgenid-demo-")
        .tempdir()
        .map_err(|error| Failure::call("demo: making a temporary directory", error))?;
    remove_on_signal(folder.path().to_owned())?;

    let played = play::play(folder.path(), out);
    let removed = remove(folder);
    played.and(removed)?;
    out.text(format_args!("\n{}", what_next()))
}

/// Commands to copy, with this program's name as it was called.
fn what_next() -> String {
    let program = env::args_os().next().unwrap_or_else(|| "sysgenid".into());
    let program = program.to_string_lossy();
    format!(
        "To try it yourself, in three terminals:\n  \
         {program} serve    # the userspace driver; it prints the line that the others need\n  \
         {program} watch    # prints each change\n  \
         {program} trigger  # makes one"
    )
}

fn remove(folder: TempDir) -> Result<(), Failure> {
    let path = folder.path().to_owned();
    folder
        .close()
        .map_err(|error| Failure::io(&path, "removing the temporary directory", &error))
}

/// An interrupted demonstration leaves no folder. Its processes end by themselves.
fn remove_on_signal(folder: PathBuf) -> Result<(), Failure> {
    let failed = |error| Failure::call("demo: handling signals", error);
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(failed)?;
    let watch = move || {
        if let Some(signal) = signals.forever().next() {
            let _ = fs::remove_dir_all(&folder);
            let _ = emulate_default_handler(signal);
        }
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .map(drop)
        .map_err(failed)
}
