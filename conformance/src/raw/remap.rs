// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `mremap`: the page may move, and does not grow.

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags};

use super::Node;
use super::mapping::{Mapping, Request};
use crate::cases;

cases! { Node;
    remap_beyond_the_page_is_efault,
    remap_of_a_second_copy_is_efault,
    remap_to_another_place_shows_the_generation,
    remap_within_the_page_shows_the_generation,
    remap_makes_nothing_writable,
    remapped_page_keeps_a_tracked_watcher,
}

const BOTH: [MapFlags; 2] = [MapFlags::SHARED, MapFlags::PRIVATE];

/// `mmap` refused more than a page, and there is no other way to have it: what lies behind the page
/// is not the client's to see.
fn remap_beyond_the_page_is_efault(node: &Node) {
    for flags in BOTH {
        let mut page = map(node, flags);
        for length in [4097, 8192, 1 << 20] {
            assert_eq!(page.resize(length), Err(Errno::FAULT), "{length} {flags:?}");
        }
        let generation = node.bump();
        assert_eq!(page.load(), generation, "it stays where it was");
    }
}

/// With an old length of 0, `mremap` is asked for a second mapping, of any length.
fn remap_of_a_second_copy_is_efault(node: &Node) {
    let page = map(node, MapFlags::SHARED);
    for length in [4096, 8192] {
        assert_eq!(page.twin(length).err(), Some(Errno::FAULT), "{length}");
    }
}

/// An allocator or a checkpoint tool may move what it finds.
fn remap_to_another_place_shows_the_generation(node: &Node) {
    for flags in BOTH {
        let mut page = map(node, flags);
        page.relocate().expect("it may move");
        let generation = node.bump();
        assert_eq!(page.load(), generation, "{flags:?}");
    }
}

/// Lengths are rounded up to pages, so within one nothing changes.
fn remap_within_the_page_shows_the_generation(node: &Node) {
    let mut page = map(node, MapFlags::SHARED);
    for length in [4096, 1, 4095] {
        page.resize(length).expect("it is the same page");
        let generation = node.bump();
        assert_eq!(page.load(), generation, "{length} bytes");
    }
}

/// Where it was moved to, the access that was refused is refused still.
fn remap_makes_nothing_writable(node: &Node) {
    for flags in BOTH {
        let mut page = map(node, flags);
        page.relocate().expect("it may move");
        let writable = MprotectFlags::READ | MprotectFlags::WRITE;
        assert_eq!(page.protect(writable), Err(Errno::ACCESS), "{flags:?}");
    }
}

/// It is the same reference to the open file, and there is one of it.
fn remapped_page_keeps_a_tracked_watcher(node: &Node) {
    let watcher = node.open();
    watcher.ensure_tracked();
    let mut page = Mapping::new(&watcher, Request::default()).expect("it can be mapped");
    drop(watcher);
    page.relocate().expect("it may move");
    node.bump();
    assert_eq!(node.open().wait(1), Err(Errno::TIME), "it is mapped");
    drop(page);
    assert_eq!(node.open().wait(1), Ok(()), "it is unmapped");
}

fn map(node: &Node, flags: MapFlags) -> Mapping {
    let request = Request {
        flags,
        ..Request::default()
    };
    Mapping::new(node.open(), request).expect("it can be mapped")
}
