// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::path::{Path, PathBuf};
use std::time::Duration;

use sysgenid::{Acknowledged, Change, Changes, ChangesOptions, Generation, Source};
use sysgenid_broker::Background;
use tempfile::TempDir;

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// As long as something is waited for that is not to come.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(60);

/// A folder, and a broker that may serve it.
pub(crate) struct Scene {
    broker: Option<Background>,
    folder: TempDir,
}

impl Scene {
    /// Without a broker, or anything else.
    pub(crate) fn empty() -> Self {
        Self {
            broker: None,
            folder: tempfile::tempdir().unwrap(),
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

    /// Has another broker take its place, with a page of its own.
    pub(crate) fn replace(&mut self) {
        self.stop();
        std::fs::remove_dir_all(self.path()).unwrap();
        self.start();
    }

    pub(crate) fn source(&self) -> Source {
        Source::at(self.path()).unwrap()
    }

    /// Looks at nothing by a timer: whatever is reported, an event has come.
    pub(crate) fn options(&self) -> ChangesOptions {
        options_at(&self.path()).look_every(Duration::from_secs(3600))
    }

    pub(crate) fn changes(&self) -> Changes {
        self.options().open()
    }

    /// Looks often for a source, and at pages.
    pub(crate) fn changes_by_looking(&self) -> Changes {
        options_at(&self.path()).open()
    }

    pub(crate) fn trigger(&self) -> Generation {
        self.source().trigger(PATIENCE).unwrap()
    }

    /// Tracked watchers, and how many of them have not acknowledged.
    pub(crate) fn watchers(&self) -> (u32, u32) {
        let counts = self.source().status(PATIENCE).unwrap().watchers.unwrap();
        (counts.tracked, counts.outdated)
    }
}

/// Looks often, so that no test takes long.
pub(crate) fn options_at(path: &Path) -> ChangesOptions {
    Changes::options()
        .at(path)
        .look_every(Duration::from_millis(10))
}

pub(crate) fn next(changes: &mut Changes) -> Change {
    changes.wait(PATIENCE).unwrap()
}

/// Nothing is told for a moment.
pub(crate) fn is_quiet(changes: &mut Changes) {
    let told = changes.wait(A_MOMENT);
    assert!(
        told.as_ref().is_err_and(|error| error.is_timeout()),
        "{told:?}"
    );
}

/// The next change has this generation, and is acknowledged.
pub(crate) fn handle(changes: &mut Changes, generation: Generation) {
    let change = next(changes);
    assert_eq!(change.generation(), generation, "{change:?}");
    assert_eq!(change.acknowledge().unwrap(), Acknowledged::Yes);
}

/// Until the broker knows of so many tracked and outdated watchers. Changes go on meanwhile.
pub(crate) fn until_watchers(scene: &Scene, changes: &mut Changes, wanted: (u32, u32)) {
    let until = std::time::Instant::now() + PATIENCE;
    while scene.watchers() != wanted {
        assert!(std::time::Instant::now() < until, "{:?}", scene.watchers());
        let told = changes.wait(Duration::from_millis(2));
        assert!(
            told.as_ref().is_err_and(|error| error.is_timeout()),
            "{told:?}"
        );
    }
}
