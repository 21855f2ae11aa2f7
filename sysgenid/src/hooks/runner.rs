// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::context::{HookContext, Told};
use super::entry::{Kind, is_in_hook};
use super::failure::{HookErrors, HookFailure, HooksRan, outcome};
use super::registry::in_order;
use crate::base::fork_lock::ForkLock;
use crate::base::{Deadline, Generation};
use crate::check::{ProcessWide, Witness, assume_restored};
use crate::watch::Change;

/// Held by a run. A child that is forked during one is not kept from its own.
#[cfg(not(sysgenid_loom))]
static TURN: ForkLock = ForkLock::new();

#[cfg(sysgenid_loom)]
loom::lazy_static! {
    static ref TURN: ForkLock = ForkLock::new();
}

/// Runs the hooks for a change, in the order of registration.
///
/// If `generation` is not one that the process sees by itself, as without a source and on a driver of
/// the v5 dialect, [`assume_restored`] is called first: all that is guarded, cached and seeded is
/// old.
///
/// A hook that is registered meanwhile does not run this time. Two threads that run hooks are kept
/// apart: the second one waits for the first, as long as that takes.
///
/// # Errors
///
/// [`HookErrors`] if hooks failed whose failure is not [ignored](crate::hooks::OnFailure::Ignore), after
/// all the others have run: do not acknowledge the change. [`HookErrors::is_reentrant`] if the call
/// was made by a hook.
pub fn run_after_restore(generation: Generation) -> Result<HooksRan, HookErrors> {
    make_old_for(generation);
    run(Kind::AfterRestore, generation, None, None)
}

/// The same for a change that a source has reported. Hooks without a deadline have this one.
pub(super) fn run_for(change: &Change, limit: Option<Duration>) -> Result<HooksRan, HookErrors> {
    make_old_for(change.generation());
    let told = Told {
        previous: change.previous(),
        source: change.source().cloned(),
        cause: change.cause(),
    };
    run(Kind::AfterRestore, change.generation(), Some(told), limit)
}

/// The same after a snapshot that this process was not restored from, or that was not taken. Nothing is old
/// by that.
pub(super) fn run_after_snapshot(generation: Generation) -> Result<HooksRan, HookErrors> {
    run(Kind::AfterRestore, generation, None, None)
}

fn make_old_for(generation: Generation) {
    let is_seen = ProcessWide.shows_restores(); // first, because it looks for a source
    if !is_seen || generation != crate::check::generation() {
        // Without a source the number of the process means nothing.
        assume_restored();
    }
}

/// Runs the hooks for a snapshot, in reverse order of registration: for a program that knows that one is about
/// to be taken. The [background thread](crate::background) does it when a broker's orchestrator
/// [asks](crate::Orchestrator::quiesce).
///
/// # Errors
///
/// [`HookErrors`] if hooks failed whose failure is not [ignored](crate::hooks::OnFailure::Ignore), after
/// all the others have run: do not take the snapshot. [`HookErrors::is_reentrant`] if the call was
/// made by a hook.
pub fn run_before_snapshot() -> Result<HooksRan, HookErrors> {
    run(Kind::BeforeSnapshot, crate::check::generation(), None, None)
}

fn run(
    kind: Kind,
    generation: Generation,
    change: Option<Told>,
    limit: Option<Duration>,
) -> Result<HooksRan, HookErrors> {
    // A hook with a deadline has its own thread, which does not hold the turn.
    if is_in_hook() {
        return Err(HookErrors::REENTRANT);
    }
    let Some(_turn) = TURN.lock() else {
        return Err(HookErrors::REENTRANT);
    };
    let context = HookContext {
        generation,
        change: change.map(Arc::new),
        deadline: Deadline::NEVER,
    };
    let mut count = 0;
    let mut failures = Vec::new();
    for hook in in_order(kind) {
        if !hook.0.is_registered.load(Ordering::Relaxed) {
            continue;
        }
        count += 1;
        if let Err(reason) = hook.0.run(context.clone(), limit) {
            let ends_the_run = reason.ends_the_run();
            failures.push(HookFailure { hook, reason });
            if ends_the_run {
                break;
            }
        }
    }
    outcome(count, failures)
}
