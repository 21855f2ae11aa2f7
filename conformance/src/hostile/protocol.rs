// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets that the broker must not act on.

use sysgenid::Orchestrator;

use super::Subject;
use super::part::Part;
use super::scene::{PATIENCE, Scene};
use crate::cases;

cases! { Subject;
    packets_of_every_kind,
    a_forked_child_acknowledges_for_its_parent,
}

/// The broker refuses each, or closes its connection, and serves the others.
fn packets_of_every_kind(subject: &Subject) {
    let scene = Scene::start(subject);
    let mut attacker = scene.attack(Part::Packets);
    scene.expect_service();
    attacker.arrives(*PATIENCE);
    scene.expect_service();
    scene.finish([attacker]);
}

/// A child inherits the connection, and has not rebuilt its parent's state.
fn a_forked_child_acknowledges_for_its_parent(subject: &Subject) {
    let scene = Scene::start(subject);
    let mut attacker = scene.attack(Part::ForkedAcknowledgement);
    let orchestrator = Orchestrator::open_at(scene.path()).expect("an orchestrator opens");
    let stragglers = || {
        let list = orchestrator.stragglers().expect("the owner may list them");
        list.iter().map(|it| it.pid).collect::<Vec<_>>()
    };
    let (generation, _) = scene.trigger();
    assert_eq!(stragglers(), [Some(attacker.id())]);
    attacker.go_on(generation);
    assert_eq!(
        stragglers(),
        [Some(attacker.id())],
        "the watcher is outdated still"
    );
    drop(orchestrator);
    scene.expect_service();
    scene.finish([attacker]);
}
