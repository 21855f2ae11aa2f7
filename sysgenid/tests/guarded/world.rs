// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the tests change, and what they look at.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use sysgenid::{Generation, Probe, Uniqueness, Witness, Zeroize};
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

/// A witness of a number that the test sets.
#[derive(Debug, Default)]
pub(crate) struct World {
    number: AtomicU64,
    /// Whether a glance tells nothing.
    is_hazy: AtomicBool,
}

impl World {
    pub(crate) fn change(&self) {
        self.number.fetch_add(1, SeqCst);
    }

    pub(crate) fn set(&self, number: u64) {
        self.number.store(number, SeqCst);
    }

    pub(crate) fn make_hazy(&self) {
        self.is_hazy.store(true, SeqCst);
    }
}

impl Witness for World {
    fn mark(&self) -> Uniqueness {
        Uniqueness::of(Generation::new(self.number.load(SeqCst)))
    }

    fn glance(&self) -> Uniqueness {
        if self.is_hazy.load(SeqCst) {
            return Uniqueness::of(Generation::new(u64::MAX));
        }
        self.mark()
    }
}

/// A witness with these answers, one after the other; then the last again and again.
pub(crate) struct Script(Mutex<VecDeque<u64>>);

impl Script {
    pub(crate) fn new(answers: impl Iterator<Item = u64>) -> Self {
        Self(Mutex::new(answers.collect()))
    }
}

impl Witness for Script {
    fn mark(&self) -> Uniqueness {
        let mut answers = self.0.lock().unwrap();
        let answer = answers.pop_front().unwrap();
        if answers.is_empty() {
            answers.push_back(answer);
        }
        Uniqueness::of(Generation::new(answer))
    }
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
