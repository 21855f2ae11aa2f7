// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where v6 differs from v5, besides tracking.

use rustix::io::Errno;

use super::Node;
use super::uevent::Listener;
use super::write::refuses_a_wrong_size;
use crate::cases;

cases! { Node;
    write_of_a_wrong_size_is_enobufs_and_changes_nothing,
    change_sends_no_uevent,
}

/// ENOBUFS tells this dialect from the older ones, so it is also the answer to no bytes at all.
fn write_of_a_wrong_size_is_enobufs_and_changes_nothing(node: &Node) {
    refuses_a_wrong_size(node, Errno::NOBUFS);
}

/// Who wants to be told opens the node. An event at each change would wake the device manager of
/// every clone at the moment when it has the most to do.
fn change_sends_no_uevent(node: &Node) {
    let listener = Listener::new(node);
    for _ in 0..3 {
        node.bump();
    }
    listener.expect_silence();
}
