// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clients outside the broker's namespaces, where their processes or users have no number.

use sysgenid::{Orchestrator, Watcher};

use super::Subject;
use super::scene::{PATIENCE, Scene, Setting};
use crate::cases;

cases! { Subject;
    a_broker_in_another_pid_namespace,
    root_outside_the_brokers_user_namespace,
}

/// The kernel gives the process of such a client the number 0.
fn a_broker_in_another_pid_namespace(subject: &Subject) {
    let setting = Setting {
        pid_namespace: true,
        ..Setting::default()
    };
    let scene = Scene::start_with(subject, setting);
    scene.expect_service();
    let watcher = Watcher::open_at(scene.path()).expect("a watcher opens");
    let orchestrator = Orchestrator::open_at(scene.path()).expect("an orchestrator opens");
    orchestrator.trigger().expect("the owner triggers");
    let generation = watcher
        .wait(*PATIENCE)
        .expect("the watcher sees the change");
    let stragglers = orchestrator.stragglers().expect("the owner may list them");
    assert_eq!(stragglers.len(), 1, "{stragglers:?}");
    assert_eq!(stragglers[0].pid, None, "{stragglers:?}");
    watcher.acknowledge(generation).expect("it acknowledges");
    orchestrator.acknowledge().expect("it acknowledges");
    orchestrator
        .wait_for_watchers(*PATIENCE)
        .expect("all have acknowledged");
    drop((watcher, orchestrator));
    scene.finish([]);
}

/// Root outside has no number in the namespace, so the kernel shows the broker the overflow user.
fn root_outside_the_brokers_user_namespace(subject: &Subject) {
    let setting = Setting {
        user_namespace: true,
        ..Setting::default()
    };
    let scene = Scene::start_with(subject, setting);
    let orchestrator = Orchestrator::open_at(scene.path()).expect("an orchestrator opens");
    if let Err(error) = orchestrator.trigger() {
        println!("# {error}");
        assert!(error.is_permission(), "{error}");
        assert!(!error.to_string().contains("has ended"), "{error}");
    }
    drop(orchestrator);
    // The owner is the broker's own user, whom the namespace has.
    scene.expect_service();
    scene.finish([]);
}
