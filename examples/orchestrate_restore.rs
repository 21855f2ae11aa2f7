// SPDX-License-Identifier: Apache-2.0 OR MIT
//! After a container was restored: tell everybody, wait until all have rebuilt, then serve again.
//!
//! In a virtual machine the driver notices the restore by itself: there
//! `orchestrator.watcher().wait(deadline)` takes the place of `orchestrator.trigger()`.
//!
//! Terminal 1: `sysgenid serve --dir /tmp/sysgenid`
//! Terminal 2: `export SYSGENID_SOURCE=/tmp/sysgenid`, then
//! `cargo run -p sysgenid-examples --example watchdog_thread`
//! Terminal 3: `export SYSGENID_SOURCE=/tmp/sysgenid`, then
//! `cargo run -p sysgenid-examples --example orchestrate_restore`
#![forbid(unsafe_code)]

use std::error::Error;
use std::time::Duration;

use sysgenid::{Deadline, Orchestrator};
use sysgenid_examples::random_id;

const DEADLINE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    // A resume that no watcher has acknowledged would be one that nothing vouches for.
    let orchestrator = Orchestrator::options().require_watchers(1).open()?;
    println!(
        "quiesced at generation {}",
        orchestrator.watcher().generation()
    );

    orchestrator.trigger()?;
    let mut node = 0;
    let settled = orchestrator.settle(Deadline::after(DEADLINE), |generation| {
        node = random_id()?;
        println!("generation {generation}: node {node:016x}");
        Ok::<_, std::io::Error>(())
    });

    match settled {
        Ok(settled) => println!(
            "all have acknowledged generation {}: resumed",
            settled.generation
        ),
        Err(error) if error.is_timeout() => {
            // Serving again now would let a stale secret out. An agent would restart these. (The
            // kernel driver does not say who they are.)
            for straggler in orchestrator.stragglers().unwrap_or_default() {
                println!(
                    "not ready: {straggler}, at generation {}",
                    straggler.acknowledged
                );
            }
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
