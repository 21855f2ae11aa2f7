// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `mmap`: the page that shows the counter.

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use super::Node;
use super::mapping::{Mapping, Request};
use crate::cases;

cases! { Node;
    page_shows_the_generation_at_once,
    page_is_the_same_for_all,
    page_holds_nothing_but_the_counter,
    map_works_on_a_read_only_descriptor,
    map_may_be_private,
    map_of_up_to_a_page_is_accepted,
    map_of_more_than_a_page_is_einval,
    map_at_an_offset_is_einval,
    map_for_writing_is_eperm,
    map_made_writable_later_is_eacces,
    map_outlives_the_descriptor,
    map_keeps_a_tracked_watcher,
    map_is_filled_at_once,
    map_is_left_out_of_core_dumps,
    map_that_was_dropped_comes_back,
}

/// When the trigger has returned, whoever looks sees the new counter, without a system call; and
/// it is what `read` returns.
fn page_shows_the_generation_at_once(node: &Node) {
    let watcher = node.open();
    let page = Mapping::new(&watcher, Request::default()).expect("the page can be mapped");
    for _ in 0..100 {
        let before = page.load();
        let trigger = node.open();
        assert_eq!(trigger.trigger(0), Ok(()));
        assert_eq!(page.load(), before + 1);
        assert_eq!(watcher.read(), Ok(before + 1));
    }
}

/// It belongs to the device, not to the open file or the process.
fn page_is_the_same_for_all(node: &Node) {
    let pages: Vec<_> = (0..3)
        .map(|_| Mapping::new(node.open(), Request::default()).expect("the page can be mapped"))
        .collect();
    let generation = node.bump();
    for page in pages {
        assert_eq!(page.load(), generation);
    }
}

/// The rest is zero: nothing of the kernel's memory is shown.
fn page_holds_nothing_but_the_counter(node: &Node) {
    let request = Request {
        length: 4096,
        ..Request::default()
    };
    let page = Mapping::new(node.open(), request).expect("the page can be mapped");
    node.bump();
    for offset in 4..4096 {
        assert_eq!(page.byte(offset), 0, "at {offset}");
    }
}

/// A probe needs no write access.
fn map_works_on_a_read_only_descriptor(node: &Node) {
    let page = Mapping::new(node.open_read_only(), Request::default()).expect("it can be mapped");
    let generation = node.bump();
    assert_eq!(page.load(), generation);
}

/// A private mapping that cannot be written shows the same page.
fn map_may_be_private(node: &Node) {
    let request = Request {
        flags: MapFlags::PRIVATE,
        ..Request::default()
    };
    let page = Mapping::new(node.open(), request).expect("it can be mapped privately");
    let generation = node.bump();
    assert_eq!(page.load(), generation);
}

/// Any length from 1 to 4096.
fn map_of_up_to_a_page_is_accepted(node: &Node) {
    for length in [1, 2, 3, 4, 5, 8, 2048, 4095, 4096] {
        let request = Request {
            length,
            ..Request::default()
        };
        let page = Mapping::new(node.open(), request);
        let page = page.unwrap_or_else(|errno| panic!("{length} bytes: {errno}"));
        let generation = node.bump();
        assert_eq!(page.load(), generation, "{length} bytes");
    }
}

/// There is one page.
fn map_of_more_than_a_page_is_einval(node: &Node) {
    for length in [4097, 8192, 1 << 20] {
        let request = Request {
            length,
            ..Request::default()
        };
        assert_eq!(
            error_of(node, request),
            Some(Errno::INVAL),
            "{length} bytes"
        );
    }
}

/// And it begins at 0.
fn map_at_an_offset_is_einval(node: &Node) {
    for offset in [4096, 8192, 1 << 30] {
        let request = Request {
            offset,
            ..Request::default()
        };
        assert_eq!(
            error_of(node, request),
            Some(Errno::INVAL),
            "offset {offset}"
        );
    }
}

/// Nobody writes the counter but the driver. A private copy that can be written would be one that
/// does not show changes.
fn map_for_writing_is_eperm(node: &Node) {
    for flags in [MapFlags::SHARED, MapFlags::PRIVATE] {
        for protection in [ProtFlags::WRITE, ProtFlags::READ | ProtFlags::WRITE] {
            let request = Request {
                protection,
                flags,
                ..Request::default()
            };
            assert_eq!(error_of(node, request), Some(Errno::PERM), "{request:?}");
        }
    }
}

/// The access that was refused is not to be had by way of `mprotect`.
fn map_made_writable_later_is_eacces(node: &Node) {
    for flags in [MapFlags::SHARED, MapFlags::PRIVATE] {
        let request = Request {
            flags,
            ..Request::default()
        };
        let page = Mapping::new(node.open(), request).expect("it can be mapped");
        let writable = MprotectFlags::READ | MprotectFlags::WRITE;
        assert_eq!(page.protect(writable), Err(Errno::ACCESS), "{flags:?}");
        assert_eq!(page.protect(MprotectFlags::READ), Ok(()), "{flags:?}");
    }
}

/// Open, map, close: how a probe is made.
fn map_outlives_the_descriptor(node: &Node) {
    let watcher = node.open();
    let page = Mapping::new(&watcher, Request::default()).expect("it can be mapped");
    drop(watcher);
    let generation = node.bump();
    assert_eq!(page.load(), generation);
}

/// A mapping is a reference to the open file, so a tracked watcher stays one after its descriptor
/// is closed: others wait for it until it is unmapped.
fn map_keeps_a_tracked_watcher(node: &Node) {
    let watcher = node.open();
    watcher.ensure_tracked();
    let page = Mapping::new(&watcher, Request::default()).expect("it can be mapped");
    drop(watcher);
    node.bump();
    assert_eq!(node.open().wait(1), Err(Errno::TIME), "it is mapped");
    drop(page);
    assert_eq!(node.open().wait(1), Ok(()), "it is unmapped");
}

/// The first look is a load and not a fault, which could fail or sleep.
fn map_is_filled_at_once(node: &Node) {
    for flags in [MapFlags::SHARED, MapFlags::PRIVATE] {
        let request = Request {
            flags,
            ..Request::default()
        };
        let page = Mapping::new(node.open(), request).expect("it can be mapped");
        assert!(page.is_resident(), "{flags:?}");
    }
}

/// A core dump has no use for the page, which is the same in every process.
fn map_is_left_out_of_core_dumps(node: &Node) {
    let page = Mapping::new(node.open(), Request::default()).expect("it can be mapped");
    let flags = page.vm_flags();
    assert!(flags.iter().any(|flag| flag == "dd"), "{flags:?}");
}

/// `madvise` empties any mapping that it can, and the next look fills it again.
fn map_that_was_dropped_comes_back(node: &Node) {
    let page = Mapping::new(node.open(), Request::default()).expect("it can be mapped");
    page.discard().expect("the page can be dropped");
    assert!(!page.is_resident());
    let generation = node.bump();
    assert_eq!(page.load(), generation);
    assert!(page.is_resident());
}

fn error_of(node: &Node, request: Request) -> Option<Errno> {
    Mapping::new(node.open(), request).err()
}
