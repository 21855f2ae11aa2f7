// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Page files stand in for all sources here: a hypervisor's device cannot be had everywhere.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is a failed test"
)]

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sysgenid_sys::internal::counters::{Counter, Latest, UNSET};
use sysgenid_sys::internal::fork;

use super::Refreshed;
use super::standing::{Found, Mapped, PERIOD, Standing};
use crate::base::Result;
use crate::base::error::{Error, Kind};
use crate::base::fork_lock::ForkLock;
use crate::source::Source;

/// A machine with up to two sources.
struct Machine {
    folder: tempfile::TempDir,
    standing: Standing,
    counters: [&'static Counter; 2],
    /// What a search says instead of looking.
    refused: RefCell<Option<fn() -> Error>>,
}

impl Machine {
    fn new() -> Self {
        let counters = [(); 2].map(|()| &*Box::leak(Box::new(Counter::default())));
        let [primary, secondary] = counters;
        secondary.install_nothing();
        Self {
            folder: tempfile::tempdir().unwrap(),
            standing: Standing {
                lock: ForkLock::new(),
                looked: AtomicU64::new(0),
                primary,
                secondary,
                chosen: Latest::new(),
            },
            counters,
            refused: RefCell::new(None),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, number: u32) {
        let mut page = vec![0; 4096];
        page[..4].copy_from_slice(&number.to_ne_bytes());
        // Under the same name, but never to the same file: that would be a change of the counter.
        fs::write(self.path("new"), page).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    fn search(&self) -> Found {
        if let Some(refused) = *self.refused.borrow() {
            return Found {
                primary: Err(refused()),
                secondary: Err(refused()),
            };
        }
        let on = |path: &Path| Source::at(path).and_then(Mapped::on);
        let hypervisor = on(&self.path("hypervisor")).ok();
        Found::of(on(&self.path("driver")), hypervisor)
    }

    fn set_up(&self) {
        self.standing.set_up(|_| self.search());
    }

    /// As slow calls do it, so many milliseconds after the last look.
    fn has_source_after(&self, time: u64) -> bool {
        let now = self
            .standing
            .looked
            .load(Ordering::Relaxed)
            .wrapping_add(time);
        self.standing.has_source(|| now, |_| self.search())
    }

    fn refresh(&self) -> Result<Refreshed> {
        self.standing.refresh(|_| self.search())
    }

    fn verify(&self) -> Result<()> {
        self.standing.verify(|_| self.search())
    }

    fn numbers(&self) -> [u64; 2] {
        self.counters.map(Counter::load)
    }

    fn sources(&self) -> Vec<&str> {
        let sources = self.standing.sources();
        sources
            .filter_map(|source| source.path().file_name()?.to_str())
            .collect()
    }
}

/// Runs `refresh`, and tells whether the fork generation moved.
fn refresh_and_look(machine: &Machine) -> (Result<Refreshed>, bool) {
    let before = fork::current();
    let refreshed = machine.refresh();
    (refreshed, fork::current() != before)
}

#[test]
fn nothing_is_installed_before_the_first_look() {
    let machine = Machine::new();
    assert_eq!(machine.numbers(), [UNSET, 0]);
    assert!(machine.sources().is_empty());
}

#[test]
fn without_a_source_it_stands_on_a_constant_and_says_so() {
    let machine = Machine::new();
    machine.set_up();
    assert_eq!(machine.numbers(), [0, 0]);
    assert!(machine.verify().unwrap_err().is_absent());
    assert!(machine.refresh().unwrap_err().is_absent());
}

#[test]
fn a_late_source_is_taken_by_a_refresh_and_counts_as_a_change() {
    let machine = Machine::new();
    machine.set_up();
    machine.write("driver", 7);
    assert_eq!(machine.numbers(), [0, 0]);
    let (refreshed, is_changed) = refresh_and_look(&machine);
    assert_eq!(refreshed.ok(), Some(Refreshed::Moved));
    assert!(is_changed);
    assert_eq!(machine.numbers(), [7, 0]);
    machine.verify().unwrap();
}

#[test]
fn a_late_source_is_noticed_by_slow_calls_a_second_later() {
    let machine = Machine::new();
    machine.set_up();
    machine.write("driver", 0);
    assert!(!machine.has_source_after(PERIOD - 1), "it looks too often");
    assert_eq!(machine.sources(), [""; 0]);
    let before = fork::current();
    assert!(machine.has_source_after(PERIOD));
    assert_ne!(fork::current(), before, "although the number is the same");
    assert_eq!(machine.sources(), ["driver"]);
    machine.verify().unwrap();
}

#[test]
fn looks_are_a_second_apart_and_end_when_there_is_a_source() {
    let machine = Machine::new();
    machine.set_up();
    let searches = RefCell::new(0);
    let start = machine.standing.looked.load(Ordering::Relaxed);
    let look = |time: u64| {
        let search = |_: &_| {
            *searches.borrow_mut() += 1;
            machine.search()
        };
        machine
            .standing
            .has_source(|| start.wrapping_add(time), search)
    };
    for time in 0..10 * PERIOD {
        assert!(!look(time));
    }
    assert_eq!(searches.take(), 9);
    // The clock goes back, where a process is restored on another machine: that is a reason to look.
    for time in 0..PERIOD {
        assert!(!look(time));
    }
    assert_eq!(searches.take(), 1);
    machine.write("hypervisor", 3);
    assert!(look(2 * PERIOD));
    assert_eq!(searches.take(), 1);
    for time in 0..10 * PERIOD {
        assert!(look(time));
    }
    assert_eq!(searches.take(), 0);
}

#[test]
fn a_check_takes_the_source_that_there_is_by_now() {
    let machine = Machine::new();
    machine.set_up();
    assert!(machine.verify().unwrap_err().is_absent());
    machine.write("driver", 7);
    let before = fork::current();
    machine.verify().unwrap();
    assert_ne!(fork::current(), before);
    assert_eq!(machine.numbers(), [7, 0]);
}

/// As a driver of the v5 dialect, which the process may not use.
#[test]
fn a_source_that_is_of_no_use_is_none_and_looked_at_again() {
    let machine = Machine::new();
    *machine.refused.borrow_mut() = Some(|| Error::new(Kind::Unsupported("as the v5 dialect")));
    machine.set_up();
    assert!(!machine.has_source_after(PERIOD));
    assert!(machine.verify().unwrap_err().is_unsupported());
    machine.refused.take();
    machine.write("hypervisor", 7);
    assert!(machine.has_source_after(PERIOD));
}

/// A signal handler that interrupts a look, and a guard that is used by what looks.
#[test]
fn a_call_within_a_look_looks_at_nothing_and_returns() {
    let machine = Machine::new();
    machine.set_up();
    machine.write("driver", 7);
    let _within = machine.standing.lock.lock().unwrap();
    assert!(!machine.has_source_after(PERIOD));
    assert_eq!(machine.numbers(), [0, 0]);
}

#[test]
fn a_refresh_that_finds_the_same_changes_nothing() {
    let machine = Machine::new();
    machine.write("driver", 1);
    machine.write("hypervisor", 2);
    machine.set_up();
    for _ in 0..3 {
        let (refreshed, _) = refresh_and_look(&machine);
        assert_eq!(refreshed.ok(), Some(Refreshed::Unchanged));
    }
    assert_eq!(machine.numbers(), [1, 2]);
}

#[test]
fn a_replaced_page_is_reported_and_followed() {
    let machine = Machine::new();
    machine.write("driver", 3);
    machine.set_up();
    // The first file must live on, or its inode number may be the second one's.
    let _first = fs::File::open(machine.path("driver")).unwrap();
    machine.write("driver", 3);
    assert!(machine.verify().unwrap_err().is_broken());
    let (refreshed, is_changed) = refresh_and_look(&machine);
    assert_eq!(refreshed.ok(), Some(Refreshed::Moved));
    assert!(is_changed, "although the number is the same");
    machine.verify().unwrap();
}

#[test]
fn a_page_made_too_short_is_reported() {
    let machine = Machine::new();
    machine.write("driver", 3);
    machine.set_up();
    fs::write(machine.path("driver"), [0; 2]).unwrap();
    assert!(machine.verify().unwrap_err().is_broken());
    assert!(machine.refresh().unwrap_err().is_broken());
}

#[test]
fn a_removed_source_is_reported_and_stays_until_there_is_another() {
    let machine = Machine::new();
    machine.write("driver", 4);
    machine.set_up();
    machine.remove("driver");
    assert!(machine.verify().unwrap_err().is_absent());
    let (refreshed, _) = refresh_and_look(&machine);
    assert!(refreshed.unwrap_err().is_absent());
    assert_eq!(machine.numbers(), [4, 0], "as it was");
    machine.write("hypervisor", 9);
    assert_eq!(machine.refresh().ok(), Some(Refreshed::Moved));
    assert_eq!(machine.numbers(), [9, 0]);
    assert_eq!(machine.sources(), ["hypervisor"]);
}

#[test]
fn both_sources_are_looked_at() {
    let machine = Machine::new();
    machine.write("driver", 5);
    machine.write("hypervisor", 6);
    machine.set_up();
    assert_eq!(machine.numbers(), [5, 6]);
    assert_eq!(machine.sources(), ["driver", "hypervisor"]);
    machine.verify().unwrap();
}

#[test]
fn a_hypervisors_that_comes_late_is_looked_at_beside_the_drivers() {
    let machine = Machine::new();
    machine.write("driver", 5);
    machine.set_up();
    machine.verify().unwrap();
    machine.write("hypervisor", 6);
    assert!(machine.verify().unwrap_err().is_broken());
    assert_eq!(machine.refresh().ok(), Some(Refreshed::Moved));
    assert_eq!(machine.numbers(), [5, 6]);
    machine.verify().unwrap();
}

#[test]
fn a_driver_that_comes_late_takes_the_first_place() {
    let machine = Machine::new();
    machine.write("hypervisor", 6);
    machine.set_up();
    machine.write("driver", 5);
    assert!(machine.verify().unwrap_err().is_broken());
    assert_eq!(machine.refresh().ok(), Some(Refreshed::Moved));
    assert_eq!(machine.numbers(), [5, 6]);
    machine.verify().unwrap();
}

#[test]
fn a_hypervisors_is_not_looked_at_twice_when_the_driver_goes() {
    let machine = Machine::new();
    machine.write("driver", 5);
    machine.write("hypervisor", 6);
    machine.set_up();
    machine.remove("driver");
    assert!(machine.verify().unwrap_err().is_absent());
    assert_eq!(machine.refresh().ok(), Some(Refreshed::Moved));
    assert_eq!(machine.numbers(), [6, 0]);
    assert_eq!(machine.sources(), ["hypervisor"]);
}

#[test]
fn a_driver_that_is_of_no_use_leaves_its_place_to_the_hypervisors_and_is_reported() {
    let machine = Machine::new();
    fs::write(machine.path("driver"), [0; 2]).unwrap();
    machine.write("hypervisor", 6);
    machine.set_up();
    assert_eq!(machine.numbers(), [6, 0]);
    assert!(machine.verify().unwrap_err().is_broken());
}

#[test]
fn a_source_that_cannot_be_used_is_reported() {
    let machine = Machine::new();
    machine.write("hypervisor", 5);
    machine.set_up();
    *machine.refused.borrow_mut() = Some(|| Error::new(Kind::Denied("as a node of root's")));
    assert!(machine.verify().unwrap_err().is_permission());
}

/// As a server that opened everything as root.
#[test]
fn what_is_mapped_stays_although_it_cannot_be_opened_again() {
    let machine = Machine::new();
    machine.write("driver", 5);
    machine.write("hypervisor", 6);
    machine.set_up();
    *machine.refused.borrow_mut() = Some(|| Error::new(Kind::Denied("as a node of root's")));
    assert_eq!(machine.refresh().ok(), Some(Refreshed::Unchanged));
    machine.verify().unwrap();
    assert_eq!(machine.numbers(), [5, 6]);
}
