// SPDX-License-Identifier: Apache-2.0 OR MIT
//! UUIDs that no other clone makes.
//!
//! Terminal 1: `sysgenid serve --dir /tmp/sysgenid`
//! Terminal 2: `export SYSGENID_SOURCE=/tmp/sysgenid`, then
//! `cargo run -p sysgenid-examples --example make_unique_ids`
//! Terminal 3: `SYSGENID_SOURCE=/tmp/sysgenid sysgenid trigger`, three times
#![forbid(unsafe_code)]

mod series;

use std::error::Error;
use std::time::{Duration, Instant};

use rand::RngExt;
use sysgenid::{Guarded, Probe};
use uuid::{Builder, Uuid};

use self::series::Series;

/// An example ends: after this many generations, or this long.
const GENERATIONS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let probe = Probe::open()?;
    // It counts within a millisecond. A clone would go on counting where the snapshot was taken,
    // perhaps in the same millisecond, because its clock stood still as well.
    let mut series =
        Guarded::unwiped_with_witness(Probe::open()?, |_generation| Ok(Series::default()));
    let (mut last, mut seen) = (None, 0);
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let random = v4();
        let ordered = series.with(Series::next_v7)?;
        let generation = probe.generation();
        if last.replace(generation) != Some(generation) {
            println!("generation {generation}: {random} {ordered}");
            seen += 1;
        }
        if seen == GENERATIONS {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10)); // until the next one is needed
    }
    Err("the generation did not change often enough".into())
}

fn v4() -> Uuid {
    Builder::from_random_bytes(sysgenid::rng().random()).into_uuid()
}
