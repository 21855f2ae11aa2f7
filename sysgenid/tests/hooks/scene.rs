// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hooks are the process's, so the tests of this binary take turns.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sysgenid::hooks::{self, Hook, HookErrors, HooksRan};

/// For what happens much sooner.
pub(crate) const LONG: Duration = Duration::from_secs(30);

static TURN: Mutex<()> = Mutex::new(());

/// A turn, after which the hooks that it has kept are unregistered.
pub(crate) struct Scene {
    pub(crate) kept: Arc<Mutex<Vec<Hook>>>,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self {
            _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner),
            kept: Arc::default(),
        }
    }

    pub(crate) fn keep(&self, hook: Hook) -> Hook {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(hook.clone());
        hook
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.drain(..).for_each(|hook| hook.unregister());
    }
}

/// What ran, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Runs the hooks for the current generation.
pub(crate) fn run() -> Result<HooksRan, HookErrors> {
    hooks::run_after_restore(sysgenid::generation())
}

pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
