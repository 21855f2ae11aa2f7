// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guards of every kind, with changes at every point at which they look at the world or let the
//! caller run.
//!
//! A script says what happens at each point. What the guard was told is written down, and whatever
//! it hands out is compared with that: a plain list, without any of the guards' logic.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proptest::prelude::*;
use sysgenid::testing::{Look, Restores};
use sysgenid::{
    BuildError, Generation, Guarded, Result, SharedGuarded, SharedReader, ThreadGuarded, Zeroize,
};

/// What happens at a point.
#[derive(Clone, Copy, Debug)]
enum Step {
    Nothing,
    /// The world has this number now; or one that is larger by this and one, if numbers only grow.
    Change(u32),
    /// If this is a glance, it tells nothing.
    Haze,
    /// If this is a build, it fails.
    Fail,
    /// If this is a build, a computation or a commit, it panics.
    Panic,
}

/// A panic on purpose.
struct OnPurpose;

#[derive(Debug, Default)]
struct State {
    /// Else a number may come again, and only whoever looked in between knows.
    grows: bool,
    script: std::collections::VecDeque<Step>,
    /// What the exact answers were.
    marks: Vec<u64>,
    /// The last answer, if it told anything.
    last: Option<u64>,
    values: Vec<Record>,
}

type Built = Result<Value, BuildError>;

/// What became of a value.
#[derive(Debug)]
struct Record {
    /// What it was built for.
    number: u64,
    /// How many marks there were by then, the one that it was built for included.
    marks: usize,
    wiped: u32,
    dropped: u32,
    /// It must not be used again: a computation that may change it panicked.
    is_gone: bool,
}

/// The number is the generation that is played.
#[derive(Clone, Debug)]
struct World {
    restores: Restores,
    state: Arc<Mutex<State>>,
}

impl World {
    fn new(script: Vec<Step>) -> Self {
        let state = State {
            script: script.into(),
            ..State::default()
        };
        let world = Self {
            restores: Restores::new(),
            state: Arc::new(Mutex::new(state)),
        };
        let state = Arc::downgrade(&world.state);
        world.restores.before_looks(move |restores, look| {
            if let Some(state) = state.upgrade() {
                let restores = restores.clone();
                Self { restores, state }.look(look);
            }
        });
        world
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A point. When the script is at its end, nothing more happens.
    fn step(&self) -> Step {
        let mut state = self.state();
        let step = state.script.pop_front().unwrap_or(Step::Nothing);
        if let Step::Change(number) = step {
            let generation = self.restores.generation();
            self.restores.restore_to(match state.grows {
                true => u32::try_from(generation).unwrap() + 1 + number,
                false => number,
            });
        }
        step
    }

    /// What happens just before a look, and what that is told.
    fn look(&self, look: Look) {
        let step = self.step();
        let number = self.restores.generation().get();
        let mut state = self.state();
        state.last = Some(number);
        match (look, step) {
            (Look::Glance, Step::Haze) => {
                state.last = None;
                self.restores.blur();
            }
            (Look::Glance, _) => {}
            _ => state.marks.push(number),
        }
    }

    fn build(&self, generation: Generation) -> Built {
        let before = self.step();
        match (before, self.step()) {
            (Step::Fail, _) | (_, Step::Fail) => return Err("on purpose".into()),
            (Step::Panic, _) | (_, Step::Panic) => resume_unwind(Box::new(OnPurpose)),
            _ => {}
        }
        let mut state = self.state();
        let marks = state.marks.len();
        assert_eq!(state.marks.last(), Some(&generation.get()));
        state.values.push(Record {
            number: generation.get(),
            marks,
            wiped: 0,
            dropped: 0,
            is_gone: false,
        });
        Ok(Value {
            id: state.values.len() - 1,
            world: self.clone(),
        })
    }

    /// A value may be used, or what comes of it handed out: the guard has just looked, and it, or
    /// another before, was never told otherwise.
    fn check(&self, id: usize) {
        let state = self.state();
        let value = &state.values[id];
        assert!(!value.is_gone, "it was to be thrown away");
        assert_eq!((value.wiped, value.dropped), (0, 0), "it is wiped");
        let since = &state.marks[value.marks - 1..];
        assert!(
            since.iter().all(|mark| *mark == value.number),
            "it was seen to be outdated: {since:?}"
        );
        assert_eq!(state.last, Some(value.number), "nobody looked");
    }
}

struct Value {
    id: usize,
    world: World,
}

impl Zeroize for Value {
    fn zeroize(&mut self) {
        self.world.state().values[self.id].wiped += 1;
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.world.state().values[self.id].dropped += 1;
    }
}

#[derive(Clone, Copy, Debug)]
enum Use {
    Get,
    With,
    Transaction,
}

/// What all the guards have in common.
trait Guard {
    /// Whether a computation may change the value.
    const IS_OWNER: bool;

    /// Where there is such a thing.
    fn get(&mut self) -> Option<Result<usize>> {
        None
    }

    fn transaction(
        &mut self,
        prepare: impl FnMut(&Value) -> usize,
        commit: impl FnOnce(usize) -> usize,
    ) -> Result<usize>;
}

impl<B: FnMut(Generation) -> Built> Guard for Guarded<Value, Restores, B> {
    const IS_OWNER: bool = true;

    fn get(&mut self) -> Option<Result<usize>> {
        Some(self.get().map(|value| value.id))
    }

