// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::future::Future;
use std::sync::Arc;

use super::{Around, Look};
use crate::base::Generation;
use crate::check::world::{Entered, World, enter};
use crate::check::{Uniqueness, Witness};

/// A world in which a test restores the system and forks the process.
///
/// It is a [`Witness`], for a guard that takes one. For code that uses the process-wide witness it is
/// what a [`scope`](Self::scope) shows. Clones are the same world.
///
/// ```
/// use sysgenid::testing::Restores;
///
/// let restores = Restores::new();
/// restores.run(|| {
///     let before = sysgenid::uniqueness();
///     assert_eq!(sysgenid::uniqueness(), before);
///     restores.restore();
///     assert_ne!(sysgenid::uniqueness(), before);
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Restores(Arc<World>);

impl Default for Restores {
    fn default() -> Self {
        Self::new()
    }
}

impl Restores {
    /// A world with a source, at generation 0. Nothing that was made outside of it is unique in it.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(World::new(true)))
    }

    /// A world without a source, as a machine without a driver: no restore is seen in it, `rng()`
    /// draws from the kernel, and [`ProcessWide::verify`](crate::ProcessWide::verify) fails. Forks
    /// are seen.
    ///
    /// ```
    /// let restores = sysgenid::testing::Restores::without_source();
    /// restores.run(|| {
    ///     let before = sysgenid::uniqueness();
    ///     restores.restore();
    ///     assert_eq!(sysgenid::uniqueness(), before, "nothing shows it");
    ///     assert!(sysgenid::ProcessWide.verify().unwrap_err().is_absent());
    ///     restores.appear();
    ///     assert!(sysgenid::ProcessWide.verify().is_ok());
    ///     assert_ne!(sysgenid::uniqueness(), before, "which counts as a change");
    /// });
    /// ```
    #[must_use]
    pub fn without_source() -> Self {
        Self(Arc::new(World::new(false)))
    }

    /// A source appears where there was none, which counts as a change. Does nothing if there is one.
    /// [`changes`](crate::changes) find it at their next search, as everywhere.
    pub fn appear(&self) {
        self.0.appear();
    }

    /// The system is restored: everything that was unique is not, and the generation is another one,
    /// which [`changes`](crate::changes) that were opened in the world report.
    ///
    /// A use that begins in any thread after this has returned sees it. The generation is that of a
    /// driver, so 0 follows the largest number of 32 bits.
    pub fn restore(&self) {
        self.0.restore();
    }

    /// The system is restored, and its generation is this one afterwards: for code that must compare
    /// generations for equality only, because a number may go back.
    ///
    /// A restore to the number that the generation has already is one that no witness sees.
    pub fn restore_to(&self, generation: u32) {
        self.0.restore_to(generation);
    }

    /// The process is forked, and the test continues in the child: the generation stays, and nothing
    /// is unique any more. [`RestoreOnly`](crate::RestoreOnly) does not see it, and neither do
    /// [`changes`](crate::changes).
    pub fn fork(&self) {
        self.0.fork();
    }

    /// The generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.0.generation()
    }

    /// Has `act` called before each look that anything takes at this world, in the thread that looks:
    /// for a change at an exact moment, in the middle of what the code under test does.
    ///
    /// The looks that `act` takes itself are not reported to it. It replaces the one before. Without
    /// knowing the code, loop over the looks: how many there are is counted by a first run.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use sysgenid::testing::Restores;
    ///
    /// let restores = Restores::new();
    /// let _scope = restores.scope();
    /// let looks = AtomicU32::new(0);
    /// restores.before_looks(move |restores, _look| {
    ///     if looks.fetch_add(1, Ordering::Relaxed) == 1 {
    ///         restores.restore();
    ///     }
    /// });
    /// let before = sysgenid::uniqueness();
    /// assert_ne!(sysgenid::uniqueness(), before, "the second look sees it");
    /// ```
    pub fn before_looks(&self, act: impl Fn(&Self, Look) + Send + Sync + 'static) {
        // Weak: the world has the function, which is not to keep the world.
        let world = Arc::downgrade(&self.0);
        self.0.before_looks(Arc::new(move |look| {
            if let Some(world) = world.upgrade() {
                act(&Self(world), look);
            }
        }));
    }

    /// Leaves the next [glance](Witness::glance) open: it equals nothing, although nothing has
    /// changed. For tests of code that calls [`Witness::glance`] itself and has to ask for the
    /// [mark](Witness::mark) then.
    pub fn blur(&self) {
        self.0.blur();
    }

    /// Puts this thread into the world until what is returned is dropped.
    ///
    /// A thread can be in several: the one that it was put into last counts. A value that is built in one
    /// scope counts as changed in another, and outside.
    ///
    /// In a test of an asynchronous function that one thread runs (`#[tokio::test]`, `block_on`), the
    /// scope holds for all tasks of that runtime. For tasks that run on several threads there is
    /// [`around`](Self::around).
    pub fn scope(&self) -> Scope {
        Scope {
            entered: Some(enter(&self.0)),
        }
    }

    /// Runs `work` in a [`scope`](Self::scope).
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let _scope = self.scope();
        work()
    }

    /// `work`, to be run in this world by whichever thread calls it.
    ///
    /// ```
    /// let restores = sysgenid::testing::Restores::new();
    /// let before = restores.run(sysgenid::uniqueness);
    /// let thread = std::thread::spawn(restores.in_scope(sysgenid::uniqueness));
    /// assert_eq!(thread.join().unwrap(), before);
    /// ```
    pub fn in_scope<T, F: FnOnce() -> T>(&self, work: F) -> impl FnOnce() -> T + use<T, F> {
        let this = self.clone();
        move || this.run(work)
    }

    /// `future`, which is in this world whenever it is polled, on whichever thread: for
    /// `tokio::spawn`. It is dropped in the world as well.
    ///
    /// ```
    /// let restores = sysgenid::testing::Restores::new();
    /// let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    /// let before = restores.run(sysgenid::uniqueness);
    /// let task = runtime.spawn(restores.around(async { sysgenid::uniqueness() }));
    /// assert_eq!(runtime.block_on(task).unwrap(), before);
    /// ```
    pub fn around<F: Future>(&self, future: F) -> Around<F> {
        Around::new(self.clone(), future)
    }
}

/// The restores of this world, its forks, and real forks.
impl Witness for Restores {
    fn mark(&self) -> Uniqueness {
        self.0.mark()
    }

    fn glance(&self) -> Uniqueness {
        self.0.glance()
    }

    fn glance_at_restores(&self) -> Uniqueness {
        self.0.glance_at_restores()
    }

    fn shows_restores(&self) -> bool {
        self.0.shows_restores()
    }
}

/// The thread that has made it is in a world of a test until this is dropped: see
/// [`Restores::scope`].
#[must_use = "the scope ends when this is dropped"]
#[derive(Debug)]
pub struct Scope {
    /// `None` only while it is dropped.
    entered: Option<Entered>,
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.entered = None;
        // A generator that was seeded in the world is not used outside of it, where nothing may show
        // restores.
        #[cfg(feature = "rng")]
        crate::random::forget_thread();
    }
}
