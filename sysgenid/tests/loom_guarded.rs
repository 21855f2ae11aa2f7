// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guards, in every order of steps and with every value that the memory model allows:
//! `RUSTFLAGS="--cfg sysgenid_loom" cargo test --release -p sysgenid --test 'loom*' --target-dir target/loom`
//!
//! The place that threads share (`sysgenid_sys::internal::published`) has models of its own, and is
//! replaced by a stand-in with the same promises (`src/hold/published.rs`). A panic cannot be modelled, because loom would change
//! threads in the middle of it: `tests/guarded` has panics, with real threads.
#![cfg(all(target_os = "linux", sysgenid_loom))]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};

use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread::{self, JoinHandle};
use sysgenid::{
    BuildError, Gate, Generation, Guarded, SharedGuarded, Uniqueness, Witness, Zeroize,
};

/// Tries all orders with up to this many preemptions. Faults of a protocol need few, and with three
/// threads all there are would take days.
fn model(preemptions: usize, scene: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(scene);
}

/// What changes, and what the change does to the world around.
struct World {
    counter: AtomicU64,
    /// Set before the counter changes, as a kernel is reseeded.
    before: AtomicU64,
    /// Set after it: what can only be seen in the new generation.
    after: AtomicU64,
    /// Counts builds. Not loom's: it takes no part in what is modelled.
    builds: AtomicU32,
}

/// Relaxed, as a probe looks at a page. It is not one of the worlds of `sysgenid::testing`, which looks
/// with stronger orders, at atomics that loom does not know.
#[derive(Clone)]
struct Eye(Arc<World>);

impl Witness for Eye {
    fn mark(&self) -> Uniqueness {
        Uniqueness::of(Generation::new(self.0.counter.load(Ordering::Relaxed)))
    }
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            counter: AtomicU64::new(0),
            before: AtomicU64::new(0),
            after: AtomicU64::new(0),
            builds: AtomicU32::new(0),
        })
    }

    fn change(&self) {
        self.before.store(1, Ordering::Relaxed);
        // As a page is written.
        self.counter.store(1, Ordering::Release);
        fence(Ordering::Release);
        self.after.store(1, Ordering::Relaxed);
    }

    fn build(&self, generation: Generation) -> Secret {
        self.builds.fetch_add(1, SeqCst);
        Secret {
            generation: generation.get(),
            entropy: self.before.load(Ordering::Relaxed),
            is_wiped: AtomicBool::new(false),
        }
    }
}

/// For what it was built, and of what.
struct Secret {
    generation: u64,
    entropy: u64,
    is_wiped: AtomicBool,
}

impl Zeroize for Secret {
    fn zeroize(&mut self) {
        self.is_wiped.store(true, SeqCst);
    }
}

type Build = Box<dyn Fn(Generation) -> Result<Secret, BuildError> + Send + Sync>;
type Shared = Arc<SharedGuarded<Secret, Eye, Build>>;

fn shared(world: &Arc<World>) -> Shared {
    let eye = Eye(Arc::clone(world));
    let build = eye.clone();
    let build: Build = Box::new(move |generation| Ok(build.0.build(generation)));
    Arc::new(SharedGuarded::with_witness(eye, build))
}

fn changer(world: &Arc<World>) -> JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || world.change())
}

/// Looks at the world, uses the value, and checks that it is of that world or a newer one: at the
/// value itself, and at what was computed.
fn compute(world: &World, seen: u64, secret: &Secret) -> (u64, u64) {
    assert!(seen <= secret.generation, "an old value was used");
    assert!(
        secret.generation <= secret.entropy,
        "a value of what was there before the change"
    );
    // Here others run.
    let now = world.after.load(Ordering::Relaxed);
    assert!(!secret.is_wiped.load(SeqCst), "wiped while it is in use");
    (secret.generation, now)
}

fn check((generation, now): (u64, u64)) {
    assert!(
        now <= generation,
        "the result was computed across a change, and returned"
    );
}

#[test]
fn guarded_value_is_never_old() {
    model(4, || {
        let world = World::new();
        let eye = Eye(Arc::clone(&world));
        let build = eye.clone();
        let mut guarded =
            Guarded::with_witness(eye, move |generation| Ok(build.0.build(generation)));
        guarded.get().unwrap();
        let changer = changer(&world);
        for _ in 0..2 {
            let seen = world.after.load(Ordering::Acquire);
            check(
                guarded
                    .with(|secret| compute(&world, seen, secret))
                    .unwrap(),
            );
        }
        changer.join().unwrap();
    });
}

#[test]
fn shared_value_is_never_old() {
    model(2, || {
        let world = World::new();
        let guarded = shared(&world);
        guarded.with(|_| ()).unwrap();
        let changer = changer(&world);
        let user = {
            let (world, guarded) = (Arc::clone(&world), Arc::clone(&guarded));
            thread::spawn(move || use_shared(&world, &guarded))
        };
        use_shared(&world, &guarded);
        changer.join().unwrap();
        user.join().unwrap();
        use_shared(&world, &guarded);
        // The first, and one for the change.
        assert_eq!(world.builds.load(SeqCst), 2);
    });
}

