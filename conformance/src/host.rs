// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host of the machine that a suite runs in, for what no guest can do: change what the
//! hypervisor keeps.
//!
//! It listens at the other end of standard input and output, as `cargo xtask vm counter` and
//! `vm vmclock` do. A line that begins with `ask ` is for it, and it answers `done`.

use std::io::{BufRead, Write};

/// Asks the host for something, and returns when it is done.
pub(crate) fn ask(request: &str) {
    let mut out = std::io::stdout().lock();
    // Together, or a line of another thread could come in between.
    let asked = writeln!(out, "ask {request}").and_then(|()| out.flush());
    asked.expect("the host can be asked");
    let mut answer = String::new();
    let heard = std::io::stdin().lock().read_line(&mut answer);
    heard.expect("the host can be heard");
    assert_eq!(
        answer.trim_end(),
        "done",
        "the host's answer to {request:?}"
    );
}
