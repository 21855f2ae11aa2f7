// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A key that is kept in memory is never used in another generation than it was made in.
//!
//! Terminal 1: `sysgenid serve --dir /tmp/sysgenid`
//! Terminal 2: `export SYSGENID_SOURCE=/tmp/sysgenid`, then
//! `cargo run -p sysgenid-examples --example guard_cached_secret`
//! Terminal 3: `SYSGENID_SOURCE=/tmp/sysgenid sysgenid trigger`, three times
#![forbid(unsafe_code)]

use std::error::Error;
use std::time::{Duration, Instant};

use sysgenid::{Generation, Guarded, ProcessWide, Zeroize};
use sysgenid_examples::random_id;

/// An example ends: after this many keys, or this long.
const KEYS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// A key and its public name, as TLS session tickets have. The guard wipes an old one.
struct TicketKey {
    generation: Generation,
    name: u64,
    secret: u64,
}

impl Zeroize for TicketKey {
    fn zeroize(&mut self) {
        self.secret.zeroize();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    ProcessWide.verify()?; // without a source no restore is seen
    let mut key = Guarded::new(|generation| {
        Ok(TicketKey {
            generation,
            name: random_id()?,
            secret: random_id()?,
        })
    });
    let (mut last, mut keys, mut request) = (None, 0, 0_u64);
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        request += 1;
        // The whole ticket is of one key, and no change was seen while it was computed.
        let (generation, name, _ticket) =
            key.with(|key| (key.generation, key.name, request ^ key.secret))?;
        if last.replace(name) != Some(name) {
            println!("generation {generation}: key {name:016x}");
            keys += 1;
        }
        if keys == KEYS {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10)); // until the next request
    }
    Err("the generation did not change often enough".into())
}
