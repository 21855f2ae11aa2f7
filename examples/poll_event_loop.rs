// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A single-threaded event loop answers requests on one descriptor, and replaces its token when
//! the watcher's descriptor says that the system was restored.
//!
//! Terminal 1: `sysgenid serve --dir /tmp/sysgenid`
//! Terminal 2: `export SYSGENID_SOURCE=/tmp/sysgenid`, then
//! `cargo run -p sysgenid-examples --example poll_event_loop`; each line typed is a request, and
//! the end of the input (Ctrl-D) ends the loop
//! Terminal 3: `SYSGENID_SOURCE=/tmp/sysgenid sysgenid trigger`
#![forbid(unsafe_code)]

use std::{error::Error, os::fd::AsFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sysgenid::Watcher;
use sysgenid_examples::random_id;

/// An example ends: after this long without a request or a change.
const PATIENCE: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

fn main() -> Result<(), Box<dyn Error>> {
    let (watcher, requests) = (Watcher::open()?, rustix::stdio::stdin());
    let mut token = random_id()?;
    println!("ready at generation {}", watcher.generation());
    loop {
        let mut fds =
            [watcher.as_fd(), requests].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut fds, Some(&PATIENCE)) {
            Ok(0) => return Err("nothing happened".into()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let [_, request] = fds.map(|fd| !fd.revents().is_empty());
        // The change before the request, so that no request is answered with the old token. A
        // wake-up may be spurious: this call decides.
        if let Some(generation) = watcher.try_changed()? {
            token = random_id()?;
            match watcher.acknowledge(generation) {
                Ok(()) => println!("generation {generation}: token replaced"),
                Err(error) if error.is_stale() => continue, // it moved again: readable still
                Err(error) => return Err(error.into()),
            }
        }
        if request {
            if rustix::io::read(requests, &mut [0_u8; 512])? == 0 {
                return Ok(());
            }
            println!("answered with token {token:016x}");
        }
    }
}
