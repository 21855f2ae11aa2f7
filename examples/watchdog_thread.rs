// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A watchdog thread replaces the service's session identifier after a restore.
//!
//! Between the restore and the replacement, the service still sees the old identifier. Where that
//! must not happen, guard the value instead: `guard_cached_secret.rs`.
//!
//! Terminal 1: `sysgenid serve --dir /tmp/sysgenid`
//! Terminal 2: `export SYSGENID_SOURCE=/tmp/sysgenid`, then
//! `cargo run -p sysgenid-examples --example watchdog_thread`
//! Terminal 3: `SYSGENID_SOURCE=/tmp/sysgenid sysgenid trigger`, three times
#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};
use std::{error::Error, io, thread, time::Duration};

use sysgenid::{Generation, Watcher};
use sysgenid_examples::random_id;

/// An example ends: after this many changes, or this long without one.
const CHANGES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

static SESSION: Mutex<u64> = Mutex::new(0);

fn replace_session(_: Generation) -> io::Result<()> {
    *SESSION.lock().unwrap_or_else(PoisonError::into_inner) = random_id()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut watcher = Watcher::open()?;
    replace_session(watcher.generation())?;
    println!("watching from generation {}", watcher.generation());
    let watchdog = thread::spawn(move || -> sysgenid::Result<()> {
        for _ in 0..CHANGES {
            let handled = watcher.handle(PATIENCE, replace_session).or_else(|error| {
                if !error.is_lost() {
                    return Err(error);
                }
                watcher.reconnect(PATIENCE)?; // the broker was restarted; a change is not missed
                watcher.handle(PATIENCE, replace_session)
            })?;
            let session = *SESSION.lock().unwrap_or_else(PoisonError::into_inner);
            println!("generation {handled}: session {session:016x}");
        }
        Ok(())
    });
    // … the service serves here …
    watchdog.join().map_err(|_| "the watchdog panicked")??;
    Ok(())
}
