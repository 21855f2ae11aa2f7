// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent in the machines that `cargo xtask vm counter` and `vm vmclock` restore.
//!
//! It shows that a counter which the hypervisor keeps is right from a clone's first instruction on,
//! without measuring time. A thread loads the counter over and over. Before each load it notes the
//! number of its turn in a word that the host can read as well. While the machine stands still, the
//! host reads how far it came; so a change that was made meanwhile must be seen in that turn, or, if
//! that had already loaded, in the next one.
//!
//! Beside it sleeps whoever is told of a change: a watcher on `/dev/sysgenid`, and with a vmclock a
//! thread in its `poll`. What happens is said in lines of a word and its `key=value` pairs.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::thread;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags, open};
use rustix::mm::{MapFlags, ProtFlags};
use sysgenid::{Deadline, Watcher};
use sysgenid_sys::abi::PAGE_LEN;
use sysgenid_sys::page::CounterPage;

use super::{Result, spawn};
use crate::raw::mapping::{Mapping, Request};
use crate::raw::vmclock::Clock;

/// How long the sleepers have to fall asleep. Were they slower, they would still notice: the wait
/// is no edge.
const SETTLING: Duration = Duration::from_millis(300);

/// The counter to spin on.
#[derive(Clone, Debug)]
pub enum Counter {
    /// The node of `/dev/vmgenid`.
    Vmgenid(PathBuf),
    /// The node of a vmclock.
    Vmclock(PathBuf),
}

/// Runs the agent until the host says that it may end.
pub fn run(counter: &Counter, sysgenid: &Path, turns: u64) -> Result<()> {
    let load = loader(counter)?;
    let turns = Arc::new(Turns::at(turns)?);
    let watcher = Arc::new(Watcher::open_at(sysgenid)?);

    let sleeper = (Arc::clone(&watcher), Arc::clone(&turns));
    spawn(move || watch(&sleeper.0, &sleeper.1));
    if let Counter::Vmclock(path) = counter {
        let sleeper = (Clock::open(path)?, Arc::clone(&turns));
        spawn(move || poll(&sleeper.0, &sleeper.1));
    }
    let spinner = (loader(counter)?, Arc::clone(&turns));
    spawn(move || spin(&*spinner.0, &spinner.1));
    thread::sleep(SETTLING);

    let report = |word| {
        println!(
            "{word} counter={} generation={} turns={}",
            load(),
            watcher.generation(),
            turns.load(),
        );
    };
    report("ready");
    for line in std::io::stdin().lock().lines() {
        match line?.trim() {
            "report" => report("report"),
            "finish" => return Ok(()),
            other => return Err(format!("the host says {other:?}").into()),
        }
    }
    Err("the host has gone".into())
}

/// Takes turns for ever, and says in which it saw a change.
fn spin(load: &dyn Fn() -> u64, turns: &Turns) -> Result<()> {
    let mut known = load();
    let mut turn = 0;
    loop {
        turn += 1;
        turns.store(turn);
        // The note of a turn comes before its load, on this processor: its partner is the host,
        // which looks while no processor runs.
        fence(Ordering::SeqCst);
        let counter = load();
        if counter != known {
            known = counter;
            println!("saw counter={counter} turn={turn}");
        }
    }
}

/// Acknowledges every change of `/dev/sysgenid`.
fn watch(watcher: &Watcher, turns: &Turns) -> Result<()> {
    loop {
        watcher.handle(Deadline::NEVER, |generation| {
            println!("woke generation={generation} turn={}", turns.load());
            Ok::<_, std::io::Error>(())
        })?;
    }
}

/// Sleeps until the clock is notified.
fn poll(clock: &Clock, turns: &Turns) -> Result<()> {
    clock.read()?;
    loop {
        let events = clock.wait();
        if events.contains(PollFlags::HUP) {
            return Err("this clock notifies nobody".into());
        }
        let page = clock.read()?;
        println!(
            "notified counter={} marker={} turn={}",
            page.generation_counter,
            page.disruption_marker,
            turns.load(),
        );
    }
}

type Load = Box<dyn Fn() -> u64 + Send>;

fn loader(counter: &Counter) -> Result<Load> {
    match counter {
        Counter::Vmgenid(path) => {
            let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            let page = CounterPage::map(file)?;
            Ok(Box::new(move || page.load()))
        }
        Counter::Vmclock(path) => {
            let clock = Clock::open(path)?;
            Ok(Box::new(move || clock.generation()))
        }
    }
}

/// The number of the spinner's turn, at a physical address that no kernel uses.
struct Turns(Mapping);

impl Turns {
    fn at(address: u64) -> Result<Self> {
        let memory = open("/dev/mem", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let request = Request {
            length: PAGE_LEN,
            protection: ProtFlags::READ | ProtFlags::WRITE,
            flags: MapFlags::SHARED,
            offset: address,
        };
        Ok(Self(Mapping::new(memory, request)?))
    }

    fn store(&self, turn: u64) {
        self.0.store_u64(0, turn);
    }

    fn load(&self) -> u64 {
        self.0.load_u64(0)
    }
}
