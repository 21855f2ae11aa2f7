// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The device's attributes in sysfs, against what the node says.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::OFlags;
use rustix::io::Errno;
use sysgenid_sys::abi::Dialect;

use super::Node;
use super::mapping::{Mapping, Request};
use crate::cases;

cases! { Node;
    attributes_are_one_line_that_all_may_read,
    attributes_cannot_be_written,
    dialect_attribute_is_what_the_node_speaks,
    backend_attribute_is_one_that_there_is,
    generation_attribute_follows_changes,
    watchers_attribute_counts_open_files,
    tracked_and_outdated_attributes_follow_a_watcher,
}

const NAMES: [&str; 6] = [
    "dialect",
    "generation",
    "watchers",
    "tracked_watchers",
    "outdated_watchers",
    "backend",
];

impl Node {
    fn attribute(&self, name: &str) -> String {
        let path = self.sysfs().join(name);
        let text = fs::read_to_string(&path);
        text.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The attribute as a number.
    pub(crate) fn number(&self, name: &str) -> u32 {
        let text = self.attribute(name);
        let number = text.trim_end().parse();
        number.unwrap_or_else(|error| panic!("{name}: {text:?}: {error}"))
    }
}

/// Numbers of watchers are no secret, and a monitor has no rights.
fn attributes_are_one_line_that_all_may_read(node: &Node) {
    for name in NAMES {
        let path = node.sysfs().join(name);
        let metadata = fs::metadata(&path).expect("the attribute is there");
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o444, "{name}");
        let text = node.attribute(name);
        assert_eq!(text.find('\n'), Some(text.len() - 1), "{name}: {text:?}");
    }
}

/// By root neither.
fn attributes_cannot_be_written(node: &Node) {
    for name in NAMES {
        let before = node.attribute(name);
        let path = node.sysfs().join(name);
        let written = rustix::fs::open(&path, OFlags::WRONLY, rustix::fs::Mode::empty())
            .and_then(|file| rustix::io::write(&file, b"1"));
        assert!(
            matches!(written, Err(Errno::ACCESS | Errno::IO | Errno::INVAL)),
            "{name}: {written:?}"
        );
        assert_eq!(node.attribute(name), before, "{name}");
    }
}

/// It is for those who may not write to the node, and so cannot tell.
fn dialect_attribute_is_what_the_node_speaks(node: &Node) {
    let expected = match node.dialect() {
        Dialect::V5 => "v5\n",
        _ => "v6\n",
    };
    assert_eq!(node.attribute("dialect"), expected);
}

/// Which one is right depends on the kernel; a restore tells whether it works.
fn backend_attribute_is_one_that_there_is(node: &Node) {
    let backend = node.attribute("backend");
    assert!(
        ["vmfork\n", "acpi\n", "trigger\n"].contains(&backend.as_str()),
        "{backend:?}"
    );
}

/// It is the page's, as a number without a sign.
fn generation_attribute_follows_changes(node: &Node) {
    for _ in 0..3 {
        let generation = node.bump();
        assert_eq!(node.number("generation"), generation);
        assert_eq!(node.generation(), generation);
    }
}

/// An open file counts once, however many descriptors and mappings it has.
fn watchers_attribute_counts_open_files(node: &Node) {
    let before = node.number("watchers");
    let (first, second) = (node.open(), node.open_read_only());
    assert_eq!(node.number("watchers"), before + 2);
    let duplicate = first.duplicate();
    let page = Mapping::new(&first, Request::default()).expect("it can be mapped");
    assert_eq!(node.number("watchers"), before + 2);
    drop(second);
    assert_eq!(node.number("watchers"), before + 1);
    drop((first, duplicate));
    assert_eq!(node.number("watchers"), before + 1, "it is mapped");
    drop(page);
    assert_eq!(node.number("watchers"), before);
}

/// From the change until the acknowledgement; and who is closed is not counted.
fn tracked_and_outdated_attributes_follow_a_watcher(node: &Node) {
    let counts = || {
        (
            node.number("tracked_watchers"),
            node.number("outdated_watchers"),
        )
    };
    let before = counts();
    let watcher = node.open();
    watcher.ensure_tracked();
    assert_eq!(counts(), (before.0 + 1, before.1));
    node.bump();
    assert_eq!(counts(), (before.0 + 1, before.1 + 1));
    watcher.catch_up();
    assert_eq!(counts(), (before.0 + 1, before.1));
    node.bump();
    drop(watcher);
    assert_eq!(counts(), before);
}
