// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Failing the n-th allocation of a call.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

/// What can fail on behalf of this thread. Copies from and to the process count as allocations
/// here: the kernel makes them fail in the same way.
pub(super) struct Failing(File);

/// How a call went while one allocation after the other failed.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Allocations that failed, one in each call.
    pub(super) injected: u32,
    /// Calls that failed because of it.
    pub(super) failed: u32,
}

impl Failing {
    pub(super) fn new() -> Self {
        let path = "/proc/thread-self/fail-nth";
        let file = OpenOptions::new().read(true).write(true).open(path);
        Self(file.unwrap_or_else(|error| panic!("{path}: {error}")))
    }

    /// Makes a call again and again, each time with a later allocation failing, until there is
    /// none left to fail. Then it must succeed. Nothing fails while it is prepared.
    pub(super) fn each<T>(
        &self,
        allowed: &[Errno],
        mut prepare: impl FnMut(),
        mut call: impl FnMut() -> Result<T, Errno>,
    ) -> Tally {
        let mut tally = Tally::default();
        for nth in 1.. {
            prepare();
            self.write(nth);
            let result = call();
            // What is left to count to; 0 if it was reached.
            let is_injected = self.read() == 0;
            self.write(0);
            if !is_injected {
                result.map(drop).expect("no allocation failed");
                break;
            }
            tally.injected += 1;
            match result {
                Ok(_) => {}
                Err(errno) if allowed.contains(&errno) => tally.failed += 1,
                Err(errno) => panic!("allocation {nth} failed, and the call with {errno:?}"),
            }
        }
        tally
    }

    /// What is left to fail may be the copy of this very number: then it is done again.
    fn write(&self, nth: u32) {
        let text = nth.to_string();
        let attempt = || self.0.write_at(text.as_bytes(), 0);
        let written = attempt().or_else(|_| attempt());
        written.expect("the kernel injects faults");
    }

    /// What is left to count to.
    fn read(&self) -> u32 {
        let mut text = [0; 16];
        let length = match self.0.read_at(&mut text, 0) {
            Ok(length) => length,
            // The copy of the number was the next to fail.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::FAULT) => return 1,
            Err(error) => panic!("it can be read back: {error}"),
        };
        let text = String::from_utf8_lossy(&text[..length]);
        text.trim_end().parse().expect("a number")
    }
}
