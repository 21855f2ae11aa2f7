// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a source says of itself without a watcher.

use sysgenid::Source;

use super::Subject;
use super::subject::catch_up;
use crate::background::PATIENCE;
use crate::cases;

cases! { Subject;
    status_shows_the_generation,
}

/// And asking is no change.
fn status_shows_the_generation(subject: &Subject) {
    let watcher = subject.watcher();
    let generation = subject.change();
    catch_up(&watcher);
    let source = Source::at(subject.path()).unwrap();
    for _ in 0..2 {
        assert_eq!(source.status(PATIENCE).unwrap().generation, generation);
    }
    assert_eq!(watcher.try_changed().unwrap(), None);
    subject.expect_settled("who asks is no watcher");
}
