// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A device that is the model itself, and the same with faults: to see that the comparison finds
//! them.

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use sysgenid_broker::model::{Awaited, Model, Occasion, Outcome, Wait, WatcherId};

use super::compare;
use super::device::{Counts, Device, Waited, Watcher};

/// A fault must not cost the patience for a machine many times over.
const IMPATIENCE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    AcceptsStale,
    ForgetsLateTracking,
    ForgetsToUntrack,
    AnswersAnOutdatedCaller,
    ReadsOnce,
    ComparesSigned,
    ComparesNumbers,
    KeepsClosedWatchers,
    SpuriousWaitEnd,
    Miscounts,
}

#[derive(Clone)]
struct Double {
    model: Arc<Mutex<Model>>,
    fault: Fault,
}

impl Double {
    fn new(fault: Fault) -> Self {
        Self {
            model: Arc::new(Mutex::new(Model::new(0))),
            fault,
        }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }
}

impl Device for Double {
    fn can_untrack(&self) -> bool {
        true
    }

    fn open(&self, tracked: bool) -> Box<dyn Watcher> {
        let id = self.model().open(tracked, None);
        Box::new(DoubleWatcher {
            double: self.clone(),
            id,
            was_read: Mutex::new(None),
        })
    }

    fn trigger(&self, min: u32) -> u32 {
        let mut model = self.model();
        let min = if self.fault == Fault::ComparesSigned && min > 0x7fff_ffff {
            0
        } else {
            min
        };
        model.trigger(min, Occasion::default());
        model.generation()
    }

    fn page(&self) -> u32 {
        self.model().generation()
    }

    fn counts(&self) -> Option<Counts> {
        let model = self.model();
        let miscounts = self.fault == Fault::Miscounts;
        Some(Counts {
            total: model.watchers(),
            tracked: model.tracked(),
            outdated: model.outdated() + usize::from(miscounts && model.tracked() > 1),
        })
    }
}

struct DoubleWatcher {
    double: Double,
    id: WatcherId,
    was_read: Mutex<Option<u32>>,
}

impl Watcher for DoubleWatcher {
    fn read(&self) -> Option<u32> {
        let read = self.double.model().read(self.id);
        let before = std::mem::replace(&mut *self.was_read.lock().unwrap(), read);
        read.filter(|_| self.double.fault != Fault::ReadsOnce || before != read)
    }

    fn is_ready(&self) -> bool {
        let model = self.double.model();
        let numbers_differ = model.acknowledged(self.id) != Some(model.generation());
        model.is_outdated(self.id)
            && (self.double.fault != Fault::ComparesNumbers || numbers_differ)
    }

    fn acknowledge(&self, generation: u32) -> bool {
        let mut model = self.double.model();
        let current = model.generation();
        let accepts_all = self.double.fault == Fault::AcceptsStale;
        model
            .acknowledge(self.id, if accepts_all { current } else { generation })
            .is_ok()
    }

    fn set_tracking(&self, tracked: bool) {
        let mut model = self.double.model();
        let is_outdated = model.is_outdated(self.id);
        match self.double.fault {
            Fault::ForgetsLateTracking if tracked && is_outdated => {}
            Fault::ForgetsToUntrack if !tracked => {}
            _ => drop(model.set_tracking(self.id, tracked).unwrap()),
        }
    }

    fn wait(&mut self, timeout: Duration) -> Waited {
        let end = Instant::now() + timeout;
        let mut turns = 0;
        loop {
            let mut model = self.double.model();
            let settled = model.outdated() == 0;
            let wait = model.wait(Some(self.id), Awaited::Generation).unwrap();
            if let Wait::Pending(wait) = wait {
                model.cancel_wait(wait);
            }
            drop(model);
            turns += 1;
            match wait {
                Wait::Ended(Outcome::Outdated)
                    if settled && self.double.fault == Fault::AnswersAnOutdatedCaller =>
                {
                    return Waited::Done;
                }
                Wait::Ended(Outcome::Outdated) => return Waited::Outdated,
                Wait::Ended(Outcome::Done) => return Waited::Done,
                _ if turns > 1 && self.double.fault == Fault::SpuriousWaitEnd => {
                    return Waited::Done;
                }
                _ if Instant::now() > end => return Waited::TimedOut,
                _ => thread::sleep(Duration::from_micros(200)),
            }
        }
    }
}

impl Drop for DoubleWatcher {
    fn drop(&mut self) {
        if self.double.fault != Fault::KeepsClosedWatchers {
            self.double.model().close(self.id);
        }
    }
}

#[test]
fn the_model_agrees_with_itself() {
    let operations = compare(&Double::new(Fault::None), 100, 0, super::PATIENCE).unwrap();
    assert!(operations > 1_000, "{operations}");
}

#[test]
fn every_fault_is_found_and_told_by_a_short_sequence() {
    for fault in [
        Fault::AcceptsStale,
        Fault::ForgetsLateTracking,
        Fault::ForgetsToUntrack,
        Fault::AnswersAnOutdatedCaller,
        Fault::ReadsOnce,
        Fault::ComparesSigned,
        Fault::ComparesNumbers,
        Fault::KeepsClosedWatchers,
        Fault::SpuriousWaitEnd,
        Fault::Miscounts,
    ] {
        let difference =
            compare(&Double::new(fault), 256, 0, IMPATIENCE).expect_err(&format!("{fault:?}"));
        let operations = difference
            .lines()
            .filter(|line| line.starts_with("  "))
            .count();
        assert!((1..=12).contains(&operations), "{fault:?}: {difference}");
    }
}
