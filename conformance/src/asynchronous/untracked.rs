// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who is woken and not waited for.

use sysgenid::Source;
use sysgenid_tokio::Watcher;

use super::runtime::{expect_pending, handle_change, in_each_runtime};
use crate::cases;
use crate::typed::Subject;

cases! { Subject;
    untracked_watcher_is_woken_and_holds_nobody_up,
}

fn untracked_watcher_is_woken_and_holds_nobody_up(subject: &Subject) {
    in_each_runtime(async || {
        let options = sysgenid::Watcher::options().tracked(false);
        let source = Source::at(subject.path()).unwrap();
        let watcher = Watcher::open_on(options, source).await.unwrap();
        for _ in 0..3 {
            expect_pending(watcher.changed(), "the generation has not changed").await;
            subject.change();
            subject.expect_settled("nobody is tracked");
            handle_change(&watcher, "the generation changed").await;
        }
    });
}
