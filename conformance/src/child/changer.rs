// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::time::Instant;

use rustix::process::{Signal, set_parent_process_death_signal};
use sysgenid_sys::page::CounterPageMut;

/// Changes the page a million times a second until this process is killed, or its parent dies. What
/// it misses while others have the processor, it makes up for.
pub(super) fn change(path: &Path, started: impl FnOnce()) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let page = CounterPageMut::map(&file)?;
    let start = Instant::now();
    started();
    loop {
        let due = u32::try_from(start.elapsed().as_micros()).map_err(io::Error::other)?;
        while page.load() < due {
            // As the broker does it.
            page.store(page.load() + 1);
        }
        std::hint::spin_loop();
    }
}
