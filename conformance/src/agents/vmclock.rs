// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent in the machines with QEMU's own vmclock, which `cargo xtask vm vmclock` restores: it
//! says what the page holds, at first and after the restore.

use std::error::Error;
use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFlags;
use sysgenid::{Observer, Probe, Source, Watcher};

use super::Result;
use crate::raw::vmclock::Clock;

/// How long the restore may take to be announced. The guest's CPU is emulated.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the agent until the host says that it may end.
///
/// # Errors
///
/// If a node cannot be used, or the host says something else.
pub fn run(vmclock: &Path, sysgenid: &Path) -> Result<()> {
    let clock = Clock::open(vmclock)?;
    let watcher = Watcher::open_at(sysgenid)?;
    let report = |word| {
        let page = clock.read()?;
        let sources = sysgenid::protection().sources().map(Source::path);
        let sources: Vec<_> = sources.map(Path::to_string_lossy).collect();
        let hung_up = clock.events() == PollFlags::HUP;
        println!(
            "{word} magic={:#x} version={} size={} flags={:#x} seq={} marker={} counter={} \
             poll={} generation={} probe={} observer={} sources={}",
            page.magic,
            page.version,
            page.size,
            page.flags,
            page.seq_count,
            page.disruption_marker,
            page.generation_counter,
            if hung_up { "hup" } else { "other" },
            watcher.generation(),
            refusal(Probe::open_at(vmclock)),
            refusal(Observer::open_at(vmclock)),
            sources.join(","),
        );
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    };
    report("ready")?;
    for line in std::io::stdin().lock().lines() {
        match line?.trim() {
            // It does not ask the clock for that, which tells nobody.
            "restored" => {
                watcher.handle(PATIENCE, |_generation| Ok::<_, std::io::Error>(()))?;
                report("report")?;
            }
            "finish" => return Ok(()),
            other => return Err(format!("the host says {other:?}").into()),
        }
    }
    Err("the host has gone".into())
}

/// What the SDK says to the use of the clock, in a word.
fn refusal<T>(opened: sysgenid::Result<T>) -> &'static str {
    match opened {
        Ok(_) => "opened",
        Err(error) if error.is_unsupported() && error.to_string().contains("QEMU") => "uncounted",
        Err(_) => "failed",
    }
}