    fn transaction(
        &mut self,
        mut prepare: impl FnMut(&Value) -> usize,
        commit: impl FnOnce(usize) -> usize,
    ) -> Result<usize> {
        self.transaction(|value| prepare(value), commit)
    }
}

impl<B: FnMut(Generation) -> Built> Guard for &ThreadGuarded<Value, Restores, B> {
    const IS_OWNER: bool = true;

    fn transaction(
        &mut self,
        mut prepare: impl FnMut(&Value) -> usize,
        commit: impl FnOnce(usize) -> usize,
    ) -> Result<usize> {
        ThreadGuarded::transaction(self, |value| prepare(value), commit)
    }
}

impl<B: Fn(Generation) -> Built> Guard for &SharedGuarded<Value, Restores, B> {
    const IS_OWNER: bool = false;

    fn transaction(
        &mut self,
        prepare: impl FnMut(&Value) -> usize,
        commit: impl FnOnce(usize) -> usize,
    ) -> Result<usize> {
        SharedGuarded::transaction(self, prepare, commit)
    }
}

impl<B: Fn(Generation) -> Built> Guard for SharedReader<'_, Value, Restores, B> {
    const IS_OWNER: bool = false;

    fn get(&mut self) -> Option<Result<usize>> {
        Some(self.get().map(|value| value.id))
    }

    fn transaction(
        &mut self,
        prepare: impl FnMut(&Value) -> usize,
        commit: impl FnOnce(usize) -> usize,
    ) -> Result<usize> {
        self.transaction(prepare, commit)
    }
}

/// Uses a value once, and checks what comes of it.
fn use_once<G: Guard>(world: &World, guard: &mut G, how: Use) {
    // What an earlier use looked at does not count.
    world.state().last = None;
    let (mut attempts, mut commits) = (0, 0);
    let builds = world.state().values.len();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if let (Use::Get, Some(outcome)) = (how, guard.get()) {
            return outcome.inspect(|id| world.check(*id));
        }
        let prepare = |value: &Value| {
            world.check(value.id);
            attempts += 1;
            let steps = [world.step(), world.step()];
            // The guard looks again, or it is not handed out.
            world.state().last = None;
            assert_eq!(world.state().values[value.id].wiped, 0, "wiped in its use");
            if steps.iter().any(|step| matches!(step, Step::Panic)) {
                world.state().values[value.id].is_gone |= G::IS_OWNER;
                resume_unwind(Box::new(OnPurpose));
            }
            value.id
        };
        let commit = |id| {
            world.check(id);
            commits += 1;
            if matches!((how, world.step()), (Use::Transaction, Step::Panic)) {
                resume_unwind(Box::new(OnPurpose));
            }
            id
        };
        guard.transaction(prepare, commit)
    }));
    assert!(attempts <= 4, "{attempts} attempts");
    // Four for each attempt, for the value that replaces an overtaken one, and at the end.
    let builds = world.state().values.len() - builds;
    assert!(builds <= 32, "{builds} builds");
    match outcome {
        Ok(Ok(_)) => assert_eq!(commits, u32::from(attempts > 0)),
        Ok(Err(error)) => {
            assert!(error.is_rebuild() || error.is_unsettled(), "{error}");
            assert_eq!(commits, 0, "it failed and was committed");
        }
        Err(panic) if panic.is::<OnPurpose>() => assert!(commits <= 1),
        Err(panic) => resume_unwind(panic),
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => Just(Step::Nothing),
        4 => (0_u32..3).prop_map(Step::Change),
        2 => Just(Step::Haze),
        1 => Just(Step::Fail),
        1 => Just(Step::Panic),
    ];
    prop::collection::vec(step, 0..160)
}

fn uses() -> impl Strategy<Value = Vec<(usize, Use)>> {
    let how = prop_oneof![Just(Use::Get), Just(Use::With), Just(Use::Transaction)];
    prop::collection::vec((0_usize..3, how), 1..24)
}

/// Every value that was built is wiped once, and then dropped.
fn check_end(world: &World) {
    for value in &world.state().values {
        assert_eq!((value.wiped, value.dropped), (1, 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn owned_guard_hands_out_what_it_may(script in steps(), uses in uses()) {
        let world = World::new(script);
        let build = world.clone();
        let mut guard = Guarded::with_witness(world.restores.clone(), move |generation| build.build(generation));
        for (_, how) in uses {
            use_once(&world, &mut guard, how);
        }
        drop(guard);
        check_end(&world);
    }

    #[test]
    fn guard_of_a_thread_hands_out_what_it_may(script in steps(), uses in uses()) {
        let world = World::new(script);
        let build = world.clone();
        let guard = ThreadGuarded::with_witness(world.restores.clone(), move |generation| build.build(generation));
        for (_, how) in uses {
            use_once(&world, &mut &guard, how);
        }
        drop(guard);
        check_end(&world);
    }

    #[test]
    fn shared_guard_and_its_readers_hand_out_what_they_may(script in steps(), uses in uses()) {
        let world = World::new(script);
        // What one user has seen, another may not know.
        world.state().grows = true;
        let build = world.clone();
        let guard = SharedGuarded::with_witness(world.restores.clone(), move |generation| build.build(generation));
        {
            let (mut one, mut other) = (guard.reader(), guard.reader());
            for (user, how) in uses {
                match user {
                    0 => use_once(&world, &mut &guard, how),
                    1 => use_once(&world, &mut one, how),
                    _ => use_once(&world, &mut other, how),
                }
            }
        }
        drop(guard);
        check_end(&world);
    }
}
