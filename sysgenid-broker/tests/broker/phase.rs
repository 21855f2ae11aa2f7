// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The phase, and the watchers that park.

use sysgenid_broker::spawn;
use sysgenid_sys::wire::{Answer, Awaited, OPEN_PARKS, OPEN_TRACKED, Op, Phase};

use crate::client::{Client, Watcher};

fn parking(dir: &std::path::Path) -> Watcher {
    Watcher::open(dir, OPEN_TRACKED | OPEN_PARKS, 0)
}

#[test]
fn a_phase_reaches_the_watchers_that_park_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let parks = parking(broker.dir());
    let runs_on = Watcher::tracked(broker.dir());
    let running = control.status();
    assert_eq!((running.phase, running.unparked), (Phase::Running, 0));

    let reply = control.set_phase(Phase::Quiesce);
    assert_eq!(
        (reply.answer, reply.phase, reply.parking, reply.unparked),
        (Answer::Ok, Phase::Quiesce, 1, 1)
    );
    assert_ne!(reply.phase_number, running.phase_number);
    let notice = parks.read_notice().expect("before the reply");
    assert_eq!(
        (notice.phase, notice.phase_number, notice.generation),
        (Phase::Quiesce, reply.phase_number, 0)
    );
    assert!(!runs_on.is_readable());
    assert_eq!(control.status().outdated, 0, "no generation has changed");

    let again = control.set_phase(Phase::Quiesce);
    assert_eq!(again.phase_number, reply.phase_number);
    assert!(!parks.is_readable(), "the phase has not changed");
}

#[test]
fn a_wait_for_the_phase_ends_when_all_that_park_have_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut waiter = Client::watch(broker.dir());
    let mut first = parking(broker.dir());
    let mut second = parking(broker.dir());
    let _untracked = Watcher::open(broker.dir(), OPEN_PARKS, 0);
    let _runs_on = Watcher::tracked(broker.dir());
    assert_eq!(waiter.wait(0, Awaited::Phase).answer, Answer::Ok);

    let number = control.set_phase(Phase::Quiesce).phase_number;
    assert_eq!(waiter.wait(0, Awaited::Phase).answer, Answer::Pending);
    first.client.send(Op::AcknowledgePhase, [number, 0]);
    second
        .client
        .send(Op::AcknowledgePhase, [number.wrapping_sub(1), 0]);
    assert!(waiter.is_quiet(), "one of them was stale");
    assert_eq!(control.status().unparked, 1);
    second.client.send(Op::AcknowledgePhase, [number, 0]);
    let done = waiter.reply();
    assert_eq!((done.answer, done.unparked), (Answer::Ok, 0));
}

#[test]
fn a_wait_for_a_phase_that_has_passed_is_outdated() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut waiter = Client::watch(broker.dir());
    let _slow = parking(broker.dir());
    control.set_phase(Phase::Quiesce);
    assert_eq!(waiter.wait(0, Awaited::Phase).answer, Answer::Pending);
    control.set_phase(Phase::Running);
    let ended = waiter.reply();
    assert_eq!(
        (ended.answer, ended.phase),
        (Answer::Outdated, Phase::Running)
    );
}

#[test]
fn a_watcher_that_has_not_parked_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut first = parking(broker.dir());
    let second = parking(broker.dir());
    let _runs_on = Watcher::tracked(broker.dir());
    let number = control.set_phase(Phase::Quiesce).phase_number;
    let named = |control: &mut Client| {
        let page = control.stragglers_for(Awaited::Phase, 0);
        assert_eq!(page.answer, Answer::Ok);
        let numbers = page.filled().iter().map(|it| it.watcher);
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(named(&mut control), [first.number(), second.number()]);
    let rest = control.stragglers_for(Awaited::Phase, first.number());
    assert_eq!(rest.count, 1);
    assert_eq!(rest.filled()[0].pid, std::process::id());
    assert_eq!(control.stragglers(0).count, 0, "of the generation");
    first.client.send(Op::AcknowledgePhase, [number, 0]);
    assert_eq!(named(&mut control), [second.number()]);
}

#[test]
fn a_change_of_the_generation_during_a_phase_reaches_a_watcher_that_parks() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut parks = parking(broker.dir());
    let number = control.set_phase(Phase::Quiesce).phase_number;
    // It reads the notice of the phase and parks, which acknowledges no generation.
    assert!(parks.read_notice().is_some());
    parks.client.send(Op::AcknowledgePhase, [number, 0]);
    control.trigger(0);
    let notice = parks.read_notice().expect("a notice of the change");
    assert_eq!((notice.generation, notice.phase), (1, Phase::Quiesce));
    let status = control.status();
    assert_eq!((status.outdated, status.unparked), (1, 0));
    parks.acknowledge(1).unwrap();

    // A watcher that acknowledges the generation does not lose a change of the phase either.
    control.trigger(0);
    let next = control.set_phase(Phase::Running).phase_number;
    parks.acknowledge(2).unwrap();
    parks.wait_readable();
    let notice = parks.read_notice().unwrap();
    assert_eq!((notice.phase, notice.phase_number), (Phase::Running, next));
    let status = control.status();
    assert_eq!((status.outdated, status.unparked), (0, 1));
}

#[test]
fn a_watcher_that_is_opened_during_a_phase_must_acknowledge_it() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let number = control.set_phase(Phase::Quiesce).phase_number;
    let mut late = parking(broker.dir());
    assert_eq!(late.opened.unparked, 1);
    late.wait_readable();
    let notice = late.read_notice().expect("at once");
    assert_eq!(
        (notice.phase, notice.phase_number),
        (Phase::Quiesce, number)
    );
    late.client.send(Op::AcknowledgePhase, [number, 0]);
    assert_eq!(control.status().unparked, 0);
    drop(late);
    control.set_phase(Phase::Running);
    let next = parking(broker.dir());
    assert_eq!(next.opened.unparked, 0, "while all run there is nothing");
    assert!(!next.is_readable());
}
