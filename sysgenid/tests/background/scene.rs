// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hooks and the thread are the process's, so the tests of this binary take turns.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sysgenid::hooks::{self, BackgroundOptions, Hook, HookContext, HookResult};
use sysgenid::{Background, Changes, Generation, Orchestrator, Source};
use tempfile::TempDir;

/// For what happens much sooner.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// As long as something is waited for that is not to come.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(60);

static TURN: Mutex<()> = Mutex::new(());

/// A turn, with a folder and a broker that may serve it. Hooks are unregistered at its end.
pub(crate) struct Scene {
    broker: Option<sysgenid_broker::Background>,
    folder: TempDir,
    kept: Mutex<Vec<Hook>>,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    pub(crate) fn empty() -> Self {
        Self {
            broker: None,
            folder: tempfile::tempdir().unwrap(),
            kept: Mutex::default(),
            _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    pub(crate) fn new() -> Self {
        let mut scene = Self::empty();
        scene.start();
        scene
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    pub(crate) fn start(&mut self) {
        self.broker = Some(sysgenid_broker::spawn(self.path()).unwrap());
    }

    pub(crate) fn stop(&mut self) {
        self.broker = None;
    }

    pub(crate) fn options(&self) -> BackgroundOptions {
        let changes = Changes::options();
        let changes = changes
            .at(self.path())
            .look_every(Duration::from_millis(10));
        Background::options().changes(changes)
    }

    pub(crate) fn background(&self) -> Background {
        self.options().start().unwrap()
    }

    pub(crate) fn after_restore<R: HookResult>(
        &self,
        function: impl Fn(&HookContext) -> R + Send + Sync + 'static,
    ) -> Hook {
        let hook = hooks::after_restore(function);
        self.kept.lock().unwrap().push(hook.clone());
        hook
    }

    pub(crate) fn before_snapshot<R: HookResult>(
        &self,
        function: impl Fn(&HookContext) -> R + Send + Sync + 'static,
    ) -> Hook {
        let hook = hooks::before_snapshot(function);
        self.kept.lock().unwrap().push(hook.clone());
        hook
    }

    /// Has each run of the hooks logged: two before a snapshot and two after it.
    pub(crate) fn log(&self) -> Log {
        let log = Log::default();
        for name in ["one", "two"] {
            let (before, after) = (log.clone(), log.clone());
            self.before_snapshot(move |_| before.add(format!("before {name}")));
            self.after_restore(move |at| after.add(format!("after {name} {}", at.generation())));
        }
        log
    }

    /// Has each generation noted for which the hooks run.
    pub(crate) fn note(&self) -> Seen {
        let seen = Seen::default();
        let noted = seen.clone();
        self.after_restore(move |restore| {
            noted.0.lock().unwrap().push(restore.generation());
        });
        seen
    }

    pub(crate) fn trigger(&self) -> Generation {
        Source::at(self.path()).unwrap().trigger(LONG).unwrap()
    }

    pub(crate) fn orchestrator(&self) -> Orchestrator {
        Orchestrator::open_at(self.path()).unwrap()
    }

    /// Tracked watchers, and how many of them have not acknowledged.
    pub(crate) fn watchers(&self) -> (u32, u32) {
        let source = Source::at(self.path()).unwrap();
        let counts = source.status(LONG).unwrap().watchers.unwrap();
        (counts.tracked, counts.outdated)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.drain(..).for_each(|hook| hook.unregister());
    }
}

#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<Generation>>>);

impl Seen {
    pub(crate) fn all(&self) -> Vec<Generation> {
        self.0.lock().unwrap().clone()
    }
}

/// Lists the runs of hooks since the last look.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Stops it at the end of a test, whichever way that ends.
pub(crate) struct Stopping(pub(crate) Background);

impl Drop for Stopping {
    fn drop(&mut self) {
        let has_ended = self.0.stop(LONG);
        assert!(has_ended || std::thread::panicking(), "it runs still");
    }
}

pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
