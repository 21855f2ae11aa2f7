// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A service that survives restores, forks, restarts of the driver and machines without one. It answers
//! each line of its input with its token and its session, both of which no clone may share.
//!
//! Terminal 1: `sysgenid serve --dir /tmp/sysgenid`
//! Terminal 2: `export SYSGENID_SOURCE=/tmp/sysgenid`, then
//! `cargo run -p sysgenid-examples --example survive_restores`; each line typed is a request, and
//! the end of the input (Ctrl-D) ends the service
//! Terminal 3: `SYSGENID_SOURCE=/tmp/sysgenid sysgenid trigger`
//!
//! A forked child calls `serve` for itself, as each worker of a server that forks does.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, Write};
use std::thread;

use sysgenid::{Bound, Gate, Result, SharedGuarded, changes, entropy, uniqueness};

/// A number from the kernel, which reseeds itself on a restore.
fn random_id() -> Result<u64> {
    let mut bytes = [0; 8];
    entropy::fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Built anew by the first use after a restore or a fork.
static TOKEN: SharedGuarded<u64> = SharedGuarded::new(|_generation| Ok(random_id()?));
/// Closed from the moment of a restore on, until the changes are handled.
static GATE: Gate = Gate::closed();

/// Stands for a connection, which is opened and not rebuilt.
fn connect() -> Result<Bound<u64>> {
    Ok(Bound::unwiped(uniqueness(), random_id()?))
}

pub(crate) fn serve(requests: impl BufRead, mut answers: impl Write) -> io::Result<()> {
    let changes = changes();
    GATE.open(GATE.mark());
    thread::spawn(move || {
        for change in changes {
            let mark = GATE.mark();
            // What is not made anew by itself is replaced here.
            if change.acknowledge().is_ok() {
                GATE.open(mark);
            }
        }
    });
    let mut session = connect()?;
    for request in requests.lines() {
        request?;
        let Ok(pass) = GATE.check() else {
            writeln!(answers, "try again")?;
            continue;
        };
        if !session.is_current() {
            session = connect()?;
        }
        let token = TOKEN.with(|token| *token)?;
        match (session.get(), pass.check()) {
            (Ok(session), Ok(())) => {
                writeln!(answers, "token {token:016x} session {session:016x}")?
            }
            _ => writeln!(answers, "try again")?,
        }
    }
    Ok(())
}

#[allow(dead_code, reason = "a test calls `serve` itself")]
fn main() -> io::Result<()> {
    serve(io::stdin().lock(), io::stdout().lock())
}
