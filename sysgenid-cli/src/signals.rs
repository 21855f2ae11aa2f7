// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Signals that this process handles instead of ending.

use std::ffi::c_int;
use std::fs;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;

/// Signals that are caught and not handled yet.
pub(crate) struct Caught(Signals);

impl Caught {
    /// Catches these from now on.
    pub(crate) fn new(signals: &[c_int]) -> Result<Self, Failure> {
        Signals::new(signals)
            .map(Self)
            .map_err(|error| Failure::call("handling signals", error))
    }

    /// Has a thread handle each of them.
    pub(crate) fn handle(
        mut self,
        mut handle: impl FnMut(c_int) + Send + 'static,
    ) -> Result<(), Failure> {
        let watch = move || self.0.forever().for_each(&mut handle);
        match thread::Builder::new().name("signals".into()).spawn(watch) {
            Ok(_detached) => Ok(()),
            Err(error) => Err(Failure::call("starting a thread", error)),
        }
    }
}

/// The signals that ask a process to end. SIGHUP is not one of them if it was ignored from the start,
/// as under `nohup`.
pub(crate) fn ending() -> Vec<c_int> {
    let mut signals = vec![SIGINT, SIGTERM, SIGQUIT];
    if !ignores(SIGHUP) {
        signals.push(SIGHUP);
    }
    signals
}

/// Whether this process was started with the signal ignored.
fn ignores(signal: c_int) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let ignored = lines
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    // The first bit is the first signal.
    ignored >> (signal - 1) & 1 == 1
}
