// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a broker with 1,000 idle watchers holds in memory, and that it takes no processor time.
//!
//! The broker is a process of its own: this binary, started again.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use sysgenid::Watcher;
use sysgenid_benches::{Bound, Bounds};

const WATCHERS: usize = 1_000;
const RESIDENT_KIB: Bound = Bound::AtMost(16.0 * 1024.0);
const TICKS: Bound = Bound::AtMost(0.0);
const IDLE: Duration = Duration::from_secs(3);
const FOLDER: &str = "SYSGENID_BENCH_FOLDER";

fn main() -> ExitCode {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return serve(Path::new(&folder));
    }
    let mut bounds = Bounds::new();
    let watchers = if bounds.measured() { WATCHERS } else { 10 };

    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut broker = Broker::start(folder.path());
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
    broker.stop();
    bounds.verdict()
}

fn serve(folder: &Path) -> ExitCode {
    let server = sysgenid_broker::Server::bind(folder).expect("a broker");
    let stopper = server.stopper();
    // The end of standard input is the end of the parent.
    thread::spawn(move || {
        let _ = std::io::stdin().lines().next();
        stopper.stop();
    });
    println!("ready");
    server.run().expect("a broker that runs");
    ExitCode::SUCCESS
}

struct Broker(Child);

impl Broker {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a broker process");
        let output = child.stdout.take().expect("its output");
        let ready = BufReader::new(output).lines().next();
        assert!(
            matches!(ready, Some(Ok(line)) if line == "ready"),
            "the broker did not start"
        );
        Self(child)
    }

    /// Processor time in clock ticks, a hundredth of a second each.
    fn processor_ticks(&self) -> f64 {
        let stat = self.read("stat");
        // The command's name, in parentheses, may hold anything; the numbers follow it.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|tick| tick.parse::<f64>().ok())
            .sum()
    }

    fn resident_kib(&self) -> f64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .expect("VmRSS in KiB")
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).expect("its /proc")
    }

    fn stop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
