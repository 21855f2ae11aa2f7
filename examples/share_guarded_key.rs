// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A key that all threads of a server share: after a restore one of them makes a new one, and no
//! request is signed with the old.
//!
//! Terminal 1: `sysgenid serve --dir /tmp/sysgenid`
//! Terminal 2: `export SYSGENID_SOURCE=/tmp/sysgenid`, then
//! `cargo run -p sysgenid-examples --example share_guarded_key`
//! Terminal 3: `SYSGENID_SOURCE=/tmp/sysgenid sysgenid trigger`, three times
#![forbid(unsafe_code)]

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sysgenid::{ProcessWide, SharedGuarded};
use sysgenid_examples::random_id;

/// An example ends: after this many keys, or this long.
const KEYS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);
const WORKERS: u64 = 4;

static MADE: AtomicUsize = AtomicUsize::new(0);

static KEY: SharedGuarded<u64> = SharedGuarded::new(|generation| {
    let key = random_id()?;
    MADE.fetch_add(1, Ordering::Relaxed);
    println!("generation {generation}: a key for all threads");
    Ok(key)
});

fn main() -> Result<(), Box<dyn Error>> {
    ProcessWide.verify()?;
    let end = Instant::now() + PATIENCE;
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| thread::spawn(move || serve(worker, end)))
        .collect();
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")??;
    }
    match MADE.load(Ordering::Relaxed) {
        KEYS => Ok(()),
        made => Err(format!("{made} keys were made instead of {KEYS}").into()),
    }
}

/// Signs requests until the last key was made.
fn serve(worker: u64, end: Instant) -> sysgenid::Result<()> {
    while MADE.load(Ordering::Relaxed) < KEYS && Instant::now() < end {
        let _signature = KEY.with(|key| worker ^ key)?;
        thread::sleep(Duration::from_millis(10)); // until the next request
    }
    Ok(())
}
