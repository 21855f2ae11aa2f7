// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a broker with 1,000 idle watchers holds in memory, and that it takes no processor time.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use sysgenid::Watcher;
use sysgenid_benches::process::{self, Process};
use sysgenid_benches::{Bound, Bounds};

const WATCHERS: usize = 1_000;
const RESIDENT_KIB: Bound = Bound::AtMost(16.0 * 1024.0);
const TICKS: Bound = Bound::AtMost(0.0);
const IDLE: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    if let Some((_, folder)) = process::role() {
        return process::serve(&folder);
    }
    let mut bounds = Bounds::new();
    let watchers = if bounds.measured() { WATCHERS } else { 10 };

    let folder = tempfile::tempdir().expect("a temporary folder");
    let (broker, _) = Process::broker(folder.path());
    let open: Vec<Watcher> = (0..watchers)
        .map(|_| Watcher::open_at(folder.path()).expect("a watcher, within `ulimit -n`"))
        .collect();
    let before = broker.processor_ticks();
    if bounds.measured() {
        thread::sleep(IDLE);
        let spent = broker.processor_ticks() - before;
        let resident = broker.resident_kib();
        bounds.report(
            "resident memory, 1,000 idle watchers",
            resident,
            RESIDENT_KIB,
            "KiB",
        );
        bounds.report("processor time while idle", spent, TICKS, "ticks");
    }
    drop(open);
    bounds.verdict()
}
