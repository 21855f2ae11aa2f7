// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a test plays in place of what a process can know. Nothing of this exists without the
//! feature `testing`.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use sysgenid_sys::abi::PAGE_LEN;
use sysgenid_sys::internal::counters::UNSET;
use sysgenid_sys::internal::fork;
use sysgenid_sys::page::CounterPageMut;

use crate::base::Generation;
use crate::base::error::{Error, Kind, Result};
use crate::check::{Uniqueness, Witness};
use crate::source::Source;

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
    /// As a driver's counter, which wraps.
    generation: AtomicU32,
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
    /// Held while the generation is changed.
    shown: Mutex<Shown>,
    /// For a module above that keeps one of something for a process, and here one for the world.
    room: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
}

/// Where those see a change who wait for one.
#[derive(Default)]
struct Shown {
    page: Option<Page>,
    bells: Vec<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl Shown {
    fn ring(&mut self) {
        self.bells.retain(|bell| bell());
    }
}

/// A page file in memory.
struct Page {
    file: OwnedFd,
    counter: CounterPageMut,
}

impl Page {
    fn new(generation: u32) -> Result<Self> {
        let call = |call| move |errno| Error::call(call, errno);
        let file = memfd_create("sysgenid-testing", MemfdFlags::CLOEXEC);
        let file = file.map_err(call("memfd_create"))?;
        ftruncate(&file, PAGE_LEN as u64).map_err(call("ftruncate"))?;
        let counter = CounterPageMut::map(&file).map_err(|error| Error::io("mmap", &error))?;
        counter.store(generation);
        Ok(Self { file, counter })
    }

    fn store(&self, generation: u32) {
        self.counter.store(generation);
    }

    /// Valid in this process, and in its forked children, as long as this is there.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
            generation: AtomicU32::new(0),
            fork: AtomicU32::new(0),
            has_source: AtomicBool::new(has_source),
            is_blurred: AtomicBool::new(false),
            is_acting: AtomicBool::new(false),
            act: RwLock::new(None),
            shown: Mutex::default(),
            room: Mutex::default(),
        }
    }

    pub(crate) fn generation(&self) -> Generation {
        // Acquire, both: their partners are the stores below. A source's look is weaker, so a test
        // that needs the weaker one takes a `Probe`.
        if self.has_source.load(Ordering::Acquire) {
            Generation::from(self.generation.load(Ordering::Acquire))
        } else {
            Generation::new(0)
        }
    }

    pub(crate) fn restore(&self) {
        self.change(|generation| generation.wrapping_add(1));
    }

    pub(crate) fn restore_to(&self, generation: u32) {
        self.change(|_| generation);
    }

    fn change(&self, next: impl Fn(u32) -> u32) {
        let mut shown = lock(&self.shown);
        let old = self.generation.load(Ordering::Relaxed);
        self.generation.store(next(old), Ordering::Release);
        if let Some(page) = &shown.page {
            page.store(next(old));
        }
        shown.ring();
    }

    /// A number for a fork, or for what a process assumes by itself.
    pub(crate) fn fork(&self) {
        static LAST: AtomicU32 = AtomicU32::new(0);

        self.fork.store(next(&LAST), Ordering::Release);
    }

    /// As a process does it: a first source counts as a change.
    pub(crate) fn appear(&self) {
        let mut shown = lock(&self.shown);
        if !self.has_source.swap(true, Ordering::AcqRel) {
            self.fork();
            shown.ring();
        }
    }

    /// A real source that shows the generation: a page that only this process has.
    pub(crate) fn source(&self) -> Result<Source> {
        let mut shown = lock(&self.shown);
        self.verify()?;
        let page = match shown.page.take() {
            Some(page) => page,
            None => Page::new(self.generation.load(Ordering::Relaxed))?,
        };
        Source::at(shown.page.insert(page).path())
    }

    /// Has `bell` rung after each change until it returns false: for those who wait.
    pub(crate) fn ring_after_changes(&self, bell: impl Fn() -> bool + Send + Sync + 'static) {
        lock(&self.shown).bells.push(Box::new(bell));
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

/// Each is equal to itself only.
impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for World {}

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
        // The number of looks is to be the same in each run, whatever the process did before.
        self.seen(match fork::glance() {
            0 => fork::current(),
            number => number,
        })
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

/// `work`, in the world that this thread is in: for a thread that this crate starts for a caller.
pub(crate) fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let world = here();
    move || {
        let _entered = world.as_ref().map(enter);
        work()
    }
}

/// What the world that this thread is in keeps one of; `None` outside.
pub(crate) fn room<T: Default + Send + Sync + 'static>() -> Option<Arc<T>> {
    let world = here()?;
    let mut room = lock(&world.room);
    let room = room.get_or_insert_with(|| Arc::new(T::default()));
    Arc::clone(room).downcast().ok()
}

/// Where something was registered that is the process's: in a world, or outside of all.
#[derive(Debug)]
pub(crate) struct Home(Option<u32>);

impl Home {
    pub(crate) fn here() -> Self {
        Self(here().map(|world| world.number))
    }

    /// Whether this thread has to do with it: what is registered outside is every world's.
    pub(crate) fn is_near(&self) -> bool {
        self.0.is_none() || self.0 == Self::here().0
    }
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