fn use_shared(world: &World, guarded: &Shared) {
    let seen = world.after.load(Ordering::Acquire);
    check(guarded.with(|secret| compute(world, seen, secret)).unwrap());
}

#[test]
fn value_of_a_reader_is_never_old() {
    model(2, || {
        let world = World::new();
        let guarded = shared(&world);
        guarded.with(|_| ()).unwrap();
        let changer = changer(&world);
        let user = {
            let (world, guarded) = (Arc::clone(&world), Arc::clone(&guarded));
            thread::spawn(move || use_reader(&world, &guarded))
        };
        use_reader(&world, &guarded);
        changer.join().unwrap();
        user.join().unwrap();
    });
}

fn use_reader(world: &World, guarded: &Shared) {
    let mut reader = guarded.reader();
    reader.get().unwrap();
    let seen = world.after.load(Ordering::Acquire);
    check(reader.with(|secret| compute(world, seen, secret)).unwrap());
}

#[test]
fn first_use_builds_once() {
    model(2, || {
        let world = World::new();
        let guarded = shared(&world);
        let users = [(); 2].map(|()| {
            let guarded = Arc::clone(&guarded);
            thread::spawn(move || guarded.with(|secret| secret.generation).unwrap())
        });
        guarded.with(|_| ()).unwrap();
        for user in users {
            assert_eq!(user.join().unwrap(), 0);
        }
        assert_eq!(world.builds.load(SeqCst), 1);
    });
}

#[test]
fn failed_build_leaves_no_value() {
    model(2, || {
        let world = World::new();
        let eye = Eye(Arc::clone(&world));
        let build = eye.clone();
        let guarded = Arc::new(SharedGuarded::with_witness(eye, move |_| {
            match build.0.builds.fetch_add(1, SeqCst) {
                1 => Err("no entropy".into()),
                number => Ok(number),
            }
        }));
        assert_eq!(guarded.with(|value| *value).unwrap(), 0);
        world.change();
        let use_it = {
            let guarded = Arc::clone(&guarded);
            move || match guarded.with(|value| *value) {
                Ok(value) => assert_eq!(value, 2, "the one of the build that succeeded"),
                Err(error) => assert!(error.is_rebuild()),
            }
        };
        let users = [(); 2].map(|()| thread::spawn(use_it.clone()));
        for user in users {
            user.join().unwrap();
        }
        assert_eq!(guarded.with(|value| *value).unwrap(), 2);
        assert_eq!(world.builds.load(SeqCst), 3);
    });
}

/// A gate over a world, and what its handler rebuilds.
struct Handled {
    world: Arc<World>,
    gate: Gate<Eye>,
    /// The generation that was rebuilt for.
    rebuilt: AtomicU64,
}

impl Handled {
    fn new() -> Arc<Self> {
        let world = World::new();
        Arc::new(Self {
            gate: Gate::with_witness(Eye(Arc::clone(&world))),
            rebuilt: AtomicU64::new(0),
            world,
        })
    }

    fn handle(&self) {
        let mark = self.gate.mark();
        self.rebuilt
            .store(mark.generation().get(), Ordering::Relaxed);
        self.gate.open(mark);
    }

    /// What is given away is of the rebuilt and of one generation.
    fn serve(&self) {
        let seen = self.world.after.load(Ordering::Acquire);
        let Ok(pass) = self.gate.check() else {
            return;
        };
        let rebuilt = self.rebuilt.load(Ordering::Relaxed);
        assert!(seen <= rebuilt, "let in before it was rebuilt");
        let now = self.world.after.load(Ordering::Relaxed);
        if pass.check().is_ok() {
            assert!(now <= rebuilt, "served across a change");
        }
    }
}

/// The release of what `open` stores and the acquire of what a look loads have each a fence and an access:
/// either of the two alone would do, because a mark that is old or torn only closes the gate.
#[test]
fn gate_lets_nobody_in_before_the_change_is_handled() {
    model(2, || {
        let scene = Handled::new();
        let changer = changer(&scene.world);
        let handler = {
            let scene = Arc::clone(&scene);
            thread::spawn(move || scene.handle())
        };
        scene.serve();
        scene.serve();
        changer.join().unwrap();
        handler.join().unwrap();
        scene.serve();
        scene.handle();
        assert!(scene.gate.is_open());
        scene.serve();
    });
}

/// Tells whether it was woken.
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn who_waits_for_a_gate_is_woken_or_finds_it_open() {
    model(2, || {
        let world = World::new();
        let gate = Arc::new(Gate::closed_with_witness(Eye(world)));
        let opener = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || assert!(gate.open(gate.mark())))
        };
        let bell = Arc::new(Bell(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&bell));
        let mut opened = std::pin::pin!(gate.opened());
        let poll = opened.as_mut().poll(&mut Context::from_waker(&waker));
        opener.join().unwrap();
        assert!(poll.is_ready() || bell.0.load(SeqCst), "it waits for ever");
        assert!(gate.is_open());
    });
}
