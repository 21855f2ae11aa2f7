// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A source that appears after the process was set up. The test runs a child process, because a
//! process is set up only once.
#![cfg(all(target_os = "linux", feature = "rng"))]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, fs, thread};

use sysgenid::rand_core::Rng;
use sysgenid::{Guarded, ProcessWide, SOURCE_VARIABLE, Witness};
use sysgenid_sys::page::CounterPageMut;

/// Longer than the time between two looks.
const A_WHILE: Duration = Duration::from_millis(1200);

/// The page that is to appear, in the process that it appears to.
const CHILD: &str = "SYSGENID_TEST_CHILD";

#[test]
fn a_draw_notices_a_source_that_appears_and_a_bare_get_does_not() {
    const NAME: &str = "a_draw_notices_a_source_that_appears_and_a_bare_get_does_not";
    if let Some(page) = env::var_os(CHILD) {
        notice(Path::new(&page));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page");
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(SOURCE_VARIABLE, &page)
        .env(CHILD, &page)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("noticed"),
        "{child:?}"
    );
}

fn notice(page: &Path) {
    let mut count = 0;
    let mut counted = Guarded::unwiped(move |_generation| {
        count += 1;
        Ok(count)
    });
    assert_eq!(*counted.get().unwrap(), 1);
    assert!(!ProcessWide.shows_restores());

    // It has the same number as a process without a source.
    let new = page.with_extension("new");
    fs::write(&new, [0; 4096]).unwrap();
    fs::rename(&new, page).unwrap();
    thread::sleep(A_WHILE);
    assert_eq!(*counted.get().unwrap(), 1, "a get looked, and is slow");
    sysgenid::rng().next_u32();
    assert_eq!(*counted.get().unwrap(), 2, "the source is a change");
    assert!(ProcessWide.shows_restores());
    assert_eq!(
        sysgenid::protection().sources().next().unwrap().path(),
        page
    );

    let page = fs::File::options()
        .read(true)
        .write(true)
        .open(page)
        .unwrap();
    let page = CounterPageMut::map(&page).unwrap();
    page.store(1);
    assert_eq!(*counted.get().unwrap(), 3);
    println!("noticed");
}
