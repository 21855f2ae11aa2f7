// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guarded secrets over a page that the test writes.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sysgenid::{Generation, Guarded, Probe};
use sysgenid_sys::page::CounterPageMut;
use tempfile::TempDir;

struct Page {
    folder: TempDir,
    counter: CounterPageMut,
}

impl Page {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        std::fs::write(&path, [0; 4096]).unwrap();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        Self {
            folder,
            counter: CounterPageMut::map(&file).unwrap(),
        }
    }

    fn probe(&self) -> Probe {
        Probe::open_at(self.folder.path().join("page")).unwrap()
    }

    fn bump(&self) {
        self.counter.store(self.counter.load().wrapping_add(1));
    }
}

/// A guard whose value is the generation it was built for, and the number of builds.
fn counted(page: &Page) -> (Guarded<Generation>, Arc<AtomicU32>) {
    let builds = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&builds);
    let guarded = Guarded::new(page.probe(), move |generation| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok::<_, io::Error>(generation)
    });
    (guarded, builds)
}

#[test]
fn it_is_built_once_in_a_generation() {
    let page = Page::new();
    let (mut guarded, builds) = counted(&page);
    assert_eq!(
        builds.load(Ordering::Relaxed),
        0,
        "nothing is built before the first use"
    );
    for _ in 0..3 {
        assert_eq!(*guarded.get().unwrap(), Generation::new(0));
    }
    assert_eq!(builds.load(Ordering::Relaxed), 1);

    page.bump();
    assert_eq!(*guarded.get().unwrap(), Generation::new(1));
    assert_eq!(builds.load(Ordering::Relaxed), 2);
}

#[test]
fn a_generation_that_goes_back_is_a_change() {
    let page = Page::new();
    page.counter.store(u32::MAX);
    let (mut guarded, builds) = counted(&page);
    guarded.get().unwrap();
    page.bump();
    assert_eq!(*guarded.get().unwrap(), Generation::new(0));
    assert_eq!(builds.load(Ordering::Relaxed), 2);
}

#[test]
fn a_result_that_was_computed_across_a_change_is_not_returned() {
    let page = Page::new();
    let (mut guarded, _) = counted(&page);
    let mut runs = 0;
    let used = guarded
        .with(|value| {
            runs += 1;
            if runs == 1 {
                page.bump();
            }
            *value
        })
        .unwrap();
    assert_eq!((used, runs), (Generation::new(1), 2));
}

#[test]
fn a_generation_that_never_rests_is_a_typed_error() {
    let page = Page::new();
    let (mut guarded, _) = counted(&page);
    let error = guarded.with(|_| page.bump()).unwrap_err();
    assert!(error.is_unsettled(), "{error:?}");
    assert!(guarded.with(|value| *value).is_ok(), "and it recovers");
}

#[test]
fn a_change_during_the_build_builds_again() {
    let page = Arc::new(Page::new());
    let (bumper, left) = (Arc::clone(&page), AtomicU32::new(2));
    let mut guarded = Guarded::new(page.probe(), move |generation| {
        let again = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if again.is_ok() {
            bumper.bump();
        }
        Ok::<_, io::Error>(generation)
    });
    assert_eq!(*guarded.get().unwrap(), Generation::new(2));
}

#[test]
fn a_failed_rebuild_leaves_no_old_value() {
    let page = Page::new();
    let mut build = 0;
    let mut guarded = Guarded::new(page.probe(), move |_| {
        build += 1;
        if build == 2 {
            Err(io::Error::other("no entropy"))
        } else {
            Ok(build)
        }
    });
    assert_eq!(*guarded.get().unwrap(), 1);
    page.bump();
    let error = guarded.get().unwrap_err();
    assert!(error.is_rebuild());
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "no entropy");
    // Back in the generation of the first build: its value would be taken for a current one.
    page.counter.store(0);
    assert_eq!(*guarded.get().unwrap(), 3);
    assert!(format!("{guarded:?}").contains("Generation(0)"));
}

#[test]
fn a_panicking_rebuild_leaves_no_old_value() {
    let page = Page::new();
    let (dropped, counter) = drop_counter();
    let mut builds = 0;
    let mut guarded = Guarded::new(page.probe(), move |_| {
        builds += 1;
        assert_ne!(builds, 2, "this build panics");
        Ok::<_, io::Error>(Dropped(Arc::clone(&counter)))
    });
    guarded.get().unwrap();
    page.bump();
    let panicked = catch_unwind(AssertUnwindSafe(|| guarded.get().map(drop)));
    assert!(panicked.is_err());
    assert_eq!(dropped.load(Ordering::Relaxed), 1, "the old value is gone");
    guarded.get().unwrap();
}

#[test]
fn debug_does_not_show_the_secret() {
    let page = Page::new();
    let mut guarded = Guarded::new(page.probe(), |_| Ok::<_, io::Error>("hunter2"));
    guarded.get().unwrap();
    assert!(!format!("{guarded:?}").contains("hunter2"));
}

#[test]
fn what_compute_returns_may_borrow_from_outside() {
    let page = Page::new();
    let (mut guarded, _) = counted(&page);
    let seen = Rc::new(Cell::new(0));
    guarded.with(|_| seen.set(seen.get() + 1)).unwrap();
    assert_eq!(seen.get(), 1);
}

struct Dropped(Arc<AtomicU32>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn drop_counter() -> (Arc<AtomicU32>, Arc<AtomicU32>) {
    let counter = Arc::new(AtomicU32::new(0));
    (Arc::clone(&counter), counter)
}
