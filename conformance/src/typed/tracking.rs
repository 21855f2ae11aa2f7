// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who is waited for, and until when.

use sysgenid::Settled;

use super::Subject;
use super::subject::catch_up;
use crate::background::{Background, PATIENCE};
use crate::cases;
use crate::child::{Child, Role};

cases! { Subject;
    tracked_watcher_is_waited_for,
    close_ends_a_wait_for_it,
    death_of_a_process_ends_a_wait_for_it,
    last_of_several_watchers_ends_the_wait,
}

/// From the change until it acknowledges; a watcher is tracked unless it is asked not to be.
fn tracked_watcher_is_waited_for(subject: &Subject) {
    let watcher = subject.watcher();
    subject.expect_settled("it is up to date");
    subject.change();
    subject.expect_unsettled("it is outdated");
    catch_up(&watcher);
    subject.expect_settled("it has acknowledged");
}

/// Who has gone holds nobody up.
fn close_ends_a_wait_for_it(subject: &Subject) {
    let straggler = subject.straggler();
    let wait = wait_in_background(subject);
    wait.expect_blocked("a tracked watcher is outdated");
    drop(straggler);
    wait.finish("it is closed").unwrap();
}

/// A killed process is gone like any other.
fn death_of_a_process_ends_a_wait_for_it(subject: &Subject) {
    let child = Child::start_on(Role::HoldWatcher, subject.path());
    assert_eq!(child.said(), "ok");
    subject.change();
    let wait = wait_in_background(subject);
    wait.expect_blocked("a process holds a tracked watcher that is outdated");
    drop(child);
    wait.finish("the process is dead").unwrap();
}

/// The last one, not the first.
fn last_of_several_watchers_ends_the_wait(subject: &Subject) {
    let (first, second) = (subject.watcher(), subject.watcher());
    subject.change();
    let waits = [wait_in_background(subject), wait_in_background(subject)];
    catch_up(&first);
    waits[0].expect_blocked("one watcher is outdated");
    catch_up(&second);
    for wait in waits {
        wait.finish("no tracked watcher is outdated").unwrap();
    }
}

pub(super) fn wait_in_background(subject: &Subject) -> Background<sysgenid::Result<Settled>> {
    let orchestrator = subject.orchestrator();
    Background::start(move || orchestrator.wait_for_watchers(PATIENCE))
}
