// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid watch`: prints each change, or has a command handle it.

mod handler;
mod lines;
mod once;
mod steadily;

use std::path::PathBuf;

use sysgenid::Source;

use crate::args::WatchArgs;
use crate::failure::Failure;
use crate::speech::Speech;

pub(crate) fn run(named: Option<PathBuf>, args: &WatchArgs) -> Result<(), Failure> {
    let speech = Speech::new();
    let watched = match &args.exec {
        Some(command) => handler::run(named, args, command, speech.voice()),
        None if args.reconnect => steadily::run(named, args, speech.voice()),
        None => match named {
            Some(path) => Source::at(path),
            None => Source::discover(),
        }
        .map_err(Failure::from)
        .and_then(|source| once::run(&source, args, speech.voice())),
    };
    speech.finish();
    watched
}

/// Why a watch ended that has waited for too long.
fn timed_out(args: &WatchArgs) -> Failure {
    Failure::TimedOut(format!(
        "the generation did not change often enough within {}; give it a longer --timeout, or none",
        args.timeout
    ))
}
