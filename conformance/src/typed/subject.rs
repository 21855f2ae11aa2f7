// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sysgenid::{Generation, Orchestrator, Probe, Source, SourceKind, Watcher};
use sysgenid_sys::abi::Dialect;

use crate::background::{Background, PATIENCE};

/// A deadline that is meant to pass.
pub(crate) const SOON: Duration = Duration::from_millis(30);

/// A source under test, and the dialect that it is to speak.
#[derive(Clone, Debug)]
pub struct Subject {
    path: PathBuf,
    dialect: Dialect,
}

impl Subject {
    /// The source at `path`: a node, or a broker's folder, which has what v6 has.
    #[must_use]
    pub fn new(path: PathBuf, dialect: Dialect) -> Self {
        Self { path, dialect }
    }

    /// What kind of source it is.
    ///
    /// # Errors
    ///
    /// As [`Source::at`].
    pub fn kind(&self) -> sysgenid::Result<SourceKind> {
        Source::at(&self.path).map(|source| source.kind())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// A tracked watcher.
    pub(crate) fn watcher(&self) -> Watcher {
        Watcher::open_at(&self.path).expect("a watcher can be opened")
    }

    /// A watcher of another kind than the usual one: untracked, where there is such a thing.
    pub(crate) fn bystander(&self) -> Watcher {
        match self.dialect {
            Dialect::V5 => self.watcher(),
            _ => self.onlooker(),
        }
    }

    /// An untracked watcher.
    pub(crate) fn onlooker(&self) -> Watcher {
        let options = Watcher::options().tracked(false);
        options
            .open_at(&self.path)
            .expect("an untracked watcher can be opened")
    }

    /// A tracked watcher that is outdated: whoever waits, waits for it.
    pub(crate) fn straggler(&self) -> Watcher {
        let watcher = self.watcher();
        self.change();
        watcher
    }

    pub(crate) fn orchestrator(&self) -> Orchestrator {
        Orchestrator::open_at(&self.path).expect("an orchestrator can be opened")
    }

    /// A probe that belongs to no watcher. In v5 there is none: it keeps a watcher that nobody can
    /// acknowledge for, so a case that waits takes the probe of a watcher that it has.
    pub(crate) fn probe(&self) -> Probe {
        match self.dialect {
            Dialect::V5 => self.watcher().probe(),
            _ => Probe::open_at(&self.path),
        }
        .expect("a probe can be opened")
    }

    /// Changes the generation, and returns the new one.
    pub(crate) fn change(&self) -> Generation {
        self.orchestrator()
            .trigger()
            .expect("its owner may trigger")
    }

    /// Changes the generation to at least `number`, and returns the new one.
    pub(crate) fn change_to(&self, number: u32) -> Generation {
        self.orchestrator()
            .trigger_at_least(number)
            .expect("its owner may trigger")
    }

    /// That tracked watchers are outdated.
    pub(crate) fn expect_unsettled(&self, why: &str) {
        let error = self.orchestrator().wait_for_watchers(SOON).expect_err(why);
        assert!(error.is_timeout(), "{why}: {error}");
    }

    /// That no tracked watcher is outdated, or soon will not be: an acknowledgement may be under
    /// way still.
    pub(crate) fn expect_settled(&self, why: &str) {
        let waited = self.orchestrator().wait_for_watchers(PATIENCE);
        waited.unwrap_or_else(|error| panic!("{why}: {error}"));
    }
}

/// The number of a generation, as every source with watchers has it.
pub(crate) fn number(generation: Generation) -> u32 {
    u32::try_from(generation).expect("the counter has 32 bits")
}

/// Changes that come one after another, from another thread.
pub(crate) struct Changes {
    thread: Option<Background<()>>,
    stop: Arc<AtomicBool>,
    /// The generation after the last change. Nobody else changes it meanwhile.
    pub(crate) last: Generation,
}

impl Changes {
    /// Starts so many changes, with pauses of no regular length.
    pub(crate) fn start(subject: &Subject, number: u32) -> Self {
        let orchestrator = subject.orchestrator();
        let first = self::number(orchestrator.watcher().generation());
        let last = Generation::from(first.wrapping_add(number));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = Background::start_without_waiting(move || {
            for step in 0..number {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                orchestrator.trigger().expect("its owner may trigger");
                for _ in 0..step * step % 97 * 20 {
                    std::hint::spin_loop();
                }
            }
        });
        Self {
            thread: Some(thread),
            stop,
            last,
        }
    }

    /// Waits until the last change has come.
    pub(crate) fn finish(mut self) {
        if let Some(thread) = self.thread.take() {
            thread.finish("the changes end");
        }
    }
}

impl Drop for Changes {
    /// Ends the changes that a failed case leaves: they would disturb the next one.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.give_up(PATIENCE);
        }
    }
}

/// Acknowledges what has changed.
pub(crate) fn catch_up(watcher: &Watcher) {
    let changed = watcher.try_changed().expect("it can be asked");
    let generation = changed.expect("it is outdated");
    watcher
        .acknowledge(generation)
        .expect("it is the current one");
}

/// Whether the watcher is outdated.
pub(crate) fn is_outdated(watcher: &Watcher) -> bool {
    watcher.try_changed().expect("it can be asked").is_some()
}

/// What a caller answers who is asked after a signal, and does not wait any longer.
pub(crate) fn break_off() -> ControlFlow<()> {
    ControlFlow::Break(())
}

/// And one who does.
pub(crate) fn go_on() -> ControlFlow<()> {
    ControlFlow::Continue(())
}
