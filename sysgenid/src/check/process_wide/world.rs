// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a test plays in place of what a process can know. Nothing of this exists without the
//! feature `testing`.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sysgenid_sys::internal::counters::UNSET;
use sysgenid_sys::internal::fork;

use crate::base::Generation;
use crate::base::error::{Error, Kind, Result};
use crate::check::{Uniqueness, Witness};

/// How code looks at a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Look {
    /// A [glance](Witness::glance), which may leave everything open.
    Glance,
    /// The [mark](Witness::mark), which is exact.
    Mark,
}

type Act = dyn Fn(Look) + Send + Sync;

/// A generation and forks that a test changes. Real forks are seen as well.
pub(crate) struct World {
    /// No other world of this process has this number, and none has 0.
    number: u32,
    generation: AtomicU64,
    /// No other played fork of this process has this number, in whichever world; 0 before the
    /// first.
    fork: AtomicU32,
    /// Whether there is a source. Restores are played where there is none, and nothing shows them.
    has_source: AtomicBool,
    /// Whether the next glance tells nothing.
    is_blurred: AtomicBool,
    /// Whether `act` is there: what most looks need not lock anything for.
    is_acting: AtomicBool,
    /// Called before each look.
    act: RwLock<Option<Arc<Act>>>,
}

/// A number that the process has not had: Relaxed, because no other memory is published with it.
fn next(last: &AtomicU32) -> u32 {
    loop {
        match last.fetch_add(1, Ordering::Relaxed).wrapping_add(1) {
            0 => {}
            number => return number,
        }
    }
}

impl World {
    pub(crate) fn new(has_source: bool) -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);

        Self {
            number: next(&LAST),
            generation: AtomicU64::new(0),
            fork: AtomicU32::new(0),
            has_source: AtomicBool::new(has_source),
            is_blurred: AtomicBool::new(false),
            is_acting: AtomicBool::new(false),
            act: RwLock::new(None),
        }
    }

    pub(crate) fn generation(&self) -> Generation {
        // Acquire, both: their partners are the stores below. A source's look is weaker, so a test
        // that needs the weaker one takes a `Probe`.
        if self.has_source.load(Ordering::Acquire) {
            Generation::new(self.generation.load(Ordering::Acquire))
        } else {
            Generation::new(0)
        }
    }

    pub(crate) fn restore(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn restore_to(&self, generation: Generation) {
        self.generation.store(generation.get(), Ordering::Release);
    }

    /// A number for a fork, or for what a process assumes by itself.
    pub(crate) fn fork(&self) {
        static LAST: AtomicU32 = AtomicU32::new(0);

        self.fork.store(next(&LAST), Ordering::Release);
    }

    /// As a process does it: a first source counts as a change.
    pub(crate) fn appear(&self) {
        if !self.has_source.swap(true, Ordering::AcqRel) {
            self.fork();
        }
    }

    pub(crate) fn blur(&self) {
        self.is_blurred.store(true, Ordering::Release);
    }

    pub(crate) fn before_looks(&self, act: Arc<Act>) {
        let mut slot = self.act.write().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(act);
        self.is_acting.store(true, Ordering::Release);
    }

    fn act(&self, look: Look) {
        thread_local! {
            /// What `act` looks at itself does not call it again.
            static IS_ACTING: Cell<bool> = const { Cell::new(false) };
        }

        struct Ended;

        impl Drop for Ended {
            fn drop(&mut self) {
                IS_ACTING.set(false);
            }
        }

        if !self.is_acting.load(Ordering::Acquire) || IS_ACTING.replace(true) {
            return;
        }
        let _ended = Ended;
        let act = self.act.read().unwrap_or_else(PoisonError::into_inner);
        // Not under the lock: it may be replaced meanwhile, by itself too.
        let act = act.clone();
        if let Some(act) = act {
            act(look);
        }
    }

    fn seen(&self, fork: u32) -> Uniqueness {
        Uniqueness::new(self.generation().get(), 0, fork)
            .played(self.number, self.fork.load(Ordering::Acquire))
    }

    pub(super) fn verify(&self) -> Result<()> {
        if self.shows_restores() {
            Ok(())
        } else {
            Err(Error::new(Kind::Absent))
        }
    }
}

impl Witness for World {
    fn mark(&self) -> Uniqueness {
        self.act(Look::Mark);
        self.seen(fork::current())
    }

    fn glance(&self) -> Uniqueness {
        self.act(Look::Glance);
        if self.is_blurred.swap(false, Ordering::AcqRel) {
            // Of no world, so it equals no mark, whether forks count or not.
            return Uniqueness::new(UNSET, 0, 0);
        }
        self.seen(fork::glance())
    }

    fn shows_restores(&self) -> bool {
        self.has_source.load(Ordering::Acquire)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("number", &self.number)
            .field("generation", &self.generation().get())
            .finish_non_exhaustive()
    }
}

thread_local! {
    /// The worlds that this thread is in; the last one counts.
    static HERE: RefCell<Vec<(u32, Arc<World>)>> = const { RefCell::new(Vec::new()) };
}

/// The world that this thread is in. `None` outside; and for the destructors at a thread's end,
/// which then see something else than before, and so a change.
pub(crate) fn here() -> Option<Arc<World>> {
    let last = HERE.try_with(|worlds| {
        let worlds = worlds.try_borrow().ok()?;
        worlds.last().map(|(_, world)| Arc::clone(world))
    });
    last.ok().flatten()
}

/// A number for the forks that are played here; 0 before the first, and outside.
pub(crate) fn fork_here() -> u32 {
    here().map_or(0, |world| world.fork.load(Ordering::Acquire))
}

/// The thread is in the world until this is dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    turn: u32,
    /// It is this thread's.
    _not_send: PhantomData<*const ()>,
}

pub(crate) fn enter(world: &Arc<World>) -> Entered {
    static LAST: AtomicU32 = AtomicU32::new(0);

    let turn = next(&LAST);
    HERE.with_borrow_mut(|worlds| worlds.push((turn, Arc::clone(world))));
    Entered {
        turn,
        _not_send: PhantomData,
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // By its number, because scopes need not end in the order in which they began. What is
        // taken out is dropped after the borrow: it may run the test's code.
        let left = HERE.try_with(|worlds| {
            let mut worlds = worlds.borrow_mut();
            let place = worlds.iter().rposition(|(turn, _)| *turn == self.turn);
            place.map(|place| worlds.remove(place))
        });
        drop(left);
    }
}
