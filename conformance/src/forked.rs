// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A child that was forked and goes on with the parent's memory, in step with it.

use std::fs::File;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::suite::reason;

/// What the child writes when it has come to a step. A message of a panic never begins with it.
const ARRIVED: u8 = 0;

/// A forked child. Dropping it kills it.
pub(crate) struct Forked {
    pid: libc::pid_t,
    go: File,
    said: File,
}

/// The child's end: where it waits for its parent.
pub(crate) struct Steps {
    go: File,
    say: File,
}

impl Forked {
    /// Forks. The child does `work`, and ends.
    ///
    /// It has one thread, this one's copy. The C library sees to it that it can allocate; what other
    /// threads held besides stays locked, so `work` keeps off what this program shares.
    pub(crate) fn start(work: impl FnOnce(&Steps)) -> Self {
        // SAFETY: As said above. It never returns from here in the child.
        Self::start_with(|| unsafe { libc::fork() }, work)
    }

    /// The same by another way of forking, which returns as `fork` does.
    pub(crate) fn start_with(
        fork: impl FnOnce() -> libc::pid_t,
        work: impl FnOnce(&Steps),
    ) -> Self {
        let [(hear, go), (said, say)] = [(); 2].map(|()| {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe can be made");
            (File::from(read), File::from(write))
        });
        let pid = fork();
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            drop((go, said));
            let steps = Steps { go: hear, say };
            let result = catch_unwind(AssertUnwindSafe(|| work(&steps)));
            let failure = result.err().map(|panic| reason(&*panic));
            let _ = (&steps.say).write_all(failure.unwrap_or_default().as_bytes());
            // SAFETY: It ends the process and runs nothing of the parent's.
            unsafe { libc::_exit(0) }
        }
        Self { pid, go, said }
    }

    /// Waits until the child comes to its next step.
    pub(crate) fn arrives(&self) {
        let mut first = [0];
        let length = (&self.said)
            .read(&mut first)
            .expect("the child can be heard");
        if (length, first) != (1, [ARRIVED]) {
            let mut rest = first[..length].to_vec();
            let _ = (&self.said).read_to_end(&mut rest);
            panic!("in the child: {}", String::from_utf8_lossy(&rest));
        }
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        (&self.go).write_all(&[1]).expect("the child can be told");
    }

    /// Waits for the child to end. Its failure is the case's.
    pub(crate) fn finish(self) {
        let mut said = String::new();
        (&self.said)
            .read_to_string(&mut said)
            .expect("the child can be heard");
        assert!(said.is_empty(), "in the child: {said}");
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        // SAFETY: The child has not been waited for, so the number is its own still.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL);
        }
    }
}

impl Steps {
    /// Tells the parent that this far all is well, and waits to be let on.
    pub(crate) fn step(&self) {
        (&self.say).write_all(&[ARRIVED]).expect("the parent hears");
        let mut byte = [0];
        (&self.go)
            .read_exact(&mut byte)
            .expect("the parent lets it go on");
    }
}
