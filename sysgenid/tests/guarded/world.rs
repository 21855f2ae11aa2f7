// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the tests change, and what they look at.

use std::fs::OpenOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use sysgenid::testing::{Look, Restores};
use sysgenid::{Probe, Zeroize};
use sysgenid_sys::page::CounterPageMut;
use tempfile::TempDir;

/// A page file.
pub(crate) struct Page {
    folder: TempDir,
    pub(crate) counter: CounterPageMut,
}

impl Page {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        std::fs::write(&path, [0; 4096]).unwrap();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        Self {
            folder,
            counter: CounterPageMut::map(&file).unwrap(),
        }
    }

    pub(crate) fn probe(&self) -> Probe {
        Probe::open_at(self.folder.path().join("page")).unwrap()
    }

    pub(crate) fn bump(&self) {
        self.counter.store(self.counter.load().wrapping_add(1));
    }
}

/// Leaves every glance at this world open.
pub(crate) fn make_hazy(world: &Restores) {
    world.before_looks(|world, look| {
        if look == Look::Glance {
            world.blur();
        }
    });
}

/// Counts what becomes of the values that are built of it.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    pub(crate) built: AtomicU32,
    pub(crate) wiped: AtomicU32,
    pub(crate) dropped: AtomicU32,
}

impl Fate {
    pub(crate) fn build(self: &Arc<Self>) -> Secret {
        Secret {
            number: self.built.fetch_add(1, SeqCst) + 1,
            fate: Arc::clone(self),
        }
    }

    /// How many were built, wiped and dropped.
    pub(crate) fn counts(&self) -> (u32, u32, u32) {
        let count = |counter: &AtomicU32| counter.load(SeqCst);
        (count(&self.built), count(&self.wiped), count(&self.dropped))
    }
}

/// The how-manieth of its kind it is, until it is wiped.
#[derive(Debug)]
pub(crate) struct Secret {
    pub(crate) number: u32,
    fate: Arc<Fate>,
}

impl Zeroize for Secret {
    fn zeroize(&mut self) {
        self.number = 0;
        self.fate.wiped.fetch_add(1, SeqCst);
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.fate.dropped.fetch_add(1, SeqCst);
    }
}
