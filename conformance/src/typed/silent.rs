// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What becomes of the SDK's calls on a driver that tells nothing but what it has to, as the shipped
//! ones.

use sysgenid::Source;

use super::Subject;
use super::subject::catch_up;
use crate::background::PATIENCE;
use crate::cases;

cases! { Subject;
    stragglers_are_unsupported,
    status_is_the_generation_and_what_the_node_tells,
}

/// An error of its own, and not an empty list: nobody must think that all have acknowledged.
fn stragglers_are_unsupported(subject: &Subject) {
    let _straggler = subject.straggler();
    let error = subject.orchestrator().stragglers().unwrap_err();
    assert!(error.is_unsupported(), "{error}");
    assert!(error.to_string().contains("fuser"), "{error}");
}

/// The dialect shows in what the node refuses. The rest is not made up.
fn status_is_the_generation_and_what_the_node_tells(subject: &Subject) {
    let watcher = subject.watcher();
    let generation = subject.change();
    let source = Source::at(subject.path()).unwrap();
    let status = source.status(PATIENCE).unwrap();
    assert_eq!(status.generation, generation);
    assert_eq!(status.dialect, Some(subject.dialect()));
    assert_eq!((status.watchers, status.backend), (None, None));
    catch_up(&watcher);
    subject.change();
    catch_up(&watcher);
    subject.expect_settled("who asked has left no watcher");
}
