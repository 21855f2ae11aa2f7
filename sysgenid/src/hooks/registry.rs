// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hooks of this process. A forked child has its parent's.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwapOption;

use super::context::HookContext;
use super::entry::{Entry, Kind};
use super::options::{HookResult, OnFailure, options};

/// In the order of registration. There is no lock, so neither a signal handler nor a forked child
/// ever waits for a thread that was registering.
static HOOKS: ArcSwapOption<Vec<Arc<Entry>>> = ArcSwapOption::const_empty();

/// Has `function` called after each change of the generation, in the order of registration; and after a
/// snapshot that was prepared for and did not lead to one, because it was given up, or because this is the
/// process that was copied.
///
/// It may be called more than once for a generation: again if another hook failed, and for each
/// source that has seen the restore. Changes that follow one another quickly may be one call, with the
/// latest generation. So a hook must be idempotent. What counts is in the
/// [module](crate::hooks#what-a-hook-is).
///
/// ```
/// use sysgenid::hooks;
///
/// let hook = hooks::after_restore(|restore| {
///     println!("a new session for generation {}", restore.generation());
/// });
/// let ran = hooks::run_after_restore(sysgenid::generation())?;
/// assert_eq!(ran.count(), 1);
/// # hook.unregister();
/// # Ok::<(), hooks::HookErrors>(())
/// ```
pub fn after_restore<F, R>(function: F) -> Hook
where
    F: Fn(&HookContext) -> R + Send + Sync + 'static,
    R: HookResult,
{
    options().after_restore(function)
}

/// Has `function` called before a snapshot, in reverse order of registration: what was set up last,
/// on top of the rest, is taken down first.
///
/// If one of them fails, those of [`after_restore`] are called all the same when the snapshot is given up:
/// they must be able to follow a hook that has not run to its end.
///
/// ```
/// use sysgenid::hooks;
///
/// let hook = hooks::before_snapshot(|_| std::fs::create_dir_all("/proc/self/not/possible"));
/// let errors = hooks::run_before_snapshot().unwrap_err(); // do not take the snapshot
/// assert_eq!(errors.failures().len(), 1);
/// # hook.unregister();
/// ```
pub fn before_snapshot<F, R>(function: F) -> Hook
where
    F: Fn(&HookContext) -> R + Send + Sync + 'static,
    R: HookResult,
{
    options().before_snapshot(function)
}

/// A hook that has been registered. It stays registered when this is dropped.
///
/// Two are equal if they are the same registration.
#[derive(Clone)]
pub struct Hook(pub(super) Arc<Entry>);

impl Hook {
    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What its failure means for the run.
    #[must_use]
    pub fn on_failure(&self) -> OnFailure {
        self.0.on_failure
    }

    /// Forgets the registration; to do it twice is fine. A hook that is unregistered while others run
    /// is not called any more. A call of it that is under way goes on to its end.
    pub fn unregister(&self) {
        self.0.is_registered.store(false, Ordering::Relaxed);
        HOOKS.rcu(|hooks| {
            let hooks = hooks.as_deref().map(Vec::as_slice).unwrap_or_default();
            let others = hooks.iter().filter(|hook| !Arc::ptr_eq(hook, &self.0));
            Some(Arc::new(others.cloned().collect::<Vec<_>>()))
        });
    }
}

impl PartialEq for Hook {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Hook {}

impl Hash for Hook {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

pub(super) fn register(entry: Arc<Entry>) -> Hook {
    HOOKS.rcu(|hooks| {
        let hooks = hooks.as_deref().map(Vec::as_slice).unwrap_or_default();
        let all = hooks.iter().chain([&entry]);
        Some(Arc::new(all.cloned().collect::<Vec<_>>()))
    });
    Hook(entry)
}

/// Whether something has changed that a hook has not run for.
pub(super) fn has_missed() -> bool {
    let hooks = in_order(Kind::AfterRestore);
    hooks.iter().any(|hook| hook.0.has_missed())
}

/// The hooks of one kind, in the order in which they run.
pub(super) fn in_order(kind: Kind) -> Vec<Hook> {
    let hooks = HOOKS.load_full();
    let hooks = hooks.as_deref().map(Vec::as_slice).unwrap_or_default();
    let of_this_kind = hooks.iter().filter(|hook| hook.kind == kind);
    // Tests that run at once do not run each other's hooks.
    #[cfg(feature = "testing")]
    let of_this_kind = of_this_kind.filter(|hook| hook.home.is_near());
    let of_this_kind = of_this_kind.map(|hook| Hook(Arc::clone(hook)));
    match kind {
        Kind::BeforeSnapshot => of_this_kind.rev().collect(),
        Kind::AfterRestore => of_this_kind.collect(),
    }
}
