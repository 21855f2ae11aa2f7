// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What every kernel driver has: descriptors of its own.

use rustix::fs::OFlags;

use super::runtime::{expect_pending, handle_change, in_each_runtime, register};
use crate::cases;
use crate::typed::{Subject, open_node};

cases! { Subject;
    watcher_made_of_an_outdated_descriptor_is_woken_again,
}

/// On the shipped drivers a descriptor that was outdated when it was added to an event loop is
/// never reported again. A watcher adds it anew once it has acknowledged.
fn watcher_made_of_an_outdated_descriptor_is_woken_again(subject: &Subject) {
    in_each_runtime(async || {
        let file = open_node(subject, OFlags::RDWR | OFlags::NONBLOCK);
        subject.change();
        let watcher = register(sysgenid::Watcher::from_fd(file).unwrap());
        for round in 0..4 {
            handle_change(&watcher, &format!("round {round}")).await;
            expect_pending(watcher.changed(), "it has acknowledged").await;
            subject.change();
        }
    });
}
