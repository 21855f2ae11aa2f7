// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `close`: with the last reference to the open file, the watcher is gone.

use rustix::io::Errno;

use super::Node;
use super::mapping::{Mapping, Request};
use crate::background::Background;
use crate::cases;
use crate::child::{Child, Role};

cases! { Node;
    close_ends_a_wait_for_it,
    close_of_a_duplicate_does_not_end_a_wait,
    unmap_ends_a_wait_for_it,
    death_of_a_process_ends_a_wait_for_it,
}

/// Who has gone holds nobody up.
fn close_ends_a_wait_for_it(node: &Node) {
    let (first, second) = (node.open_straggler(), node.open_straggler());
    let orchestrator = node.open();
    let wait = Background::start(move || orchestrator.wait(0));
    drop(first);
    wait.expect_blocked("another tracked watcher is outdated");
    drop(second);
    assert_eq!(wait.finish("the last one is closed"), Ok(()));
}

/// It was not the last reference.
fn close_of_a_duplicate_does_not_end_a_wait(node: &Node) {
    let straggler = node.open_straggler();
    let duplicate = straggler.duplicate();
    drop(straggler);
    assert_eq!(node.open().wait(1), Err(Errno::TIME));
    drop(duplicate);
    assert_eq!(node.open().wait(1), Ok(()));
}

/// If the mapping is the last reference, unmapping is the close.
fn unmap_ends_a_wait_for_it(node: &Node) {
    let straggler = node.open_straggler();
    let page = Mapping::new(&straggler, Request::default()).expect("it can be mapped");
    drop(straggler);
    let orchestrator = node.open();
    let wait = Background::start(move || orchestrator.wait(0));
    wait.expect_blocked("the mapping keeps the watcher");
    drop(page);
    assert_eq!(wait.finish("the last reference is gone"), Ok(()));
}

/// A killed process closes its descriptors like any other.
fn death_of_a_process_ends_a_wait_for_it(node: &Node) {
    let child = Child::start(Role::Hold, node.open_straggler().into());
    assert_eq!(child.said(), "ok");
    let orchestrator = node.open();
    let wait = Background::start(move || orchestrator.wait(0));
    wait.expect_blocked("a process holds a tracked watcher that is outdated");
    drop(child);
    assert_eq!(wait.finish("the process is dead"), Ok(()));
}
