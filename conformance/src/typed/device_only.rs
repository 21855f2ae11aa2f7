// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What only the kernel driver has: capabilities. And what it lacks.

use rustix::thread::CapabilitySet;

use super::Subject;
use crate::capability::keep;
use crate::cases;

cases! { Subject;
    trigger_without_capability_is_a_permission_error,
    stragglers_are_unsupported,
}

/// And it changes nothing.
fn trigger_without_capability_is_a_permission_error(subject: &Subject) {
    let watcher = subject.watcher();
    let mut orchestrator = subject.orchestrator();
    keep(CapabilitySet::empty());
    let error = orchestrator.trigger().unwrap_err();
    assert!(error.is_permission(), "{error}");
    assert_eq!(watcher.try_changed().unwrap(), None);
}

/// The driver does not name those who hold up a wait, and the error says so.
fn stragglers_are_unsupported(subject: &Subject) {
    let error = subject.orchestrator().stragglers().unwrap_err();
    assert!(error.is_unsupported(), "{error}");
}
