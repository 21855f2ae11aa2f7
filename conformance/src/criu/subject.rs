// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The process that is copied. `subject.py` is its twin.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use sysgenid::rand_core::Rng;
use sysgenid::{Generation, Orchestrator, SharedGuarded, Watcher};

use crate::forked::Forked;
use crate::process::bare_clone;

/// How long it waits for its orders, if the process that gives them has died.
const PATIENCE: Duration = Duration::from_secs(300);

/// Gets ready, waits to be told what to do, and does it: by then it is a copy.
///
/// # Errors
///
/// If it cannot get ready or report.
pub fn run(folder: &Path) -> Result<(), Box<dyn Error>> {
    // CRIU takes whole sessions.
    rustix::process::setsid()?;
    let state = State::new()?;
    state.look(&mut String::new(), "parent");
    fs::write(folder.join("ready"), [])?;

    let start = Instant::now();
    let orders = loop {
        match fs::read_to_string(folder.join("orders")) {
            Ok(orders) if orders.ends_with('\n') => break orders,
            _ if start.elapsed() > PATIENCE => return Err("no orders".into()),
            _ => thread::sleep(Duration::from_millis(5)),
        }
    };
    if orders.trim() == "assume" {
        sysgenid::assume_restored();
    }
    let report = state.report(folder)?;
    fs::write(folder.join("report.new"), report)?;
    fs::rename(folder.join("report.new"), folder.join("report"))?;
    Ok(())
}

struct State {
    copied: u64,
    guarded: SharedGuarded<u64>,
    page: &'static AtomicU64,
}

impl State {
    fn new() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            copied: random()?,
            guarded: SharedGuarded::unwiped(|_| Ok(random()?)),
            page: emptied_page()?,
        })
    }

    /// What this process and its children have. The bare clone first: the C library's fork has the
    /// advice given again.
    fn report(&self, folder: &Path) -> Result<String, Box<dyn Error>> {
        let mut report = String::new();
        self.look(&mut report, "parent");

        let driver = folder.join("driver");
        let watcher = Watcher::open_at(&driver)?;
        let generation = Orchestrator::open_at(&driver)?.trigger()?;
        // SAFETY: The child ends in `start_with`, and runs nothing of this process's.
        let fork = || unsafe { libc::fork() };
        let ways = [
            ("cloned", bare_clone as fn() -> libc::pid_t),
            ("forked", fork),
        ];
        for (name, fork) in ways {
            let path = folder.join(name);
            let child = Forked::start_with(fork, |_| {
                let mut report = String::new();
                self.look(&mut report, name);
                let refused = if is_refused(&watcher, generation) {
                    "refused"
                } else {
                    "taken"
                };
                line(&mut report, name, "watcher", &refused);
                fs::write(&path, report).expect("it can report");
            });
            child.finish();
            report += &fs::read_to_string(&path)?;
        }
        let outdated = match watcher.try_changed()? {
            Some(_) => "outdated",
            None => "acknowledged",
        };
        line(&mut report, "parent", "watcher", &outdated);
        Ok(report)
    }

    fn look(&self, report: &mut String, process: &str) {
        let guarded = self.guarded.with(|value| *value).expect("it is built");
        line(report, process, "copied", &self.copied);
        line(report, process, "guarded", &guarded);
        line(report, process, "drawn", &sysgenid::rng().next_u64());
        let page = match self.page.load(Ordering::Relaxed) {
            0 => "emptied",
            _ => "copied",
        };
        line(report, process, "page", &page);
    }
}

fn line(report: &mut String, process: &str, name: &str, value: &dyn std::fmt::Display) {
    // A string takes all that is written to it.
    let _ = writeln!(report, "{process} {name} {value}");
}

/// Whether a child can do nothing with its parent's watcher.
fn is_refused(watcher: &Watcher, generation: Generation) -> bool {
    [
        watcher.try_changed().map(drop),
        watcher.acknowledge(generation),
        watcher.set_tracking(false),
    ]
    .into_iter()
    .all(|result| result.is_err_and(|error| error.is_forked()))
}

/// By the system call: the C library's generator is memory that is copied, too.
fn random() -> Result<u64, std::io::Error> {
    Ok(u64::from_ne_bytes(sysgenid::entropy::array()?))
}

/// As the SDK's own: not 0 here, and 0 in a child if the kernel does as it is told.
fn emptied_page() -> Result<&'static AtomicU64, std::io::Error> {
    const LENGTH: usize = 4096;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: The kernel chooses the place, and nothing else is there. It is never unmapped.
    let page = unsafe {
        let page = mmap_anonymous(ptr::null_mut(), LENGTH, access, MapFlags::PRIVATE)?;
        madvise(page, LENGTH, Advice::LinuxWipeOnFork)?;
        &*page.cast::<AtomicU64>()
    };
    page.store(1, Ordering::Relaxed);
    Ok(page)
}
