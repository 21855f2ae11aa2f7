// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mapped counters.
#![cfg(target_os = "linux")]

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;

use sysgenid_sys::page::{CounterPage, CounterPageMut};

#[test]
fn a_store_is_seen_through_the_other_mapping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    std::fs::write(&path, [0; 4096]).unwrap();
    let writer = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let writer = CounterPageMut::map(&writer).unwrap();
    let reader = CounterPage::map(File::open(&path).unwrap()).unwrap();

    for generation in [1, u32::MAX, 0] {
        writer.store(generation);
        assert_eq!(reader.load(), u64::from(generation));
        assert_eq!(writer.load(), generation);
    }
}

#[test]
fn four_bytes_are_a_page_and_three_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    std::fs::write(&path, 7_u32.to_ne_bytes()).unwrap();
    assert_eq!(
        CounterPage::map(File::open(&path).unwrap()).unwrap().load(),
        7
    );

    for length in [0, 3] {
        std::fs::write(&path, &[0; 3][..length]).unwrap();
        let error = CounterPage::map(File::open(&path).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{length} bytes");
    }
}

#[test]
fn what_follows_the_counter_hides_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    std::fs::write(&path, [0xff; 4096]).unwrap();
    let writer = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let writer = CounterPageMut::map(&writer).unwrap();
    let reader = CounterPage::map(File::open(&path).unwrap()).unwrap();

    let mut seen = std::collections::HashSet::from([reader.load()]);
    for generation in [0, 1, u32::MAX - 1] {
        writer.store(generation);
        assert!(seen.insert(reader.load()), "{generation}");
        assert_eq!(reader.load_low(), generation);
    }
}

#[test]
fn a_counter_is_loaded_by_any_thread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    std::fs::write(&path, 7_u32.to_ne_bytes()).unwrap();
    let page = CounterPage::map(File::open(&path).unwrap()).unwrap();
    let moved = std::thread::spawn(move || {
        let shared = std::thread::scope(|scope| scope.spawn(|| page.load()).join().unwrap());
        (shared, page.load())
    });
    assert_eq!(moved.join().unwrap(), (7, 7));
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = CounterPage::map(File::open(folder.path()).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_read_only_file_cannot_be_mapped_for_writing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    std::fs::write(&path, [0; 4096]).unwrap();
    let error = CounterPageMut::map(File::open(&path).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}
