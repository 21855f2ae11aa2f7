// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A pool of workers is brought through a restore: paused, told, waited for, and resumed. One that
//! does not come to an end is named and replaced.
//!
//! `cargo run --example restart_worker_pool`
//!
//! It starts a userspace driver of its own. With `SYSGENID_SOURCE` it takes that source, and waits
//! until the generation changes there.
#![forbid(unsafe_code)]

mod pool;

use std::convert::Infallible;
use std::time::Duration;

use sysgenid_examples::{Failure, Stage};

use crate::pool::Pool;

const WORKERS: usize = 4;
/// For a worker to finish its job and rebuild.
const DEADLINE: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let stage = Stage::set().await?;
    let mut pool = Pool::start(stage.source().to_owned(), WORKERS).await?;
    pool.show("started");

    // Best before the snapshot. A restore that nobody has prepared finds jobs under way, which end
    // with the session they began with: what they must not use then is to be guarded.
    pool.pause();
    stage.change().await?;

    let orchestrator = stage.orchestrator();
    let nothing = async |_| Ok::<_, Infallible>(()); // this task itself has nothing to rebuild
    if let Err(error) = orchestrator.settle(DEADLINE, nothing).await {
        if !error.is_timeout() {
            return Err(error.into());
        }
        // Processes are named. (A shipped kernel driver names nobody.)
        for straggler in orchestrator.stragglers().await.unwrap_or_default() {
            println!("missing: {straggler}, of {}", straggler.acknowledged);
        }
        // Which workers they are in this one, the pool knows.
        pool.replace_outdated().await?;
        orchestrator.settle(DEADLINE, nothing).await?; // else it is not resumed
    }
    pool.resume();
    pool.show("resumed");
    Ok(())
}
