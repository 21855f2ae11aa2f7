// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of standard input: how a parent ends its children, and how they learn of its death.

use std::io;
use std::thread;

use crate::failure::Failure;

/// Calls `then` when standard input ends. The kernel closes the pipe of a parent that was killed,
/// so no order of events leaves an orphan.
pub(crate) fn on_end_of_input(then: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let watch = move || {
        // An input that cannot be read has ended, too.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        then();
    };
    match thread::Builder::new().name("stdin".into()).spawn(watch) {
        Ok(_detached) => Ok(()),
        Err(error) => Err(Failure::call("starting a thread", error)),
    }
}
