// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Limits for each user on what the broker spends, with room kept for the owner.

use std::thread;
use std::time::{Duration, Instant};

use super::Subject;
use super::part::Part;
use super::scene::{Honest, Scene, Setting};
use super::widened;
use crate::cases;

cases! { Subject;
    silent_connections_use_up_the_descriptors,
    quadratic_requests,
    unread_descriptors,
    many_threads_of_connects,
}

/// A connection costs the broker a descriptor before the first request.
fn silent_connections_use_up_the_descriptors(subject: &Subject) {
    let scene = Scene::start(subject);
    let attacker = scene.attack(Part::Silent);
    println!("# {}", attacker.said());
    scene.expect_service();
    // If another program of the attacker's user is refused, the error gives the reason.
    let said = Honest::start(scene.path(), subject.attacker()).line();
    println!("# an honest program of the same user: {said}");
    for wrong in ["has ended", "no broker is running", "hangs"] {
        assert!(!said.contains(wrong), "the reason is not that: {said}");
    }
    scene.finish([attacker]);
}

/// A request that has the broker look through all outdated watchers costs the client a packet. The
/// processor time is printed, and bounded by a bench.
fn quadratic_requests(subject: &Subject) {
    let setting = Setting {
        files: 4096,
        ..Setting::default()
    };
    let scene = Scene::start_with(subject, setting);
    let mut attacker = scene.attack(Part::Quadratic);
    println!("# {} outdated watchers", attacker.said());
    let (generation, _) = scene.trigger();
    let before = scene.broker().processor_time();
    attacker.go_on(generation);
    let mut longest = Duration::ZERO;
    let mut answered = Ok(());
    let end = Instant::now() + widened(Duration::from_secs(30));
    while answered.is_ok() && !attacker.has_arrived() && Instant::now() < end {
        answered = scene
            .try_trigger()
            .map(|(_, took)| longest = longest.max(took));
        thread::sleep(Duration::from_millis(100));
    }
    let used = scene.broker().processor_time() - before;
    println!(
        "# {}; the broker used {used:?} until now, and answered its owner within {longest:?}",
        attacker.said()
    );
    answered.expect("the owner is answered meanwhile");
    scene.expect_service();
    scene.finish([attacker]);
}

/// The kernel counts descriptors that no client has received against the user that sent them, which
/// is the broker's user.
fn unread_descriptors(subject: &Subject) {
    let scene = Scene::start(subject);
    let mut attacker = scene.attack(Part::Unread);
    println!("# {}", attacker.said());
    scene.expect_service();
    attacker.go_on("");
    println!("# {}", attacker.said());
    scene.expect_service();
    scene.finish([attacker]);
}

/// Connections that come faster than they are accepted fill the queue, and `connect` fails for a
/// moment. An honest program gets through by trying again.
fn many_threads_of_connects(subject: &Subject) {
    let scene = Scene::start(subject);
    let attackers: Vec<_> = (0..8).map(|_| scene.attack(Part::Storm)).collect();
    for _ in 0..10 {
        drop(scene.honest());
    }
    scene.expect_service();
    scene.finish(attackers);
}
