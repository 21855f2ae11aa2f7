// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A generator of a process whose source is a page file. Alone in its program, which changes its
//! environment.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::fs::{File, OpenOptions};
use std::io::Read;

use chacha20::ChaCha12Rng;
use rustix::process::{Pid, WaitOptions, waitpid};
use sysgenid::rand_core::TryRng;
use sysgenid::{ProcessWide, RestoreOnly, SnapshotSafeRng};
use sysgenid_sys::page::CounterPageMut;

/// A fork stands in for the restore: it copies the memory, and the generator is told to look at
/// restores alone.
#[test]
fn copies_draw_alike_until_the_page_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    std::fs::write(&path, [0; 4096]).unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let page = CounterPageMut::map(&file).unwrap();
    // SAFETY: No other test runs in this program, and the harness reads no environment meanwhile.
    unsafe { std::env::set_var(sysgenid::SOURCE_VARIABLE, &path) };

    let witness = RestoreOnly(ProcessWide);
    let mut rng = SnapshotSafeRng::<ChaCha12Rng, _>::new(witness).unwrap();
    rng.try_next_u64().unwrap();
    for change in [false, true, false, true] {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        // SAFETY: The child draws, writes to a pipe and leaves.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let mut start = [0];
            let _ = rustix::io::read(&reader, &mut start);
            let drawn = rng.try_next_u64().unwrap_or_default();
            std::fs::write(folder.path().join("drawn"), drawn.to_ne_bytes()).unwrap();
            // SAFETY: It ends the process.
            unsafe { libc::_exit(0) };
        }
        if change {
            page.store(page.load() + 1);
        }
        rustix::io::write(&writer, &[1]).unwrap();
        waitpid(Pid::from_raw(child), WaitOptions::empty()).unwrap();
        let mut theirs = [0; 8];
        File::open(folder.path().join("drawn"))
            .unwrap()
            .read_exact(&mut theirs)
            .unwrap();
        let ours = rng.try_next_u64().unwrap();
        assert_eq!(u64::from_ne_bytes(theirs) != ours, change);
    }
}
