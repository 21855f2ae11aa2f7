// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The programs in the machines that `cargo xtask vm` snapshots and restores. They and the host talk
//! in lines of a word and its `key=value` pairs.

pub mod first_load;
pub mod restore;
pub mod vmclock;

use std::error::Error;
use std::process::exit;
use std::thread;

/// An agent's own failures are for the host to read, whatever they are.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Runs `body` in a thread that ends the agent if it fails: the host then sees why.
fn spawn(body: impl FnOnce() -> Result<()> + Send + 'static) {
    thread::spawn(move || {
        let failure = body().err().map(|error| error.to_string());
        println!(
            "failed: {}",
            failure.unwrap_or_else(|| "a thread has ended".into())
        );
        exit(1);
    });
}
