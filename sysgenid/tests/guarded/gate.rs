// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use sysgenid::testing::Restores;
use sysgenid::{Gate, Orchestrator, ProcessWide, RestoreOnly, Watcher};

use crate::world::make_hazy;

#[test]
fn it_is_closed_from_the_change_on_until_that_was_handled() {
    let world = Restores::new();
    let gate = Gate::with_witness(&world);
    gate.check().unwrap().check().unwrap();

    world.restore();
    assert!(!gate.is_open());
    assert!(gate.check().is_err());
    let mark = gate.mark();
    assert!(!gate.is_open(), "to begin is not to have handled it");
    assert!(gate.open(mark));
    gate.check().unwrap().check().unwrap();
}

#[test]
fn a_closed_one_is_closed_until_it_is_opened() {
    static GATE: Gate<RestoreOnly<ProcessWide>> =
        Gate::closed_with_witness(RestoreOnly(ProcessWide));
    assert!(!GATE.is_open());
    assert!(GATE.open(GATE.mark()));
    assert!(GATE.is_open());
    assert!(!Gate::closed().is_open());
}

#[test]
fn a_change_during_the_handling_keeps_it_closed() {
    let world = Restores::new();
    let gate = Gate::with_witness(&world);
    world.restore();
    let mark = gate.mark();
    world.restore();
    assert!(!gate.open(mark));
    assert!(!gate.is_open());
    // That what was refused is not remembered, either.
    world.restore_to(1);
    assert!(!gate.is_open());
    world.restore_to(2);
    assert!(gate.open(gate.mark()));
}

#[test]
fn a_pass_tells_of_a_change_since() {
    let world = Restores::new();
    let gate = Gate::with_witness(&world);
    let pass = gate.check().unwrap();
    world.restore();
    assert!(pass.check().is_err());
    assert!(gate.open(gate.mark()));
    assert!(pass.check().is_err(), "it is of before");
    gate.check().unwrap().check().unwrap();
}

#[test]
fn a_glance_that_tells_nothing_closes_nothing() {
    let world = Restores::new();
    make_hazy(&world);
    let gate = Gate::with_witness(&world);
    gate.check().unwrap().check().unwrap();
}

/// A program without threads that are told, over a real broker.
#[test]
fn a_restore_closes_it_and_what_handles_it_opens_it() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
    let watcher = Watcher::open_at(folder.path()).unwrap();
    let gate = Gate::with_witness(watcher.probe().unwrap());
    assert!(gate.is_open());
    Orchestrator::open_at(folder.path())
        .unwrap()
        .trigger()
        .unwrap();
    assert!(!gate.is_open());
    let mark = gate.mark();
    let generation = watcher.try_changed().unwrap().unwrap();
    watcher.acknowledge(generation).unwrap();
    assert!(gate.open(mark));
}

/// Counts how often it was woken, and tells.
struct Bell(AtomicU32, mpsc::Sender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
        let _ = self.1.send(());
    }
}

fn bell() -> (Arc<Bell>, mpsc::Receiver<()>) {
    let (ring, rung) = mpsc::channel();
    (Arc::new(Bell(AtomicU32::new(0), ring)), rung)
}

#[test]
fn who_waits_is_woken_when_it_opens() {
    let world = Restores::new();
    let gate = Arc::new(Gate::closed_with_witness(world.clone()));
    let (bell, rung) = bell();
    let waker = Waker::from(Arc::clone(&bell));
    let mut context = Context::from_waker(&waker);
    let mut opened = pin!(gate.opened());
    assert!(opened.as_mut().poll(&mut context).is_pending());
    assert!(opened.as_mut().poll(&mut context).is_pending());

    let opener = {
        let gate = Arc::clone(&gate);
        thread::spawn(move || gate.open(gate.mark()))
    };
    rung.recv().unwrap();
    assert!(opener.join().unwrap());
    assert_eq!(opened.as_mut().poll(&mut context), Poll::Ready(()));
    assert_eq!(bell.0.load(SeqCst), 1, "once, however often it was polled");
}

#[test]
fn who_no_longer_waits_is_not_woken() {
    let gate = Gate::closed_with_witness(Restores::new());
    let (bell, _rung) = bell();
    let waker = Waker::from(Arc::clone(&bell));
    let mut context = Context::from_waker(&waker);
    {
        let mut opened = pin!(gate.opened());
        assert!(opened.as_mut().poll(&mut context).is_pending());
    }
    // The gate keeps nothing of it.
    drop(waker);
    assert_eq!(Arc::strong_count(&bell), 1);
    gate.open(gate.mark());
    assert_eq!(bell.0.load(SeqCst), 0);
}

#[test]
fn an_open_one_is_not_waited_for() {
    let gate = Gate::with_witness(Restores::new());
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(gate.opened()).poll(&mut context).is_ready());
}
